//! The layers, each of which does one thing to a request or its response. Most have one of two shapes: [`before`]
//! (answers at once or lets pass) and [`around`] (notes, then finishes).

pub(crate) mod around;
pub(crate) mod before;
pub(crate) mod caller;
pub(crate) mod catch_panic;
pub(crate) mod challenges;
pub(crate) mod clean_path;
pub(crate) mod client;
pub(crate) mod compress;
pub(crate) mod cors;
pub(crate) mod framing;
pub(crate) mod head_size;
pub(crate) mod https;
pub(crate) mod one_host;
pub(crate) mod rate_limit;
pub(crate) mod request_id;
pub(crate) mod route_caller;
pub(crate) mod security_headers;
#[cfg(test)]
pub(crate) mod testing;
