//! Whether this process should be sent requests.

use std::sync::atomic::{AtomicU8, Ordering};

/// The life of the process as its readiness sees it: starting, then ready, then draining.
#[derive(Debug, Default)]
pub(crate) struct Readiness(AtomicU8);

const READY: u8 = 1;
const DRAINING: u8 = 2;

impl Readiness {
    /// The listeners are open and the application answers.
    pub(crate) fn set_ready(&self) {
        // A process that already drains stays so.
        let _ = self.0.compare_exchange(0, READY, Ordering::Relaxed, Ordering::Relaxed);
    }

    /// The process is on its way out.
    pub(crate) fn set_draining(&self) {
        self.0.store(DRAINING, Ordering::Relaxed);
    }

    /// Why no request should come here, if so.
    pub(crate) fn objection(&self) -> Option<&'static str> {
        match self.0.load(Ordering::Relaxed) {
            READY => None,
            DRAINING => Some("draining"),
            _ => Some("starting"),
        }
    }
}
