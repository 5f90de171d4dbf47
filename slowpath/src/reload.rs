//! Reload: the file is read again, compared with what runs, and carried out as a whole or not at all.
//!
//! ```text
//!  file ─► Config ─► Diff ─► zone files ─► ports ─► draft ─► names ─► orchestrator ─► control loop ─► one snapshot for all workers
//!          wrong?    needs a     wrong?     opened   the appliance             \______________________________________/
//!                    restart?                 ?      can't do it?                from here on nothing can be refused
//! ```
//!
//! Zone files and the secrets of cookies are read each time; that one of them says something else is a difference too. The
//! file is the one that the appliance was started with; the appliance reads it, not who asks. One reload at a time.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use millrace_config::{Config, Diff, Report};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tracing::{info, warn};

use crate::builder::{Digest, FileError, PortInfo, TableFiles};
use crate::control::{Asker, ReloadError};

/// What the orchestrator makes of a configuration: what carries it out, or why it can't be.
pub type Prepare = dyn Fn(&Config) -> Result<Box<dyn FnOnce() + Send>, String> + Send + Sync;

/// The driver's ports, for configurations that have others.
pub trait PortSet: Send + Sync {
    /// Opens the ports that `config` has and the appliance hasn't; with `dry_run` it only says which ids they would have.
    /// Nobody uses them before they are handed over, and dropping the change closes them again.
    ///
    /// # Errors
    /// Why one of them can't be had; then none is open.
    fn prepare(&self, config: &Config, dry_run: bool) -> Result<Box<dyn PortChange>, String>;
}

/// Ports that come and go.
pub trait PortChange {
    /// All ports by their ids; those that go have no name.
    fn ports(&self) -> Vec<PortInfo>;
    /// Tells the workers, who take it over with the next tables.
    fn hand_over(self: Box<Self>) -> Box<dyn FnOnce()>;
}

/// Reads the appliance's file again when it is told to.
pub struct Reloader {
    file: PathBuf,
    asker: Asker,
    ports: Box<dyn PortSet>,
    orchestrator: Box<Prepare>,
    /// Held for the whole of a reload.
    running: Mutex<Running>,
    status: Mutex<Status>,
}

/// What is in force.
#[derive(Clone, Debug)]
struct Running {
    config: Arc<Config>,
    /// Of the files that it names.
    digests: BTreeMap<PathBuf, Digest>,
}

/// What came of reloads so far.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Status {
    /// When what runs was read, in seconds since 1970-01-01 UTC.
    pub loaded_unix_seconds: u64,
    /// Reloads that were carried out, those without a difference included.
    pub applied: u64,
    /// Reloads that changed nothing, because they couldn't be carried out.
    pub refused: u64,
    /// Why the last one was refused; empty if it wasn't.
    pub refusal: String,
}

/// What came of a reload.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// It is carried out.
    Applied,
    /// The file says what runs already.
    Unchanged,
    /// It would be carried out; nothing was, as asked.
    Possible,
    /// It can't be carried out, and nothing was.
    #[default]
    Refused,
    /// The file can't be read.
    Unreadable,
}

/// The answer to a reload, for operators and programs.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ReloadReport {
    /// What came of it.
    pub outcome: Outcome,
    /// The file.
    pub file: String,
    /// The generation of the tables that have it.
    pub generation: Option<u64>,
    /// What differs from what runs, as [`Diff::to_json`] says; at most [`CHANGES_SHOWN_MAX`].
    pub changes: Value,
    /// How many changes there are.
    pub changes_total: usize,
    /// The changes, one line each; at most as many.
    pub lines: Vec<String>,
    /// Why it was refused; empty if it wasn't.
    pub reason: String,
    /// What is wrong with the file, as `millrace check --format json` says.
    pub errors: Value,
}

impl ReloadReport {
    fn tell(&mut self, diff: &Diff) {
        self.changes = diff.to_json(CHANGES_SHOWN_MAX);
        self.changes_total = diff.changes.len();
        self.lines = diff.changes.iter().take(CHANGES_SHOWN_MAX).map(ToString::to_string).collect();
    }
}

/// Why a reload is refused.
enum Refusal {
    Unreadable(Report),
    Wrong(Report),
    Restart,
    Impossible(String),
}

impl From<ReloadError> for Refusal {
    fn from(error: ReloadError) -> Self {
        Self::Impossible(error.to_string())
    }
}

impl From<FileError> for Refusal {
    fn from(error: FileError) -> Self {
        Self::Impossible(error.to_string())
    }
}

impl Reloader {
    /// A reloader of `file`, from which `running` was read; `digests` are of the files that it names. `ports` are the
    /// driver's; `orchestrator` is told of each configuration that is carried out.
    pub fn new(
        file: &Path,
        running: Config,
        digests: BTreeMap<PathBuf, Digest>,
        asker: Asker,
        ports: Box<dyn PortSet>,
        orchestrator: Box<Prepare>,
    ) -> Self {
        let status = Status { loaded_unix_seconds: now_seconds(), ..Status::default() };
        Self {
            file: file.to_owned(),
            asker,
            ports,
            orchestrator,
            running: Mutex::new(Running { config: Arc::new(running), digests }),
            status: Mutex::new(status),
        }
    }

    /// The file.
    pub fn file(&self) -> &Path {
        &self.file
    }

    /// What came of reloads so far.
    pub fn status(&self) -> Status {
        self.status.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Reads the file and carries it out; with `dry_run` only tells what would come of it.
    pub fn reload(&self, dry_run: bool) -> ReloadReport {
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        let mut report = ReloadReport {
            file: self.file.display().to_string(),
            changes: Value::Array(Vec::new()),
            errors: Value::Array(Vec::new()),
            ..ReloadReport::default()
        };
        match self.attempt(&running, dry_run, &mut report) {
            Ok(next) => *running = next,
            Err(refusal) => refuse(refusal, &mut report),
        }
        if !dry_run {
            self.note(&report);
        }
        report
    }

    /// What is in force from now on.
    fn attempt(
        &self,
        running: &Running,
        dry_run: bool,
        report: &mut ReloadReport,
    ) -> Result<Running, Refusal> {
        let name = &report.file;
        let bytes =
            fs::read(&self.file).map_err(|error| Refusal::Unreadable(Report::unreadable(name, &error)))?;
        let next = Arc::new(Config::from_bytes(name, &bytes).map_err(Refusal::Wrong)?);
        let mut diff = Diff::new(&running.config, &next);
        report.tell(&diff);
        if diff.restarts().next().is_some() {
            return Err(Refusal::Restart);
        }
        let TableFiles { zones, cookie_secrets, quic_keys, digests } =
            TableFiles::read(&next, self.file.parent().unwrap_or(Path::new(".")))?;
        let other = |(name, digest): &(&PathBuf, &Digest)| {
            running.digests.get(*name).is_some_and(|known| known != *digest)
        };
        diff.add_files(digests.iter().filter(other).map(|(name, _)| name.as_path()));
        report.tell(&diff);
        if diff.is_empty() {
            report.outcome = Outcome::Unchanged;
            return Ok(running.clone());
        }
        let ports = match diff.touches_ports() {
            true => Some(self.ports.prepare(&next, dry_run).map_err(Refusal::Impossible)?),
            false => None,
        };
        let draft =
            self.asker.draft(&next, ports.as_ref().map(|change| change.ports()))?.with_quic_keys(quic_keys);
        let tell_orchestrator = (self.orchestrator)(&next).map_err(Refusal::Impossible)?;
        let names = match diff.touches_names() {
            true => Some(draft.names(&next, zones).map_err(ReloadError::from)?),
            false => None,
        };
        if dry_run {
            report.outcome = Outcome::Possible;
            return Ok(running.clone());
        }
        // The orchestrator first: a service may be woken as soon as workers know it.
        tell_orchestrator();
        let close = ports.map(PortChange::hand_over);
        report.generation = Some(self.asker.reload(&next, draft, names, cookie_secrets)?.0);
        if let Some(close) = close {
            close();
        }
        report.outcome = Outcome::Applied;
        Ok(Running { config: next, digests })
    }

    fn note(&self, report: &ReloadReport) {
        let file = &report.file;
        let mut status = self.status.lock().unwrap_or_else(PoisonError::into_inner);
        if matches!(report.outcome, Outcome::Refused | Outcome::Unreadable) {
            warn!(file, reason = report.reason, "a reload is refused; what runs goes on");
            status.refused += 1;
            status.refusal.clone_from(&report.reason);
            return;
        }
        for line in &report.lines {
            info!(file, "{line}");
        }
        info!(file, changes = report.changes_total, generation = report.generation, "reloaded");
        status.applied += 1;
        status.refusal.clear();
        status.loaded_unix_seconds = now_seconds();
    }
}

fn refuse(refusal: Refusal, report: &mut ReloadReport) {
    report.outcome = Outcome::Refused;
    match refusal {
        Refusal::Unreadable(wrong) => {
            report.outcome = Outcome::Unreadable;
            report.errors = wrong.to_json();
            report.reason = wrong.human(false);
        }
        Refusal::Wrong(wrong) => {
            report.errors = wrong.to_json();
            report.reason = wrong.human(false);
        }
        Refusal::Restart => {
            let hard = report.lines.iter().filter(|line| line.starts_with('!'));
            let hard: Vec<&str> = hard.map(|line| line.trim_start_matches("! ")).collect();
            report.reason = format!("this needs a restart of the appliance:\n  {}\n", hard.join("\n  "));
        }
        Refusal::Impossible(reason) => report.reason = reason,
    }
}

fn now_seconds() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// Changes that a report names: more than anybody reads; a zone may have a million.
pub const CHANGES_SHOWN_MAX: usize = 1000;

#[cfg(test)]
mod tests {
    use millrace_fastpath::shared::Shared;
    use millrace_fastpath::tables::names::HashKey;
    use millrace_orchestrator_api::memory_link;

    use super::*;
    use crate::control::{Control, ControlThread, Settings, monotonic};
    use crate::host::SmolStack;
    use crate::testing::{EDGE, ports};
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
        fn prepare(&self, config: &Config, _dry_run: bool) -> Result<Box<dyn PortChange>, String> {
            let mut next = self.0.lock().unwrap().clone();
            for info in &mut next {
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
            let settings = Settings { boot: 1, names_key: HashKey(1, 2), unix_offset_nanos: 0, table_files };
            let shared = Shared::new(1);
            let (link, _) = memory_link(4);
            let host = Box::new(SmolStack::new(&config, 1));
            let control =
                Control::new(&config, &ports(), Arc::clone(&shared), link, host, settings, monotonic());
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
        bench
            .write("edge.toml", &edge().replace("[dns]", "[dns]\nrate_limit = { responses_per_second = 7 }"));
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
            let port = format!(
                "[[port]]\nname = \"{name}\"\ndevice = \"net_ring7\"\naddresses = [\"10.77.0.1/24\"]\n"
            );
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
        assert_eq!(
            (told.outcome, place("third")),
            (Outcome::Applied, Some(3)),
            "an id isn't given out again"
        );
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
}
