//! A test host: one network namespace with its links, addresses and routes.
//!
//! All goes through `ip`, `ethtool` and `sysctl`, so that what the lab did can be repeated by hand.

use std::ffi::OsStr;
use std::os::fd::AsFd as _;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use rustix::thread::{CpuSet, LinkNameSpaceType, move_into_link_name_space, sched_setaffinity};

use super::command::{split, succeed};
use super::error::{file, unreadable};
use super::{Inner, LabError, Process};

/// One network namespace. It lives as long as its lab.
#[derive(Debug, Clone)]
pub struct Host {
    name: String,
    namespace: String,
    cpu: Option<usize>,
    lab: Arc<Inner>,
}

/// Settings of a fresh namespace. Duplicate address detection, router solicitation and multicast reports
/// would put frames on the wire that no test asked for, at times nobody chose.
const SYSCTLS: [&str; 8] = [
    "net.ipv4.ip_forward=0",
    "net.ipv4.conf.all.rp_filter=0",
    "net.ipv4.conf.default.rp_filter=0",
    "net.ipv6.conf.all.accept_dad=0",
    "net.ipv6.conf.default.accept_dad=0",
    "net.ipv6.conf.default.accept_ra=0",
    "net.ipv6.conf.default.autoconf=0",
    "net.ipv6.conf.default.router_solicitations=0",
];

impl Host {
    pub(super) fn create(name: &str, lab: Arc<Inner>) -> Result<Self, LabError> {
        let namespace = format!("{}-{name}", lab.name);
        lab.own_namespace(&namespace);
        succeed(&mut split(&format!("ip netns add {namespace}")))?;
        let host = Host { name: name.to_owned(), namespace, cpu: None, lab };
        for setting in SYSCTLS {
            host.sysctl(setting)?;
        }
        host.run("ip link set lo up")?;
        Ok(host)
    }

    /// The same host with all its commands kept on one CPU, away from the worker that is measured.
    #[must_use]
    pub fn on_cpu(mut self, cpu: usize) -> Self {
        self.cpu = Some(cpu);
        self
    }

    /// The name within the lab.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The name of the namespace, as `ip netns` knows it.
    #[must_use]
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// A command that runs inside this host. It ends with the thread that starts it, so start background processes
    /// from a thread that stays.
    #[must_use]
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = split("setpriv --pdeathsig KILL ip netns exec");
        command.arg(&self.namespace);
        if let Some(cpu) = self.cpu {
            command.args(["taskset", "-c", &cpu.to_string()]);
        }
        command.arg(program);
        command
    }

    /// Runs a command line (split at spaces) inside this host; it must end with 0.
    ///
    /// # Errors
    /// [`LabError`] with the command and what it said.
    pub fn run(&self, line: &str) -> Result<String, LabError> {
        let words = split(line);
        succeed(self.command(words.get_program()).args(words.get_args()))
    }

    /// Starts a background process inside this host; its output goes to files named after it.
    ///
    /// # Errors
    /// [`LabError::Start`] where it cannot be started.
    pub fn spawn(&self, name: &str, command: &mut Command) -> Result<Process, LabError> {
        self.lab.spawn(&format!("{}-{name}", self.name), command)
    }

    /// Runs `work` on a thread of its own inside this host, so that the sockets it opens are this host's.
    ///
    /// # Errors
    /// [`LabError`] where the thread cannot enter the namespace, or panics.
    pub fn enter<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Result<T, LabError> {
        let path = Path::new("/run/netns").join(&self.namespace);
        let namespace = std::fs::File::open(&path).map_err(file(&path))?;
        let inside = || -> std::io::Result<T> {
            move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))?;
            if let Some(cpu) = self.cpu {
                let mut set = CpuSet::new();
                set.set(cpu);
                sched_setaffinity(None, &set)?;
            }
            Ok(work())
        };
        let done = std::thread::scope(|scope| scope.spawn(inside).join());
        done.map_err(|_| unreadable(&self.namespace, "the thread inside panicked"))?.map_err(file(&path))
    }

    /// Sets one kernel parameter, given as `key=value`.
    ///
    /// # Errors
    /// [`LabError`] with what `sysctl` said.
    pub fn sysctl(&self, setting: &str) -> Result<(), LabError> {
        self.run(&format!("sysctl -qw {setting}")).map(drop)
    }

    /// Gives an interface an address with its prefix length, without duplicate address detection.
    ///
    /// # Errors
    /// [`LabError`] with what `ip` said.
    pub fn address(&self, interface: &str, address: &str) -> Result<(), LabError> {
        let nodad = if address.contains(':') { " nodad" } else { "" };
        self.run(&format!("ip address add {address} dev {interface}{nodad}")).map(drop)
    }

    /// Adds a route.
    ///
    /// # Errors
    /// [`LabError`] with what `ip` said.
    pub fn route(&self, to: &str, via: &str) -> Result<(), LabError> {
        let family = if via.contains(':') { "-6" } else { "-4" };
        self.run(&format!("ip {family} route add {to} via {via}")).map(drop)
    }

    /// Connects two hosts by a veth pair. Both ends are up, have one queue (an AF_XDP socket serves one), and
    /// finish the checksums of what they send: a port behind them sees frames as a wire would carry them.
    ///
    /// # Errors
    /// [`LabError`] with the step that was refused.
    pub fn wire(&self, interface: &str, other: &Host, other_interface: &str) -> Result<(), LabError> {
        succeed(&mut split(&format!(
            "ip link add name {interface} netns {} numrxqueues 1 numtxqueues 1 type veth \
             peer name {other_interface} netns {} numrxqueues 1 numtxqueues 1",
            self.namespace, other.namespace
        )))?;
        for (host, name) in [(self, interface), (other, other_interface)] {
            host.run(&format!("ethtool -K {name} tx off gro off"))?;
            host.run(&format!("ip link set dev {name} up"))?;
        }
        Ok(())
    }

    /// Keeps the kernel off an interface that a DPDK port will own: no ARP, no IPv6, no address.
    ///
    /// # Errors
    /// [`LabError`] with the step that was refused.
    pub fn leave_to_dpdk(&self, interface: &str) -> Result<(), LabError> {
        self.sysctl(&format!("net.ipv6.conf.{interface}.disable_ipv6=1"))?;
        self.run(&format!("ip link set dev {interface} arp off multicast off")).map(drop)
    }

    /// The hardware address of an interface.
    ///
    /// # Errors
    /// [`LabError`] where there is no such interface.
    pub fn mac(&self, interface: &str) -> Result<String, LabError> {
        let text = self.run(&format!("cat /sys/class/net/{interface}/address"))?;
        Ok(text.trim().to_owned())
    }

    /// One counter of the kernel's TCP and IP statistics in this host, by the name that `nstat` uses.
    ///
    /// # Errors
    /// [`LabError`] where there is no such counter.
    pub fn kernel_counter(&self, counter: &str) -> Result<u64, LabError> {
        let text = self.run("nstat -asz")?;
        let mut words = text.lines().filter_map(|line| line.split_once(char::is_whitespace));
        let (_, rest) = words
            .find(|(name, _)| *name == counter)
            .ok_or_else(|| unreadable(format!("counter {counter}"), &text))?;
        let value = rest.split_whitespace().next().unwrap_or_default();
        value.parse().map_err(|error| unreadable(format!("counter {counter}"), error))
    }
}
