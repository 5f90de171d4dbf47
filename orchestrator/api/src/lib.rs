//! The orchestrator's gRPC API
