//! The model against the real PocketBase, where there is one.

mod pocketbase;
mod values;
