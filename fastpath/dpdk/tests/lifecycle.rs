//! One environment from start to end, in a process of its own: so there is one test in this file.

use std::path::Path;

use millrace_dpdk::{Eal, EalConfig, EalError, Hugepages, PortConfig, Ports, PortsConfig};
use rustix::thread::sched_getaffinity;

#[test]
fn an_environment_ends_with_its_last_holder_and_leaves_nothing() {
    let needed =
        EalConfig { hugepages: Hugepages::Require, memory_bytes: usize::MAX, ..EalConfig::default() };
    let refused = Eal::start(needed).expect_err("no machine has that many");
    assert!(matches!(refused, EalError::NoHugepages { .. }), "{refused}");

    // A refusal that came before DPDK was touched doesn't count as a start.
    let affinity = sched_getaffinity(None).unwrap();
    let name = format!("lifecycle-{}", std::process::id());
    let config = EalConfig { name: name.clone(), cpus: vec![0], ..EalConfig::default() };
    let eal = Eal::start(config).expect("the environment starts");
    assert!(sched_getaffinity(None).unwrap() == affinity, "the caller's CPUs are its own");
    for root in ["/run/dpdk", "/var/run/dpdk"] {
        assert!(!Path::new(root).join(&name).exists(), "a directory stays in {root}");
    }

    let registered = eal.register_thread().expect("identities are left");
    let config = PortsConfig { frames_per_port: 255, ..PortsConfig::default() };
    let (ports, drivers) =
        Ports::open(&eal, &config, &[PortConfig::new("test", "net_ring0")]).expect("the port opens");
    // Ports hold the environment, so this isn't its end.
    drop(eal);
    assert!(ports.iter().all(|port| port.link().up));
    drop(drivers);
    drop(registered);
    drop(ports);
    assert!(matches!(Eal::start(EalConfig::default()), Err(EalError::AlreadyStarted)));
}
