//! Configuration of Millrace: TOML to checked types, and the core-pair plan.

mod check;
mod grammar;
mod leaf;
pub mod limits;
pub mod model;
mod parse;
pub mod plan;
mod raw;
mod read;
mod report;
mod schema;
pub mod topology;
mod value;

pub use model::Config;
pub use report::{Code, Diagnostic, Origin, Report};
pub use schema::json_schema;
pub use value::ValueError;
