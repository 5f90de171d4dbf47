//! Control thread: host stack, table builder, orchestrator link, telemetry
