//! Poll-mode workers: frames in, nodes, frames out, and the tables they read.

pub mod clock;
pub mod driver;
