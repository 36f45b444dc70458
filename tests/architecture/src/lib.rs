//! Nothing but a test: the direction in which crates may depend on each other (ARCHITECTURE.md).
