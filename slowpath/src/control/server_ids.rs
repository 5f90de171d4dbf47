//! Instances of one service that have the same QUIC server id, as those have whose addresses end alike: the ids of their
//! connections lead to none of them, which shows nowhere else.

use std::collections::HashSet;

use millrace_fastpath::tables::services::{Instance, ServiceId};
use millrace_fastpath::wire::quic_lb::ServerId;
use millrace_orchestrator_api::Link;
use tracing::{info, warn};

use super::Control;

impl<L: Link> Control<L> {
    /// The instances of a service may have changed: tells which have come to share an id, once until that changes.
    pub(super) fn tell_shared_server_ids(&mut self, id: ServiceId) {
        let entry = self.builder.tables().services.entry(id);
        let ids = entry.and_then(|entry| entry.server_ids());
        let shared: HashSet<ServerId> = ids.into_iter().flat_map(|ids| ids.ambiguous()).collect();
        let before = self.shared_server_ids.remove(&id).unwrap_or_default();
        let service = &self.builder.specs()[id.index()].name;
        for new in shared.difference(&before) {
            let instances = entry.iter().flat_map(|entry| &entry.instances);
            let theirs: Vec<String> =
                instances.filter(|one| one.server_id == Some(*new)).map(place).collect();
            self.counters.server_ids_shared += 1;
            let instances = theirs.join(", ");
            warn!(service, instances, "these share a QUIC server id: their clients are lost when they move");
        }
        if shared.is_empty() && !before.is_empty() {
            info!(service, "no instances share a QUIC server id any more");
        }
        if !shared.is_empty() {
            self.shared_server_ids.insert(id, shared);
        }
    }
}

/// An instance, for the log.
fn place(instance: &Instance) -> String {
    let addresses: Vec<String> = instance.addresses.iter().flatten().map(ToString::to_string).collect();
    format!("{} port {}", addresses.join(" "), instance.port)
}
