use millrace_fastpath::shared::Shared;
use millrace_fastpath::tables::names::HashKey;
use millrace_orchestrator_api::memory_link;

use super::*;
use crate::control::{Control, ControlThread, Settings, monotonic};
use crate::host::SmolStack;
use crate::testing::{EDGE, addr, ports};
use millrace_fastpath::wire::quic_lb::{Codec, Key, Layout, ServerId};

/// A running appliance whose file, zone file and secrets are in a folder.
struct Bench {
    folder: tempfile::TempDir,
    shared: Arc<Shared>,
    devices: Devices,
    reloader: Reloader,
    _control: ControlThread,
}

/// The driver's side: what was handed over. A port that is called `broken` can't be opened.
#[derive(Clone)]
struct Devices(Arc<Mutex<Vec<PortInfo>>>);

struct Replace(Devices, Vec<PortInfo>);

impl PortSet for Devices {
    fn prepare(
        &self,
        config: &Config,
        renamed: &[(&str, &str)],
        _dry_run: bool,
    ) -> Result<Box<dyn PortChange>, String> {
        let mut next = self.0.lock().unwrap().clone();
        for info in &mut next {
            if let Some((_, name)) = renamed.iter().find(|(former, _)| *former == info.name) {
                info.name = (*name).to_owned();
            }
            if !config.ports.iter().any(|port| port.name.as_str() == info.name) {
                info.name.clear();
            }
        }
        for port in &config.ports {
            let name = port.name.to_string();
            if name == "broken" {
                return Err("no such device".to_owned());
            }
            if !next.iter().any(|info| info.name == name) {
                next.push(PortInfo { name, mac: [2, 0, 0, 0, 0, 9], mtu_bytes: port.mtu_bytes });
            }
        }
        Ok(Box::new(Replace(self.clone(), next)))
    }
}

impl PortChange for Replace {
    fn ports(&self) -> Vec<PortInfo> {
        self.1.clone()
    }

    fn hand_over(self: Box<Self>) -> Box<dyn FnOnce()> {
        *self.0.0.lock().unwrap() = self.1;
        Box::new(|| ())
    }
}

const ZONE: &str = "@ SOA ns1 ops 9 3600 600 604800 5\nwww 60 A 192.0.2.80\n";
const SECRETS: [&str; 2] = ["e5e973e5a6b2a43f48e7dc849e37bfcf", "445536bcd2513298075a5d379663c962"];

fn edge() -> String {
    let (before, rest) = EDGE.split_once("soa = ").unwrap();
    let (_, after) = rest.split_once('\n').unwrap();
    let text = format!("{before}file = \"fn.zone\"\n{after}");
    text.replacen("[dns]", "[dns]\ncookies = true\ncookie_secrets = \"file:c.secret\"", 1)
}

impl Bench {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| fs::write(folder.path().join(name), text).unwrap();
        write("edge.toml", &edge());
        write("fn.zone", ZONE);
        write("c.secret", SECRETS[0]);
        let config = Config::parse("edge.toml", &edge()).unwrap();
        let table_files = TableFiles::read(&config, folder.path()).unwrap();
        let digests = table_files.digests.clone();
        let settings = Settings { boot: 1, names_key: HashKey(1, 2), table_files, ..Settings::default() };
        let shared = Shared::new(1);
        let (link, _) = memory_link(4);
        let host = Box::new(SmolStack::new(&config, 1));
        let control = Control::new(&config, &ports(), Arc::clone(&shared), link, host, settings, monotonic());
        let control = control.unwrap();
        let asker = control.asker();
        let file = folder.path().join("edge.toml");
        let devices = Devices(Arc::new(Mutex::new(ports())));
        let tell: Box<Prepare> = Box::new(|_| Ok(Box::new(|| ())));
        let reloader = Reloader::new(&file, config, digests, asker, Box::new(devices.clone()), tell);
        Self { folder, shared, devices, reloader, _control: ControlThread::start(control).unwrap() }
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.folder.path().join(name), text).unwrap();
    }

    fn has(&self, name: &[u8]) -> bool {
        self.shared.tables().names.get(name).is_some()
    }
}

#[test]
fn a_zone_file_is_read_anew_though_the_configuration_says_the_same() {
    let bench = Bench::new();
    assert_eq!(bench.reloader.reload(false).outcome, Outcome::Unchanged);
    bench.write("fn.zone", &ZONE.replace("www", "web"));
    let told = bench.reloader.reload(true);
    assert_eq!(
        (told.outcome, told.lines),
        (Outcome::Possible, vec!["~ file fn.zone: text old -> new".to_owned()])
    );
    assert!(bench.has(b"\x03www\x02fn\x07example\0"), "nothing was carried out");
    assert_eq!(bench.reloader.reload(false).outcome, Outcome::Applied);
    assert!(bench.has(b"\x03web\x02fn\x07example\0") && !bench.has(b"\x03www\x02fn\x07example\0"));
    assert!(bench.has(b"\x05hello\x02fn\x07example\0"), "services keep their names");
    assert_eq!(bench.reloader.reload(false).outcome, Outcome::Unchanged);
}

#[test]
fn a_wrong_zone_file_changes_nothing() {
    let bench = Bench::new();
    bench.write("fn.zone", "www A 192.0.2\n");
    bench.write("edge.toml", &edge().replace("intercept = true", "intercept = false"));
    let told = bench.reloader.reload(false);
    assert_eq!(told.outcome, Outcome::Refused);
    assert!(told.reason.contains("fn.zone, line 1: "), "{}", told.reason);
    assert!(bench.shared.tables().policy.dns_intercept && bench.has(b"\x03www\x02fn\x07example\0"));
    bench.write("fn.zone", ZONE);
    let told = bench.reloader.reload(false);
    assert_eq!(told.lines, ["~ dns: intercept true -> false"]);
    assert!(!bench.shared.tables().policy.dns_intercept && bench.has(b"\x03www\x02fn\x07example\0"));
}

#[test]
fn secrets_and_limits_of_answers_change_with_the_rest() {
    let bench = Bench::new();
    let policy = || bench.shared.tables().policy;
    let first = policy().cookies.unwrap();
    bench.write("c.secret", SECRETS[1]);
    bench.write("edge.toml", &edge().replace("[dns]", "[dns]\nrate_limit = { responses_per_second = 7 }"));
    let told = bench.reloader.reload(false);
    assert_eq!((told.outcome, told.changes_total), (Outcome::Applied, 2), "{}", told.reason);
    assert!(policy().cookies.is_some_and(|keys| keys != first));
    assert_eq!(policy().rate_limit.map(|limit| limit.responses_per_second), Some(7));
    bench.write("edge.toml", EDGE);
    assert_eq!(bench.reloader.reload(false).outcome, Outcome::Applied);
    assert_eq!((policy().cookies, policy().rate_limit), (None, None));
}

#[test]
fn a_quic_key_rolls_and_is_read_anew() {
    let bench = Bench::new();
    bench.write("old.key", SECRETS[0]);
    bench.write("new.key", SECRETS[1]);
    let with = |layouts: &str| {
        let service = "[[service]]\nname = \"q\"\naddress = [\"203.0.113.77\"]\nports = [\"udp/443\"]";
        let backends = "backends = [{ address = \"198.51.100.77\", server_id = \"0x0007\" }]";
        let quic = format!("quic = {{ server_id_bytes = 2, nonce_bytes = 4, {layouts} }}");
        bench.write("edge.toml", &format!("{}\n{service}\n{backends}\n{quic}\n", edge()));
        let told = bench.reloader.reload(false);
        assert_eq!(told.outcome, Outcome::Applied, "{}", told.reason);
    };
    let reads = |rotation: u8, secret: &str| {
        let key = Key(u128::from_str_radix(secret, 16).unwrap().to_be_bytes());
        let codec = Codec::new(Layout::new(rotation, 2, 4, Some(key)).unwrap());
        let id = codec.make(ServerId::new(&[0, 7]).unwrap(), &[1, 2, 3, 4]).unwrap();
        let tables = bench.shared.tables();
        let (id_of_service, _) = tables.services.iter().find(|(_, service)| service.name == "q").unwrap();
        tables.services.entry(id_of_service).unwrap().server_ids().unwrap().find(&id) == Some(0)
    };
    with("rotation = 0, key = \"file:old.key\"");
    assert!(reads(0, SECRETS[0]) && !reads(1, SECRETS[1]));
    let previous = "previous = { rotation = 0, nonce_bytes = 4, key = \"file:old.key\" }";
    with(&format!("rotation = 1, key = \"file:new.key\", {previous}"));
    assert!(reads(0, SECRETS[0]) && reads(1, SECRETS[1]));
    with("rotation = 1, key = \"file:new.key\"");
    assert!(!reads(0, SECRETS[0]) && reads(1, SECRETS[1]));
    bench.write("new.key", SECRETS[0]);
    let told = bench.reloader.reload(false);
    assert_eq!(
        (told.outcome, told.lines),
        (Outcome::Applied, vec!["~ file new.key: text old -> new".to_owned()])
    );
    assert!(reads(1, SECRETS[0]) && !reads(1, SECRETS[1]));
    bench.write("new.key", "nothing");
    let told = bench.reloader.reload(false);
    assert!(told.outcome == Outcome::Refused && told.reason.contains("new.key"), "{}", told.reason);
    assert!(reads(1, SECRETS[0]));
}

#[test]
fn ports_come_and_go_with_the_rest_or_not_at_all() {
    let bench = Bench::new();
    let with = |name: &str, more: &str| {
        let port =
            format!("[[port]]\nname = \"{name}\"\ndevice = \"net_ring7\"\naddresses = [\"10.77.0.1/24\"]\n");
        bench.write("edge.toml", &format!("{}\n{port}\n{more}", edge()));
    };
    let place = |name: &str| {
        let interfaces = bench.shared.tables().interfaces.clone();
        interfaces.iter().find(|(_, one)| one.name == name).map(|(_, one)| one.port.index())
    };
    let handed_over = || bench.devices.0.lock().unwrap().len();
    with("third", "");
    let told = bench.reloader.reload(true);
    assert_eq!(
        (told.outcome, place("third"), handed_over()),
        (Outcome::Possible, None, 2),
        "{}",
        told.reason
    );
    let told = bench.reloader.reload(false);
    assert_eq!(
        (told.outcome, place("third"), handed_over()),
        (Outcome::Applied, Some(2), 3),
        "{}",
        told.reason
    );

    with("broken", "");
    let told = bench.reloader.reload(false);
    assert_eq!((told.outcome, told.reason.as_str()), (Outcome::Refused, "no such device"));
    // The port can be had, what goes with it can't be done.
    with("fourth", "[[dns.zone]]\nname = \"x.example.\"\n");
    assert_eq!(bench.reloader.reload(false).outcome, Outcome::Refused);
    assert_eq!((place("third"), place("fourth"), handed_over()), (Some(2), None, 3));

    bench.write("edge.toml", &edge());
    assert_eq!((bench.reloader.reload(false).outcome, place("third")), (Outcome::Applied, None));
    with("third", "");
    let told = bench.reloader.reload(false);
    assert_eq!((told.outcome, place("third")), (Outcome::Applied, Some(3)), "an id isn't given out again");
}

#[test]
fn a_port_by_another_name_stays_what_it_is_in_one_reload() {
    let bench = Bench::new();
    let interfaces = || -> Vec<_> {
        let tables = bench.shared.tables();
        let known = |id| tables.neighbours.get(id, addr("198.51.100.7"));
        tables.interfaces.iter().map(|(id, one)| (one.name.clone(), id, one.port, known(id))).collect()
    };
    let before = interfaces();
    assert_eq!(before.iter().map(|(name, ..)| name.as_str()).collect::<Vec<_>>(), ["wan", "lan", "lan.20"]);
    assert!(before[1].3.is_some());
    let renamed = edge().replace("\"lan\"", "\"inner\"");
    bench.write("edge.toml", &renamed);
    let told = bench.reloader.reload(true);
    assert_eq!((told.outcome, interfaces()), (Outcome::Possible, before.clone()), "{}", told.reason);
    let told = bench.reloader.reload(false);
    assert_eq!(told.outcome, Outcome::Applied, "{}", told.reason);
    assert_eq!(
        told.lines,
        ["~ port inner: name lan -> inner", "~ neighbour 198.51.100.7: port lan -> inner"]
    );
    let expected: Vec<_> = before
        .into_iter()
        .map(|(name, id, port, known)| (name.replace("lan", "inner"), id, port, known))
        .collect();
    assert_eq!(interfaces(), expected);
    let names = |devices: &Devices| -> Vec<String> {
        devices.0.lock().unwrap().iter().map(|info| info.name.clone()).collect()
    };
    assert_eq!(names(&bench.devices), ["wan", "inner"], "nothing was opened or closed");
}

#[test]
fn a_view_of_a_port_is_also_that_of_its_new_networks() {
    let bench = Bench::new();
    let view = "[[dns.view]]\nname = \"inside\"\nports = [\"lan\"]\n\n[[dns.zone]]\nname = \"fn.example.\"\nview = \"inside\"\nfile = \"fn.zone\"\n\n[[function]]";
    let inside = edge().replacen("[[function]]", view, 1);
    bench.write("edge.toml", &inside);
    let told = bench.reloader.reload(false);
    assert_eq!(told.outcome, Outcome::Applied, "{}", told.reason);
    let interfaces = || {
        let tables = bench.shared.tables();
        let view = tables.views.iter().next().unwrap();
        let names: Vec<String> =
            view.interfaces.iter().map(|id| tables.interfaces.get(*id).unwrap().name.clone()).collect();
        names
    };
    assert_eq!(interfaces(), ["lan", "lan.20"]);
    bench.write("edge.toml", &inside.replace("id = 20", "id = 21"));
    assert_eq!(bench.reloader.reload(false).outcome, Outcome::Applied);
    assert_eq!(interfaces(), ["lan", "lan.21"]);
}
