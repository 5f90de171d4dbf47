//! Placement and the embedded orchestrator
