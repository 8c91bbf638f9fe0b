//! What is sent, in which order, and when: against a server that only listens.

use super::{
    super::{
        call::read,
        statement::{Statement, Step},
        url::{Cluster, DatabaseUrl},
    },
    world::{BOUNDS, LIMITS, Linked, connections_to, right, run},
};
use std::{sync::Arc, time::Duration};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::Mutex,
    time::timeout,
};
use tokio_postgres::types::Type;

/// The texts of the statements that a round trip sent.
type Seen = Arc<Mutex<Vec<String>>>;

/// Answers the question for facts, then records what comes and answers nothing.
async fn listen(seen: Seen) -> Linked {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = listener.local_addr().expect("an address").port();
    tokio::spawn(async move {
        let (socket, _) = listener.accept().await.expect("a connection");
        serve(socket, seen).await;
    });
    let url = DatabaseUrl::parse(&format!("postgresql://a@127.0.0.1:{port}/d")).expect("a URL");
    connections_to(Cluster::new(url, None).expect("loopback"), 1, BOUNDS)
}

async fn serve(mut socket: TcpStream, seen: Seen) {
    let length = socket.read_u32().await.expect("a length");
    let mut startup = vec![0; length as usize - 4];
    socket.read_exact(&mut startup).await.expect("a startup");
    let mut hello = message(b'R', &0_u32.to_be_bytes());
    hello.extend(message(b'K', &[0; 8]));
    hello.extend(message(b'Z', b"I"));
    socket.write_all(&hello).await.expect("sent");
    let mut is_asked = false;
    loop {
        let Ok(tag) = socket.read_u8().await else { return };
        let length = socket.read_u32().await.expect("a length");
        let mut body = vec![0; length as usize - 4];
        socket.read_exact(&mut body).await.expect("a message");
        match tag {
            // The name of the statement comes first, and is empty.
            b'P' => {
                assert_eq!(body.first(), Some(&0), "a statement with a name");
                let text: Vec<_> =
                    body[1..].iter().copied().take_while(|byte| *byte != 0).collect();
                seen.lock().await.push(String::from_utf8(text).expect("text"));
            }
            b'S' if !is_asked => {
                is_asked = true;
                seen.lock().await.clear();
                socket.write_all(&facts()).await.expect("sent");
            }
            _ => {}
        }
    }
}

fn message(tag: u8, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len() + 4).expect("short");
    [&[tag], &length.to_be_bytes()[..], body].concat()
}

/// Without pgvector: three columns that are null.
fn facts() -> Vec<u8> {
    let mut columns = 3_u16.to_be_bytes().to_vec();
    for oid in [25_u32, 26, 26] {
        columns.extend(b"c\0\0\0\0\0\0\0");
        columns.extend(oid.to_be_bytes());
        columns.extend([0, 0, 0, 0, 0, 0, 0, 1]);
    }
    let mut row = 3_u16.to_be_bytes().to_vec();
    row.extend([0xff; 12]);
    [
        message(b'1', b""),
        message(b't', &0_u16.to_be_bytes()),
        message(b'2', b""),
        message(b'T', &columns),
        message(b'D', &row),
        message(b'C', b"SELECT 1\0"),
        message(b'Z', b"I"),
    ]
    .concat()
}

async fn sent(steps: Vec<Step>) -> Vec<String> {
    let seen = Seen::default();
    let connections = listen(Arc::clone(&seen)).await;
    let target = connections.target("d");
    let conn = connections.get(&target).await.expect("a connection");
    assert!(conn.facts().expect("facts").vector.is_none());
    let unanswered = read(conn, LIMITS, right(1), steps);
    timeout(Duration::from_millis(200), unanswered).await.map(drop).ok();
    let seen = seen.lock().await;
    let short = |text: &String| text.split(' ').take(2).collect::<Vec<_>>().join(" ");
    seen.iter().map(short).collect()
}

#[tokio::test]
async fn all_is_sent_in_order_before_anything_is_answered() {
    let steps = (0..40).map(|number| run(Statement::new(format!("SELECT {number}")))).collect();
    let mut expected = vec![
        "BEGIN ISOLATION".to_owned(),
        "SELECT pg_catalog.set_config('search_path',".to_owned(),
    ];
    expected.extend((0..40).map(|number| format!("SELECT {number}")));
    expected.push("COMMIT".to_owned());
    // Then whoever asked gave up, which is told behind all that.
    assert_eq!(sent(steps).await, expected);
}

#[tokio::test]
async fn nothing_is_sent_behind_a_value_that_does_not_encode() {
    let bad = Statement::new("SELECT $1").with("text", Type::INT8);
    let steps = vec![run(Statement::new("SELECT 1")), run(bad), run(Statement::new("SELECT 2"))];
    let expected = ["BEGIN ISOLATION", "SELECT pg_catalog.set_config('search_path',", "SELECT 1"];
    assert_eq!(sent(steps).await, expected);
}
