//! How each contender is started on the ports of a host.

use std::path::Path;
use std::time::Duration;

use millrace_dpdk::Memory;

use super::Setup;
use crate::lab::{Host, Lab, LabError, Process, command};

/// For a start on a machine that does much else.
pub(super) const START_MAX: Duration = Duration::from_secs(60);

/// What the appliance's worker gives itself; contenders get the same.
const NICE: &str = "-20";

/// `millrace run`, with this configuration.
pub(super) fn millrace(setup: &Setup<'_>, host: &Host, configuration: &Path) -> Result<Process, LabError> {
    // It would inherit this thread's one CPU, and plan for a machine that has no other.
    let mut run = host.command("taskset");
    run.args(["-c", &setup.cpu_list()]).arg(&setup.binary).args(["run", "-c"]).arg(configuration);
    host.spawn("millrace", &mut run)
}

/// testpmd on two interfaces, which forwards from each to the other what it receives, untouched.
pub(super) fn testpmd(
    setup: &Setup<'_>,
    lab: &Lab,
    host: &Host,
    interfaces: [&str; 2],
) -> Result<Process, LabError> {
    // It ends when its standard input does; that of a fifo opened for both directions never does.
    let input = lab.folder().join("testpmd.fifo");
    if !input.exists() {
        command::succeed(command::split("mkfifo").arg(&input))?;
    }
    let mut run = host.command("nice");
    run.args(["-n", NICE, "stdbuf", "-oL", "sh", "-c", r#"exec "$@" 0<>"$0""#]).arg(&input);
    run.args(["dpdk-testpmd", "--no-pci", "--no-telemetry"]);
    for (index, interface) in interfaces.iter().enumerate() {
        run.arg(format!("--vdev=net_af_xdp{index},iface={interface}"));
    }
    run.arg(format!("--lcores=0@({}),1@{}", setup.cpu_list(), setup.contender));
    match setup.eal.memory() {
        Memory::Hugepages => run.arg("--in-memory"),
        Memory::Ordinary => run.args(["--no-huge", "--no-shconf", "-m", "64"]),
    };
    // Without a name of its own it would fight with others for files; with --in-memory it leaves but an empty folder.
    let prefix = format!("testpmd-veth-{}", std::process::id());
    run.arg(format!("--file-prefix={prefix}"));
    run.args(["--", "--forward-mode=io", "--total-num-mbufs=16383"]);
    let process = host.spawn("testpmd", &mut run)?;
    process.wait_until("testpmd to forward", START_MAX, || process.stdout().contains("Press enter"))?;
    let _absent_is_fine = std::fs::remove_dir_all(Path::new("/run/dpdk").join(prefix));
    Ok(process)
}

/// A name server on the contender's CPU; `run` is its command line, with the configuration's path at the end.
pub(super) fn name_server(
    setup: &Setup<'_>,
    host: &Host,
    run: &str,
    configuration: &Path,
) -> Result<Process, LabError> {
    let words = command::split(run);
    let mut server = host.clone().on_cpu(setup.contender).command("nice");
    server.args(["-n", NICE]).arg(words.get_program()).args(words.get_args()).arg(configuration);
    host.spawn("server", &mut server)
}

/// Moves all threads of a process to the contender's CPU: Knot puts each of its workers where it thinks best.
pub(super) fn move_to_cpu(setup: &Setup<'_>, process: &Process) -> Result<(), LabError> {
    let (cpu, id) = (setup.contender, process.id());
    command::succeed(&mut command::split(&format!("taskset -a -p -c {cpu} {id}"))).map(drop)
}
