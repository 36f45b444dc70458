//! Removing files that no record holds any more, as jobs: whoever makes files superfluous leaves one, and the
//! `files` service does it.

use contract::blobs::BlobKey;
use model::json::{Json, JsonObject};
use model::step::NewJob;
use model::time::Timestamp;

/// What is to be removed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FileRemoval {
    /// Files, with what was derived from them.
    Files(Vec<BlobKey>),
    /// Everything in a folder of keys.
    Folder(BlobKey),
}

// === impl FileRemoval ===

impl FileRemoval {
    /// The queue of these jobs.
    pub const QUEUE: &str = "files";
    /// Most files of one job: with keys of 1,024 bytes it stays far from the largest payload.
    pub const MAX_FILES: usize = 50;

    /// All files of a collection that is removed itself. None for an id that cannot have had files.
    pub fn of_collection(id: &str) -> Option<FileRemoval> {
        BlobKey::new([id]).map(FileRemoval::Folder)
    }

    /// The jobs that do it, as many as it takes.
    pub fn into_jobs(self) -> Vec<NewJob> {
        let payloads = match &self {
            FileRemoval::Files(keys) => keys
                .chunks(FileRemoval::MAX_FILES)
                .map(|keys| ("files", Json::Array(keys.iter().map(|key| Json::from(key.as_str())).collect())))
                .collect(),
            FileRemoval::Folder(key) => vec![("folder", Json::from(key.as_str()))],
        };
        let job = |(name, value): (&str, Json)| {
            let payload = Json::Object([(name.to_owned(), value)].into_iter().collect::<JsonObject>());
            NewJob::new(FileRemoval::QUEUE, &payload, Timestamp(0))
        };
        payloads.into_iter().filter_map(|payload| job(payload).ok()).collect()
    }

    /// What a job's payload asks for.
    pub fn of_payload(payload: &Json) -> Option<FileRemoval> {
        if let Some(folder) = payload.get("folder") {
            return Some(FileRemoval::Folder(BlobKey::parse(folder.as_str()?)?));
        }
        let Json::Array(keys) = payload.get("files")? else { return None };
        let keys = keys.iter().map(|key| BlobKey::parse(key.as_str()?));
        Some(FileRemoval::Files(keys.collect::<Option<_>>()?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(jobs: &[NewJob]) -> Vec<FileRemoval> {
        let payload = |job: &NewJob| Json::parse_whole(job.payload()).unwrap();
        jobs.iter().map(|job| FileRemoval::of_payload(&payload(job)).unwrap()).collect()
    }

    #[test]
    fn a_removal_comes_back_from_its_jobs() {
        let key = |number: usize| BlobKey::new(["c", "r", &format!("{number}{}", "é".repeat(500))]).unwrap();
        let keys: Vec<_> = (0..FileRemoval::MAX_FILES + 1).map(key).collect();
        let jobs = FileRemoval::Files(keys.clone()).into_jobs();
        let (some, rest) = keys.split_at(FileRemoval::MAX_FILES);
        assert_eq!(read(&jobs), [FileRemoval::Files(some.to_vec()), FileRemoval::Files(rest.to_vec())]);
        let folder = FileRemoval::of_collection("c").unwrap();
        assert_eq!(read(&folder.clone().into_jobs()), [folder]);
        assert_eq!(FileRemoval::of_collection(".."), None);
    }

    #[test]
    fn a_payload_that_is_none_removes_nothing() {
        for text in ["null", "{}", r#"{"folder": ""}"#, r#"{"files": ["a", "../b"]}"#, r#"{"files": 1}"#] {
            assert_eq!(FileRemoval::of_payload(&Json::parse_whole(text).unwrap()), None, "{text}");
        }
    }
}
