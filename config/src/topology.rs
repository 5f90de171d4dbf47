//! The machine's cores, NUMA nodes and hugepages, read from a text.
//!
//! The text is what `grep` prints of the kernel's files, a path and a line on each line, so that a machine's topology
//! can be captured with one command, sent by mail and planned for elsewhere:
//!
//! ```text
//! grep -Hs . /sys/devices/system/cpu/online /sys/devices/system/cpu/cpu*/topology/thread_siblings_list \
//!     /sys/devices/system/node/node*/cpulist /sys/devices/system/node/node*/hugepages/*/free_hugepages \
//!     /sys/bus/pci/devices/*/numa_node /sys/class/net/*/device/numa_node
//! grep -H -e MemTotal /sys/devices/system/node/node*/meminfo
//! grep -H -e Cpus_allowed_list /proc/self/status
//! ```
//!
//! Only `cpu/online` must be there. A missing file means that the machine doesn't have what it speaks of: one thread a
//! core, one node, no hugepages. Lines about other files are skipped.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;

use crate::model::{CpuId, CpuSet, Device};
use crate::report::{Code, Diagnostic, Report};

/// The number that the kernel gives a NUMA node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NodeId(pub u32);

/// A physical core: the hardware threads that share it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Core {
    /// Its CPUs that are online and allowed; at least one.
    pub cpus: CpuSet,
    /// The node its memory is nearest to.
    pub node: NodeId,
}

/// A NUMA node's memory.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NodeMemory {
    /// All of it, if known.
    pub total_bytes: Option<u64>,
    /// Hugepages nobody has taken: size of one in bytes, and how many.
    pub free_hugepages: BTreeMap<u64, u64>,
}

/// What the planner knows of a machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Topology {
    /// The physical cores, by their lowest CPU. At least one.
    pub cores: Vec<Core>,
    /// CPUs that are online, but that this process may not run on.
    pub forbidden: CpuSet,
    /// Memory of each node; every core's node is in it.
    pub nodes: BTreeMap<NodeId, NodeMemory>,
    devices: BTreeMap<String, NodeId>,
}

impl Topology {
    /// Reads the text; `name` is for the report alone.
    pub fn parse(name: &str, text: &str) -> Result<Self, Report> {
        let mut lines = Lines::default();
        let mut at = 0;
        for line in text.split_inclusive('\n') {
            lines.take(line.trim_end(), at);
            at += line.len();
        }
        let mut wrong = std::mem::take(&mut lines.wrong);
        let topology = lines.topology(&mut wrong);
        match topology {
            Some(topology) if wrong.is_empty() => Ok(topology),
            _ => Err(Report::new(name, text, wrong)),
        }
    }

    /// The node that a port's device is on, if the machine says so.
    pub fn node_of(&self, device: &Device) -> Option<NodeId> {
        let key = match device {
            Device::Pci(address) => address.as_str(),
            Device::Vdev { .. } => device.arg("iface")?,
        };
        self.devices.get(key).copied()
    }

    /// The core that a CPU is a thread of.
    pub fn core_of(&self, cpu: CpuId) -> Option<&Core> {
        self.cores.iter().find(|core| core.cpus.contains(cpu))
    }
}

/// The lines that matter, by what they speak of.
#[derive(Default)]
struct Lines {
    online: Option<CpuSet>,
    allowed: Option<CpuSet>,
    siblings: BTreeMap<CpuId, (CpuSet, Range<usize>)>,
    node_cpus: BTreeMap<NodeId, CpuSet>,
    nodes: BTreeMap<NodeId, NodeMemory>,
    devices: BTreeMap<String, NodeId>,
    wrong: Vec<Diagnostic>,
}

impl Lines {
    fn take(&mut self, line: &str, at: usize) {
        let span = at..at + line.len();
        if let Some(known) = self.read(line, &span)
            && known.is_none()
        {
            let diagnostic = Diagnostic::new(Code::BadTopology, span, "a line of the topology can't be read");
            self.wrong.push(diagnostic.label("here").help("capture the machine's topology again"));
        }
    }

    /// `None` for a line that doesn't matter, `Some(None)` for one that does and can't be read.
    fn read(&mut self, line: &str, span: &Range<usize>) -> Option<Option<()>> {
        // A PCI address has colons of its own, and only its line ends in a bare number.
        if let Some(rest) = line.strip_prefix("/sys/bus/pci/devices/") {
            let (device, node) = rest.split_once("/numa_node:")?;
            return Some(self.device(device, node));
        }
        let (path, value) = line.split_once(':')?;
        let value = value.trim();
        if let Some(rest) = path.strip_prefix("/sys/class/net/") {
            return Some(self.device(rest.strip_suffix("/device/numa_node")?, value));
        }
        if path == "/proc/self/status" {
            let list = value.strip_prefix("Cpus_allowed_list:")?.trim();
            return Some(list.parse().ok().map(|cpus| self.allowed = Some(cpus)));
        }
        let path = path.strip_prefix("/sys/devices/system/")?;
        if path == "cpu/online" {
            return Some(value.parse().ok().map(|cpus| self.online = Some(cpus)));
        }
        if let Some(rest) = path.strip_prefix("cpu/cpu") {
            let cpu = rest.strip_suffix("/topology/thread_siblings_list")?;
            return Some(self.core(cpu, value, span));
        }
        let (node, file) = path.strip_prefix("node/node")?.split_once('/')?;
        let node = NodeId(node.parse().ok()?);
        if file == "cpulist" {
            self.nodes.entry(node).or_default();
            return Some(value.parse().ok().map(|cpus| {
                self.node_cpus.insert(node, cpus);
            }));
        }
        if file == "meminfo" {
            let total = value.split_once("MemTotal:")?.1.trim().strip_suffix("kB")?;
            return Some(total.trim().parse::<u64>().ok().and_then(|kib| {
                self.nodes.entry(node).or_default().total_bytes = Some(kib.checked_mul(1024)?);
                Some(())
            }));
        }
        let size = file.strip_prefix("hugepages/hugepages-")?.strip_suffix("kB/free_hugepages")?;
        let pages = size.parse::<u64>().ok().and_then(|kib| kib.checked_mul(1024)).zip(value.parse().ok());
        Some(pages.map(|(size, count)| {
            self.nodes.entry(node).or_default().free_hugepages.insert(size, count);
        }))
    }

    fn core(&mut self, cpu: &str, list: &str, span: &Range<usize>) -> Option<()> {
        let cpu = CpuId(cpu.parse().ok()?);
        let list: CpuSet = list.parse().ok()?;
        if !list.contains(cpu) {
            return None;
        }
        self.siblings.insert(cpu, (list, span.clone()));
        Some(())
    }

    fn device(&mut self, device: &str, node: &str) -> Option<()> {
        // -1 means that the machine doesn't know.
        let node: i64 = node.trim().parse().ok()?;
        if let Ok(node) = u32::try_from(node) {
            self.devices.insert(device.to_owned(), NodeId(node));
        }
        Some(())
    }

    fn topology(mut self, wrong: &mut Vec<Diagnostic>) -> Option<Topology> {
        let Some(online) = self.online.take() else {
            if wrong.is_empty() {
                let diagnostic = Diagnostic::new(
                    Code::BadTopology,
                    0..0,
                    "the topology doesn't say which CPUs are online",
                );
                wrong.push(diagnostic.help("it needs a line such as `/sys/devices/system/cpu/online:0-3`"));
            }
            return None;
        };
        let usable = |cpu: &CpuId| self.allowed.as_ref().is_none_or(|allowed| allowed.contains(*cpu));
        let (free, forbidden): (CpuSet, CpuSet) =
            (online.iter().filter(usable).collect(), online.iter().filter(|cpu| !usable(cpu)).collect());
        let mut cores: Vec<Core> = Vec::new();
        for cpu in free.iter() {
            if cores.iter().any(|core| core.cpus.contains(cpu)) {
                continue;
            }
            let cpus: CpuSet = match self.siblings.get(&cpu) {
                None => std::iter::once(cpu).collect(),
                Some((list, span)) => {
                    let cpus: CpuSet = list.iter().filter(|cpu| free.contains(*cpu)).collect();
                    // All threads of a core must agree on who they are, or cores would overlap. One that says nothing agrees
                    // with the first that names it.
                    let agrees = |other: CpuId| match self.siblings.get(&other) {
                        Some((theirs, _)) => theirs == list,
                        None => !cores.iter().any(|core| core.cpus.contains(other)),
                    };
                    if let Some(other) = cpus.iter().find(|other| !agrees(*other)) {
                        let message =
                            format!("CPUs {cpu} and {other} don't agree on which threads share their core");
                        wrong.push(Diagnostic::new(Code::BadTopology, span.clone(), message).label("here"));
                    }
                    cpus
                }
            };
            let node = self
                .node_cpus
                .iter()
                .find(|(_, cpus)| cpus.contains(cpu))
                .map(|(node, _)| *node)
                .unwrap_or_default();
            self.nodes.entry(node).or_default();
            cores.push(Core { cpus, node });
        }
        if cores.is_empty() && wrong.is_empty() {
            wrong.push(Diagnostic::new(Code::BadTopology, 0..0, "the topology has no CPU that can be used"));
        }
        Some(Topology { cores, forbidden, nodes: self.nodes, devices: self.devices })
    }
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
