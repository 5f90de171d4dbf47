//! The DNS responder against named messages, a plain model of its zones, and two readers that others wrote.

mod clients;
mod fixture;
mod golden;
mod laws;
mod model;
mod oracle;
mod query;
mod random;
