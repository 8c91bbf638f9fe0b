//! Stands between a connection and the server, and does as a bad network does.

use super::world;
use parking_lot::Mutex;
use std::sync::Arc;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};

/// What happens to bytes.
#[derive(Clone, Copy, Debug)]
pub(in crate::postgres) enum Does {
    Pass,
    /// Takes everything and passes nothing on.
    Swallow,
    /// The same from the moment on when the client sends this.
    SwallowFrom(&'static [u8]),
    /// Ends the connection before, or after, COMMIT reached the server. Its answer never comes.
    CutBeforeCommit,
    CutAfterCommit,
    /// In what the client sends. Of the same length.
    Replace(&'static [u8], &'static [u8]),
}

/// A proxy in front of the test server.
pub(in crate::postgres) struct Proxy {
    port: u16,
    does: Arc<Mutex<Does>>,
    task: JoinHandle<()>,
}

impl Proxy {
    pub(in crate::postgres) async fn start(does: Does) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let does = Arc::new(Mutex::new(does));
        let shared = Arc::clone(&does);
        let task = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(serve(client, Arc::clone(&shared)));
            }
        });
        Self { port, does, task }
    }

    pub(in crate::postgres) fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    pub(in crate::postgres) fn does(&self, does: Does) {
        *self.does.lock() = does;
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(client: TcpStream, does: Arc<Mutex<Does>>) {
    let Ok(server) = TcpStream::connect(world::address()).await else { return };
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    let (mut up, mut down) = (vec![0; 64 << 10], vec![0; 64 << 10]);
    // COMMIT has passed, so that answers do not pass any more.
    let mut is_cut = false;
    let mut is_mute = false;
    loop {
        tokio::select! {
            read = from_client.read(&mut up) => {
                let Ok(length @ 1..) = read else { return };
                let bytes = &mut up[..length];
                match *does.lock() {
                    Does::Pass => {}
                    Does::Swallow => continue,
                    Does::SwallowFrom(what) => {
                        is_mute |= has(bytes, what).is_some();
                        if is_mute { continue }
                    }
                    Does::CutBeforeCommit if has(bytes, b"COMMIT").is_some() => return,
                    Does::CutAfterCommit => is_cut |= has(bytes, b"COMMIT").is_some(),
                    Does::CutBeforeCommit => {}
                    Does::Replace(old, new) => {
                        if let Some(at) = has(bytes, old) {
                            bytes[at..at + new.len()].copy_from_slice(new);
                        }
                    }
                }
                if to_server.write_all(bytes).await.is_err() { return }
            }
            read = from_server.read(&mut down) => {
                let Ok(length @ 1..) = read else { return };
                if is_cut {
                    if has(&down[..length], b"COMMIT\0").is_some() { return }
                    continue;
                }
                if matches!(*does.lock(), Does::Swallow) { continue }
                if to_client.write_all(&down[..length]).await.is_err() { return }
            }
        }
    }
}

fn has(bytes: &[u8], what: &[u8]) -> Option<usize> {
    bytes.windows(what.len()).position(|window| window == what)
}
