//! Loopback tests and benchmarks
