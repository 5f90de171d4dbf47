//! End to end: the real binary, poll-mode ports on AF_XDP, and clients nobody here wrote, in network namespaces.
//!
//! One file per feature; each test builds an edge location, uses it, and ends with the three laws of fates and a clean
//! end of the appliance. Limits: two CPUs shared by everything, so times are bounds against hanging, not promises.
//!
//! They need root, the tools of `make setup`, and the components of `make functions`.

mod bier;
mod bier_domain;
mod bier_failures;
mod bier_legs;
mod bier_remote;
mod bier_reroute;
mod bier_te;
mod bier_tunnel;
mod dns;
mod faults;
mod forwarding;
mod health;
mod host;
mod hub;
mod hub_joins;
mod hub_site;
mod hub_wan;
mod multicast;
mod nat;
mod orchestrator;
mod overflow;
mod quic;
mod reload;
mod roles;
mod show;
mod splice;
mod transit;
mod wake;
mod workers;
mod world;
