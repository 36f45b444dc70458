//! The clients of one request loop: a queue of messages for each, and the streams that empty them.
//!
//! The loop's own thread works the queues; others only end streams, so their lock is hardly ever waited for. What is to be sent arrives in
//! batches through one channel a loop; one task puts a batch into the queues and wakes the streams, and lets them
//! write before it takes the next. A stream writes all that waits for its client in one piece.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body::{Body, Frame};
use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use crate::client_id::ClientId;
use crate::hub::Registration;
use crate::limits::{Limits, Times};

/// Messages handed to a loop at once: after so many the streams may write.
pub(crate) const MESSAGES_AT_ONCE: usize = 256;

/// Batches on their way to a loop. When it is full, whoever sends waits: a loop only has to queue them.
const BATCHES: usize = 16;

/// A stream hands over no more at a time, so that what waits below it stays small too.
const PIECE_BYTES: usize = 64 * 1024;

/// A queue that has grown is given back once it is empty.
const KEPT_CAPACITY: usize = 8;

const ID_LINE: usize = "id:".len() + ClientId::LEN;

/// Where a client's queue is. A place that is used again has another generation, so that nothing reaches its new
/// client that was meant for the old one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place {
    slot: u32,
    generation: u32,
}

/// What follows the line with the client's id, and the clients of the loop that get it.
#[derive(Debug, Clone)]
pub(crate) struct Message {
    pub(crate) tail: Bytes,
    pub(crate) to: Arc<[Place]>,
    /// Where it stands, for clients that want to know.
    pub(crate) mark: Option<Arc<str>>,
}

/// The clients of one request loop.
pub(crate) struct Outlet {
    clients: Mutex<Clients>,
    batches: mpsc::Sender<Vec<Message>>,
    /// Until the task runs that takes from it.
    taker: Mutex<Option<mpsc::Receiver<Vec<Message>>>>,
    bounds: Bounds,
    draining: CancellationToken,
}

#[derive(Debug, Clone, Copy)]
struct Bounds {
    messages: usize,
    bytes: usize,
    idle: Duration,
    lifetime: Duration,
}

#[derive(Default)]
struct Clients {
    slots: Vec<Slot>,
    free: Vec<u32>,
    is_closed: bool,
}

#[derive(Default)]
struct Slot {
    generation: u32,
    queue: Option<Queue>,
}

/// What waits for a client.
struct Queue {
    id_line: [u8; ID_LINE],
    /// Whether its messages carry their marks.
    resumes: bool,
    waiting: VecDeque<Bytes>,
    bytes: usize,
    waker: Option<Waker>,
    opened: Instant,
    last_sent: Instant,
    /// The stream ends once what waits is written.
    is_over: bool,
}

/// The body of the answer: ends when its client is to connect again.
pub(crate) struct ClientStream {
    outlet: Arc<Outlet>,
    place: Place,
    /// Takes the client off the hub.
    _registration: Registration,
}

/// The lines of a message after that with the id.
pub(crate) fn tail(event: &str, data: &str) -> Bytes {
    let mut tail = Vec::with_capacity(event.len() + data.len() + "\nevent:\ndata:\n\n".len());
    for part in ["\nevent:", event, "\ndata:", data, "\n\n"] {
        tail.extend_from_slice(part.as_bytes());
    }
    tail.into()
}

/// A tail whose data has the mark too.
fn marked(tail: &Bytes, mark: &str) -> Bytes {
    let end = tail.len() - "}\n\n".len();
    let mut marked = Vec::with_capacity(tail.len() + mark.len() + r#","seq":"""#.len());
    marked.extend_from_slice(&tail[..end]);
    for part in [r#","seq":""#, mark, "\"}\n\n"] {
        marked.extend_from_slice(part.as_bytes());
    }
    marked.into()
}

// === impl Outlet ===

impl Outlet {
    pub(crate) fn new(limits: &Limits, times: &Times, draining: CancellationToken) -> Outlet {
        let (batches, taker) = mpsc::channel(BATCHES);
        let bounds = Bounds {
            messages: limits.waiting_messages,
            bytes: limits.waiting_bytes,
            idle: times.idle,
            lifetime: times.lifetime,
        };
        Outlet { clients: Mutex::default(), batches, taker: Mutex::new(Some(taker)), bounds, draining }
    }

    /// Makes a place for a client, with its first message. Called on the loop; nothing when it is ending.
    pub(crate) fn open(self: &Arc<Outlet>, id: ClientId, resumes: bool) -> Option<Place> {
        self.start();
        let mut clients = self.clients();
        if clients.is_closed || self.draining.is_cancelled() {
            return None;
        }
        let place = clients.open(Queue::new(id, resumes));
        let connected = format!(r#"{{"clientId":"{id}"}}"#);
        clients.push(place, &tail("PB_CONNECT", &connected), &self.bounds);
        Some(place)
    }

    /// The stream of a place.
    pub(crate) fn stream(self: &Arc<Outlet>, place: Place, registration: Registration) -> ClientStream {
        ClientStream { outlet: self.clone(), place, _registration: registration }
    }

    /// Gives a place up.
    pub(crate) fn close(&self, place: Place) {
        self.clients().close(place);
    }

    /// Ends streams; their clients connect again.
    pub(crate) fn end(&self, places: &[Place]) {
        let mut clients = self.clients();
        for place in places {
            if let Some(queue) = clients.queue(*place) {
                queue.end();
            }
        }
    }

    /// Hands a batch to the loop. One that is gone has no clients.
    pub(crate) async fn send(&self, batch: Vec<Message>) {
        let _ = self.batches.send(batch).await;
    }

    /// Starts the loop's task with its first client. It ends with the loop, or once the node is draining.
    fn start(self: &Arc<Outlet>) {
        let taker = self.taker.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(taker) = taker {
            tokio::spawn(distribute(self.clone(), taker));
        }
    }

    fn clients(&self) -> MutexGuard<'_, Clients> {
        self.clients.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn deliver(&self, batch: &[Message]) {
        let mut clients = self.clients();
        for message in batch {
            let mut with_mark = None;
            for place in message.to.iter() {
                let Some(queue) = clients.queue(*place) else { continue };
                match &message.mark {
                    Some(mark) if queue.resumes => {
                        let tail = with_mark.get_or_insert_with(|| marked(&message.tail, mark));
                        queue.push(tail, &self.bounds);
                    }
                    _ => queue.push(&message.tail, &self.bounds),
                }
            }
        }
    }

    /// Ends the streams whose time is over.
    fn sweep(&self) {
        let now = Instant::now();
        let is_over = |queue: &Queue| {
            now.duration_since(queue.last_sent) >= self.bounds.idle
                || now.duration_since(queue.opened) >= self.bounds.lifetime
        };
        for queue in self.clients().queues() {
            if is_over(queue) {
                queue.end();
            }
        }
    }

    fn end_all(&self) {
        let mut clients = self.clients();
        clients.is_closed = true;
        clients.queues().for_each(Queue::end);
    }
}

/// A loop's task: batches into queues, and streams to their end in time.
async fn distribute(outlet: Arc<Outlet>, mut batches: mpsc::Receiver<Vec<Message>>) {
    let between = (outlet.bounds.idle.min(outlet.bounds.lifetime) / 10)
        .clamp(Duration::from_millis(10), Duration::from_secs(1));
    let mut ticks = interval(between);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            biased;
            () = outlet.draining.cancelled() => break,
            batch = batches.recv() => match batch {
                Some(batch) => {
                    outlet.deliver(&batch);
                    // The streams that were woken write before more is queued.
                    tokio::task::yield_now().await;
                }
                None => break,
            },
            _ = ticks.tick() => outlet.sweep(),
        }
    }
    outlet.end_all();
}

// === impl Clients ===

impl Clients {
    fn open(&mut self, queue: Queue) -> Place {
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Slot::default());
            u32::try_from(self.slots.len() - 1).expect("a node has less than 2^32 clients")
        });
        let place = &mut self.slots[slot as usize];
        place.queue = Some(queue);
        Place { slot, generation: place.generation }
    }

    fn close(&mut self, place: Place) {
        let slot = &mut self.slots[place.slot as usize];
        if slot.generation == place.generation && slot.queue.take().is_some() {
            slot.generation = slot.generation.wrapping_add(1);
            self.free.push(place.slot);
        }
    }

    fn queue(&mut self, place: Place) -> Option<&mut Queue> {
        let slot = self.slots.get_mut(place.slot as usize)?;
        if slot.generation == place.generation { slot.queue.as_mut() } else { None }
    }

    fn queues(&mut self) -> impl Iterator<Item = &mut Queue> {
        self.slots.iter_mut().filter_map(|slot| slot.queue.as_mut())
    }

    fn push(&mut self, place: Place, tail: &Bytes, bounds: &Bounds) {
        if let Some(queue) = self.queue(place) {
            queue.push(tail, bounds);
        }
    }
}

// === impl Queue ===

impl Queue {
    fn new(id: ClientId, resumes: bool) -> Queue {
        let mut id_line = *b"id:........................................";
        id_line["id:".len()..].copy_from_slice(id.as_bytes());
        let now = Instant::now();
        Queue {
            id_line,
            resumes,
            waiting: VecDeque::new(),
            bytes: 0,
            waker: None,
            opened: now,
            last_sent: now,
            is_over: false,
        }
    }

    /// A client that reads too slowly loses what waits, and its stream.
    fn push(&mut self, tail: &Bytes, bounds: &Bounds) {
        if self.is_over {
            return;
        }
        let is_full = self.waiting.len() >= bounds.messages
            || self.bytes + tail.len() > bounds.bytes && !self.waiting.is_empty();
        if is_full {
            tracing::debug!(
                waiting = self.waiting.len(),
                bytes = self.bytes,
                "dropped a slow realtime client"
            );
            self.waiting = VecDeque::new();
            self.bytes = 0;
            return self.end();
        }
        self.waiting.push_back(tail.clone());
        self.bytes += tail.len();
        self.wake();
    }

    fn end(&mut self) {
        self.is_over = true;
        self.wake();
    }

    fn wake(&mut self) {
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }

    /// What waits, as one piece.
    fn take(&mut self) -> Bytes {
        let (mut messages, mut bytes) = (0, 0);
        for tail in &self.waiting {
            if messages > 0 && bytes + ID_LINE + tail.len() > PIECE_BYTES {
                break;
            }
            messages += 1;
            bytes += ID_LINE + tail.len();
        }
        let mut piece = BytesMut::with_capacity(bytes);
        for tail in self.waiting.drain(..messages) {
            piece.extend_from_slice(&self.id_line);
            piece.extend_from_slice(&tail);
            self.bytes -= tail.len();
        }
        if self.waiting.is_empty() && self.waiting.capacity() > KEPT_CAPACITY {
            self.waiting = VecDeque::new();
        }
        self.last_sent = Instant::now();
        piece.freeze()
    }
}

// === impl ClientStream ===

impl Body for ClientStream {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let mut clients = self.outlet.clients();
        let Some(queue) = clients.queue(self.place) else { return Poll::Ready(None) };
        if !queue.waiting.is_empty() {
            return Poll::Ready(Some(Ok(Frame::data(queue.take()))));
        }
        if queue.is_over {
            return Poll::Ready(None);
        }
        match &mut queue.waker {
            Some(waker) => waker.clone_from(cx.waker()),
            none => *none = Some(cx.waker().clone()),
        }
        Poll::Pending
    }
}

impl Drop for ClientStream {
    fn drop(&mut self) {
        self.outlet.close(self.place);
    }
}
