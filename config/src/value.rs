//! Small values that a key may hold, each with its one spelling: names, addresses, prefixes, ports, CPU lists.
//!
//! They know how to read themselves from a string ([`std::str::FromStr`]) and say in [`ValueError`] what was wrong
//! and what would be right; where in the file it stood is the reader's business.

pub(crate) mod address;
pub(crate) mod bfr_ids;
pub(crate) mod cpus;
pub(crate) mod http;
pub(crate) mod name;
pub(crate) mod port;
pub(crate) mod reference;
pub(crate) mod server_id;

use std::fmt;

/// Why a text isn't the value it should be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{problem}")]
pub struct ValueError {
    /// What is wrong, without the text itself.
    pub problem: String,
    /// What would be right.
    pub hint: String,
}

impl ValueError {
    pub(crate) fn new(problem: impl fmt::Display, hint: impl fmt::Display) -> Self {
        Self { problem: problem.to_string(), hint: hint.to_string() }
    }
}
