//! The runtime of whatever is not a request: one small `background` runtime. The other kind, the request loops, is the
//! gateway's.

use std::io;

use tokio::runtime::{self, Runtime};

/// Threads of the background runtime. Its work waits much and computes little.
pub(crate) const BACKGROUND_THREADS: usize = 2;

/// Builds the background runtime.
pub(crate) fn background() -> io::Result<Runtime> {
    runtime::Builder::new_multi_thread()
        .worker_threads(BACKGROUND_THREADS)
        .thread_name("background")
        .enable_all()
        .build()
}
