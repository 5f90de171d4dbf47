//! Rules of one group and port: who gets what.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::mpsc::Receiver;
use std::time::Duration;

use millrace_bier::id::{BfrId, Bsl};
use millrace_config::model::Config;
use millrace_fastpath::addr::Addr;
use millrace_fastpath::driver::PortId;
use millrace_fastpath::hub::{Datagram, Inbox, Lane};
use millrace_fastpath::tables::Tables;
use millrace_fastpath::tables::interfaces::{Interface, Interfaces};
use millrace_hub::flute::{File, Oti, Table, packet, table};
use millrace_hub::nodes::{Node, Roster};
use millrace_hub::norm::{NodeId, ObjectId};
use millrace_hub::session::{Config as SenderConfig, Content, Offer, Sender, Unread};
use millrace_hub_store::{Limits, Manifest, Millis, Store, Trust};
use tempfile::TempDir;

use super::{Board, Intake, Means};

const OURS: &str = "198.51.100.1";
const GROUP: &str = "239.1.1.7";
const PORT: u16 = 6003;

struct World {
    intake: Intake,
    tables: Tables,
    store: Arc<Store>,
    /// What the hub's thread is told.
    arrivals: Receiver<Manifest>,
    _folder: TempDir,
}

impl World {
    /// A hub with these rules of one group and port.
    fn new(rules: &[&str]) -> Self {
        let rules: String = rules
            .iter()
            .map(|keys| {
                format!("[[hub.accept]]\nport = \"wan\"\ngroup = \"{GROUP}\"\nudp_port = {PORT}\n{keys}\n")
            })
            .collect();
        let text = format!(
            "schema_version = 1\n[site]\nname = \"test\"\n\
             [[port]]\nname = \"wan\"\ndevice = \"net_null0\"\naddresses = [\"{OURS}/24\"]\n\
             [hub]\nstore_path = \"hub\"\nbudget_bytes = 1_000_000_000\n{rules}\
             [[hub.site]]\nname = \"site\"\ncarriage = \"ethernet\"\nport = \"wan\"\ngroup = \"239.9.9.9\"\n\
             rate_bits_per_second = 1_000_000\nnodes = [{{ id = 5, address = \"198.51.100.5\" }}]\n"
        );
        let config = Config::parse("test.toml", &text).unwrap();
        let hub = config.hub.as_ref().unwrap();
        let folder = tempfile::tempdir().unwrap();
        let limits = Limits { budget_bytes: 1 << 30, reserve_bytes: 0 };
        let store = Store::open(folder.path(), limits, Millis::now()).unwrap();
        let means = Means { store: &store, folder: folder.path(), trust: Trust::Anybody, key: None };
        let (board, arrivals) = Board::new(Arc::clone(&store), &hub.sites, 1000);
        let (inbox, lane) = (Arc::new(Inbox::default()), Arc::new(Lane::new(0, 1_000_000)));
        let intake = Intake::open(&config, hub, &means, inbox, lane, board).unwrap();
        let interface = Interface {
            name: "wan".to_owned(),
            port: PortId(0),
            vlan: None,
            outer: None,
            mac: [2, 0, 0, 0, 0, 1],
            mtu: 1500,
            addresses: vec![(addr(OURS), 24)],
        };
        let interfaces = Arc::new(Interfaces::new(vec![interface], []));
        let tables = Tables { interfaces, ..Tables::default() };
        Self { intake, tables, store, arrivals, _folder: folder }
    }

    /// These come from one address.
    fn hear(&mut self, datagrams: &[Vec<u8>]) {
        for data in datagrams {
            let mut datagram = Datagram::default();
            (datagram.source, datagram.source_port) = (addr("198.51.100.9"), 4000);
            (datagram.destination, datagram.destination_port) = (addr(GROUP), PORT);
            assert!(datagram.fill(data));
            self.intake.hear(Duration::ZERO, &self.tables, &datagram);
        }
    }

    /// A count of each rule's.
    fn counted(&self, name: &str) -> Vec<u64> {
        self.intake.rules.iter().map(|rule| rule.status().counters[name]).collect()
    }

    fn names(&self) -> Vec<String> {
        self.store.names().iter().map(|manifest| manifest.description().name.to_string()).collect()
    }
}

fn addr(text: &str) -> Addr {
    Addr::from(text.parse::<std::net::IpAddr>().unwrap())
}

/// A file by FLUTE, its table first.
fn flute(tsi: u64, name: &str) -> Vec<Vec<u8>> {
    let bytes = name.repeat(1000).into_bytes();
    let (location, length) = (format!("file:///{name}"), Some(bytes.len() as u64));
    let file = File { toi: 1, location, length, ..File::default() };
    let described = Table { expires: u32::MAX, complete: false, files: vec![file] };
    let mut all = table(tsi, 1, &described, 1400).unwrap();
    let oti = Oti::no_code(bytes.len() as u64, 1400, 64).unwrap();
    all.extend(
        oti.source_symbols()
            .map(|(id, offset, len)| packet(tsi, 1, &oti, id, &bytes[offset as usize..][..len], false)),
    );
    all
}

struct Bytes(Vec<u8>);

impl Content for Bytes {
    fn read(&mut self, _: ObjectId, offset: u64, out: &mut [u8]) -> Result<(), Unread> {
        out.copy_from_slice(&self.0[offset as usize..][..out.len()]);
        Ok(())
    }
}

/// A file by NORM: all that its sender says in the first second.
fn norm(sender: u32, name: &str) -> Vec<Vec<u8>> {
    let mut bytes = Bytes(name.repeat(1000).into_bytes());
    let mut roster = Roster::new(Bsl::B256);
    let hub = Node { id: NodeId(99), bfr: BfrId::new(1).unwrap(), address: OURS.parse().unwrap() };
    roster.add(hub).unwrap();
    let mut sender = Sender::new(SenderConfig::lan(NodeId(sender), 1), roster, Duration::ZERO);
    sender.announce(Duration::ZERO, Offer::file(bytes.0.len() as u64, name.into())).unwrap();
    let (mut now, mut all) = (Duration::ZERO, Vec::new());
    while now < Duration::from_secs(1) {
        while let Some(transmit) = sender.poll_transmit(now) {
            let mut datagram = Vec::new();
            transmit.write(&mut bytes, &mut datagram).unwrap();
            all.push(datagram);
        }
        now = sender.poll_timeout().unwrap_or(now).max(now + Duration::from_millis(1));
    }
    all
}

#[test]
fn rules_that_differ_in_the_session_alone_get_each_their_own() {
    type Sent = fn(u32, &str) -> Vec<Vec<u8>>;
    let by_flute: Sent = |session, name| flute(session.into(), name);
    let kinds: [(&str, &str, Sent); 2] = [("flute", "tsi", by_flute), ("norm", "sender", norm)];
    for (profile, key, sent) in kinds {
        let rule = |session: u32| format!("profile = \"{profile}\"\n{key} = {session}");
        let mut world = World::new(&[&rule(7), &rule(8)]);
        let (seven, eight, nine) = (sent(7, "seven"), sent(8, "eight"), sent(9, "nine"));
        for mixed in [&seven, &nine, &eight] {
            world.hear(mixed);
        }
        assert_eq!(world.names(), ["eight", "seven"], "{profile}");
        assert_eq!(world.counted("taken"), [1, 1], "{profile}");
        assert_eq!(world.counted("foreign"), [nine.len() as u64, 0], "nobody wants the third");
        assert_eq!(world.counted("strange"), [0, 0]);
        world.hear(&[b"?".to_vec()]);
        assert_eq!(world.counted("malformed"), [1, 0], "it is nobody's");
    }
}

#[test]
fn the_rule_that_names_the_session_is_asked_first_wherever_it_stands() {
    let any = "profile = \"flute\"";
    let one = "profile = \"flute\"\ntsi = 8";
    for (rules, taken) in [([any, one], [1, 1]), ([one, any], [1, 1])] {
        let mut world = World::new(&rules);
        world.hear(&flute(7, "seven"));
        world.hear(&flute(8, "eight"));
        assert_eq!(world.counted("taken"), taken);
    }
}

#[test]
fn two_profiles_share_a_port_and_names_of_rules_tell_them_apart() {
    let rules = ["profile = \"flute\"\ntsi = 7", "profile = \"norm\"\nsender = 7"];
    let mut world = World::new(&rules);
    world.hear(&norm(7, "seven"));
    world.hear(&flute(7, "eight"));
    assert_eq!((world.counted("taken"), world.counted("foreign")), (vec![1, 1], vec![0, 0]));
    let names: BTreeMap<_, _> =
        world.intake.rules.iter().map(|rule| (rule.status().rule, rule.names_session)).collect();
    assert!(names.keys().eq(["wan 239.1.1.7:6003 any flute 7", "wan 239.1.1.7:6003 any norm 7",]));
}

/// Whoever repeats what was sent before has nobody sent it again, nor keeps it any longer.
#[test]
fn what_is_known_is_owed_once() {
    let mut world = World::new(&["profile = \"norm\""]);
    for (sender, told) in [(7, 1), (8, 0), (9, 0)] {
        world.hear(&norm(sender, "seven"));
        world.intake.turn(Duration::ZERO, &world.tables);
        assert_eq!(world.arrivals.try_iter().count(), told, "by {sender}");
    }
    assert_eq!(world.store.names().len(), 1);
}
