//! The names of files for the keys of blobs, and back.

use contract::blobs::{BlobError, BlobKey};
use object_store::path::Path;

/// Where a blob lies in the folder.
pub(super) fn location(key: &BlobKey) -> Result<Path, BlobError> {
    let written = key.as_str().replace('%', "%25").replace('#', "%23");
    Path::parse(written).map_err(|error| BlobError::Internal(format!("no file can be named {key}: {error}")))
}

/// The key of what lies there; none for a file that no put has made.
pub(super) fn key(location: &Path) -> Option<BlobKey> {
    let written = location.as_ref();
    let key = written.replace("%23", "#").replace("%25", "%");
    let key = BlobKey::parse(&key)?;
    (self::location(&key).ok()?.as_ref() == written).then_some(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_found_again_in_the_name_of_its_file() {
        for text in ["c/r/a.txt", "c/a b/ä ☃.txt", "100%", "%25", "%23", "a#1", "#%2#", "c/-x", "~/*?"] {
            let key = BlobKey::parse(text).unwrap();
            let location = location(&key).unwrap();
            assert_eq!(super::key(&location), Some(key), "{location}");
            assert!(!location.as_ref().contains('#'), "{location}");
        }
    }

    #[test]
    fn a_file_that_no_put_has_made_has_no_key() {
        for written in ["%put/x", "a%", "a%20b", "a#b"] {
            assert_eq!(key(&Path::parse(written).unwrap()), None, "{written}");
        }
    }
}
