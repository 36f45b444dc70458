//! Gives up on clients that send a body more slowly than anybody has to. Others bound how long a client may be silent; one
//! that sends a byte now and then would hold its request for as long as a body may take in all.

use std::num::NonZeroU32;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Error;
use axum::body::{Body, Bytes, HttpBody};
use axum::http::{Request, Version};
use http_body::{Frame, SizeHint};
use kit::body::TooSlow;
use tokio::time::{Instant, Sleep, sleep_until};

/// How long a client may let us wait, in all, beside what its bytes have earned it.
const GRACE: Duration = Duration::from_secs(10);
/// The same over HTTP/2: there a body also waits for those of other requests on its connection, which is no fault of
/// the client's.
const GRACE_BESIDE_OTHERS: Duration = Duration::from_secs(60);

/// Whether a request has its answer. From then on its body takes its time: it may be half of a conversation, as those of
/// gRPC are.
pub(crate) struct Awaited(Arc<AtomicBool>);

/// A body that has to come at a rate. Only time counts in which somebody waits for the client: a disk or a server that
/// takes it slowly does not ask for more meanwhile.
struct Paced {
    body: Body,
    /// Bytes a second.
    rate: NonZeroU32,
    grace: Duration,
    is_answered: Arc<AtomicBool>,
    came: u64,
    waited: Duration,
    waiting_since: Option<Instant>,
    /// Made at the first wait, so that what is there at once costs nothing. It may ring early, never late.
    alarm: Option<Pin<Box<Sleep>>>,
}

/// Has the body of this request come at a rate, until its answer is told of. One without a body is left as it is.
pub(crate) fn pace(request: &mut Request<Body>, rate: Option<NonZeroU32>) -> Option<Awaited> {
    let rate = rate.filter(|_| !request.body().is_end_stream())?;
    let grace = if request.version() == Version::HTTP_2 { GRACE_BESIDE_OTHERS } else { GRACE };
    let body = std::mem::take(request.body_mut());
    let is_answered = Arc::<AtomicBool>::default();
    *request.body_mut() = Body::new(Paced::new(body, (rate, grace), is_answered.clone()));
    Some(Awaited(is_answered))
}

// === impl Awaited ===

impl Awaited {
    /// The answer's head is there.
    pub(crate) fn answered(self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

// === impl Paced ===

impl Paced {
    fn new(body: Body, (rate, grace): (NonZeroU32, Duration), is_answered: Arc<AtomicBool>) -> Self {
        Self {
            body,
            rate,
            grace,
            is_answered,
            came: 0,
            waited: Duration::ZERO,
            waiting_since: None,
            alarm: None,
        }
    }

    fn note(&mut self, bytes: usize) {
        self.came += bytes as u64;
        if let Some(since) = self.waiting_since.take() {
            self.waited += since.elapsed();
        }
    }

    /// Until when the next bytes have to be here.
    fn until(&self, since: Instant) -> Instant {
        let earned = self.grace + Duration::from_secs(self.came / u64::from(self.rate.get()));
        since + earned.saturating_sub(self.waited)
    }

    /// Whether the wait for the next bytes is one too long.
    fn is_over(&mut self, cx: &mut Context<'_>) -> bool {
        if self.is_answered.load(Ordering::Relaxed) {
            return false;
        }
        let since = *self.waiting_since.get_or_insert_with(Instant::now);
        let until = self.until(since);
        let alarm = self.alarm.get_or_insert_with(|| Box::pin(sleep_until(until)));
        while alarm.as_mut().poll(cx).is_ready() {
            if Instant::now() >= until {
                return true;
            }
            alarm.as_mut().reset(until);
        }
        false
    }
}

impl HttpBody for Paced {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let polled = Pin::new(&mut self.body).poll_frame(cx);
        match &polled {
            Poll::Ready(Some(Ok(frame))) => self.note(frame.data_ref().map_or(0, Bytes::len)),
            Poll::Ready(_) => {}
            Poll::Pending if self.is_over(cx) => return Poll::Ready(Some(Err(Error::new(TooSlow)))),
            Poll::Pending => {}
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use futures_util::{StreamExt as _, stream};
    use http_body_util::BodyExt as _;
    use kit::body::is_too_slow;
    use tokio::time::sleep;

    use super::*;

    const RATE: Option<NonZeroU32> = NonZeroU32::new(100);

    /// A request of which so many bytes come every second.
    fn request(bytes: usize, seconds: u64) -> Request<Body> {
        let pieces = stream::iter(0..seconds).then(move |_| async move {
            sleep(Duration::from_secs(1)).await;
            Ok::<_, Error>(Bytes::from(vec![b'x'; bytes]))
        });
        Request::new(Body::from_stream(pieces))
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_drips_is_given_up_and_one_at_the_rate_is_not() {
        let begun = Instant::now();
        let mut drips = request(1, 600);
        let _awaited = pace(&mut drips, RATE);
        let error = drips.into_body().collect().await.unwrap_err();
        assert!(is_too_slow(&error), "{error}");
        assert_eq!(begun.elapsed(), GRACE);
        let mut comes = request(100, 600);
        let _awaited = pace(&mut comes, RATE);
        assert_eq!(comes.into_body().collect().await.unwrap().to_bytes().len(), 60_000);
        let mut drips = request(1, 600);
        assert!(pace(&mut drips, None).is_none());
        assert_eq!(drips.into_body().collect().await.unwrap().to_bytes().len(), 600);
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_beside_others_on_its_connection_may_wait_longer() {
        let begun = Instant::now();
        let mut drips = request(1, 600);
        *drips.version_mut() = Version::HTTP_2;
        let _awaited = pace(&mut drips, RATE);
        assert!(is_too_slow(&drips.into_body().collect().await.unwrap_err()));
        assert_eq!(begun.elapsed(), GRACE_BESIDE_OTHERS);
    }

    #[tokio::test(start_paused = true)]
    async fn who_takes_it_slowly_is_not_the_client() {
        let pieces = stream::repeat_with(|| Ok::<_, Error>(Bytes::from_static(b"x"))).take(20);
        let mut request = Request::new(Body::from_stream(pieces));
        let _awaited = pace(&mut request, RATE);
        let mut body = request.into_body();
        while let Some(frame) = body.frame().await {
            frame.unwrap();
            sleep(Duration::from_secs(30)).await;
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_takes_its_time_once_there_is_an_answer() {
        let mut drips = request(1, 600);
        let awaited = pace(&mut drips, RATE).unwrap();
        let mut body = drips.into_body();
        body.frame().await.unwrap().unwrap();
        awaited.answered();
        assert_eq!(body.collect().await.unwrap().to_bytes().len(), 599);
    }

    #[test]
    fn a_request_without_a_body_is_left_as_it_is() {
        assert!(pace(&mut Request::new(Body::empty()), RATE).is_none());
    }
}
