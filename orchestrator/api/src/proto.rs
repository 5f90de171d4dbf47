//! Generated from `proto/millrace/orchestrator/v1/orchestrator.proto`: messages, client and server stubs.
#![allow(missing_docs, unreachable_pub, unused_qualifications, clippy::all, reason = "generated code")]

tonic::include_proto!("millrace.orchestrator.v1");
