//! The kit against real servers. Skipped with a reason where they are not installed.

mod pocketbase;
mod postgres;
