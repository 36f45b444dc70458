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

mod encrypted {
    use std::sync::Arc;

    use blobs::{EncryptedBlobs, MasterKeys};

    use super::*;
    use crate::encrypted::KEY_A;

    async fn open() -> Opened {
        let (folder, blobs) = fresh();
        let keys = MasterKeys::parse([KEY_A]).unwrap();
        Opened { blobs: Arc::new(EncryptedBlobs::new(blobs, Arc::new(keys))), keep: Box::new(folder) }
    }

    testkit::blob_suite!(open);
}

mod plain {
    use std::sync::Arc;

    use blobs::PlainBlobs;

    use super::*;

    async fn open() -> Opened {
        let (folder, blobs) = fresh();
        Opened { blobs: Arc::new(PlainBlobs::new(blobs)), keep: Box::new(folder) }
    }

    testkit::blob_suite!(open);
}
