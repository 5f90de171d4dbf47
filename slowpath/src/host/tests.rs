//! The host stack.
