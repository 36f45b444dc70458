//! Answers a request in which the code has panicked; the connection and all others go on.

use std::convert::Infallible;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::task::{Context, Poll};

use axum::body::Body;
use axum::http::{Request, Response};
use axum::response::IntoResponse;
use kit::error::ApiError;
use pin_project_lite::pin_project;
use tower::{Layer, Service};
use tracing::error;

use crate::upstream::{Answer, Upstream};

/// Catches panics of what is beneath.
#[derive(Debug, Clone)]
pub(crate) struct CatchPanicLayer;

/// A service whose panics are caught. It is called again after one: whatever a request changes is its own, or
/// holds its promises by itself.
#[derive(Debug, Clone)]
pub(crate) struct CatchPanic<S> {
    inner: S,
}

pin_project! {
    /// A response on its way, or none when the call has panicked.
    pub(crate) struct Catching<F> {
        #[pin]
        answer: Option<F>,
    }
}

/// The panic hook has logged what and where; neither is the client's business.
fn after_panic() -> Response<Body> {
    metrics::counter!("groundswell_panics_total").increment(1);
    error!("a request was answered 500 because of a panic");
    ApiError::internal().into_response()
}

impl<S> Layer<S> for CatchPanicLayer {
    type Service = CatchPanic<S>;

    fn layer(&self, inner: S) -> Self::Service {
        CatchPanic { inner }
    }
}

impl<S: Upstream> Service<Request<Body>> for CatchPanic<S> {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Catching<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        Catching { answer: catch_unwind(AssertUnwindSafe(|| self.inner.call(request))).ok() }
    }
}

impl<F: Future<Output = Answer>> Future for Catching<F> {
    type Output = Answer;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Answer> {
        let Some(answer) = self.project().answer.as_pin_mut() else {
            return Poll::Ready(Ok(after_panic()));
        };
        catch_unwind(AssertUnwindSafe(|| answer.poll(cx)))
            .unwrap_or_else(|_panic| Poll::Ready(Ok(after_panic())))
    }
}

#[cfg(test)]
mod tests {
    use tower::service_fn;

    use super::*;
    use crate::layers::testing::{answer, inner, text};

    const SOMETHING_WRONG: &str =
        r#"{"data":{},"message":"Something went wrong while processing your request.","status":500}"#;

    fn panics() -> Response<Body> {
        panic!("a bug")
    }

    #[tokio::test]
    async fn a_panic_of_the_call_or_of_its_future_is_answered_500_in_the_contracts_shape() {
        let when_called = service_fn(|_| {
            let response = panics();
            async { Ok(response) }
        });
        let response = answer(&CatchPanicLayer, when_called, Request::new(Body::empty())).await;
        assert_eq!((response.status().as_u16(), text(response).await.as_str()), (500, SOMETHING_WRONG));

        let when_polled = service_fn(|_| async {
            tokio::task::yield_now().await;
            Ok(panics())
        });
        let response = answer(&CatchPanicLayer, when_polled, Request::new(Body::empty())).await;
        assert_eq!((response.status().as_u16(), text(response).await.as_str()), (500, SOMETHING_WRONG));
    }

    #[tokio::test]
    async fn without_a_panic_the_answer_is_the_services() {
        let response = answer(&CatchPanicLayer, inner(), Request::new(Body::empty())).await;
        assert_eq!(text(response).await, "inner");
    }
}
