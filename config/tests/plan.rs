//! Core and memory plans on captured topologies, and on random ones.

use std::fmt::Write;

use millrace_config::model::{CpuId, CpuSet};
use millrace_config::plan::{HugepageState, Plan, Warning};
use millrace_config::topology::{NodeId, Topology};
use millrace_config::{Code, Config, Diagnostic, Report};
use proptest::prelude::*;

const VM: &str = include_str!("topologies/vm_two_cpus.txt");
const ONE: &str = include_str!("topologies/one_cpu.txt");
const ONE_CORE: &str = include_str!("topologies/one_core_two_threads.txt");
const ADJACENT: &str = include_str!("topologies/smt_adjacent.txt");
const SPLIT: &str = include_str!("topologies/smt_split.txt");
const SMT_OFF: &str = include_str!("topologies/smt_off.txt");
const OFFLINE: &str = include_str!("topologies/offline.txt");
const TWO_NODES: &str = include_str!("topologies/two_nodes.txt");

/// A configuration with these lines under `[cores]` and a port for each device.
fn config(cores: &str, devices: &[&str]) -> (String, Config) {
    let mut text = format!("schema_version = 1\n[site]\nname = \"s\"\n[cores]\n{cores}\n");
    for (n, device) in devices.iter().enumerate() {
        writeln!(text, "[[port]]\nname = \"p{n}\"\ndevice = \"{device}\"").unwrap();
    }
    let config = Config::parse("plan.toml", &text).unwrap_or_else(|report| panic!("{report}"));
    (text, config)
}

fn topology(text: &str) -> Topology {
    Topology::parse("topology.txt", text).unwrap_or_else(|report| panic!("{report}"))
}

fn planned(machine: &str, cores: &str) -> Plan {
    let (text, config) = config(cores, &["net_ring0"]);
    Plan::new(&config, &topology(machine))
        .unwrap_or_else(|wrong| panic!("{}", Report::new("plan.toml", &text, wrong)))
}

fn refused(machine: &str, cores: &str) -> Vec<(Code, String, Diagnostic)> {
    let (text, config) = config(cores, &["net_ring0"]);
    let wrong = Plan::new(&config, &topology(machine)).expect_err("the plan is impossible");
    wrong.into_iter().map(|d| (d.code, text[d.span.clone()].to_owned(), d)).collect()
}

/// Who is where: `controller | worker+idle ... | unused`.
fn drawn(plan: &Plan) -> String {
    let sets = |cores: &[millrace_config::topology::Core]| {
        cores.iter().map(|c| c.cpus.to_string()).collect::<Vec<_>>().join(" ")
    };
    let workers: Vec<_> = plan
        .cores
        .workers
        .iter()
        .map(|w| match w.siblings.is_empty() {
            true => w.cpu.to_string(),
            false => format!("{}+{}", w.cpu, w.siblings),
        })
        .collect();
    format!("{} | {} | {}", sets(&plan.cores.controller), workers.join(" "), sets(&plan.cores.unused))
}

#[test]
fn every_numbering_keeps_siblings_together() {
    assert_eq!(drawn(&planned(ADJACENT, "")), "0-1 | 2+3 4+5 6+7 | ");
    assert_eq!(drawn(&planned(SPLIT, "")), "0,4 | 1+5 2+6 3+7 | ");
    assert_eq!(drawn(&planned(SMT_OFF, "")), "0 | 1 2 3 | ");
    assert_eq!(drawn(&planned(OFFLINE, "")), "0,4 | 1 2+6 7 | ");
    assert_eq!(drawn(&planned(VM, "")), "0 | 1 | ");
}

#[test]
fn numbers_and_lists_are_kept_to() {
    assert_eq!(drawn(&planned(SPLIT, "dataplane = { count = 1 }")), "0,4 | 1+5 | 2,6 3,7");
    assert_eq!(
        drawn(&planned(SPLIT, "controller = { count = \"rest\" }\ndataplane = { count = 1 }")),
        "0,4 2,6 3,7 | 1+5 | "
    );
    assert_eq!(drawn(&planned(SPLIT, "dataplane = { cpus = \"0,2,4,6\" }")), "1,5 | 0+4 2+6 | 3,7");
    assert_eq!(drawn(&planned(ADJACENT, "controller = { cpus = \"6-7\" }")), "6-7 | 0+1 2+3 4+5 | ");
    assert_eq!(planned(SPLIT, "dataplane = { cpus = \"0,4\" }").cores.warnings, [Warning::KernelCore]);
}

#[test]
fn one_core_in_all_is_shared() {
    let plan = planned(ONE, "");
    assert_eq!(drawn(&plan), "0 | 0 | ");
    assert!(plan.cores.workers[0].shared);
    assert_eq!(plan.cores.warnings, [Warning::Shared { cpus: "0".parse().unwrap() }]);
    assert_eq!(plan.cores.controller_cpus().to_string(), "0");
    // With two threads each has one of its own.
    let plan = planned(ONE_CORE, "");
    assert_eq!((plan.cores.workers[0].cpu, plan.cores.controller_cpus().to_string()), (CpuId(1), "0".into()));
    assert!(plan.cores.workers[0].shared);
}

/// Who names a core twice means it: a machine with two CPUs can have two workers, and is told once what that costs.
#[test]
fn lists_that_overlap_share_cores() {
    let plan = planned(VM, "controller = { cpus = \"0-1\" }\ndataplane = { cpus = \"0-1\" }");
    assert_eq!(drawn(&plan), "0 1 | 0 1 | ");
    assert!(plan.cores.workers.iter().all(|worker| worker.shared));
    assert_eq!(plan.cores.warnings, [Warning::Shared { cpus: "0-1".parse().unwrap() }]);
    assert_eq!(plan.cores.controller_cpus().to_string(), "0-1");
    // One core of two, and of the shared one the lower thread is the controller's.
    let plan = planned(SPLIT, "controller = { cpus = \"1,5\" }\ndataplane = { cpus = \"1-2,5-6\" }");
    assert_eq!(drawn(&plan), "1,5 | 5+1 2+6 | 0,4 3,7");
    let shared: Vec<_> = plan.cores.workers.iter().map(|worker| (worker.cpu.0, worker.shared)).collect();
    assert_eq!(shared, [(5, true), (2, false)]);
    assert_eq!(plan.cores.warnings, [Warning::Shared { cpus: "1,5".parse().unwrap() }]);
    assert_eq!(plan.cores.controller_cpus().to_string(), "1");
}

#[test]
fn what_the_machine_can_not_do_is_refused_where_the_file_asks_for_it() {
    let one = |machine, cores| {
        let wrong = refused(machine, cores);
        assert_eq!(wrong.len(), 1, "{wrong:?}");
        (wrong[0].0, wrong[0].1.clone(), wrong[0].2.message.clone())
    };
    assert_eq!(
        one(SPLIT, "dataplane = { cpus = \"1-2,5\" }"),
        (Code::SplitCore, "\"1-2,5\"".into(), "CPU 2 shares its core with CPU 6".into())
    );
    assert_eq!(
        one(OFFLINE, "dataplane = { cpus = \"1,5\" }"),
        (Code::NoSuchCpu, "\"1,5\"".into(), "CPU 5 can't be used".into())
    );
    assert_eq!(
        one(SMT_OFF, "dataplane = { count = 4 }"),
        (Code::TooFewCores, "4".into(), "the dataplane wants 4 cores, and 3 are left".into())
    );
    assert_eq!(one(VM, "dataplane = { cpus = \"0-1\" }").0, Code::TooFewCores);
    assert_eq!(one(ONE, "dataplane = { count = 2 }").0, Code::TooFewCores);
    assert_eq!(one(SPLIT, "dataplane = { cpus = \"1-3\" }").2, "CPUs 1-3 share their cores with CPUs 5-7");
    // A list that is wrong in two ways says so twice.
    assert_eq!(refused(SPLIT, "dataplane = { cpus = \"1,9\" }").len(), 2);
}

#[test]
fn workers_are_on_the_nodes_of_the_ports() {
    let machine = topology(TWO_NODES);
    let plan = |cores: &str, devices: &[&str]| Plan::new(&config(cores, devices).1, &machine).unwrap();
    let near = plan("dataplane = { count = 2 }", &["0000:af:00.0"]);
    assert_eq!(drawn(&near), "0,8 | 4+12 5+13 | 1,9 2,10 3,11 6,14 7,15");
    assert_eq!(near.cores.warnings, []);
    let both = plan("dataplane = { count = 2 }", &["0000:3b:00.0", "net_af_xdp0,iface=lan"]);
    assert_eq!(drawn(&both), "0,8 | 1+9 4+12 | 2,10 3,11 5,13 6,14 7,15");
    let far = plan("dataplane = { cpus = \"1,9\" }", &["0000:af:00.0"]);
    assert_eq!(far.cores.warnings.len(), 2);
    assert_eq!(plan("", &["0000:00:1f.6"]).port_nodes, [None]);
    // The second controller core is the other node's first.
    assert_eq!(
        plan("controller = { count = 2 }", &["0000:3b:00.0"]).cores.controller[1].cpus.to_string(),
        "4,12"
    );
}

#[test]
fn memory_is_taken_where_it_is_used() {
    let machine = topology(TWO_NODES);
    let (_, config) = config("dataplane = { count = 1 }", &["0000:3b:00.0", "0000:af:00.0"]);
    let plan = Plan::new(&config, &machine).unwrap();
    let [zero, one] = [0, 1].map(|node| plan.memory.nodes[&NodeId(node)]);
    assert_eq!(zero.frames_bytes, 16384 * (2048 + 320));
    assert_eq!(zero.flows_bytes, 262_144 * 176);
    assert_eq!(zero.holds_bytes, 8192 * 2048);
    assert_eq!((one.frames_bytes, one.flows_bytes, one.tables_bytes), (zero.frames_bytes, 0, 0));
    assert_eq!(zero.hugepages, HugepageState::Enough { page_bytes: 2 << 20, pages: 19 });
    assert_eq!(one.hugepages, HugepageState::Enough { page_bytes: 1 << 30, pages: 1 });
    assert_eq!(plan.memory.total_bytes(), zero.total_bytes() + one.total_bytes());
    let poor = planned(SPLIT, "");
    assert!(matches!(
        poor.memory.nodes[&NodeId(0)].hugepages,
        HugepageState::TooFew { free: 0, fatal: false, .. }
    ));
}

#[test]
fn the_table_reads_well() {
    let (_, config) = config("dataplane = { count = 1 }", &["0000:af:00.0", "net_ring0"]);
    let plan = Plan::new(&config, &topology(TWO_NODES)).unwrap();
    let expected = "\
cpus         role         runs on  node   note
0,8          controller   0,8      0
1,9          unused       -        0
2,10         unused       -        0
3,11         unused       -        0
4,12         worker       4        1      worker 0, sibling 12 idle
5,13         unused       -        1
6,14         unused       -        1
7,15         unused       -        1

port         device                                   node
p0           0000:af:00.0                             1
p1           net_ring0                                unknown

node       frames      flows      holds     queues     tables        all  hugepages
0               -          -          -          -    1.5 MiB    1.5 MiB  -
1          74 MiB     44 MiB     16 MiB   10.2 MiB          -  144.2 MiB  1 of 1024 MiB
";
    assert_eq!(plan.human(&config), expected);
    let json = plan.to_json(&config);
    assert_eq!(
        json["cores"][4],
        serde_json::json!({ "cpus": "4,12", "role": "worker", "node": 1, "worker": 0, "cpu": 4, "idle": "12" })
    );
    assert_eq!(json["ports"][1]["node"], serde_json::Value::Null);
}

#[test]
fn a_text_that_is_no_topology_is_refused() {
    let wrong = |text: &str| Topology::parse("t", text).unwrap_err().diagnostics()[0].code;
    let online = "/sys/devices/system/cpu/online:0-1\n";
    let siblings = |cpu: u32, list: &str| {
        format!("/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list:{list}\n")
    };
    for text in [
        String::new(),
        "hello".into(),
        "/sys/devices/system/cpu/online:1-0".into(),
        "/sys/devices/system/cpu/online:".into(),
        format!("{online}{}", siblings(0, "1")),
        format!("{online}{}{}", siblings(0, "0-1"), siblings(1, "1")),
        // The first says nothing, and is a core by itself.
        format!("{online}{}", siblings(1, "0-1")),
        format!("{online}/proc/self/status:Cpus_allowed_list:\t5"),
    ] {
        assert_eq!(wrong(&text), Code::BadTopology, "{text}");
    }
    // Nothing but what is online: one thread a core, one node.
    let machine = topology(online);
    assert_eq!((machine.cores.len(), machine.nodes.len()), (2, 1));
}

#[test]
fn cpus_of_others_are_left_alone() {
    let machine = topology(&format!("{SPLIT}/proc/self/status:Cpus_allowed_list:\t0-1,4-5\n"));
    assert_eq!(machine.cores.len(), 2);
    let plan = Plan::new(&config("", &["net_ring0"]).1, &machine).unwrap();
    assert_eq!(drawn(&plan), "0,4 | 1+5 | ");
    assert_eq!(plan.cores.warnings, [Warning::Forbidden { cpus: "2-3,6-7".parse().unwrap() }]);
}

/// A machine of one or two nodes with cores of one or two threads, numbered either way, some CPUs offline.
fn machines() -> impl Strategy<Value = String> {
    (1u32..=2, 1u32..=6, 1u32..=2, any::<bool>(), any::<u32>(), prop::option::of(0u32..2)).prop_map(
        |(nodes, per_node, threads, adjacent, offline, port)| {
            let cores = nodes * per_node;
            let number = |core: u32, thread: u32| {
                if adjacent { core * threads + thread } else { thread * cores + core }
            };
            // CPU 0 can't be taken offline on most machines.
            let online = |cpu: u32| cpu == 0 || offline >> (cpu % 32) & 1 == 0;
            let set = |cores: &mut dyn Iterator<Item = u32>| -> CpuSet {
                cores
                    .flat_map(|core| (0..threads).map(move |thread| number(core, thread)))
                    .filter(|cpu| online(*cpu))
                    .map(CpuId)
                    .collect()
            };
            let mut text = format!("/sys/devices/system/cpu/online:{}\n", set(&mut (0..cores)));
            for core in 0..cores {
                let siblings = set(&mut std::iter::once(core));
                for cpu in siblings.iter() {
                    writeln!(
                        text,
                        "/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list:{siblings}"
                    )
                    .unwrap();
                }
            }
            for node in 0..nodes {
                let cpus = set(&mut (node * per_node..(node + 1) * per_node));
                writeln!(text, "/sys/devices/system/node/node{node}/cpulist:{cpus}").unwrap();
            }
            if let Some(node) = port {
                writeln!(text, "/sys/bus/pci/devices/0000:3b:00.0/numa_node:{node}").unwrap();
            }
            text
        },
    )
}

fn requests() -> impl Strategy<Value = String> {
    let set = prop_oneof![
        (1u32..6).prop_map(|count| format!("{{ count = {count} }}")),
        prop::collection::btree_set(0u32..12, 1..5).prop_map(|cpus| {
            let cpus: CpuSet = cpus.into_iter().map(CpuId).collect();
            format!("{{ cpus = \"{cpus}\" }}")
        }),
    ];
    prop_oneof![
        set.clone().prop_map(|set| format!("controller = {set}")),
        set.clone().prop_map(|set| format!("dataplane = {set}")),
        (set.clone(), set.clone()).prop_map(|(controller, dataplane)| {
            format!("controller = {controller}\ndataplane = {dataplane}")
        }),
        set.prop_map(|set| format!("controller = {{ count = \"rest\" }}\ndataplane = {set}")),
        Just(String::new()),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1024))]

    #[test]
    fn a_plan_deals_out_every_core_once(machine in machines(), cores in requests()) {
        let topology = topology(&machine);
        let (text, config) = config(&cores, &["0000:3b:00.0"]);
        let plan = match Plan::new(&config, &topology) {
            Ok(plan) => plan,
            Err(wrong) => {
                prop_assert!(!wrong.is_empty() && wrong.iter().all(|d| d.span.end <= text.len()));
                // The default fits every machine.
                prop_assert!(!cores.is_empty());
                return Ok(());
            }
        };
        let plan = plan.cores;
        prop_assert!(!plan.controller.is_empty() && !plan.workers.is_empty());
        let mut dealt: Vec<CpuSet> = plan.controller.iter().chain(&plan.unused).map(|core| core.cpus.clone()).collect();
        for (n, worker) in plan.workers.iter().enumerate() {
            let cpus: CpuSet = worker.siblings.iter().chain([worker.cpu]).collect();
            prop_assert_eq!(cpus.len(), worker.siblings.len() + 1, "a worker isn't its own sibling");
            prop_assert_eq!(usize::from(worker.id.0), n);
            let shared = plan.controller.iter().any(|core| core.cpus == cpus);
            prop_assert_eq!(worker.shared, shared);
            let listed = cores.matches("cpus").count() == 2;
            prop_assert!(!shared || listed || topology.cores.len() == 1, "shared unasked");
            if !worker.shared {
                dealt.push(cpus);
            }
        }
        dealt.sort();
        // Whole cores, each once, none left out: the very list of the machine's sibling sets.
        let mut whole: Vec<CpuSet> = topology.cores.iter().map(|core| core.cpus.clone()).collect();
        whole.sort();
        prop_assert_eq!(dealt, whole);
        prop_assert!(!plan.controller_cpus().is_empty());
        // CPU 0's core is the controller's, unless a list says otherwise.
        if !cores.contains("cpus") {
            prop_assert!(plan.controller[0].cpus.contains(CpuId(0)));
        }
    }

    #[test]
    fn any_text_is_a_topology_or_an_error(parts in prop::collection::vec(prop::sample::select(
        [VM, TWO_NODES, "\u{e9}:\n"].concat().split_inclusive([':', '\n', '/']).map(String::from).collect::<Vec<_>>()), 0..60)) {
        let text = parts.concat();
        if let Err(report) = Topology::parse("t", &text) {
            prop_assert!(report.diagnostics().iter().all(|d| d.span.end <= text.len()));
            prop_assert!(!report.to_string().is_empty());
        }
    }
}
