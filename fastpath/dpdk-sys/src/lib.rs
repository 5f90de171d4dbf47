//! Raw DPDK bindings
