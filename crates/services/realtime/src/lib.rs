//! The `realtime` service: changes of records as server-sent events (CONTRACT §7).
//!
//! `GET /api/realtime` opens a stream, `POST /api/realtime` says which topics it follows. A [`Realtime`] is one
//! for the process: a task of the background runtime takes the change events from the broker, and finds out for
//! each who may know of it. An event is judged once for all who cannot differ (the same rule, filter and, where
//! these look at it, caller), and written as JSON once for all who see the same of it. What comes out is handed to
//! the request loops as shared bytes with a list of places; each loop puts it into the queues of its own clients,
//! and a stream writes all that waits in one piece.
//!
//! - `topic`: what a subscription asks for.
//! - `hub`: who is connected, and who follows which topic.
//! - `outlet`: the clients of one request loop, and the streams that they read.
//! - `follow`: the task, and its subscription at the broker.
//! - `dispatch`: one event, from the rows to who is told.
//! - `plan`: what a topic means under one schema.
//! - `bound`: who a stream speaks for, while that can change.
//! - `resume`: what clients may ask for that connect again, beyond the contract.
//!
//! # What is bounded, and what happens then
//!
//! | what | past it |
//! |---|---|
//! | streams of a node, and of one address ([`Limits`]) | 503, and 429, with `Retry-After` |
//! | topics of a client (1,000, of 2,500 bytes each) | 400, the contract's |
//! | topics of a node, and of one address, and their bytes | 503, and 429, with `Retry-After` |
//! | messages that wait for a client, and their bytes | the stream ends, and the client connects again |
//! | events kept for clients that connect again | these are told to read anew |
//!
//! A stream also ends when the server stops, when nothing was sent for 5 minutes, and after 30 minutes. It ends,
//! too, when the node cannot tell what its client missed: when events were lost, or the store did not answer. A
//! client connects again by itself and reads anew; nobody is silently left behind.
//!
//! # Who may know
//!
//! An event is judged by its own row, not by what is stored by then: rule and filter see the row after a create
//! or an update, and the row as it was before a delete. Other records that they ask for are asked as they are when
//! the event is sent. Of a delete that took others along, a rule that asks for other records cannot be judged any
//! more; only superusers are told then. A related record that goes by itself within the milliseconds between
//! a delete and its telling is not noticed.

mod bound;
mod client_id;
mod connect;
mod dispatch;
mod follow;
mod hub;
mod limits;
mod outlet;
mod plan;
mod realtime;
mod resume;
mod subscribe;
mod topic;

pub use limits::{Limits, Times};
pub use realtime::{Options, Realtime};
