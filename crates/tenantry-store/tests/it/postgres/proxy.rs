//! A way to the server that loses answers.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU8, Ordering},
    },
};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};

/// Passes everything on until it is told to lose something.
pub(crate) struct Proxy {
    pub(crate) address: SocketAddr,
    loses: Arc<AtomicU8>,
    lost: Arc<AtomicBool>,
    accepting: tokio::task::JoinHandle<()>,
}

/// What is lost next.
#[derive(Clone, Copy)]
#[repr(u8)]
pub(crate) enum Loses {
    Nothing = 0,
    /// The answers to the next message with COMMIT, and the connection with them.
    Answer = 1,
    /// The next message with COMMIT, and the connection with it.
    Commit = 2,
}

impl Proxy {
    pub(crate) async fn start(server: String) -> Self {
        Self::start_at(([127, 0, 0, 1], 0).into(), server).await
    }

    /// At this address.
    pub(crate) async fn start_at(address: SocketAddr, server: String) -> Self {
        let listener = TcpListener::bind(address).await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let (loses, lost) = (Arc::new(AtomicU8::new(0)), Arc::new(AtomicBool::new(false)));
        let (what, done) = (Arc::clone(&loses), Arc::clone(&lost));
        let accepting = tokio::spawn(async move {
            // Ends with this task.
            let mut passing = tokio::task::JoinSet::new();
            while let Ok((client, _)) = listener.accept().await {
                let Ok(server) = TcpStream::connect(&server).await else { continue };
                passing.spawn(pass(client, server, Arc::clone(&what), Arc::clone(&done)));
            }
        });
        Self { address, loses, lost, accepting }
    }

    /// Loses this, once.
    pub(crate) fn lose(&self, what: Loses) {
        self.lost.store(false, Ordering::SeqCst);
        self.loses.store(what as u8, Ordering::SeqCst);
    }

    pub(crate) fn has_lost(&self) -> bool {
        self.lost.load(Ordering::SeqCst)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn pass(client: TcpStream, server: TcpStream, loses: Arc<AtomicU8>, lost: Arc<AtomicBool>) {
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    let is_deaf = Arc::new(AtomicBool::new(false));
    let deaf = Arc::clone(&is_deaf);
    let up = async move {
        let mut buffer = vec![0; 64 << 10];
        loop {
            let read = from_client.read(&mut buffer).await.unwrap_or(0);
            let Some(bytes) = buffer.get(..read).filter(|bytes| !bytes.is_empty()) else { return };
            // A commit of something that was written, not the end of a reading transaction.
            let text = |what: &[u8]| bytes.windows(what.len()).any(|at| at == what);
            let is_commit = text(b"COMMIT\0") && text(b"SELECT 1 / count(*)");
            let what = if is_commit { loses.swap(0, Ordering::SeqCst) } else { 0 };
            if what == Loses::Commit as u8 {
                lost.store(true, Ordering::SeqCst);
                return;
            }
            if what == Loses::Answer as u8 {
                deaf.store(true, Ordering::SeqCst);
                lost.store(true, Ordering::SeqCst);
            }
            if to_server.write_all(bytes).await.is_err() {
                return;
            }
        }
    };
    let down = copy_until(&mut from_server, &mut to_client, &is_deaf);
    tokio::select! {
        () = up => {}
        () = down => {}
    }
}

/// Ends with the first answer that is to be lost.
async fn copy_until(
    from: &mut (impl AsyncRead + Unpin),
    to: &mut (impl AsyncWrite + Unpin),
    is_deaf: &AtomicBool,
) {
    let mut buffer = vec![0; 64 << 10];
    loop {
        let read = from.read(&mut buffer).await.unwrap_or(0);
        let Some(bytes) = buffer.get(..read).filter(|bytes| !bytes.is_empty()) else { return };
        if is_deaf.load(Ordering::SeqCst) {
            // A server that cannot answer would give up before the commit.
            let quiet = std::time::Duration::from_millis(300);
            while let Ok(Ok(1..)) = tokio::time::timeout(quiet, from.read(&mut buffer)).await {}
            return;
        }
        if to.write_all(bytes).await.is_err() {
            return;
        }
    }
}
