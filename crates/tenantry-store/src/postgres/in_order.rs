//! Several statements in one round trip.

use std::{future::poll_fn, pin::Pin, task::Poll, time::Duration};
use tokio::time::timeout;

/// A statement that is sent when it is first polled, and its answer.
pub(super) type Call<'a, T> = Pin<Box<dyn Future<Output = Result<T, Trouble>> + Send + 'a>>;

/// How one call ended.
pub(super) type Ended<T> = Result<T, Trouble>;

/// Why a call has no result.
#[derive(Debug)]
pub(super) enum Trouble {
    /// What the client says.
    Said(tokio_postgres::Error),
    /// Nothing came in time.
    Silence,
    /// More came than any answer has.
    TooMuch,
}

impl From<tokio_postgres::Error> for Trouble {
    fn from(error: tokio_postgres::Error) -> Self {
        Self::Said(error)
    }
}

/// Sends all calls in their order, then waits for their answers in the same order.
///
/// A call is sent by its first poll, so all are polled once, front to back and without a pause:
/// whoever drops this future has sent all of them or none. If one cannot be sent, none of those
/// after it is: a value that does not encode must not let a COMMIT behind it pass. The answer is
/// then shorter than `calls`.
///
/// Answers must be taken front to back, because the connection stops reading at the first that
/// nobody takes; and all of them, because COMMIT also succeeds where it rolls back. Each may take
/// `patience`; after the first that takes longer, or is too large, `give_up` must end the
/// connection.
pub(super) async fn in_order<T>(
    mut calls: Vec<Call<'_, T>>,
    patience: Duration,
    give_up: impl Fn(),
) -> Vec<Ended<T>> {
    let mut early = poll_fn(|cx| {
        let mut early: Vec<Option<Ended<T>>> = Vec::with_capacity(calls.len());
        for call in &mut calls {
            match call.as_mut().poll(cx) {
                Poll::Pending => early.push(None),
                Poll::Ready(Ok(answer)) => early.push(Some(Ok(answer))),
                Poll::Ready(Err(trouble)) => {
                    early.push(Some(Err(trouble)));
                    break;
                }
            }
        }
        Poll::Ready(early)
    })
    .await;
    let mut ended = Vec::with_capacity(early.len());
    for (call, early) in calls.iter_mut().zip(&mut early) {
        ended.push(match early.take() {
            Some(ended) => ended,
            None => match timeout(patience, call).await {
                Ok(answer) => {
                    if matches!(answer, Err(Trouble::TooMuch)) {
                        give_up();
                    }
                    answer
                }
                Err(_) => {
                    give_up();
                    Err(Trouble::Silence)
                }
            },
        });
    }
    ended
}
