//! Answers that are still being sent are requests under way.

use axum::{
    body::{Body, Bytes, HttpBody},
    response::Response,
};
use http_body::{Frame, SizeHint};
use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};
use tenantry_engine::Admission;

/// Bytes of an answer that are handed out at once: whoever sends them asks for more when these are on
/// their way.
const FRAME: usize = 64 << 10;

/// Keeps a request under way until its answer is sent: whoever reads slowly asks for nothing else
/// meanwhile than the plan says.
///
/// Dialects put the request's [`Admission`] into their answer's extensions, in an [`Arc`].
pub(crate) fn hold(mut response: Response) -> Response {
    match response.extensions_mut().remove::<Arc<Admission>>() {
        Some(admission) => response.map(|body| Held::body(body, Some(admission))),
        None => response,
    }
}

/// An answer in pieces, none of which is large.
struct Held {
    body: Body,
    /// What of the body's last frame was not handed out yet.
    rest: Bytes,
    /// Goes with the last piece.
    #[expect(dead_code, reason = "it is held, not read")]
    admission: Option<Arc<Admission>>,
}

impl Held {
    fn body(body: Body, admission: Option<Arc<Admission>>) -> Body {
        Body::new(Self { body, rest: Bytes::new(), admission })
    }
}

impl HttpBody for Held {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let held = &mut *self;
        if held.rest.is_empty() {
            match ready!(Pin::new(&mut held.body).poll_frame(context)) {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => held.rest = data,
                    Err(frame) => return Poll::Ready(Some(Ok(frame))),
                },
                ended => return Poll::Ready(ended),
            }
        }
        let most = held.rest.len().min(FRAME);
        Poll::Ready(Some(Ok(Frame::data(held.rest.split_to(most)))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let (left, rest) = (self.body.size_hint(), self.rest.len() as u64);
        let mut hint = SizeHint::new();
        hint.set_lower(left.lower().saturating_add(rest));
        if let Some(upper) = left.upper() {
            hint.set_upper(upper.saturating_add(rest));
        }
        hint
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::{BodyExt as _, Full};

    /// Without an admission, which only an engine gives.
    fn held(body: Body) -> Body {
        Held::body(body, None)
    }

    #[tokio::test]
    async fn a_large_answer_is_handed_out_in_pieces_and_is_as_long_as_before() {
        let all: Vec<u8> = (0..=255).cycle().take(3 * FRAME + 7).collect();
        let mut body = held(Body::new(Full::from(all.clone())));
        assert_eq!(body.size_hint().exact(), Some(all.len() as u64));
        let mut got = Vec::new();
        while let Some(frame) = body.frame().await {
            let piece = frame.unwrap().into_data().unwrap();
            assert!(piece.len() <= FRAME && !piece.is_empty());
            got.extend_from_slice(&piece);
            assert_eq!(body.size_hint().exact(), Some((all.len() - got.len()) as u64));
        }
        assert!(body.is_end_stream() && got == all);
        assert!(held(Body::empty()).is_end_stream());
    }
}
