//! Generated from `proto/millrace/orchestrator/v1/orchestrator.proto`: messages, client and server stubs.
#![allow(missing_docs, unreachable_pub, unused_qualifications, clippy::all, reason = "generated code")]

include!(concat!(env!("OUT_DIR"), "/millrace.orchestrator.v1.rs"));
