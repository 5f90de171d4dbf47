//! The serving node: runs functions that are Wasm components exporting `wasi:http/incoming-handler`.
//!
//! Code is kept, state is not: a component is compiled and linked once, and each request runs in an instance of its
//! own, whose memory comes from a pool and whose host state (tables, clocks, random numbers, output) is built new.
//!
//! ```text
//!  orchestrator ──Start──► node ──► instance: bind sockets ─► STARTING ─► compile, link, try ─► READY ─► accept
//!               ◄─status──  │                                                                │
//!                           │                          connection ─► admission ─► store ─► component ─► answer
//!               ──Stop───►  └──► refuse new, drain, STOPPED        503          504   trap: 502
//! ```
//!
//! - [`node`]: the node's life, and its stream to the orchestrator.
//! - [`instance`]: one instance of a function: sockets, connections, drain.
//! - [`request`]: one request, from admission to the last byte.
//! - [`machine`]: the Wasm engine and its pool; [`function`]: components compiled ahead.
//!
//! Limits: HTTP/1.1; one request at a time in an instance's state; memory, time, concurrency and queue are bounded
//! per function; no outbound HTTP, no sockets and no files for a guest. Side channels between guests of one process
//! are out of scope.

pub mod function;
pub mod instance;
pub mod machine;
pub mod node;
mod output;
pub mod request;
mod state;
