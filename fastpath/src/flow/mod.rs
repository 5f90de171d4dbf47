//! Flows: whose they are, and where their packets go.

pub mod key;
pub mod table;

pub use key::FlowHasher;
pub use table::{Direction, Flow, FlowState, FlowTable, Opening};
