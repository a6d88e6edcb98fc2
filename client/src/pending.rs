//! The future of a request that is already queued.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::sync::oneshot;

use crate::error::{Error, Result};
use crate::session::Answer;

type Finish<T> = Box<dyn FnOnce(Result<Answer>) -> Result<T> + Send>;

/// A request on its way. It was queued when this was made, behind everything that was queued
/// before, and is sent whether or not this is polled.
///
/// Requests take effect in the order in which they were queued, on whatever connection. A read whose
/// answer was lost with its connection is asked again on the next, unless writes that were queued
/// behind it have taken effect meanwhile: it would see them. One that was sent with `.send()` then
/// ends with [`Error::Overtaken`]. One whose call was awaited is asked again all the same: who waits
/// for it has sent nothing behind it, and writes of other tasks have no order with it.
///
/// # Cancel safety
/// Dropping it discards the answer, not the request: a write still takes effect.
#[must_use = "the answer is lost; for a write that includes its failure"]
pub struct Pending<T> {
    receiver: oneshot::Receiver<Result<Answer>>,
    finish: Option<Finish<T>>,
}

impl<T> Pending<T> {
    pub(crate) fn new(
        receiver: oneshot::Receiver<Result<Answer>>,
        finish: impl FnOnce(Result<Answer>) -> Result<T> + Send + 'static,
    ) -> Pending<T> {
        Pending { receiver, finish: Some(Box::new(finish)) }
    }
}

impl<T> Future for Pending<T> {
    type Output = Result<T>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<T>> {
        let answer = match Pin::new(&mut self.receiver).poll(context) {
            Poll::Pending => return Poll::Pending,
            Poll::Ready(Ok(answer)) => answer,
            // The task is gone without a word: its runtime has ended.
            Poll::Ready(Err(_)) => Err(Error::Closed),
        };
        let finish = self.finish.take().expect("a future is not polled again once it is ready");
        Poll::Ready(finish(answer))
    }
}

impl<T> fmt::Debug for Pending<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pending").finish_non_exhaustive()
    }
}
