//! What is refused at the edge before anybody works on it.

pub(crate) mod accepts;
pub(crate) mod paths;
pub(crate) mod rules;
