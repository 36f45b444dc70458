//! A volume that fills up and empties again.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::app::{Root, register_consumer, start, stored_titles};

/// Room for the server's files but not for much more.
const VOLUME: &str = "size=24m";

#[test]
fn a_full_volume_refuses_writes_keeps_reads_and_recovers() {
    let (mut server, _) = start();
    server.kill().unwrap();
    let Some(volume) = Volume::over(&server.dir()) else {
        assert!(!testkit::is_ci(), "mounting a small volume needs root");
        println!("skipped: full volume: mounting one needs root");
        return;
    };
    register_consumer(&server.dir());
    server.restart().unwrap();
    let root = Root::sign_in(&server);
    let ballast = server.dir().join("ballast");
    fill(&ballast);

    let mut acknowledged = BTreeSet::new();
    let refused = write_until_refused(&root, &mut acknowledged);
    assert_eq!(root.send("GET", "/api/collections/items/records?perPage=1", None).status, 200);

    fs::remove_file(&ballast).unwrap();
    let answer = root.create("after").unwrap();
    assert_eq!(answer.status, 200, "{}", answer.text());
    acknowledged.insert("after".to_owned());

    server.kill().unwrap();
    let (titles, events) = stored_titles(&server.dir());
    let stored: BTreeSet<String> = titles.into_iter().collect();
    assert_eq!(stored, acknowledged, "refused: {refused}");
    assert_eq!(events.into_iter().collect::<BTreeSet<_>>(), acknowledged);
    drop(volume);
}

/// Writes until one is refused for lack of room; returns its title.
fn write_until_refused(root: &Root, acknowledged: &mut BTreeSet<String>) -> String {
    for number in 0..20_000 {
        let title = format!("{number}-{}", "x".repeat(2000));
        let answer = root.create(&title).unwrap();
        match answer.status {
            200 => acknowledged.insert(title),
            503 => {
                assert!(answer.text().contains("\"status\":503"), "{}", answer.text());
                return title;
            }
            status => panic!("{status}: {}", answer.text()),
        };
    }
    panic!("the volume never filled up");
}

pub(crate) fn fill(path: &Path) {
    use std::io::Write as _;
    let mut file = fs::File::create(path).unwrap();
    while file.write_all(&[0; 65536]).is_ok() {}
}

/// A small file system mounted over a folder whose content it takes along.
pub(crate) struct Volume(PathBuf);

impl Volume {
    pub(crate) fn over(dir: &Path) -> Option<Volume> {
        let aside = dir.with_extension("aside");
        fs::rename(dir, &aside).unwrap();
        fs::create_dir(dir).unwrap();
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", VOLUME, "tmpfs"]).arg(dir).status();
        let volume = mounted.is_ok_and(|status| status.success()).then(|| Volume(dir.to_owned()));
        for entry in fs::read_dir(&aside).unwrap() {
            let path = entry.unwrap().path();
            if path.is_file() {
                fs::copy(&path, dir.join(path.file_name().unwrap())).unwrap();
            }
        }
        volume
    }
}

impl Drop for Volume {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}
