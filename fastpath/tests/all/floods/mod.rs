//! More than there is room for: floods of forged packets, full tables and queues, clients that repeat themselves, instances
//! that come and go, and a second appliance that sends everything back. Each test states the limits it sets, counts
//! exactly, and looks afterwards whether everything is as it was before.

mod churn;
mod facing;
mod full;
mod release;
mod repeats;
mod spoofed;
mod subdomains;
mod traffic;
