//! Splicing: a client's handshake is completed here, with a cookie, before any instance runs; when one does, the appliance
//! opens a connection to it and translates between the two for the flow's life.
//!
//! Everything in here is a plain function of bytes, numbers and a time. Who calls it, and when, is in
//! [`crate::node::service`].
//!
//! | file | idea |
//! |---|---|
//! | [`options`], [`segment`] | TCP headers, read and written |
//! | [`cookie`] | the handshake's state in the number that the client sends back |
//! | [`early`] | what the client says before anybody can hear it |
//! | [`connect`] | the connection to the instance, until it is open |
//! | [`table`] | which flow and which held packet belong together |
//! | [`translate`] | sequence numbers, windows, SACK blocks and timestamps from then on |
//!
//! What holds throughout: nothing that the client sent is acknowledged before the instance has acknowledged it, for
//! no acknowledgement but that of its SYN is ours; and before the client's acknowledgement nothing is remembered.
//!
//! A SYN that comes soon after an instance became ready still gets a cookie: it may repeat one that did. Later ones go
//! straight to the instance, and nothing of them needs translating.
//!
//! Limits:
//!
//! - Where the client has timestamps and the instance hasn't, the instance's segments go on without them. RFC 7323 §3.2 lets
//!   a receiver discard those; Linux and Darwin don't.
//! - A client that waits for the other side to speak first, and whose acknowledgement is lost, waits until it gives up: nothing
//!   is remembered that could be repeated, as with any cookie.

pub mod connect;
pub mod cookie;
pub mod early;
pub mod options;
pub mod segment;
pub mod table;
pub mod translate;
