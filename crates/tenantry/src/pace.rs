//! The pace that a client must keep: how long it may take to send a body and to read an answer.
//! Without it one client holds a connection, and what its request holds, for as long as it likes.

use hyper::body::{Body, Buf, Frame, SizeHint};
use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Instant, Sleep, sleep_until},
};

/// Between two parts of a body.
pub(crate) const BODY_PAUSE_MAX: Duration = Duration::from_secs(30);
/// For a body of any size, before its bytes earn more.
pub(crate) const BODY_GRACE: Duration = Duration::from_secs(30);
/// Bytes of a body that earn it one more second: the largest body may take 11 minutes.
pub(crate) const BODY_BYTES_PER_SECOND: u64 = 64 << 10;
/// Without a byte of the answer being taken.
pub(crate) const WRITE_PAUSE_MAX: Duration = Duration::from_secs(60);

type Error = Box<dyn std::error::Error + Send + Sync>;

/// A timer that runs while something is waited for.
#[derive(Debug, Default)]
struct Patience(Option<Pin<Box<Sleep>>>);

impl Patience {
    /// Called at each look at what is still not there; an error once it is `until`. The time is
    /// asked for only when the waiting begins.
    fn wait(
        &mut self,
        context: &mut Context<'_>,
        until: impl FnOnce() -> Instant,
    ) -> io::Result<()> {
        let timer = self.0.get_or_insert_with(|| Box::pin(sleep_until(until())));
        if timer.as_mut().poll(context).is_ready() {
            return Err(io::Error::new(io::ErrorKind::TimedOut, "the client is too slow"));
        }
        Ok(())
    }

    /// What was waited for is there.
    fn renew(&mut self) {
        self.0 = None;
    }
}

/// A request's body that fails when it comes too slowly: after a pause of [`BODY_PAUSE_MAX`], or
/// when it takes longer in all than [`BODY_GRACE`] and a second for each
/// [`BODY_BYTES_PER_SECOND`] received. Time counts from the first look at the body.
#[derive(Debug)]
pub(crate) struct PacedBody<B> {
    body: B,
    begun: Option<Instant>,
    received: u64,
    patience: Patience,
}

impl<B> PacedBody<B> {
    pub(crate) fn new(body: B) -> Self {
        Self { body, begun: None, received: 0, patience: Patience::default() }
    }
}

impl<B: Body + Unpin> Body for PacedBody<B>
where
    B::Error: Into<Error>,
{
    type Data = B::Data;
    type Error = Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, Error>>> {
        let Self { body, begun, received, patience } = self.get_mut();
        let begun = *begun.get_or_insert_with(Instant::now);
        let frame = match Pin::new(&mut *body).poll_frame(context) {
            Poll::Ready(frame) => frame,
            Poll::Pending => {
                let earned = Duration::from_secs(*received / BODY_BYTES_PER_SECOND);
                let until = || (begun + BODY_GRACE + earned).min(Instant::now() + BODY_PAUSE_MAX);
                return match patience.wait(context, until) {
                    Ok(()) => Poll::Pending,
                    Err(error) => Poll::Ready(Some(Err(error.into()))),
                };
            }
        };
        patience.renew();
        if let Some(Ok(data)) = frame.as_ref().map(|f| f.as_ref().map(Frame::data_ref)) {
            *received += data.map_or(0, |data| data.remaining() as u64);
        }
        Poll::Ready(frame.map(|frame| frame.map_err(Into::into)))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// A stream whose writes fail when the other side takes nothing for [`WRITE_PAUSE_MAX`].
#[derive(Debug)]
pub(crate) struct PacedWrites<S> {
    stream: S,
    patience: Patience,
}

impl<S> PacedWrites<S> {
    pub(crate) fn new(stream: S) -> Self {
        Self { stream, patience: Patience::default() }
    }
}

impl<S: AsyncWrite + Unpin> PacedWrites<S> {
    fn paced<T>(
        &mut self,
        context: &mut Context<'_>,
        write: impl FnOnce(Pin<&mut S>, &mut Context<'_>) -> Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        let done = write(Pin::new(&mut self.stream), context);
        if done.is_ready() {
            self.patience.renew();
            return done;
        }
        match self.patience.wait(context, || Instant::now() + WRITE_PAUSE_MAX) {
            Ok(()) => Poll::Pending,
            Err(error) => Poll::Ready(Err(error)),
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for PacedWrites<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_read(context, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for PacedWrites<S> {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.get_mut().paced(context, |stream, context| stream.poll_write(context, bytes))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.get_mut().paced(context, |stream, context| stream.poll_write_vectored(context, parts))
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(context)
    }
}
