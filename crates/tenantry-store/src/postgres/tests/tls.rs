//! TLS, in front of a server that need not offer it.

use super::{
    super::{call::read, url::Cluster},
    world::{self, BOUNDS, LIMITS, World, connections_to, right, sql},
};
use rcgen::{Certificate, KeyPair, generate_simple_self_signed};
use std::sync::Arc;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional},
    net::{TcpListener, TcpStream},
};
use tokio_rustls::{
    TlsAcceptor,
    rustls::{
        ServerConfig,
        crypto::ring,
        pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer},
    },
};

fn certificate(name: &str) -> (Certificate, KeyPair) {
    let made = generate_simple_self_signed([name.to_owned()]).expect("a certificate");
    (made.cert, made.signing_key)
}

/// Takes TLS connections as PostgreSQL does, and passes their bytes on to the test server.
async fn front(certificate: &Certificate, key: &KeyPair, offers_tls: bool) -> String {
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], key)
        .expect("a configuration");
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = listener.local_addr().expect("an address").port();
    tokio::spawn(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                let mut request = [0; 8];
                socket.read_exact(&mut request).await.expect("a request for TLS");
                socket.write_all(if offers_tls { b"S" } else { b"N" }).await.expect("sent");
                let Ok(mut stream) = acceptor.accept(socket).await else { return };
                let server = TcpStream::connect(world::address()).await;
                let mut server = server.expect("the test server");
                drop(copy_bidirectional(&mut stream, &mut server).await);
            });
        }
    });
    format!("localhost:{port}")
}

#[tokio::test]
async fn a_verified_server_is_spoken_to() {
    let world = World::new(1).await;
    let (certificate, key) = certificate("localhost");
    let address = front(&certificate, &key, true).await;
    let url = world.service_at(&address, "");
    let cluster = Cluster::new(url, Some(certificate.pem().as_bytes())).expect("an authority");
    let connections = connections_to(cluster, 1, BOUNDS);
    let conn = connections.get(&world.target(0)).await.expect("a connection");
    let answers = read(conn, LIMITS, right(1), vec![sql("SELECT 1")]).await.expect("read");
    assert_eq!(answers[0][0].get::<_, i32>(0), 1);
    // Requests to cancel travel in the same way.
    let conn = connections.get(&world.target(0)).await.expect("a connection");
    let slow = read(conn, LIMITS, right(1), vec![sql("SELECT 1 FROM pg_sleep(60)")]);
    let slow = tokio::time::timeout(std::time::Duration::from_millis(50), slow).await;
    assert!(slow.is_err());
    let conn = connections.get(&world.target(0)).await.expect("a new connection");
    read(conn, LIMITS, right(1), vec![sql("SELECT 1")]).await.expect("read");
    assert_eq!(world.open_on_server().await, 1);
}

#[tokio::test]
async fn others_are_not() {
    let world = World::new(1).await;
    let (known, _) = certificate("localhost");
    let (other, other_key) = certificate("localhost");
    let (elsewhere, elsewhere_key) = certificate("db.example");
    for (address, authority) in [
        // Somebody else's certificate; one for another host; none at all.
        (front(&other, &other_key, true).await, known.pem()),
        (front(&elsewhere, &elsewhere_key, true).await, elsewhere.pem()),
        (front(&other, &other_key, false).await, other.pem()),
    ] {
        let url = world.service_at(&address, "sslmode=prefer");
        let cluster = Cluster::new(url, Some(authority.as_bytes())).expect("an authority");
        let connections = connections_to(cluster, 1, BOUNDS);
        let failure = connections.get(&world.target(0)).await.map(drop).expect_err("not verified");
        assert!(failure.is_lost(), "{failure:?}");
    }
    assert_eq!(world.open_on_server().await, 0);
}
