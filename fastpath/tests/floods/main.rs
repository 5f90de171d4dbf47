//! More than there is room for: floods of forged packets, full tables and queues, clients that repeat themselves, instances
//! that come and go, and a second appliance that sends everything back. Each test states the limits it sets, counts
//! exactly, and looks afterwards whether everything is as it was before.

#[path = "../common/mod.rs"]
mod common;

mod churn;
mod facing;
mod full;
#[path = "../common/random.rs"]
mod random;
mod release;
mod repeats;
mod spoofed;
mod subdomains;
mod traffic;
