//! Configuration of Millrace: TOML to checked types, and the core-pair plan.

mod grammar;
pub mod model;
mod report;
mod value;

pub use report::Origin;
pub use value::ValueError;
