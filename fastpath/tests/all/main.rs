//! The packet path on drivers in plain memory. One binary: each would compile the workers' whole loop anew.

mod bier;
mod bier_te;
mod bier_witness;
mod checksums;
mod common;
mod dns;
mod encapsulation;
mod first_packets;
mod floods;
mod flow_trigger;
mod forwarding;
mod fragments;
mod handshakes;
mod hub;
mod icmp;
mod names;
mod order;
mod quic;
mod splice;
mod udp;
mod waiting;
mod wire;
mod worker_loop;
mod workers;
