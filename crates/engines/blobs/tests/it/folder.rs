use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use blobs::{FolderBlobs, Options};
use bytes::Bytes;
use contract::blobs::{Answer, BlobError, Blobs as _, Content};

use crate::{block_on, fresh, key};

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

/// Everything in a folder, without what stands for the adapter's own.
fn entries(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.retain(|name| name != "%put");
    names.sort();
    names
}

#[test]
fn a_blob_is_a_file_for_this_user_only() {
    let (folder, blobs) = fresh();
    block_on(blobs.put(key("c/r/n.txt"), Arc::new(Bytes::from("hello")))).unwrap();
    let root = folder.path().join("blobs");
    assert_eq!(fs::read(root.join("c/r/n.txt")).unwrap(), b"hello");
    assert_eq!(mode(&root.join("c/r/n.txt")), 0o600);
    for path in ["", "%put", "c", "c/r"] {
        assert_eq!(mode(&root.join(path)), 0o700, "{path}");
    }
}

#[test]
fn a_folder_that_is_there_keeps_its_mode_and_its_blobs() {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir_all(folder.path().join("c/r")).unwrap();
    fs::write(folder.path().join("c/r/n"), "old").unwrap();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let blobs = FolderBlobs::open(Options::new(folder.path())).unwrap();
    assert_eq!(mode(folder.path()), 0o755);
    let blob = block_on(blobs.open(key("c/r/n"))).unwrap().unwrap();
    assert_eq!(block_on(blob.content.read(0..3)).unwrap(), "old");
}

#[test]
fn folders_go_with_their_last_blob() {
    let (folder, blobs) = fresh();
    let root = folder.path().join("blobs");
    for name in ["c/r/n", "c/r/thumbs_n/t", "c/s/n"] {
        block_on(blobs.put(key(name), Arc::new(Bytes::new()))).unwrap();
    }
    block_on(blobs.delete(key("c/r/thumbs_n/t"))).unwrap();
    assert_eq!(entries(&root.join("c/r")), ["n"]);
    block_on(blobs.delete(key("c/r/n"))).unwrap();
    assert_eq!(entries(&root.join("c")), ["s"]);
    block_on(blobs.delete(key("c/s/n"))).unwrap();
    assert!(entries(&root).is_empty());
}

#[test]
fn a_delete_removes_the_folders_that_a_crashed_one_left() {
    let (folder, blobs) = fresh();
    let root = folder.path().join("blobs");
    fs::create_dir_all(root.join("c/r")).unwrap();
    block_on(blobs.delete(key("c/r/n"))).unwrap();
    assert!(entries(&root).is_empty());
}

#[test]
fn what_a_crash_left_half_put_is_swept_at_the_start() {
    let (folder, blobs) = fresh();
    let root = folder.path().join("blobs");
    block_on(blobs.put(key("c/r/n"), Arc::new(Bytes::from("whole")))).unwrap();
    drop(blobs);
    fs::write(root.join("%put/.tmpX"), "half").unwrap();
    let blobs = FolderBlobs::open(Options::new(&root)).unwrap();
    assert_eq!(fs::read_dir(root.join("%put")).unwrap().count(), 0);
    assert!(block_on(blobs.open(key("c/r/n"))).unwrap().is_some());
}

#[test]
fn a_put_that_takes_too_long_is_unavailable_and_leaves_no_file() {
    let folder = tempfile::tempdir().unwrap();
    let options = Options { deadline: Duration::from_millis(20), ..Options::new(folder.path()) };
    let blobs = FolderBlobs::open(options).unwrap();
    let failed = block_on(blobs.put(key("c/r/n"), Arc::new(Silent)));
    assert!(matches!(failed, Err(BlobError::Unavailable(_))), "{failed:?}");
    assert!(entries(folder.path()).is_empty());
    assert_eq!(fs::read_dir(folder.path().join("%put")).unwrap().count(), 0);
}

#[test]
fn a_disk_that_takes_no_bytes_is_unavailable() {
    let (folder, blobs) = fresh();
    let staging = folder.path().join("blobs/%put");
    fs::remove_dir(&staging).unwrap();
    let failed = block_on(blobs.put(key("c/r/n"), Arc::new(Bytes::from("x"))));
    assert!(matches!(failed, Err(BlobError::Unavailable(_))), "{failed:?}");
}

#[test]
fn a_file_that_became_shorter_is_damaged() {
    let (folder, blobs) = fresh();
    block_on(blobs.put(key("c/r/n"), Arc::new(Bytes::from("hello")))).unwrap();
    let blob = block_on(blobs.open(key("c/r/n"))).unwrap().unwrap();
    fs::OpenOptions::new().write(true).open(folder.path().join("blobs/c/r/n")).unwrap().set_len(2).unwrap();
    assert!(matches!(block_on(blob.content.read(0..5)), Err(BlobError::Damaged(_))));
    assert_eq!(block_on(blob.content.read(0..2)).unwrap(), "he");
}

#[test]
fn a_name_that_no_file_can_have_is_no_blob() {
    let (_folder, blobs) = fresh();
    let long = format!("c/{}", "x".repeat(300));
    assert!(block_on(blobs.open(key(&long))).unwrap().is_none());
    block_on(blobs.delete(key(&long))).unwrap();
    let failed = block_on(blobs.put(key(&long), Arc::new(Bytes::new())));
    assert!(matches!(failed, Err(BlobError::Internal(_))), "{failed:?}");
}

/// A content that never answers.
struct Silent;

impl Content for Silent {
    fn size(&self) -> u64 {
        1
    }

    fn read(&self, _: std::ops::Range<u64>) -> Answer<'_, Bytes> {
        Box::pin(std::future::pending())
    }
}
