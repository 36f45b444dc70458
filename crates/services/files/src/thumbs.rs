//! Thumbs of images (CONTRACT §6.2): made when they are first asked for, once, by few at a time, and kept
//! beside their image. What cannot have one is served as it is.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::{Bytes, BytesMut};
use contract::blobs::{Blob, BlobError, BlobKey, Blobs, Content};
use kit::files::sniff;
use model::field::FileOptions;
use model::record::Record;
use tokio::sync::Semaphore;

use crate::cleanup::THUMBS_PREFIX;
use crate::thumb::{self, Size, Source};

/// Makes thumbs for the whole process.
pub(crate) struct Thumbs {
    /// Making one takes a core, and the memory of a decoded image.
    permits: Arc<Semaphore>,
    waiting: AtomicUsize,
    /// Those that are being made: who asks for the same one waits for it.
    making: Arc<Mutex<Making>>,
    /// Those that could not be made.
    hopeless: Mutex<HashSet<BlobKey>>,
}

/// By thumb: whose turn it is to make it.
type Making = HashMap<BlobKey, Arc<tokio::sync::Mutex<()>>>;

/// A thumb that is there.
pub(crate) struct Found {
    pub(crate) name: String,
    pub(crate) key: BlobKey,
    pub(crate) blob: Blob,
}

/// Every file field has it, listed or not.
const ALWAYS: &str = "100x100";
/// More that wait get the image itself.
const MAX_WAITING: usize = 64;
/// A larger file is not read into memory.
const MAX_SOURCE_BYTES: u64 = 64 << 20;
/// Past it, all are forgotten and tried again.
const MAX_HOPELESS: usize = 4_096;
const PIECE_BYTES: u64 = 1 << 20;

/// Whether a field's files have thumbs of this size.
pub(crate) fn is_listed(options: &FileOptions, wanted: &str) -> bool {
    wanted == ALWAYS || options.thumbs.iter().any(|listed| listed == wanted)
}

// === impl Thumbs ===

impl Thumbs {
    /// A maker that uses half the cores at most.
    fn new() -> Thumbs {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Thumbs {
            permits: Arc::new(Semaphore::new((cores / 2).max(1))),
            waiting: AtomicUsize::new(0),
            making: Arc::default(),
            hopeless: Mutex::default(),
        }
    }

    /// The thumb of one of the record's files, if it can have one of this size, which its field lists.
    pub(crate) async fn find(
        &self,
        blobs: &dyn Blobs,
        record: &Record,
        name: &str,
        wanted: &str,
    ) -> Result<Option<Found>, BlobError> {
        let Some(size) = Size::parse(wanted) else { return Ok(None) };
        let (folder, thumb) = (format!("{THUMBS_PREFIX}{name}"), format!("{wanted}_{name}"));
        let (collection, id) = (record.collection.id.as_str(), record.id());
        let original = BlobKey::new([collection, id, name]);
        let Some((original, key)) = original.zip(BlobKey::new([collection, id, &folder, &thumb])) else {
            return Ok(None);
        };
        let found = |blob| Found { name: thumb.clone(), key: key.clone(), blob };
        if let Some(blob) = blobs.open(key.clone()).await? {
            return Ok(Some(found(blob)));
        }
        if self.hopeless().contains(&key) {
            return Ok(None);
        }
        Ok(self.make_once(blobs, &original, &key, size).await?.map(found))
    }

    async fn make_once(
        &self,
        blobs: &dyn Blobs,
        original: &BlobKey,
        key: &BlobKey,
        size: Size,
    ) -> Result<Option<Blob>, BlobError> {
        let Some(_waiting) = Waiting::begin(&self.waiting) else { return Ok(None) };
        let turn = Turn::of(&self.making, key);
        let _turn = turn.turn.lock().await;
        match blobs.open(key.clone()).await? {
            Some(blob) => Ok(Some(blob)),
            None => self.make(blobs, original, key, size).await,
        }
    }

    async fn make(
        &self,
        blobs: &dyn Blobs,
        original: &BlobKey,
        key: &BlobKey,
        size: Size,
    ) -> Result<Option<Blob>, BlobError> {
        let Ok(permit) = self.permits.clone().acquire_owned().await else { return Ok(None) };
        let Some(image) = blobs.open(original.clone()).await? else { return Ok(None) };
        let Some((bytes, source)) = read_image(&*image.content).await? else {
            self.give_up(key);
            return Ok(None);
        };
        // The work goes on when nobody waits for it any more, and so it holds the permit itself.
        let made = tokio::task::spawn_blocking(move || {
            let _permit = permit;
            thumb::make(&bytes, size, source)
        });
        let thumb = match made.await {
            Ok(Ok(thumb)) => thumb,
            Ok(Err(error)) => {
                tracing::debug!(%error, %original, "no thumb can be made");
                self.give_up(key);
                return Ok(None);
            }
            Err(error) => {
                tracing::error!(%error, %original, "a thumb could not be made");
                self.give_up(key);
                return Ok(None);
            }
        };
        if let Err(error) = blobs.put(key.clone(), Arc::new(Bytes::from(thumb.bytes))).await {
            tracing::warn!(%error, %original, "a thumb cannot be kept");
            return Ok(None);
        }
        // An image that was removed meanwhile takes its thumbs along; this one came too late for that.
        if blobs.open(original.clone()).await?.is_none() {
            blobs.delete(key.clone()).await?;
            return Ok(None);
        }
        blobs.open(key.clone()).await
    }

    fn give_up(&self, key: &BlobKey) {
        let mut hopeless = self.hopeless();
        if hopeless.len() >= MAX_HOPELESS {
            hopeless.clear();
        }
        hopeless.insert(key.clone());
    }

    fn hopeless(&self) -> MutexGuard<'_, HashSet<BlobKey>> {
        self.hopeless.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for Thumbs {
    fn default() -> Thumbs {
        Thumbs::new()
    }
}

/// The whole image, if it is one and not too large.
async fn read_image(content: &dyn Content) -> Result<Option<(Bytes, Source)>, BlobError> {
    let size = content.size();
    if size > MAX_SOURCE_BYTES {
        return Ok(None);
    }
    let first = content.read(0..size.min(PIECE_BYTES)).await?;
    let Some(source) = Source::of_mime(sniff(&first).mime_type) else { return Ok(None) };
    let mut bytes = BytesMut::from(first);
    while (bytes.len() as u64) < size {
        let at = bytes.len() as u64;
        bytes.extend_from_slice(&content.read(at..size.min(at + PIECE_BYTES)).await?);
    }
    Ok(Some((bytes.freeze(), source)))
}

/// A place in the line of those who want one thumb. The last who drops theirs takes the line away.
struct Turn {
    making: Arc<Mutex<Making>>,
    key: BlobKey,
    turn: Arc<tokio::sync::Mutex<()>>,
}

impl Turn {
    fn of(making: &Arc<Mutex<Making>>, key: &BlobKey) -> Turn {
        let mut all = making.lock().unwrap_or_else(PoisonError::into_inner);
        let turn = all.entry(key.clone()).or_default().clone();
        Turn { making: making.clone(), key: key.clone(), turn }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let mut all = self.making.lock().unwrap_or_else(PoisonError::into_inner);
        // Besides the map's, this is the only one.
        if Arc::strong_count(&self.turn) <= 2 {
            all.remove(&self.key);
        }
    }
}

/// Counts one who waits, until it is dropped.
struct Waiting<'c>(&'c AtomicUsize);

impl<'c> Waiting<'c> {
    fn begin(count: &'c AtomicUsize) -> Option<Waiting<'c>> {
        let waiting = Waiting(count);
        // Dropped at once when there are too many.
        (count.fetch_add(1, Ordering::Relaxed) < MAX_WAITING).then_some(waiting)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
