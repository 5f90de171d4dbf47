//! Which instance of a service a new flow goes to: a Maglev table for each way of asking.

use std::sync::Arc;

use super::maglev::{Maglev, Member, identity};
use super::services::{Instance, InstanceState, Service};

/// Among which of a service's instances one is sought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pool {
    /// Placed instances that serve.
    Ready,
    /// Those, and placed instances that are bound but don't serve yet.
    Bound,
    /// Configured backends that serve.
    Fixed,
}

impl Pool {
    const ALL: [Pool; 3] = [Pool::Ready, Pool::Bound, Pool::Fixed];

    fn has(self, instance: &Instance) -> bool {
        match instance.state {
            InstanceState::Ready => instance.fixed == (self == Pool::Fixed),
            InstanceState::Starting => self == Pool::Bound && !instance.fixed,
            InstanceState::Draining => false,
        }
    }
}

/// The tables of one service, by pool and family. Equal ones are one.
#[derive(Clone, Debug, Default)]
pub struct Balance([[Option<Share>; 2]; 3]);

/// How new flows are shared out.
#[derive(Clone, Debug)]
struct Share {
    table: Arc<Maglev>,
    breadth: u32,
}

impl Balance {
    /// The tables for the instances of `service`.
    pub fn new(service: &Service) -> Self {
        let mut made: Vec<(Vec<Member>, Share)> = Vec::new();
        Self(Pool::ALL.map(|pool| {
            [true, false].map(|v4| {
                let takes =
                    |instance: &Instance| pool.has(instance) && service.address_of(instance, v4).is_some();
                let takers = service.instances.iter().enumerate().filter(|(_, instance)| takes(instance));
                let members: Vec<Member> = takers.map(|(at, instance)| member(at, instance)).collect();
                if let Some((_, same)) = made.iter().find(|(known, _)| *known == members) {
                    return Some(same.clone());
                }
                let share =
                    Share { table: Arc::new(Maglev::build(&members)?), breadth: breadth_of(&members) };
                made.push((members, share.clone()));
                Some(share)
            })
        }))
    }

    /// The position, among the instances that this was made for, of the one for a new flow.
    #[inline]
    pub fn choose(&self, pool: Pool, v4: bool, hash: u64) -> Option<usize> {
        self.0[pool as usize][usize::from(!v4)].as_ref().map(|share| usize::from(share.table.get(hash)))
    }

    /// How many flows go to a pool for each one that goes to the instance that gets most of them, rounded down; 0 when
    /// there is none.
    #[inline]
    pub fn breadth(&self, pool: Pool, v4: bool) -> u32 {
        self.0[pool as usize][usize::from(!v4)].as_ref().map_or(0, |share| share.breadth)
    }

    /// Whether there is any for a new flow.
    #[inline]
    pub fn has(&self, pool: Pool, v4: bool) -> bool {
        self.0[pool as usize][usize::from(!v4)].is_some()
    }
}

fn breadth_of(members: &[Member]) -> u32 {
    let weights = || members.iter().map(|member| u32::from(member.weight));
    weights().sum::<u32>().checked_div(weights().max().unwrap_or(0)).unwrap_or(0)
}

/// An instance is known by where it is reached: all that every appliance knows of it alike.
fn member(at: usize, instance: &Instance) -> Member {
    let address = |family: usize| instance.addresses[family].map_or(0, |addr| addr.0);
    Member {
        identity: identity(&[address(0), address(1), u128::from(instance.port)]),
        weight: instance.weight,
        // A position beyond 65535 is one that no table is given: a service has far fewer instances.
        index: u16::try_from(at).unwrap_or(u16::MAX),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::addr::Addr;
    use crate::tables::services::tests::service_of;
    use crate::tables::services::{Forwarding, InstanceSlotId};

    fn service(instances: &[Instance]) -> Service {
        service_of(instances.to_vec())
    }

    fn instance(host: u8, state: InstanceState, fixed: bool, v6: bool) -> Instance {
        Instance {
            id: u64::from(host),
            addresses: [
                Some(Addr::v4([10, 0, 0, host])),
                v6.then(|| Addr::v6([0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, host])),
            ],
            port: 0,
            weight: 1,
            state,
            slot: InstanceSlotId(u32::from(host)),
            fixed,
            server_id: None,
        }
    }

    #[test]
    fn each_pool_and_family_has_those_that_take_its_flows() {
        let instances = [
            instance(1, InstanceState::Draining, false, true),
            instance(2, InstanceState::Starting, false, false),
            instance(3, InstanceState::Ready, false, true),
            instance(4, InstanceState::Ready, true, false),
            instance(5, InstanceState::Draining, true, true),
        ];
        let balance = Balance::new(&service(&instances));
        let reached = |pool, v4| {
            let step = u64::from(u32::MAX) / 2000;
            let mut found: Vec<usize> =
                (0..2000).filter_map(|n| balance.choose(pool, v4, n * step)).collect();
            found.sort_unstable();
            found.dedup();
            assert_eq!(balance.has(pool, v4), !found.is_empty());
            found
        };
        assert_eq!(reached(Pool::Ready, true), [2]);
        assert_eq!(reached(Pool::Ready, false), [2]);
        assert_eq!(reached(Pool::Bound, true), [1, 2]);
        assert_eq!(reached(Pool::Bound, false), [2]);
        assert_eq!(reached(Pool::Fixed, true), [3]);
        assert!(reached(Pool::Fixed, false).is_empty());
    }

    #[test]
    fn what_is_carried_whole_needs_no_address_of_its_own_family() {
        let instances = [instance(1, InstanceState::Ready, true, false)];
        for forwarding in [Forwarding::L2, Forwarding::Ipip, Forwarding::Gue] {
            let balance = Balance::new(&Service { forwarding, ..service(&instances) });
            assert_eq!(balance.choose(Pool::Fixed, false, 0), Some(0));
        }
        assert_eq!(Balance::new(&service(&instances)).choose(Pool::Fixed, false, 0), None);
    }

    #[test]
    fn equal_tables_are_one() {
        let instances = [1, 2, 3].map(|host| instance(host, InstanceState::Ready, false, true));
        let Balance(tables) = Balance::new(&service(&instances));
        let [[Some(v4), Some(v6)], [Some(bound), _], _] = tables else { panic!("all have members") };
        assert!(Arc::ptr_eq(&v4.table, &v6.table) && Arc::ptr_eq(&v4.table, &bound.table));
    }

    #[test]
    fn a_pool_is_as_broad_as_its_heaviest_leaves_it() {
        let breadth = |weights: &[u16]| {
            let of = |(at, weight): (usize, &u16)| Instance {
                weight: *weight,
                ..instance(at as u8 + 1, InstanceState::Ready, false, true)
            };
            let mut instances: Vec<Instance> = weights.iter().enumerate().map(of).collect();
            // None of these takes what the pool is given.
            instances.push(instance(100, InstanceState::Starting, false, true));
            instances.push(instance(101, InstanceState::Draining, false, true));
            instances.push(instance(102, InstanceState::Ready, true, true));
            Balance::new(&service(&instances)).breadth(Pool::Ready, true)
        };
        assert_eq!([breadth(&[]), breadth(&[0]), breadth(&[7]), breadth(&[1, 1, 1])], [0, 0, 1, 3]);
        assert_eq!([breadth(&[3, 1]), breadth(&[3, 3, 1]), breadth(&[10, 1, 0, 9])], [1, 2, 2]);
    }

    #[test]
    fn another_appliance_that_numbers_them_otherwise_agrees() {
        let ours = [1, 2, 3].map(|host| instance(host, InstanceState::Ready, true, false));
        let theirs = [3, 1, 2].map(|host| Instance {
            id: 0,
            slot: InstanceSlotId(u32::from(host) + 40),
            ..instance(host, InstanceState::Ready, true, false)
        });
        let (a, b) = (Balance::new(&service(&ours)), Balance::new(&service(&theirs)));
        for hash in (0..1u64 << 32).step_by(1 << 18) {
            let to = |balance: &Balance, list: &[Instance]| {
                balance.choose(Pool::Fixed, true, hash).map(|at| list[at].addresses)
            };
            assert_eq!(to(&a, &ours), to(&b, &theirs));
        }
    }
}
