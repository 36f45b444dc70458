//! Who a caller is: tokens and the keys that sign them, passwords, and what keeps guessing slow.
//!
//! A token is read unverified by [`jwt::read`] to learn whose it is, its record is loaded, and
//! [`jwt::Unverified::verify`] checks it with the record's own [`jwt::SigningKey`]. The outcome is
//! remembered in a [`cache::TokenCache`] until the record or its collection changes. Passwords are
//! hashed and checked in a [`hash_pool::HashPool`]; a [`throttle::SignInThrottle`] counts failures.
//! What other servers are told of a caller is signed with [`caller_keys`].
//! [`Identity`] keeps all of this for a node; what a caller may do is left to others. Between nodes a gateway's
//! [`signed_caller`] says who asks, signed with one of the [`node_keys`].

pub mod address;
pub mod cache;
mod caller;
pub mod caller_keys;
pub mod external;
pub mod hash_pool;
mod identity;
pub mod jwt;
pub mod node_keys;
pub mod password;
pub mod signed_caller;
pub mod throttle;

pub use identity::Identity;
