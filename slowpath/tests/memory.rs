//! What `millrace plan` says of memory, against what is really taken.

use std::fmt::Write;

use allocation_counter::measure;
use millrace_config::Config;
use millrace_config::plan::{LANE_FRAMES, Plan};
use millrace_config::topology::Topology;
use millrace_fastpath::addr::Addr;
use millrace_fastpath::clock::{Clock, Nanos};
use millrace_fastpath::flow::FlowTable;
use millrace_fastpath::heap::{HeapDriver, HeapNet, HeapPlan};
use millrace_fastpath::hold::Holds;
use millrace_fastpath::hub::LANE_SEGMENTS_MAX;
use millrace_fastpath::shared::Shared;
use millrace_fastpath::splice::table::Splices;
use millrace_fastpath::tables::names::HashKey;
use millrace_fastpath::tables::{InterfaceId, Neighbours};
use millrace_fastpath::worker::{Rings, Worker, WorkerLimits};
use millrace_slowpath::{PortInfo, TableBuilder, TableFiles};

/// How many times what is taken the plan may say. It never says less: each bound is of the worst case, and of some
/// structures that is twice the usual one.
const FACTOR_MAX: u64 = 3;

const SERVICES: usize = 200;
const WORKERS: u64 = 2;

struct Still;

impl Clock for Still {
    fn now(&self) -> Nanos {
        Nanos(1)
    }

    fn cycles(&self) -> u64 {
        0
    }
}

/// As large as what `make` makes ever was, in bytes.
fn taken<T>(make: impl FnOnce() -> T) -> u64 {
    measure(|| drop(make())).bytes_max
}

/// A configuration with these limits and many services, each with several names and backends.
fn config(flows: u64, holds: u64, neighbours: u64) -> Config {
    let mut text = format!(
        "schema_version = 1\n[site]\nname = \"s\"\n[roles]\ndns = true\nbalancer = true\n\
         [limits]\nflows_per_worker = {flows}\nholds_per_worker = {holds}\nneighbours_max = {neighbours}\n\
         [[port]]\nname = \"p0\"\ndevice = \"net_ring0\"\naddresses = [\"198.51.100.1/24\", \"2001:db8:1::1/64\"]\n\
         [dns]\nlisten = [\"192.0.2.53\"]\n[[dns.zone]]\nname = \"fn.example.\"\nttl_seconds = 30\n\
         cold_ttl_seconds = 1\nsoa = {{ primary = \"ns1.fn.example.\", contact = \"ops.fn.example.\", serial = 1, \
         minimum_ttl_seconds = 5 }}\nrecords = [\n\
         {{ name = \"@\", type = \"NS\", data = \"ns1.fn.example.\" }},\n\
         {{ name = \"ns1\", type = \"A\", data = \"192.0.2.53\" }},\n]\n"
    );
    for n in 0..SERVICES {
        write!(
            text,
            "[[service]]\nname = \"s{n}\"\nnames = [\"a{n}.fn.example.\", \"b{n}.fn.example.\"]\n\
             address = [\"203.0.113.{n}\", \"2001:db8:f::{n:x}\"]\nports = [\"tcp/80\", \"tcp/443\"]\n\
             backends = [{{ address = \"198.51.100.7\" }}, {{ address = \"2001:db8:1::8\" }}]\n"
        )
        .unwrap();
    }
    Config::parse("edge.toml", &text).unwrap_or_else(|report| panic!("{report}"))
}

fn plan(config: &Config) -> Plan {
    let machine = "/sys/devices/system/cpu/online:0-2\n";
    let topology = Topology::parse("machine", machine).unwrap_or_else(|report| panic!("{report}"));
    let plan = Plan::new(config, &topology).unwrap();
    assert_eq!(plan.cores.workers.len() as u64, WORKERS);
    plan
}

fn covers(what: &str, planned: u64, taken: u64) {
    assert!(planned >= taken, "{what}: {planned} bytes planned, {taken} taken");
    assert!(planned <= FACTOR_MAX * taken, "{what}: {planned} bytes planned, only {taken} taken");
}

#[test]
fn the_plan_covers_what_is_taken_and_not_much_more() {
    // Around the sizes at which structures double.
    for (flows, holds, neighbours) in [(100_000, 8192, 3584), (1 << 17, 8193, 3585), (104_858, 12_000, 8000)]
    {
        let config = config(flows, holds, neighbours);
        let plan = plan(&config);
        let node = plan.memory.nodes.values().next().unwrap();
        let flow_table = taken(|| FlowTable::new(flows as usize));
        let splices = |flows: u64, holds: u64| taken(|| Splices::new(flows as usize, holds as usize, [1, 2]));
        let (rows, stages) = (splices(flows, 1) - splices(1, 1), splices(1, holds) - splices(1, 1));
        covers("flows", node.flows_bytes, WORKERS * (flow_table + rows));
        let slab = taken(|| Holds::new(holds as usize, 32));
        covers("holds", node.holds_bytes, WORKERS * (slab + stages));

        let shared = taken(|| Shared::new(WORKERS as usize));
        let rings = taken(|| {
            Rings::<<HeapDriver as millrace_fastpath::driver::Driver>::Frame>::new(WORKERS as usize)
        });
        let appliance = Shared::new(WORKERS as usize);
        let (_net, mut drivers) =
            HeapNet::new(&HeapPlan { ports: 1, workers: 1, frames: 1, ..HeapPlan::default() });
        let driver = drivers.remove(0);
        let limits = WorkerLimits { flows: flows as usize, holds: holds as usize, ..WorkerLimits::default() };
        let worker =
            taken(|| Worker::new(0, driver, Still, appliance.clone(), Rings::new(1), [1, 2], &limits));
        let rest = shared + rings + WORKERS * worker.saturating_sub(flow_table + rows + slab + stages);

        let ports = [PortInfo { name: "p0".into(), mac: [2, 0, 0, 0, 0, 1], mtu_bytes: 1500 }];
        let tables =
            taken(|| TableBuilder::new(&config, &ports, TableFiles::default(), HashKey(1, 2)).unwrap());
        let neighbours = taken(|| {
            let mut map = Neighbours::default();
            for n in 0..neighbours as u32 {
                map.insert(InterfaceId(0), Addr::v4(n.to_be_bytes()), [2, 0, 0, 0, 0, 1]);
            }
            // The next generation is a copy, when it changes.
            let mut next = map.clone();
            next.insert(InterfaceId(1), Addr::v4([1, 1, 1, 1]), [2, 0, 0, 0, 0, 1]);
            (map, next)
        });
        covers("queues and tables", node.queues_bytes + node.tables_bytes, rest + tables + neighbours);
    }
}

#[test]
fn the_plan_knows_how_many_frames_lanes_have() {
    assert_eq!(LANE_FRAMES, LANE_SEGMENTS_MAX as u64);
}
