//! Poll-mode workers: frames in, nodes, frames out, and the tables they read.

pub mod addr;
pub mod clock;
pub mod counters;
pub mod dns;
pub mod driver;
pub mod event;
pub mod fates;
pub mod flow;
pub mod heap;
pub mod hold;
pub mod node;
pub mod packet;
pub mod queue;
pub mod shared;
pub mod slots;
pub mod tables;
pub mod trace;
pub mod wake;
pub mod wire;
pub mod worker;
