//! The appliance under test, and the separate orchestrator where there is one.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::time::Duration;

use rustix::thread::{sched_getaffinity, sched_setaffinity};
use serde_json::Value;

use crate::lab::{Host, LabError, Look, Process, command, unreadable, wait_until};

use super::site::{BEACON, Place};
use super::{Driver, Edge, Fates, Second, Site, Wake};

/// How long the appliance gets to start: the EAL alone takes seconds on a busy machine.
const START_MAX: Duration = Duration::from_secs(60);

/// How long the appliance gets to end after SIGTERM.
const STOP_MAX: Duration = Duration::from_secs(20);

/// How long counters may take to agree after the last frame: workers count between two polls, we read at any time.
const SETTLE_MAX: Duration = Duration::from_secs(5);

/// The exit code of "the system refused".
const REFUSED: i32 = 3;

/// A running `millrace run`.
#[derive(Debug)]
pub struct Appliance {
    process: Process,
    host: Host,
    binary: PathBuf,
    socket: PathBuf,
    driver: Driver,
}

/// Everybody else comes first: a session of its own, whose share of a CPU is the least there is.
const POLITELY: [&str; 5] =
    ["setsid", "sh", "-c", "{ echo 19 >/proc/self/autogroup; } 2>/dev/null; exec \"$@\"", "appliance"];

impl Appliance {
    /// Starts the appliance and waits until it answers `show ports`. Where the kernel refuses XDP, it is started
    /// again with af_packet, and that is said loudly.
    ///
    /// # Errors
    /// [`LabError`] with the appliance's last words.
    pub fn start(edge: &Edge, binary: &Path, site: &Site) -> Result<Self, LabError> {
        Self::start_by(edge, binary, site, &[])
    }

    /// Starts the appliance through another program, which gets the appliance's command line at the end of its own.
    ///
    /// # Errors
    /// [`LabError`] with the appliance's last words.
    pub fn start_by(edge: &Edge, binary: &Path, site: &Site, through: &[&str]) -> Result<Self, LabError> {
        Self::start_in(edge, &edge.appliance, binary, site, through)
    }

    /// Starts the second appliance of an edge location.
    ///
    /// # Errors
    /// [`LabError`] with the appliance's last words.
    pub fn start_second(edge: &Edge, second: &Second, binary: &Path, site: &Site) -> Result<Self, LabError> {
        let site = Site { dns: second.dns.clone(), ports: Some(vec![second.port.clone()]), ..site.clone() };
        Self::start_in(edge, &second.host, binary, &site, &[])
    }

    fn start_in(
        edge: &Edge,
        host: &Host,
        binary: &Path,
        site: &Site,
        through: &[&str],
    ) -> Result<Self, LabError> {
        match Self::try_start(edge, host, binary, site, through) {
            Err(LabError::Ended { status, output, .. })
                if site.driver == Driver::AfXdp
                    && status.code() == Some(REFUSED)
                    && output.contains("af_xdp") =>
            {
                eprintln!("XDP IS REFUSED HERE; going on with net_af_packet. The appliance said:\n{output}");
                Self::try_start(
                    edge,
                    host,
                    binary,
                    &Site { driver: Driver::AfPacket, ..site.clone() },
                    through,
                )
            }
            tried => tried,
        }
    }

    fn try_start(
        edge: &Edge,
        host: &Host,
        binary: &Path,
        site: &Site,
        through: &[&str],
    ) -> Result<Self, LabError> {
        let first = host.namespace() == edge.appliance.namespace();
        let (file, socket) = match first {
            true => ("edge.toml".to_owned(), socket(edge)),
            false => {
                (format!("{}.toml", host.name()), edge.lab().folder().join(format!("{}.sock", host.name())))
            }
        };
        let configuration = configure(edge, site, &file, &socket)?;
        // Where workers poll on every CPU, Linux 6.18 was seen to let its own threads wait for minutes beside them.
        let cpus = std::thread::available_parallelism().map_or(1, usize::from);
        let through =
            if through.is_empty() && usize::from(site.workers) >= cpus.max(2) { &POLITELY } else { through };
        let mut run = match through.split_first() {
            None => host.command(binary),
            Some((program, args)) => {
                let mut run = host.command(program);
                run.args(args).arg(binary);
                run
            }
        };
        let appliance = Self::spawn(host, binary, &mut run, &configuration, &socket, site.driver)?;
        appliance.wait_until_up()?;
        Ok(appliance)
    }

    /// Starts `millrace run` with a configuration that is there already, and doesn't wait for it.
    ///
    /// # Errors
    /// [`LabError::Start`] where it cannot be started.
    pub fn launch(
        host: &Host,
        binary: &Path,
        configuration: &Path,
        socket: &Path,
        driver: Driver,
    ) -> Result<Self, LabError> {
        Self::spawn(host, binary, &mut host.command(binary), configuration, socket, driver)
    }

    fn spawn(
        host: &Host,
        binary: &Path,
        run: &mut Command,
        configuration: &Path,
        socket: &Path,
        driver: Driver,
    ) -> Result<Self, LabError> {
        let process = host.spawn("run", run.args(["run", "-c"]).arg(configuration))?;
        let (binary, socket) = (binary.to_owned(), socket.to_owned());
        Ok(Appliance { process, host: host.clone(), binary, socket, driver })
    }

    /// Waits until it answers `show ports`.
    ///
    /// # Errors
    /// [`LabError`] with the appliance's last words.
    pub fn wait_until_up(&self) -> Result<(), LabError> {
        self.process.wait_until("the appliance to answer", START_MAX, || self.show("ports")).map(drop)
    }

    /// Writes the configuration of `site` into a file of the lab's folder, and returns its path.
    ///
    /// # Errors
    /// [`LabError`] where certificate or file cannot be made.
    pub fn configure(edge: &Edge, site: &Site, name: &str) -> Result<PathBuf, LabError> {
        configure(edge, site, name, &socket(edge))
    }

    /// The driver that its ports run on.
    #[must_use]
    pub fn driver(&self) -> Driver {
        self.driver
    }

    /// The process.
    #[must_use]
    pub fn process(&self) -> &Process {
        &self.process
    }

    /// Keeps this process, and what it starts from now on, off the CPUs of the workers, as an operator keeps other
    /// work off them. Returns how many CPUs are left for it; nothing changes where there would be none.
    ///
    /// # Errors
    /// [`LabError`] where the workers can't be asked, or the system refuses.
    pub fn fence(&self) -> Result<usize, LabError> {
        let workers = self.show("workers")?;
        let theirs: Vec<u64> =
            workers.as_array().into_iter().flatten().filter_map(|worker| worker["cpu"].as_u64()).collect();
        let refused = |error: rustix::io::Errno| unreadable("this process's CPUs", error);
        let mut left = sched_getaffinity(None).map_err(refused)?;
        theirs.iter().for_each(|cpu| left.unset(*cpu as usize));
        if left.count() > 0 {
            sched_setaffinity(None, &left).map_err(refused)?;
        }
        Ok(left.count() as usize)
    }

    /// What `millrace show WHAT --json` says.
    ///
    /// # Errors
    /// [`LabError`] where it ends with another code than 0, or does not write JSON.
    pub fn show(&self, what: &str) -> Result<Value, LabError> {
        let mut show = self.host.command(&self.binary);
        show.args(["show", what, "--json", "-s"]).arg(&self.socket);
        let text = command::succeed(&mut show)?;
        serde_json::from_str(&text).map_err(|error| unreadable(format!("show {what}"), error))
    }

    /// One row of `show WHAT --json`, found by its `name`.
    ///
    /// # Errors
    /// [`LabError`] where there is no such row.
    pub fn row(&self, what: &str, name: &str) -> Result<Value, LabError> {
        let all = self.show(what)?;
        super::row(&all, what, name).ok_or_else(|| unreadable(format!("{name} in show {what}"), &all))
    }

    /// A command of the appliance's binary in its namespace, with its control socket at the end.
    ///
    /// # Errors
    /// [`LabError`] where it ends with another code than 0.
    pub fn ask(&self, args: &str) -> Result<String, LabError> {
        let words = command::split(&format!("millrace {args}"));
        command::succeed(self.host.command(&self.binary).args(words.get_args()).arg("-s").arg(&self.socket))
    }

    /// The OpenMetrics text.
    ///
    /// # Errors
    /// [`LabError`] where it is not served.
    pub fn metrics(&self) -> Result<String, LabError> {
        self.host.run("curl -sS --fail --max-time 5 http://127.0.0.1:9464/metrics")
    }

    /// Waits until a serving node has registered: then the beacon, which is to have an instance at all times, has one.
    ///
    /// # Errors
    /// [`LabError::Deadline`] with what the appliance shows of it.
    pub fn wait_for_node(&self) -> Result<(), LabError> {
        self.wait_for_service(BEACON, "ready", super::serving::READY_MAX).map(drop)
    }

    /// Waits until a service is in `phase`.
    ///
    /// # Errors
    /// [`LabError::Deadline`] with what the appliance shows of it.
    pub fn wait_for_service(&self, name: &str, phase: &str, deadline: Duration) -> Result<Value, LabError> {
        wait_until(&format!("service {name} to be {phase}"), deadline, || match self.row("services", name) {
            Ok(row) if row["phase"] == phase => Look::Done(row),
            Ok(row) => Look::NotYet(row.to_string()),
            Err(error) => Look::NotYet(error.to_string()),
        })
    }

    /// The wakes that it remembers, the oldest first.
    ///
    /// # Errors
    /// [`LabError`] where it does not tell them.
    pub fn wakes(&self) -> Result<Vec<Wake>, LabError> {
        let shown = self.show("wakes")?;
        Wake::all(&shown).ok_or_else(|| unreadable("show wakes", shown))
    }

    /// The sums of fates as they stand now, whether the laws hold or not.
    ///
    /// # Errors
    /// [`LabError`] where the workers do not tell them.
    pub fn fates_now(&self) -> Result<Fates, LabError> {
        let workers = self.show("workers")?;
        Fates::of(&workers).ok_or_else(|| unreadable("fates in show workers", workers))
    }

    /// The sums of fates, once the three laws hold.
    ///
    /// # Errors
    /// [`LabError::Deadline`] with the law that does not.
    pub fn fates(&self) -> Result<Fates, LabError> {
        wait_until("every frame to have one fate", SETTLE_MAX, || match self.fates_now() {
            Ok(fates) if fates.broken().is_empty() => Look::Done(fates),
            Ok(fates) => Look::NotYet(format!("{:?} in {fates:?}", fates.broken())),
            Err(error) => Look::NotYet(error.to_string()),
        })
    }

    /// Asks it to end and waits for that.
    ///
    /// # Errors
    /// [`LabError::Deadline`] with its last words.
    pub fn stop(self) -> Result<ExitStatus, LabError> {
        self.process.terminate();
        self.process.wait(STOP_MAX)
    }
}

/// A running `millrace orchestrate`.
#[derive(Debug)]
pub struct Orchestrator {
    process: Process,
}

impl Orchestrator {
    /// Starts the separate orchestrator beside the appliance, on the management address.
    ///
    /// # Errors
    /// [`LabError`] where it cannot be started.
    pub fn start(edge: &Edge, binary: &Path, configuration: &Path) -> Result<Self, LabError> {
        let mut orchestrate = edge.appliance.command(binary);
        orchestrate.args(["orchestrate", "-c"]).arg(configuration);
        Ok(Orchestrator { process: edge.appliance.spawn("orchestrate", &mut orchestrate)? })
    }

    /// The process.
    #[must_use]
    pub fn process(&self) -> &Process {
        &self.process
    }
}

fn configure(edge: &Edge, site: &Site, name: &str, socket: &Path) -> Result<PathBuf, LabError> {
    let identity = edge.certificates.identity("edge-lab", Some(super::MANAGEMENT))?;
    let text = site.render(&Place {
        shape: edge.shape,
        instances: edge.instances(),
        socket,
        identity: &identity,
        authority: &edge.certificates.authority,
    });
    edge.lab().write(name, &text)
}

fn socket(edge: &Edge) -> PathBuf {
    edge.lab().folder().join("control.sock")
}
