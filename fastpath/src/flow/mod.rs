//! Flows: whose they are, and where their packets go.

pub mod entry;
pub mod key;
pub mod table;

pub use entry::{Direction, Flow, FlowState, Opening, Standing};
pub use key::FlowHasher;
pub use table::FlowTable;
