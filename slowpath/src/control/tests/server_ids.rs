//! Instances whose QUIC server ids are the same.

use millrace_fastpath::wire::quic_lb::{Codec, Layout, ServerId};

use super::*;
use crate::testing::EDGE;

/// `hello` by QUIC; the ids of its connections can be read.
fn quic() -> Config {
    let keys = "ports = [\"tcp/80\", \"udp/443\"]\nquic = { rotation = 0, server_id_bytes = 6, nonce_bytes = 4 }\nfunction";
    let text = EDGE.replacen("ports = [\"tcp/80\"]\nfunction", keys, 1);
    Config::parse("edge.toml", &text).unwrap_or_else(|report| panic!("{report}"))
}

fn at(id: u64, v4: Option<&str>, v6: Option<&str>) -> Instance {
    Instance {
        ipv4_address: v4.map(|text| text.parse().unwrap()),
        ipv6_address: v6.map(|text| text.parse().unwrap()),
        port: 443,
        ..instance(id, InstanceState::Ready)
    }
}

impl Bench {
    /// The instance that an id leads to, made by the one whose address ends in `host`.
    fn made_by(&self, host: u8) -> Option<u64> {
        let id = ServerId::new(&[0, 0, 0, host, 1, 187]).unwrap();
        let made = Codec::new(Layout::new(0, 6, 4, None).unwrap()).make(id, &[9; 4]).unwrap();
        let tables = self.shared.tables();
        let entry = tables.services.entry(HELLO).unwrap();
        entry.server_ids().unwrap().find(&made).map(|at| entry.instances[at].id)
    }

    fn shared_ids(&mut self, instances: Vec<Instance>) -> u64 {
        self.snapshot(instances);
        self.turn();
        self.turn();
        self.control.counters().server_ids_shared
    }
}

/// While one instance takes another's place both may have the id: at the same place it leads there, at another to nobody, for
/// either may have made it. That is told once.
#[test]
fn an_id_that_two_instances_share_leads_to_neither_and_is_told_once() {
    let mut bench = Bench::of(&quic(), 16);
    bench.turn();
    let (first, other) = (Some("2001:db8:1::21"), Some("2001:db8:1:0:5::21"));
    assert_eq!(bench.shared_ids(vec![at(1, None, first)]), 0);
    assert_eq!(bench.made_by(0x21), Some(1));
    // The next one at the same address and port: whoever listens there has it.
    assert_eq!(bench.shared_ids(vec![at(1, None, first), at(2, None, first)]), 0);
    assert!(bench.made_by(0x21).is_some());
    // At an address that ends alike.
    let both = || vec![at(2, None, first), at(3, None, other), at(4, None, Some("2001:db8:1::22"))];
    assert_eq!(bench.shared_ids(both()), 1);
    assert_eq!((bench.made_by(0x21), bench.made_by(0x22)), (None, Some(4)));
    assert_eq!(bench.shared_ids(both()), 1, "it is known");
    assert_eq!(bench.shared_ids(vec![at(3, None, other)]), 1);
    assert_eq!(bench.made_by(0x21), Some(3));
    assert_eq!(bench.shared_ids(both()), 2, "it is so again");
    // What differs by its IPv4 address is told apart, whatever its other one is.
    let told_apart = vec![at(5, Some("198.51.100.21"), first), at(6, Some("198.51.100.22"), other)];
    assert_eq!(bench.shared_ids(told_apart), 2);
}
