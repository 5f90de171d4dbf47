//! What BIER routers tell each other of listeners, through whole appliances: workers on the heap driver and control loops, a host
//! behind one and a source in front of the other.

use millrace_fastpath::driver::PortId;
use millrace_fastpath::fates::Fates;
use millrace_fastpath::wire::{checksum, ipv4};

use super::plant::{FRAMES, Plant};
use super::*;

/// Where flows leave: a host on the WAN, the other router on the LAN.
const LEAF: &str = "\n[bier]\nbfr_prefix = \"192.0.2.1\"\n[[bier.subdomain]]\nid = 0\nbfr_id = 5\nbitstring_bits = 64\n\
    report_to = \"1\"\nreport_interval_seconds = 20\n\
    table = [{ neighbour = \"p\", address = \"198.51.100.7\", bfr_ids = \"1\" }]\n\
    [[bier.querier]]\nports = [\"wan\"]\n";
/// Where they enter: the source on the WAN, the other router on the LAN.
const ROOT: &str = "\n[bier]\nbfr_prefix = \"192.0.2.1\"\n[[bier.subdomain]]\nid = 0\nbfr_id = 1\nbitstring_bits = 64\n\
    report_interval_seconds = 20\n\
    table = [{ neighbour = \"p\", address = \"198.51.100.7\", bfr_ids = \"5\" }]\n\
    [[bier.overlay]]\nsource = \"192.0.2.100\"\ngroup = \"232.1.1.1\"\nsubdomain = 0\nlearn = \"igmp\"\n\
    [[bier.overlay]]\nsource = \"2001:db8::100\"\ngroup = \"ff3e::1:2\"\nsubdomain = 0\nlearn = \"mld\"\n";

const TO_INCLUDE: u8 = 3;
const TO_EXCLUDE: u8 = 4;
const HOST_MAC: [u8; 6] = [2, 0, 0, 0, 2, 1];
const GROUPS: [&str; 2] = ["232.1.1.1", "ff3e::1:2"];

struct Router {
    plant: Plant,
    now: Nanos,
}

impl Router {
    fn new(bier: &str) -> Self {
        let text = format!("{}{bier}", crate::testing::EDGE);
        let config = Config::parse("edge.toml", &text).unwrap_or_else(|report| panic!("{report}"));
        let mut router = Self { plant: Plant::new(&config, 1 << 10), now: ms(0) };
        router.turn();
        router
    }

    fn run(&mut self) {
        while self.plant.workers.iter_mut().map(|worker| worker.poll()).sum::<usize>() > 0 {}
    }

    /// A little later: what left as BIER.
    fn turn(&mut self) -> Vec<Vec<u8>> {
        self.later(10_000_000)
    }

    fn later(&mut self, nanos: u64) -> Vec<Vec<u8>> {
        self.now = self.now.plus(nanos);
        self.plant.control.turn(self.now);
        self.run();
        while self.plant.net.take(PortId(0)).is_some() {}
        let lan = std::iter::from_fn(|| self.plant.net.take(PortId(1)));
        lan.filter(|frame| frame[12..14] == [0xab, 0x37]).collect()
    }

    fn hear(&mut self, port: u16, frame: &[u8]) {
        assert!(self.plant.net.deliver(PortId(port), 0, frame));
        self.run();
    }

    /// What leaves as BIER when a source's packet comes in.
    fn enter(&mut self, frame: &[u8]) -> Vec<Vec<u8>> {
        self.hear(0, frame);
        let lan = std::iter::from_fn(|| self.plant.net.take(PortId(1)));
        lan.filter(|frame| frame[12..14] == [0xab, 0x37]).collect()
    }

    fn check_laws(&self) {
        let mut sum = Fates::default();
        self.plant.shared.workers.iter().for_each(|worker| sum.add(&Fates::read(&worker.counters.fates)));
        sum.check().unwrap();
        assert_eq!((sum.handed_in, self.plant.net.free_frames()), (sum.handed_out, FRAMES));
    }
}

/// What a host says of a group.
fn report(group: &str, kind: u8) -> Vec<u8> {
    let bytes = |addr: Addr| if addr.is_v4() { addr.v4_bytes().to_vec() } else { addr.v6_bytes().to_vec() };
    let record = [&[kind, 0, 0, 0][..], &bytes(addr(group))].concat();
    if addr(group).is_v4() {
        let mut message = [&[0x22, 0, 0, 0, 0, 0, 0, 1][..], &record].concat();
        let sum = !checksum::fold(checksum::sum(&message));
        message[2..4].copy_from_slice(&sum.to_be_bytes());
        let mut ip = vec![0x46, 0xc0, 0, (24 + message.len()) as u8, 0, 0, 0x40, 0, 1, 2, 0, 0];
        ip.extend([192, 0, 2, 99, 224, 0, 0, 22, 0x94, 4, 0, 0]);
        ipv4::fill_checksum(&mut ip, 24);
        return [&[0x01, 0, 0x5e, 0, 0, 22][..], &HOST_MAC, &[8, 0], &ip, &message].concat();
    }
    let mut message = [&[143, 0, 0, 0, 0, 0, 0, 1][..], &record].concat();
    let (from, to) = (addr("fe80::2"), addr("ff02::16"));
    let sum = !checksum::fold(checksum::pseudo_header(from, to, 58, message.len()) + checksum::sum(&message));
    message[2..4].copy_from_slice(&sum.to_be_bytes());
    let mut ip = vec![0x60, 0, 0, 0, 0, (8 + message.len()) as u8, 0, 1];
    ip.extend([bytes(from), bytes(to)].concat());
    ip.extend([58, 0, 5, 2, 0, 0, 1, 0]);
    [&[0x33, 0x33, 0, 0, 0, 0x16][..], &HOST_MAC, &[0x86, 0xdd], &ip, &message].concat()
}

/// A packet of the source to a group.
fn stream(group: &str) -> Vec<u8> {
    let udp = [0x13, 0x88, 0x17, 0x70, 0, 12, 0, 0, 1, 2, 3, 4];
    if addr(group).is_v4() {
        let mut ip = vec![0x45, 0, 0, 32, 0, 0, 0, 0, 9, 17, 0, 0, 192, 0, 2, 100, 232, 1, 1, 1];
        ipv4::fill_checksum(&mut ip, 20);
        return [&[0x01, 0, 0x5e, 1, 1, 1][..], &HOST_MAC, &[8, 0], &ip, &udp].concat();
    }
    let mut ip = vec![0x60, 0, 0, 0, 0, 12, 17, 9];
    ip.extend([addr("2001:db8::100"), addr(group)].map(Addr::v6_bytes).concat());
    [&[0x33, 0x33, 0, 1, 0, 2][..], &HOST_MAC, &[0x86, 0xdd], &ip, &udp].concat()
}

/// The last byte of a bit string of 64, which follows twelve bytes.
fn bits(frame: &[u8]) -> u8 {
    frame[14 + 12 + 7]
}

/// Frames go from one router to the other, each to its LAN.
fn carry(frames: Vec<Vec<u8>>, to: &mut Router) {
    for mut frame in frames {
        frame[..6].copy_from_slice(&LAN_MAC);
        to.hear(1, &frame);
    }
    to.turn();
}

#[test]
fn a_host_that_joins_behind_one_router_makes_the_other_send_and_its_leave_ends_that() {
    let (mut leaf, mut root) = (Router::new(LEAF), Router::new(ROOT));
    for group in GROUPS {
        assert_eq!(root.enter(&stream(group)), Vec::<Vec<u8>>::new(), "nobody listens");
    }
    for group in GROUPS {
        leaf.hear(0, &report(group, TO_EXCLUDE));
        leaf.turn();
        let told = leaf.turn();
        assert_eq!(told.iter().map(|frame| bits(frame)).collect::<Vec<_>>(), [1], "to router 1");
        carry(told, &mut root);
        let sent = root.enter(&stream(group));
        assert_eq!(sent.iter().map(|frame| bits(frame)).collect::<Vec<_>>(), [1 << 4], "for router 5");
        assert_eq!(leaf.later(1_000_000_000).len(), 1, "once more, in case that was lost");
    }
    // A host that leaves goes on to be sent to while the others are asked.
    for group in GROUPS {
        leaf.hear(0, &report(group, TO_INCLUDE));
        leaf.turn();
        let mut told = leaf.later(2_000_000_001);
        told.extend(leaf.turn());
        assert_eq!(told.len(), 1);
        carry(told, &mut root);
        assert_eq!(root.enter(&stream(group)), Vec::<Vec<u8>>::new());
        assert_eq!(leaf.later(1_000_000_000).len(), 1, "once more");
    }
    let counters = root.plant.control.signals.counters();
    assert_eq!((counters.reports, counters.malformed, counters.unwanted), (4, 0, 0));
    leaf.check_laws();
    root.check_laws();
}

#[test]
fn a_router_that_falls_silent_gets_nothing_any_more_and_one_that_goes_on_does() {
    let (mut leaf, mut root) = (Router::new(LEAF), Router::new(ROOT));
    leaf.hear(0, &report(GROUPS[0], TO_EXCLUDE));
    leaf.turn();
    carry(leaf.turn(), &mut root);
    // Everything again after twenty seconds, which holds for another fifty.
    leaf.later(1_000_000_000);
    let told = leaf.later(20_000_000_000);
    assert_eq!(told.len(), 1);
    root.later(20_000_000_000);
    carry(told, &mut root);
    root.later(49_000_000_000);
    assert_eq!(root.enter(&stream(GROUPS[0])).len(), 1);
    root.later(2_000_000_000);
    assert_eq!(root.enter(&stream(GROUPS[0])).len(), 0);
    leaf.check_laws();
    root.check_laws();
}

#[test]
fn what_was_learnt_outlives_a_reload_that_keeps_the_flow() {
    let (mut leaf, mut root) = (Router::new(LEAF), Router::new(ROOT));
    leaf.hear(0, &report(GROUPS[0], TO_EXCLUDE));
    leaf.turn();
    carry(leaf.turn(), &mut root);
    let reload = |root: &mut Router, bier: &str| {
        let text = format!("{}{bier}", crate::testing::EDGE);
        let config = Arc::new(Config::parse("edge.toml", &text).unwrap());
        let reload = drafted(&root.plant.control, &config);
        root.plant.control.reload(reload, root.now);
        root.turn();
        root.enter(&stream(GROUPS[0])).len()
    };
    assert_eq!(reload(&mut root, &ROOT.replace("bfr_ids = \"5\"", "bfr_ids = \"5,6\"")), 1);
    assert_eq!(reload(&mut root, &ROOT.replace("learn = \"igmp\"", "receivers = \"5\"")), 1);
    assert_eq!(reload(&mut root, &ROOT.replace("232.1.1.1", "232.1.1.3")), 0);
    assert_eq!(reload(&mut root, ROOT), 0, "nothing is known of it any more");
    root.check_laws();
}

/// What listens to a flow that didn't enter before isn't known until it is said again, which may be long: it is asked for.
#[test]
fn a_flow_that_enters_anew_is_asked_for_and_found_soon() {
    let (mut leaf, mut root) = (Router::new(LEAF), Router::new(&ROOT.replace("232.1.1.1", "232.1.1.3")));
    leaf.hear(0, &report(GROUPS[0], TO_EXCLUDE));
    leaf.turn();
    carry(leaf.turn(), &mut root);
    assert_eq!(leaf.later(1_000_000_000).len(), 1, "once more");
    (0..10).for_each(|_| drop(root.later(1_000_000_000)));
    let asked = root.plant.control.signals.counters().asked;
    assert_eq!(asked, 6, "at the start, three times, by IGMP and MLD");
    let text = format!("{}{ROOT}", crate::testing::EDGE);
    let config = Arc::new(Config::parse("edge.toml", &text).unwrap());
    let reload = drafted(&root.plant.control, &config);
    root.plant.control.reload(reload, root.now);
    let questions: Vec<_> = [root.turn(), root.turn()].concat();
    assert_eq!(questions.iter().map(|frame| bits(frame)).collect::<Vec<_>>(), [1 << 4, 1 << 4]);
    assert_eq!(root.enter(&stream(GROUPS[0])), Vec::<Vec<u8>>::new());
    carry(questions, &mut leaf);
    let answers: Vec<_> = (0..200).flat_map(|_| leaf.turn()).collect();
    assert_eq!(answers.iter().map(|frame| bits(frame)).collect::<Vec<_>>(), [1]);
    carry(answers, &mut root);
    assert_eq!(root.enter(&stream(GROUPS[0])).len(), 1);
    let learnt: Vec<_> = root.plant.control.signals.learnt().map(|row| (row.id.get(), row.group)).collect();
    assert_eq!(learnt, [(5, addr(GROUPS[0]))]);
    leaf.check_laws();
    root.check_laws();
}

#[test]
fn a_router_where_flows_enter_and_leave_tells_itself() {
    let both = ROOT.replace("bfr_id = 1\n", "bfr_id = 1\nreport_to = \"1,5\"\n");
    let mut router = Router::new(&format!("{both}[[bier.querier]]\nports = [\"lan\"]\n"));
    router.hear(1, &report(GROUPS[0], TO_EXCLUDE));
    router.turn();
    assert_eq!(router.turn().iter().map(|frame| bits(frame)).collect::<Vec<_>>(), [1 << 4], "and the other");
    router.turn();
    router.hear(0, &stream(GROUPS[0]));
    let lan = std::iter::from_fn(|| router.plant.net.take(PortId(1)));
    let delivered = lan.filter(|frame| frame[..6] == [1, 0, 0x5e, 1, 1, 1]).count();
    assert_eq!(delivered, 1);
    router.check_laws();
}

#[test]
fn a_router_that_no_table_leads_to_is_not_believed() {
    let mut leaf = Router::new(LEAF);
    let mut root = Router::new(&ROOT.replace("bfr_ids = \"5\"", "bfr_ids = \"6\""));
    leaf.hear(0, &report(GROUPS[0], TO_EXCLUDE));
    leaf.turn();
    carry(leaf.turn(), &mut root);
    let counters = root.plant.control.signals.counters();
    assert_eq!((counters.reports, counters.unwanted), (0, 1));
    assert_eq!(root.enter(&stream(GROUPS[0])), Vec::<Vec<u8>>::new());
    root.check_laws();
}
