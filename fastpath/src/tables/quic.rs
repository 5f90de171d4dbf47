//! Which instance of a service made a QUIC connection id.
//!
//! ```text
//!  id ─► rotation ─► codec ─► server id ─► instance
//! ```

use hashbrown::HashMap;

use super::services::{Instance, Service};
use crate::wire::quic_lb::{Codec, ROTATIONS, ServerId, rotation};

/// The ids of one service's instances, and how they are read. One entry an instance, whatever clients send.
#[derive(Debug)]
pub struct ServerIds {
    codecs: [Option<Codec>; ROTATIONS],
    /// The position among the service's instances; [`AMBIGUOUS`] where several have the id.
    instances: HashMap<ServerId, u32>,
}

const AMBIGUOUS: u32 = u32::MAX;

impl ServerIds {
    /// Those of a service's instances; `None` where the service has no layout for them.
    pub fn new(service: &Service) -> Option<Self> {
        if service.quic.is_empty() {
            return None;
        }
        let mut codecs = [const { None }; ROTATIONS];
        for layout in &service.quic {
            codecs[layout.rotation()] = Some(Codec::new(*layout));
        }
        let mut instances = HashMap::with_capacity(service.instances.len());
        for (at, instance) in service.instances.iter().enumerate() {
            let Some(id) = instance.server_id else { continue };
            let known = instances.entry(id).or_insert(at as u32);
            let same =
                service.instances.get(*known as usize).is_some_and(|first| is_same_place(first, instance));
            if !same {
                *known = AMBIGUOUS;
            }
        }
        Some(Self { codecs, instances })
    }

    /// The position of the instance that made an id; `id` may go on behind it. `None` where it can't be read, or nobody
    /// here has made it.
    #[inline]
    pub fn find(&self, id: &[u8]) -> Option<usize> {
        let codec = self.codecs.get(rotation(*id.first()?))?.as_ref()?;
        self.instances.get(&codec.read(id)?).filter(|at| **at != AMBIGUOUS).map(|at| *at as usize)
    }

    /// The ids that several instances have, which [`find`](Self::find) leads to none of them: in no order.
    pub fn ambiguous(&self) -> impl Iterator<Item = ServerId> {
        self.instances.iter().filter(|(_, at)| **at == AMBIGUOUS).map(|(id, _)| *id)
    }
}

/// Whether packets for either end up at the same socket: then it doesn't matter whose the id is.
fn is_same_place(one: &Instance, other: &Instance) -> bool {
    (one.addresses, one.port) == (other.addresses, other.port)
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap as Model;

    use proptest::prelude::*;

    use super::*;
    use crate::addr::Addr;
    use crate::tables::services::tests::service_of;
    use crate::tables::services::{InstanceSlotId, InstanceState};
    use crate::wire::quic_lb::{Key, Layout};

    fn instance(host: u8, server_id: Option<u8>) -> Instance {
        Instance {
            id: u64::from(host),
            addresses: [Some(Addr::v4([10, 0, 0, host])), None],
            port: 0,
            weight: 1,
            state: InstanceState::Ready,
            slot: InstanceSlotId(u32::from(host)),
            down: [false; 2],
            fixed: true,
            server_id: server_id.and_then(|id| ServerId::new(&[0, id])),
        }
    }

    fn layout(rotation: u8, key: Option<u8>) -> Layout {
        Layout::new(rotation, 2, 5, key.map(|byte| Key([byte; 16]))).unwrap()
    }

    #[test]
    fn a_service_without_a_layout_has_no_ids() {
        assert!(ServerIds::new(&service_of(vec![instance(1, Some(1))])).is_none());
    }

    #[test]
    fn the_rotation_says_by_which_layout_an_id_is_read() {
        let layouts = [layout(2, Some(7)), layout(5, Some(8))];
        let service = Service {
            quic: layouts.to_vec(),
            ..service_of(vec![instance(1, Some(1)), instance(2, Some(2))])
        };
        let ids = ServerIds::new(&service).unwrap();
        for layout in layouts {
            let mut id = Codec::new(layout).make(ServerId::new(&[2]).unwrap(), &[9; 5]).unwrap();
            assert_eq!(ids.find(&id), Some(1));
            for other in [0, 1, 3, 4, 6, 7] {
                id[0] = id[0] & 0x1f | other << 5;
                assert_eq!(ids.find(&id), None, "rotation {other}");
            }
        }
        assert_eq!(ids.find(&[]), None);
    }

    proptest! {
        /// Any instances, several with an id, or with one place: against a list that is looked through.
        #[test]
        fn an_id_leads_to_the_one_place_that_has_it(
            have in prop::collection::vec((0u8..12, prop::option::of(0u8..8)), 0..24),
            key in any::<Option<u8>>(),
        ) {
            let instances: Vec<Instance> = have.iter().map(|(host, id)| instance(*host, *id)).collect();
            let layout = layout(3, key);
            let ids = ServerIds::new(&Service { quic: vec![layout], ..service_of(instances) }).unwrap();
            let mut model: Model<u8, Vec<u8>> = Model::new();
            for (host, id) in &have {
                if let Some(id) = id {
                    model.entry(*id).or_default().push(*host);
                }
            }
            for id in 0..8 {
                let made = Codec::new(layout).make(ServerId::new(&[id]).unwrap(), &[id; 5]).unwrap();
                let found = ids.find(&made).map(|at| have[at].0);
                let hosts = model.get(&id).cloned().unwrap_or_default();
                let one = hosts.first().filter(|first| hosts.iter().all(|host| host == *first));
                prop_assert_eq!(found, one.copied());
                let shared = ids.ambiguous().any(|one| Some(one) == ServerId::new(&[id]));
                prop_assert_eq!(shared, !hosts.is_empty() && one.is_none());
            }
        }
    }
}
