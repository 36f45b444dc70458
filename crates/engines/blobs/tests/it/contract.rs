//! The blobs' contract on each adapter.

use testkit::blob_suite::Opened;

use crate::fresh;

mod folder {
    use super::*;

    async fn open() -> Opened {
        let (folder, blobs) = fresh();
        Opened { blobs, keep: Box::new(folder) }
    }

    testkit::blob_suite!(open);
}
