//! What a client still sends when it has been answered.
//!
//! A refusal often precedes the body, and the server then closes the connection if the body was
//! not there yet. No answer says so, and a client that goes on with the connection sees it break
//! under its next request. So the rest of a small body is read, whatever came of its request.

use hyper::{
    Request,
    body::{Body, Bytes, Frame, Incoming, SizeHint},
    header,
};
use std::{
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};
use tokio::{runtime::Handle, time::timeout};

/// Bytes of a body that is read to its end.
const SMALL_BYTES: u64 = 64 << 10;
/// For the rest of it.
const REST_MAX: Duration = Duration::from_secs(5);

/// A request's body, read to its end even if nobody wants it, if it is small.
#[derive(Debug)]
pub(crate) struct Leftover {
    body: Option<Incoming>,
    is_small: bool,
}

impl Leftover {
    /// The request with its body held so. Whoever waits to be told to send it is not told by this.
    pub(crate) fn of(request: Request<Incoming>) -> Request<Self> {
        let waits = request.headers().contains_key(header::EXPECT);
        request.map(|body| {
            let bytes = body.size_hint().upper();
            let is_small = !waits && bytes.is_some_and(|bytes| bytes <= SMALL_BYTES);
            Self { body: Some(body), is_small }
        })
    }
}

impl Body for Leftover {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        match &mut self.get_mut().body {
            Some(body) => Pin::new(body).poll_frame(context),
            None => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.body.as_ref().map_or_else(|| SizeHint::with_exact(0), Body::size_hint)
    }
}

impl Drop for Leftover {
    fn drop(&mut self) {
        let rest = self.body.take().filter(|body| self.is_small && !body.is_end_stream());
        if let (Some(body), Ok(runtime)) = (rest, Handle::try_current()) {
            runtime.spawn(timeout(REST_MAX, read_out(body)));
        }
    }
}

async fn read_out(mut body: Incoming) {
    use http_body_util::BodyExt;
    while let Some(Ok(_)) = body.frame().await {}
}
