//! `millrace plan`: who gets which physical core, and what memory is needed where.

use std::fmt::Write;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use millrace_config::Report;
use millrace_config::plan::Plan;
use millrace_config::topology::Topology;

use crate::check;

/// Print the plan of cores and memory, on this machine or on another.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  millrace plan -c edge.toml
  millrace plan --capture > rack7.txt                on the machine in question
  millrace plan -c edge.toml --topology rack7.txt    anywhere
  millrace plan -c edge.toml --json | jq '.cores[] | select(.role == \"worker\")'

Exit codes: 0 there is a plan, 1 the file asks for what the machine hasn't, 2 the call is wrong, 3 the system refused.")]
pub(crate) struct Args {
    /// The configuration file
    #[arg(short, long, value_name = "FILE", required_unless_present = "capture")]
    config: Option<PathBuf>,
    /// Plan for the machine whose topology was captured in this file, instead of this one
    #[arg(long, value_name = "TEXTFILE")]
    topology: Option<PathBuf>,
    /// Print this machine's topology, to plan for it elsewhere
    #[arg(long, conflicts_with_all = ["config", "topology", "json"])]
    capture: bool,
    /// Print JSON: `cores`, `ports`, `memory` by node, and `warnings`
    #[arg(long)]
    json: bool,
}

/// Runs `millrace plan`.
pub(crate) fn run(args: Args) -> ExitCode {
    match plan(&args) {
        Ok(text) => {
            check::say(&text);
            ExitCode::SUCCESS
        }
        Err(code) => code,
    }
}

fn plan(args: &Args) -> Result<String, ExitCode> {
    let file = match &args.config {
        Some(file) if !args.capture => file,
        _ => return capture().map_err(refused),
    };
    let config = check::load(file).map_err(|refusal| {
        refusal.print();
        refusal.exit_code()
    })?;
    let topology = topology(args.topology.as_deref())?;
    let plan = Plan::new(&config, &topology).map_err(|wrong| {
        // The file was read a moment ago. If it is gone by now, the errors are shown without its lines.
        let text = fs::read_to_string(file).unwrap_or_default();
        check::print_report(&Report::new(&file.display().to_string(), &text, wrong));
        ExitCode::from(1)
    })?;
    Ok(match args.json {
        true => format!("{:#}\n", plan.to_json(&config)),
        false => plan.human(&config),
    })
}

/// The topology that a file holds, or that of this machine. What is wrong has been printed when there is none.
pub(crate) fn topology(file: Option<&Path>) -> Result<Topology, ExitCode> {
    let (name, text) = match file {
        None => ("this machine".into(), capture().map_err(refused)?),
        Some(file) => {
            let name = file.display().to_string();
            let text = fs::read_to_string(file).map_err(|error| {
                check::print_report(&Report::unreadable(&name, &error));
                ExitCode::from(3)
            })?;
            (name, text)
        }
    };
    Topology::parse(&name, &text).map_err(|report| {
        check::print_report(&report);
        ExitCode::from(if file.is_some() { 1 } else { 3 })
    })
}

/// Reads what [`Topology::parse`] wants from the kernel's files. Those that a machine lacks are left out.
fn capture() -> io::Result<String> {
    let system = Path::new("/sys/devices/system");
    let mut text = String::new();
    let mut add = |path: PathBuf| {
        if let Ok(value) = fs::read_to_string(&path) {
            // An empty file, such as the list of a node without CPUs, says something too.
            let _ = writeln!(text, "{}:{}", path.display(), value.trim_end());
        }
    };
    let online = system.join("cpu/online");
    fs::metadata(&online)?;
    add(online);
    for cpu in children(&system.join("cpu"), "cpu") {
        add(cpu.join("topology/thread_siblings_list"));
    }
    let nodes = children(&system.join("node"), "node");
    for node in &nodes {
        add(node.join("cpulist"));
        for size in children(&node.join("hugepages"), "hugepages-") {
            add(size.join("free_hugepages"));
        }
    }
    for device in children(Path::new("/sys/bus/pci/devices"), "") {
        add(device.join("numa_node"));
    }
    for interface in children(Path::new("/sys/class/net"), "") {
        add(interface.join("device/numa_node"));
    }
    for node in &nodes {
        one_line(&mut text, &node.join("meminfo"), "MemTotal:");
    }
    one_line(&mut text, Path::new("/proc/self/status"), "Cpus_allowed_list:");
    Ok(text)
}

/// Adds the line of a file that contains a word.
fn one_line(text: &mut String, path: &Path, word: &str) {
    let value = fs::read_to_string(path).unwrap_or_default();
    if let Some(line) = value.lines().find(|line| line.contains(word)) {
        let _ = writeln!(text, "{}:{line}", path.display());
    }
}

/// What a folder holds whose name begins with `prefix`, in the order of the names; nothing if there is no such folder.
fn children(folder: &Path, prefix: &str) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let named = entries.flatten().filter(|entry| entry.file_name().to_string_lossy().starts_with(prefix));
    let mut paths: Vec<_> = named.map(|entry| entry.path()).collect();
    paths.sort();
    paths
}

fn refused(error: io::Error) -> ExitCode {
    eprintln!("millrace: the machine's topology can't be read: {error}");
    ExitCode::from(3)
}
