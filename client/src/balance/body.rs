//! Bodies: a request's that can be sent again, and a response's that tells how it ended.

use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body as _, Frame, SizeHint};
use tonic::body::Body;
use tonic::{Code, Status};

use super::call::InFlight;

/// A request is kept for sending it again up to this size.
const KEPT_BYTES_MAX: usize = 64 * 1024;

/// A request's body, of which each attempt takes a copy of its own.
#[derive(Clone, Debug)]
pub(super) struct Replayed {
    shared: Arc<Mutex<Kept>>,
    /// Frames that this attempt has given.
    given: usize,
}

#[derive(Debug)]
struct Kept {
    rest: Body,
    frames: Vec<Bytes>,
    bytes: usize,
    is_over: bool,
    /// Too large, or with trailers: it can be sent once only.
    is_lost: bool,
}

impl Replayed {
    pub(super) fn new(body: Body) -> Replayed {
        let is_over = body.is_end_stream();
        let kept = Kept { rest: body, frames: Vec::new(), bytes: 0, is_over, is_lost: false };
        Replayed { shared: Arc::new(Mutex::new(kept)), given: 0 }
    }

    /// The whole body again, if it was kept.
    pub(super) fn again(&self) -> Option<Replayed> {
        (!self.kept().is_lost).then(|| Replayed { shared: self.shared.clone(), given: 0 })
    }

    /// Whether no attempt has taken anything of it: then nobody can have acted on it.
    pub(super) fn is_untouched(&self) -> bool {
        let kept = self.kept();
        kept.frames.is_empty() && !kept.is_lost
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl http_body::Body for Replayed {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let given = self.given;
        let mut kept = self.kept();
        if let Some(frame) = kept.frames.get(given).cloned() {
            drop(kept);
            self.given += 1;
            return Poll::Ready(Some(Ok(Frame::data(frame))));
        }
        if kept.is_over {
            return Poll::Ready(None);
        }
        let frame = ready!(Pin::new(&mut kept.rest).poll_frame(context));
        let outcome = match frame {
            None => {
                kept.is_over = true;
                None
            }
            Some(Err(error)) => {
                kept.is_lost = true;
                Some(Err(error))
            }
            Some(Ok(frame)) => match frame.into_data() {
                Ok(data) => {
                    kept.bytes += data.len();
                    kept.is_lost |= kept.bytes > KEPT_BYTES_MAX;
                    if kept.is_lost {
                        kept.frames.clear();
                    } else {
                        kept.frames.push(data.clone());
                    }
                    Some(Ok(Frame::data(data)))
                }
                Err(other) => {
                    kept.is_lost = true;
                    Some(Ok(other))
                }
            },
        };
        drop(kept);
        if outcome.is_some() {
            self.given += 1;
        }
        Poll::Ready(outcome)
    }

    fn is_end_stream(&self) -> bool {
        let kept = self.kept();
        kept.is_over && self.given >= kept.frames.len()
    }
}

/// A response's body: when it ends, so does the request's part in what is under way.
#[derive(Debug)]
pub(super) struct Tracked {
    inner: Body,
    in_flight: Option<InFlight>,
}

impl Tracked {
    pub(super) fn new(inner: Body, in_flight: InFlight) -> Tracked {
        Tracked { inner, in_flight: Some(in_flight) }
    }
}

impl http_body::Body for Tracked {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let frame = ready!(Pin::new(&mut self.inner).poll_frame(context));
        let code = match &frame {
            None => Some(Code::Ok),
            Some(Err(status)) => Some(status.code()),
            Some(Ok(frame)) => frame.trailers_ref().map(code_of),
        };
        if let Some(code) = code
            && let Some(in_flight) = self.in_flight.take()
        {
            in_flight.finish(code);
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

/// The gRPC code among headers or trailers.
pub(super) fn code_of(headers: &http::HeaderMap) -> Code {
    Status::from_header_map(headers).map_or(Code::Ok, |status| status.code())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A body of some frames.
    struct Frames(Vec<&'static [u8]>);

    impl http_body::Body for Frames {
        type Data = Bytes;
        type Error = Status;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
            let next = if self.0.is_empty() { None } else { Some(self.0.remove(0)) };
            Poll::Ready(next.map(|data| Ok(Frame::data(Bytes::from_static(data)))))
        }
    }

    async fn frame(body: &mut Replayed) -> Option<Bytes> {
        let frame = std::future::poll_fn(|context| Pin::new(&mut *body).poll_frame(context)).await;
        frame.map(|frame| frame.expect("no error").into_data().expect("data"))
    }

    #[tokio::test]
    async fn a_body_that_was_sent_by_half_is_sent_again_whole() {
        let body = Replayed::new(Body::new(Frames(vec![b"a", b"b", b"c"])));
        assert!(body.is_untouched());
        let mut first = body.again().expect("kept");
        assert_eq!(frame(&mut first).await.as_deref(), Some(&b"a"[..]));
        assert!(!body.is_untouched());
        let mut second = body.again().expect("kept");
        for expected in [&b"a"[..], b"b", b"c"] {
            assert_eq!(frame(&mut second).await.as_deref(), Some(expected));
        }
        assert_eq!(frame(&mut second).await, None);
        assert!(second.is_end_stream());
    }

    #[tokio::test]
    async fn a_large_body_is_sent_once_only() {
        static LARGE: [u8; KEPT_BYTES_MAX] = [7; KEPT_BYTES_MAX];
        let body = Replayed::new(Body::new(Frames(vec![&LARGE, b"b", b"c"])));
        let mut first = body.again().expect("kept");
        assert_eq!(frame(&mut first).await.map(|data| data.len()), Some(KEPT_BYTES_MAX));
        for expected in [&b"b"[..], b"c"] {
            assert_eq!(frame(&mut first).await.as_deref(), Some(expected));
        }
        assert_eq!(frame(&mut first).await, None);
        assert!(body.again().is_none() && !body.is_untouched());
    }
}
