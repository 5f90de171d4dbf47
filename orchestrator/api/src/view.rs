//! The placement as an appliance sees it.

use std::collections::BTreeMap;

use thiserror::Error;

use crate::message::{Delta, Generation, InstanceState, ServicePlacement, Snapshot};

/// The services' placements at one generation. Two views of the same generation have the same [`View::digest`].
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct View {
    generation: Generation,
    services: BTreeMap<String, ServicePlacement>,
}

impl View {
    /// What generation it shows; zero before the first snapshot.
    #[must_use]
    pub fn generation(&self) -> Generation {
        self.generation
    }

    /// The service's placement; `None` when the orchestrator doesn't know the service.
    #[must_use]
    pub fn service(&self, name: &str) -> Option<&ServicePlacement> {
        self.services.get(name)
    }

    /// All placements, by name.
    pub fn services(&self) -> impl Iterator<Item = &ServicePlacement> {
        self.services.values()
    }

    /// Takes a snapshot in place of all that was known.
    pub fn replace(&mut self, snapshot: Snapshot) {
        self.generation = snapshot.generation;
        self.services = snapshot.services.into_iter().map(|one| (one.service.clone(), one)).collect();
    }

    /// Applies a delta, as a whole.
    ///
    /// # Errors
    /// The delta is for another generation; nothing was changed, and a snapshot must be asked for
    /// ([`crate::Up::Resync`]).
    pub fn apply(&mut self, delta: Delta) -> Result<(), Gap> {
        if delta.from != self.generation || delta.to < delta.from {
            return Err(Gap { have: self.generation, from: delta.from, to: delta.to });
        }
        self.generation = delta.to;
        for change in delta.changes {
            self.services.insert(change.service.clone(), change);
        }
        Ok(())
    }

    /// The whole view as a snapshot.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        Snapshot { generation: self.generation, services: self.services.values().cloned().collect() }
    }

    /// A digest of services and instances, the same on every machine; finds a view that went astray, not an
    /// attacker.
    #[must_use]
    pub fn digest(&self) -> u64 {
        let mut digest = Fnv::default();
        digest.number(self.generation.0);
        for placement in self.services.values() {
            digest.text(&placement.service);
            digest.number(placement.instances.len() as u64);
            for instance in &placement.instances {
                digest.number(instance.id.0);
                digest.text(&instance.node);
                digest.number(match instance.state {
                    InstanceState::Starting => 1,
                    InstanceState::Ready => 2,
                    InstanceState::Draining => 3,
                    InstanceState::Stopped => 4,
                    InstanceState::Failed => 5,
                });
                digest.number(instance.ipv4_address.map_or(0, |address| u64::from(address.to_bits())));
                digest.bytes(&instance.ipv6_address.map_or([0; 16], |address| address.octets()));
                digest.number(u64::from(instance.port));
                digest.number(u64::from(instance.weight));
            }
            match &placement.failure {
                None => digest.number(0),
                Some(failure) => {
                    digest.number(1);
                    digest.number(failure.notices.len() as u64);
                    for notice in &failure.notices {
                        digest.text(&notice.site);
                        digest.number(notice.boot);
                        digest.number(notice.sequence);
                    }
                    digest.text(&failure.reason);
                }
            }
        }
        digest.0
    }
}

/// A delta that doesn't follow what is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("a delta from generation {from} to {to} doesn't follow generation {have}")]
pub struct Gap {
    /// The view's generation.
    pub have: Generation,
    /// The delta's start.
    pub from: Generation,
    /// The delta's end.
    pub to: Generation,
}

/// FNV-1a, 64 bits: short, and the same everywhere, which the standard library's hashers don't promise.
struct Fnv(u64);

impl Default for Fnv {
    fn default() -> Self {
        Fnv(0xcbf2_9ce4_8422_2325)
    }
}

impl Fnv {
    fn bytes(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.0 = (self.0 ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    }

    fn number(&mut self, number: u64) {
        self.bytes(&number.to_le_bytes());
    }

    fn text(&mut self, text: &str) {
        self.number(text.len() as u64);
        self.bytes(text.as_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn placement(service: &str) -> ServicePlacement {
        ServicePlacement { service: service.to_owned(), instances: Vec::new(), failure: None }
    }

    #[test]
    fn a_delta_for_another_generation_changes_nothing() {
        let mut view = View::default();
        view.replace(Snapshot { generation: Generation(5), services: vec![placement("a")] });
        let before = view.clone();
        for (from, to) in [(4, 6), (6, 7), (5, 4)] {
            let delta = Delta { from: Generation(from), to: Generation(to), changes: vec![placement("b")] };
            assert_eq!(
                view.apply(delta),
                Err(Gap { have: Generation(5), from: Generation(from), to: Generation(to) })
            );
            assert_eq!(view, before);
        }
    }

    #[test]
    fn a_delta_and_a_snapshot_of_the_same_generation_agree() {
        let mut stepped = View::default();
        stepped.replace(Snapshot { generation: Generation(5), services: vec![placement("a")] });
        stepped
            .apply(Delta { from: Generation(5), to: Generation(6), changes: vec![placement("b")] })
            .unwrap();
        let mut whole = View::default();
        whole.replace(stepped.snapshot());
        assert_eq!(whole, stepped);
        assert_eq!(whole.digest(), stepped.digest());
    }

    #[test]
    fn the_digest_sees_a_failure() {
        let mut view = View::default();
        view.replace(Snapshot { generation: Generation(5), services: vec![placement("a")] });
        let before = view.digest();
        let mut failed = placement("a");
        failed.failure = Some(crate::ServiceFailure { notices: Vec::new(), reason: "no room".to_owned() });
        view.apply(Delta { from: Generation(5), to: Generation(5), changes: vec![failed] }).unwrap();
        assert_ne!(view.digest(), before);
    }
}
