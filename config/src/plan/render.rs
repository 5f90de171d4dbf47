//! A plan as people read it, and as programs do.

use std::fmt::{self, Write};

use serde_json::{Value, json};

use super::{HugepageState, Plan};
use crate::model::Config;
use crate::topology::Core;

impl Plan {
    /// For a person: tables of cores, ports and memory, and what isn't as it should be.
    pub fn human(&self, config: &Config) -> String {
        let mut out = String::new();
        // Writing to a string doesn't fail.
        let _ = self.write(config, &mut out);
        // The last column is often empty, and its padding then ends the line.
        out.lines().map(|line| format!("{}\n", line.trim_end())).collect()
    }

    fn write(&self, config: &Config, out: &mut String) -> fmt::Result {
        writeln!(out, "{:<12} {:<12} {:<8} {:<6} note", "cpus", "role", "runs on", "node")?;
        for row in self.rows() {
            writeln!(
                out,
                "{:<12} {:<12} {:<8} {:<6} {}",
                row.cpus, row.role, row.runs_on, row.node, row.note
            )?;
        }
        writeln!(out, "\n{:<12} {:<40} node", "port", "device")?;
        for (port, node) in config.ports.iter().zip(&self.port_nodes) {
            let node = node.map_or("unknown".into(), |node| node.to_string());
            writeln!(out, "{:<12} {:<40} {node}", port.name.as_str(), port.device.to_string())?;
        }
        writeln!(
            out,
            "\n{:<6} {:>10} {:>10} {:>10} {:>10} {:>10} {:>10}  hugepages",
            "node", "frames", "flows", "holds", "queues", "tables", "all"
        )?;
        for (id, node) in &self.memory.nodes {
            let [frames, flows, holds, queues, tables, all] = [
                node.frames_bytes,
                node.flows_bytes,
                node.holds_bytes,
                node.queues_bytes,
                node.tables_bytes,
                node.total_bytes(),
            ]
            .map(mib);
            writeln!(
                out,
                "{id:<6} {frames:>10} {flows:>10} {holds:>10} {queues:>10} {tables:>10} {all:>10}  {}",
                node.hugepages
            )?;
        }
        for warning in self.warnings() {
            writeln!(out, "\nwarning: {warning}")?;
        }
        Ok(())
    }

    /// What isn't as it should be, but can be started with: of cores and of memory.
    pub fn warnings(&self) -> Vec<String> {
        let mut warnings: Vec<_> = self.cores.warnings.iter().map(ToString::to_string).collect();
        for (id, node) in &self.memory.nodes {
            if let HugepageState::TooFew { pages, page_bytes, free, fatal } = node.hugepages {
                let end = if fatal { "the appliance won't start" } else { "ordinary pages will be used" };
                warnings.push(format!(
                    "node {id} needs {pages} hugepages of {} and has {free} free: {end}",
                    mib(page_bytes)
                ));
            }
            if node.too_small {
                warnings.push(format!(
                    "node {id} has less memory than the {} it should give",
                    mib(node.total_bytes())
                ));
            }
        }
        warnings
    }

    /// For a program. `cores` has an object for each physical core (`cpus`, `role`: "controller", "worker", "shared" or
    /// "unused", `node`, and for workers `worker`, `cpu` and `idle`), `ports` one for each port (`name`, `device`, `node`
    /// or null), `memory` one for each node (`node`, `frames_bytes`, `flows_bytes`, `holds_bytes`, `queues_bytes`,
    /// `tables_bytes`, `total_bytes`, `hugepages`: null or an object with `page_bytes`, `pages`, `enough`), and `warnings` is a list of
    /// sentences.
    pub fn to_json(&self, config: &Config) -> Value {
        let cores: Vec<_> = self.rows().into_iter().map(|row| row.json).collect();
        let ports: Vec<_> = config.ports.iter().zip(&self.port_nodes).map(|(port, node)| {
            json!({ "name": port.name.as_str(), "device": port.device.to_string(), "node": node.map(|node| node.0) })
        }).collect();
        let memory: Vec<_> = self
            .memory
            .nodes
            .iter()
            .map(|(id, node)| {
                let hugepages = match node.hugepages {
                    HugepageState::NotWanted => Value::Null,
                    HugepageState::Enough { page_bytes, pages } => {
                        json!({ "page_bytes": page_bytes, "pages": pages, "enough": true })
                    }
                    HugepageState::TooFew { page_bytes, pages, .. } => {
                        json!({ "page_bytes": page_bytes, "pages": pages, "enough": false })
                    }
                };
                json!({
                    "node": id.0,
                    "frames_bytes": node.frames_bytes,
                    "flows_bytes": node.flows_bytes,
                    "holds_bytes": node.holds_bytes,
                    "queues_bytes": node.queues_bytes,
                    "tables_bytes": node.tables_bytes,
                    "total_bytes": node.total_bytes(),
                    "hugepages": hugepages,
                })
            })
            .collect();
        json!({ "cores": cores, "ports": ports, "memory": memory, "warnings": self.warnings() })
    }

    /// A row for each physical core, by its lowest CPU.
    fn rows(&self) -> Vec<Row> {
        let shared = |core: &Core| {
            self.cores.workers.iter().any(|worker| worker.shared && core.cpus.contains(worker.cpu))
        };
        let mut rows = Vec::new();
        for core in &self.cores.controller {
            if !shared(core) {
                let (cpus, node) = (core.cpus.to_string(), core.node.0);
                let json = json!({ "cpus": cpus, "role": "controller", "node": node });
                rows.push((
                    core.cpus.first(),
                    Row { runs_on: cpus.clone(), cpus, role: "controller", node, note: String::new(), json },
                ));
            }
        }
        for worker in &self.cores.workers {
            let all: crate::model::CpuSet = worker.siblings.iter().chain([worker.cpu]).collect();
            let (role, note, idle) = match (worker.shared, worker.siblings.is_empty()) {
                (true, _) => ("shared", format!("worker {} and the controller", worker.id), String::new()),
                (false, true) => ("worker", format!("worker {}", worker.id), String::new()),
                (false, false) => (
                    "worker",
                    format!("worker {}, sibling {} idle", worker.id, worker.siblings),
                    worker.siblings.to_string(),
                ),
            };
            let (cpus, node) = (all.to_string(), worker.node.0);
            let json = json!({ "cpus": cpus, "role": role, "node": node, "worker": worker.id.0, "cpu": worker.cpu.0, "idle": idle });
            rows.push((all.first(), Row { cpus, role, runs_on: worker.cpu.to_string(), node, note, json }));
        }
        for core in &self.cores.unused {
            let (cpus, node) = (core.cpus.to_string(), core.node.0);
            let json = json!({ "cpus": cpus, "role": "unused", "node": node });
            rows.push((
                core.cpus.first(),
                Row { cpus, role: "unused", runs_on: "-".into(), node, note: String::new(), json },
            ));
        }
        rows.sort_by_key(|(first, _)| *first);
        rows.into_iter().map(|(_, row)| row).collect()
    }
}

/// One physical core, ready to print.
struct Row {
    cpus: String,
    role: &'static str,
    runs_on: String,
    node: u32,
    note: String,
    json: Value,
}

impl fmt::Display for HugepageState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotWanted => f.write_str("-"),
            Self::Enough { page_bytes, pages } => write!(f, "{pages} of {}", mib(*page_bytes)),
            Self::TooFew { page_bytes, pages, free, .. } => {
                write!(f, "{pages} of {}, {free} free", mib(*page_bytes))
            }
        }
    }
}

/// Bytes in MiB, rounded up to a tenth, so that only nothing shows as `-`.
fn mib(bytes: u64) -> String {
    if bytes == 0 {
        return "-".into();
    }
    let tenths = bytes.saturating_mul(10).div_ceil(1 << 20);
    match tenths % 10 {
        0 => format!("{} MiB", tenths / 10),
        tenth => format!("{}.{tenth} MiB", tenths / 10),
    }
}
