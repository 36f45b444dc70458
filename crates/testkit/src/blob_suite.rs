//! What every adapter of the blobs must do: [`contract::blobs::Blobs`] as cases whose names are the
//! claims. [`blob_suite!`](crate::blob_suite) makes a test of each, on one adapter.
//!
//! A case gets a fresh adapter and sees of it what a service sees.

#![allow(missing_docs, reason = "the names of the cases are the claims")]
#![allow(clippy::unwrap_used, reason = "a case that panics has failed")]

mod contents;

use std::any::Any;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use contract::blobs::{Blob, BlobError, BlobKey, Blobs, Content};
use futures_util::future::join_all;

use self::contents::{Broken, Generated};

/// Blobs with nothing in them.
pub struct Opened {
    /// The adapter.
    pub blobs: Arc<dyn Blobs>,
    /// What must live as long as it does.
    pub keep: Box<dyn Any>,
}

/// Makes a test of every case of the suite. `$open` names an `async fn() -> Opened` of the adapter.
#[macro_export]
macro_rules! blob_suite {
    ($open:ident) => {
        $crate::blob_suite! { $open:
            what_was_put_is_read
            any_range_is_read
            a_range_outside_of_the_blob_is_an_error
            a_blob_says_when_it_was_stored
            what_is_missing_is_none
            a_folder_is_no_blob
            a_blob_that_is_replaced_is_read_whole_by_those_who_opened_it
            an_open_blob_outlives_its_delete
            a_second_delete_finds_nothing_to_do
            a_list_names_what_lies_below_a_folder
            a_list_stops_at_its_limit
            keys_may_hold_any_letter
            concurrent_puts_of_one_key_leave_one_of_them_whole
            puts_and_deletes_in_one_folder_do_not_meet
            a_put_whose_content_fails_leaves_nothing
            a_put_whose_content_falls_short_leaves_nothing
            a_put_that_is_dropped_leaves_nothing
            a_large_blob_passes_in_small_pieces
        }
    };
    ($open:ident: $($case:ident)*) => {
        $(
            #[test]
            fn $case() {
                $crate::blob_suite::run($open, $crate::blob_suite::$case);
            }
        )*
    };
}

/// Runs one case on a fresh adapter.
pub fn run<C: Future<Output = ()>>(
    open: impl AsyncFnOnce() -> Opened,
    case: impl FnOnce(Arc<dyn Blobs>) -> C,
) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("a runtime starts").block_on(async {
        let opened = open().await;
        case(Arc::clone(&opened.blobs)).await;
    });
}

// === the cases ===

pub async fn what_was_put_is_read(blobs: Arc<dyn Blobs>) {
    for size in [0, 1, 4_096, 65_535, 65_536, 65_537, 262_144, 700_001] {
        let bytes = contents::bytes(size);
        put(&*blobs, "c/r/n", bytes.clone()).await.unwrap();
        let blob = open(&*blobs, "c/r/n").await.unwrap();
        assert_eq!(blob.content.size(), size);
        assert!(read(&blob, 0..size).await.unwrap() == bytes, "{size} bytes");
    }
}

pub async fn any_range_is_read(blobs: Arc<dyn Blobs>) {
    let bytes = contents::bytes(200_000);
    put(&*blobs, "c/r/n", bytes.clone()).await.unwrap();
    let blob = open(&*blobs, "c/r/n").await.unwrap();
    for (start, end) in
        [(0, 0), (0, 1), (65_535, 65_537), (199_999, 200_000), (200_000, 200_000), (7, 150_000)]
    {
        let part = read(&blob, start..end).await.unwrap();
        assert!(part == bytes.slice(start as usize..end as usize), "{start}..{end}");
    }
}

pub async fn a_range_outside_of_the_blob_is_an_error(blobs: Arc<dyn Blobs>) {
    put(&*blobs, "c/r/n", contents::bytes(10)).await.unwrap();
    let blob = open(&*blobs, "c/r/n").await.unwrap();
    for (start, end) in [(0, 11), (11, 12), (5, 4), (0, u64::MAX), (u64::MAX, u64::MAX)] {
        let refused = read(&blob, start..end).await;
        assert!(matches!(refused, Err(BlobError::Internal(_))), "{start}..{end}: {refused:?}");
    }
}

pub async fn a_blob_says_when_it_was_stored(blobs: Arc<dyn Blobs>) {
    // Clocks of file systems tick slowly.
    let tick = Duration::from_secs(2);
    let before = SystemTime::now();
    put(&*blobs, "c/r/n", contents::bytes(10)).await.unwrap();
    let stored = open(&*blobs, "c/r/n").await.unwrap().modified;
    assert!(stored >= before - tick && stored <= SystemTime::now() + tick, "{stored:?}");
}

pub async fn what_is_missing_is_none(blobs: Arc<dyn Blobs>) {
    assert!(open(&*blobs, "c/r/n").await.is_none());
    put(&*blobs, "c/r/n", contents::bytes(1)).await.unwrap();
    for key in ["c/r/m", "c/x/n", "c/r/n/x", "n"] {
        assert!(open(&*blobs, key).await.is_none(), "{key}");
    }
}

pub async fn a_folder_is_no_blob(blobs: Arc<dyn Blobs>) {
    put(&*blobs, "c/r/n", contents::bytes(1)).await.unwrap();
    assert!(open(&*blobs, "c/r").await.is_none());
    blobs.delete(key("c/r")).await.unwrap();
    assert!(open(&*blobs, "c/r/n").await.is_some());
}

pub async fn a_blob_that_is_replaced_is_read_whole_by_those_who_opened_it(blobs: Arc<dyn Blobs>) {
    let (old, new) = (contents::bytes(100_000), contents::bytes(50_000));
    put(&*blobs, "c/r/n", old.clone()).await.unwrap();
    let opened = open(&*blobs, "c/r/n").await.unwrap();
    put(&*blobs, "c/r/n", new.clone()).await.unwrap();
    assert!(read(&opened, 0..100_000).await.unwrap() == old);
    assert!(whole(&*blobs, "c/r/n").await == Some(new));
}

pub async fn an_open_blob_outlives_its_delete(blobs: Arc<dyn Blobs>) {
    put(&*blobs, "c/r/n", contents::bytes(100)).await.unwrap();
    let opened = open(&*blobs, "c/r/n").await.unwrap();
    blobs.delete(key("c/r/n")).await.unwrap();
    assert!(open(&*blobs, "c/r/n").await.is_none());
    assert_eq!(read(&opened, 0..100).await.unwrap(), contents::bytes(100));
}

pub async fn a_second_delete_finds_nothing_to_do(blobs: Arc<dyn Blobs>) {
    put(&*blobs, "c/r/n", contents::bytes(1)).await.unwrap();
    put(&*blobs, "c/r/m", contents::bytes(2)).await.unwrap();
    for _ in 0..2 {
        blobs.delete(key("c/r/n")).await.unwrap();
        assert!(open(&*blobs, "c/r/n").await.is_none());
    }
    blobs.delete(key("never/put")).await.unwrap();
    assert_eq!(whole(&*blobs, "c/r/m").await, Some(contents::bytes(2)));
}

pub async fn a_list_names_what_lies_below_a_folder(blobs: Arc<dyn Blobs>) {
    for name in ["c/r/n", "c/r/thumbs_n/1x1_n", "c/r2/n", "d/r/n"] {
        put(&*blobs, name, contents::bytes(1)).await.unwrap();
    }
    assert_eq!(list(&*blobs, "c/r").await, ["c/r/n", "c/r/thumbs_n/1x1_n"]);
    assert_eq!(list(&*blobs, "c").await, ["c/r/n", "c/r/thumbs_n/1x1_n", "c/r2/n"]);
    blobs.delete(key("c/r2/n")).await.unwrap();
    assert!(list(&*blobs, "c/r2").await.is_empty());
    assert!(list(&*blobs, "none").await.is_empty());
    assert!(list(&*blobs, "c/r/n").await.is_empty(), "a blob is no folder");
}

pub async fn a_list_stops_at_its_limit(blobs: Arc<dyn Blobs>) {
    for name in ["c/r/a", "c/r/b", "c/r/c"] {
        put(&*blobs, name, contents::bytes(1)).await.unwrap();
    }
    for (limit, found) in [(0, 0), (2, 2), (9, 3)] {
        assert_eq!(blobs.list(key("c/r"), limit).await.unwrap().len(), found);
    }
}

pub async fn keys_may_hold_any_letter(blobs: Arc<dyn Blobs>) {
    let names =
        ["ä ☃ 文.png", " ", "a  b", "-rf", "~", "%20", "%2e%2e", "a#1", "?x=*", "\"'`$(x)", ".hidden", "..."];
    for name in names {
        put(&*blobs, &format!("c/{name}/{name}"), Bytes::from(name)).await.unwrap();
    }
    let mut wanted = names.map(|name| format!("c/{name}/{name}"));
    wanted.sort();
    assert_eq!(list(&*blobs, "c").await, wanted);
    for name in names {
        let key_text = format!("c/{name}/{name}");
        assert_eq!(whole(&*blobs, &key_text).await, Some(Bytes::from(name)));
        blobs.delete(key(&key_text)).await.unwrap();
    }
    assert!(list(&*blobs, "c").await.is_empty());
}

pub async fn concurrent_puts_of_one_key_leave_one_of_them_whole(blobs: Arc<dyn Blobs>) {
    let all: Vec<Bytes> = (0..8).map(|count| contents::bytes(300_000 + count)).collect();
    let puts = all.iter().map(|bytes| put(&*blobs, "c/r/n", bytes.clone()));
    for done in join_all(puts).await {
        done.unwrap();
    }
    let left = whole(&*blobs, "c/r/n").await.unwrap();
    assert!(all.contains(&left), "{} bytes that nobody put", left.len());
    assert_eq!(list(&*blobs, "c").await, ["c/r/n"]);
}

pub async fn puts_and_deletes_in_one_folder_do_not_meet(blobs: Arc<dyn Blobs>) {
    let one = |name: String| {
        let blobs = &blobs;
        async move {
            for round in 0..20_u64 {
                put(&**blobs, &name, contents::bytes(round)).await.unwrap();
                assert_eq!(whole(&**blobs, &name).await, Some(contents::bytes(round)));
                blobs.delete(key(&name)).await.unwrap();
                assert!(open(&**blobs, &name).await.is_none());
            }
        }
    };
    join_all((0..4).map(|name| one(format!("c/r/{name}")))).await;
    assert!(list(&*blobs, "c").await.is_empty());
}

pub async fn a_put_whose_content_fails_leaves_nothing(blobs: Arc<dyn Blobs>) {
    put(&*blobs, "c/r/old", contents::bytes(5)).await.unwrap();
    for name in ["c/r/new", "c/r/old"] {
        let failed = blobs.put(key(name), Arc::new(Broken::Fails { size: 1_000_000, at: 600_000 })).await;
        assert_eq!(failed, Err(Broken::error()));
    }
    assert_eq!(list(&*blobs, "c").await, ["c/r/old"]);
    assert_eq!(whole(&*blobs, "c/r/old").await, Some(contents::bytes(5)));
}

pub async fn a_put_whose_content_falls_short_leaves_nothing(blobs: Arc<dyn Blobs>) {
    let failed = blobs.put(key("c/r/n"), Arc::new(Broken::FallsShort { size: 1_000_000, at: 600_000 })).await;
    assert!(matches!(failed, Err(BlobError::Internal(_))), "{failed:?}");
    assert!(list(&*blobs, "c").await.is_empty());
}

pub async fn a_put_that_is_dropped_leaves_nothing(blobs: Arc<dyn Blobs>) {
    let (content, has_stopped) = Broken::stops(1_000_000, 600_000);
    let putting = blobs.put(key("c/r/n"), Arc::new(content));
    tokio::select! {
        done = putting => panic!("a content that never ends has ended: {done:?}"),
        () = has_stopped.notified() => {}
    }
    assert!(open(&*blobs, "c/r/n").await.is_none());
    assert!(list(&*blobs, "c").await.is_empty());
}

pub async fn a_large_blob_passes_in_small_pieces(blobs: Arc<dyn Blobs>) {
    const SIZE: u64 = 256 * 1024 * 1024;
    const MOST: u64 = 1024 * 1024;
    let content = Arc::new(Generated::new(SIZE));
    blobs.put(key("c/r/n"), content.clone()).await.unwrap();
    let most = content.most_asked();
    assert!((1..=MOST).contains(&most), "{most} bytes at once");

    let blob = open(&*blobs, "c/r/n").await.unwrap();
    assert_eq!(blob.content.size(), SIZE);
    for start in (0..SIZE - MOST).step_by(31 * 1024 * 1024 + 77).chain([SIZE - MOST]) {
        let part = read(&blob, start..start + MOST).await.unwrap();
        assert!(part == content.read(start..start + MOST).await.unwrap(), "at {start}");
    }
}

// === words of the cases ===

fn key(text: &str) -> BlobKey {
    BlobKey::parse(text).unwrap()
}

async fn put(blobs: &dyn Blobs, name: &str, bytes: Bytes) -> Result<(), BlobError> {
    blobs.put(key(name), Arc::new(bytes)).await
}

async fn open(blobs: &dyn Blobs, name: &str) -> Option<Blob> {
    blobs.open(key(name)).await.unwrap()
}

async fn read(blob: &Blob, range: std::ops::Range<u64>) -> Result<Bytes, BlobError> {
    blob.content.read(range).await
}

async fn whole(blobs: &dyn Blobs, name: &str) -> Option<Bytes> {
    let blob = open(blobs, name).await?;
    Some(read(&blob, 0..blob.content.size()).await.unwrap())
}

/// The keys in order.
async fn list(blobs: &dyn Blobs, folder: &str) -> Vec<String> {
    let found = blobs.list(key(folder), 1_000).await.unwrap();
    let mut names: Vec<String> = found.iter().map(BlobKey::to_string).collect();
    names.sort();
    names
}
