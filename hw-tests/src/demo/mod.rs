//! The demo: the main job of an appliance on real input, told to a person and summed up for scripts.
//!
//! ```text
//!   200 cold functions   one curl each, by name: query, wake, answer, SYN held, instance, page
//!   dig at a cold name   and at a warm one
//!   a warm function      200 times
//!   names of others      answered by the upstream, unchanged on the way
//!   a burst              200 clients of 8 networks, one cold function, one wake
//!   multicast by BIER    two streams through five routers, to listeners behind three
//!   the content hub      a file over a WAN once, to three nodes, repairs to the one that lost; beside UFTP
//! ```
//!
//! A cold start is honest here: each of the 200 services is asked exactly once before anything of it ran; none is
//! stopped and started again. Components are compiled ahead; creating and starting the instance is what is measured.
//!
//! Limits: but for the workers, who have their cores for themselves, everything shares CPUs with the clients that measure it.

mod bier;
pub mod burst;
mod hub;
pub mod summary;
pub mod transit;

use std::path::{Path, PathBuf};

use rustix::io::Errno;
use rustix::thread::{sched_getaffinity, sched_setaffinity};
use serde_json::{Value, json};

use crate::edge::{
    self, Appliance, CLIENT_PREFIXES, DNS, Edge, Function, MANAGEMENT, Service, ServingNode, Shape, Site,
    Wake, client,
};
use crate::lab::{LabError, file, unreadable};
use burst::Outcome;
use summary::{Promises, Sample};
use transit::Transit;

/// Cold functions asked by curl; the promise is for at least this many.
const COLD: usize = 200;
/// Cold functions asked by dig alone.
const COLD_DIGS: usize = 20;
/// Requests to a warm function.
const WARM: usize = 200;
/// Queries for names that are not ours.
const TRANSIT: usize = 50;
/// Aims for the figures, in milliseconds; missed aims are said, and are no failure: a busy machine misses them too.
const CURL_P50_AIM_MS: f64 = 20.0;
const RELEASE_P99_AIM_MS: f64 = 1.0;

/// All that was measured and promised.
#[derive(Debug, Default)]
struct Story {
    cold: Vec<(String, client::CurlTimes)>,
    cold_dig: Sample,
    warm: Sample,
    warm_dig: Sample,
    burst: Vec<Outcome>,
    syn_retransmits: u64,
    transit: Option<Transit>,
    promises: Promises,
}

/// Runs the demo with the `millrace` beside this program; writes `TARGET/demo/summary.json`. Returns whether all
/// that is promised held.
///
/// # Errors
/// [`LabError`] where the lab cannot be built or a part of Millrace does not start.
pub fn run() -> Result<bool, LabError> {
    let binary = beside_us("millrace")?;
    // More than 200 instances will stand beside each other in the end; each is small.
    let function = Function::new("hello", edge::component(&binary, "hello")?)
        .set("memory_mib", "16")
        .set("instances", "{ min = 0, max = 16 }");
    let site = site(function);
    println!("building hosts: client, appliance, function host, upstream resolver");
    let edge = Edge::new(Shape::TwoPort)?;
    let appliance = Appliance::start(&edge, &binary, &site)?;
    let refused = |error: Errno| unreadable("this process's CPUs", error);
    let cpus = sched_getaffinity(None).map_err(refused)?;
    // The worker's core is the worker's: clients and functions share the others.
    let left = appliance.fence()?;
    let endpoint = format!("https://{MANAGEMENT}:7443");
    let node = ServingNode::start(&edge, &binary, &endpoint, &site.functions)?;
    appliance.wait_for_node()?;
    println!(
        "appliance up on {:?} ports, serving node fn1 registered, nothing runs yet; {left} CPU(s) for all but workers\n",
        appliance.driver()
    );

    let mut story = Story::default();
    cold(&edge, &appliance, &site, &mut story)?;
    digs(&edge, &site, &mut story)?;
    warm(&edge, &site, &mut story)?;
    others(&edge, &mut story)?;
    burst_step(&edge, &appliance, &mut story)?;
    let mut summary = conclude(&appliance, &mut story)?;
    let driver = appliance.driver();
    let status = appliance.stop()?;
    story.promises.expect(status.success(), format!("the appliance ended with {status} after SIGTERM"));
    if !story.promises.broken().is_empty() {
        edge.lab().keep();
    }
    // Labs take turns, and the next one's workers have cores of their own.
    drop((node, edge));
    sched_setaffinity(None, &cpus).map_err(refused)?;
    println!();
    summary["bier"] = bier::show(&binary, driver, &mut story.promises)?;
    summary["hub"] = hub::show(&binary, driver, &mut story.promises)?;

    let path = write_summary(&binary, &summary)?;
    println!("\n{} promises held; figures in {}", story.promises.kept(), path.display());
    for broken in story.promises.broken() {
        println!("BROKEN: {broken}");
    }
    Ok(story.promises.broken().is_empty())
}

/// One function behind many services, so that each cold start meets a service that never ran.
fn site(function: Function) -> Site {
    let mut services: Vec<_> =
        (0..COLD + COLD_DIGS).map(|n| Service::new(&format!("fn{n:03}"), n as u16, "hello")).collect();
    services.push(Service::new("burst", (COLD + COLD_DIGS) as u16, "hello"));
    let services = services.into_iter().map(|service| service.set("idle_reap_seconds", "600")).collect();
    // 200 wakes come as fast as curl can be started; the default bucket of 20 a second is for the internet.
    Site::new(vec![function], services).limit("wakes_per_second", 1000).limit("wakes_burst", 1000)
}

fn cold(edge: &Edge, appliance: &Appliance, site: &Site, story: &mut Story) -> Result<(), LabError> {
    println!(
        "{COLD} cold functions, one request each (200 services, each asked once; none was stopped for this)"
    );
    for service in &site.services[..COLD] {
        match client::curl(&edge.client, "-4", &service.url()) {
            Ok(times) => {
                story.promises.expect(
                    times.status == 200 && times.remote == service.v4,
                    format!("{}: status {} from {}", service.name, times.status, times.remote),
                );
                story.cold.push((service.name.clone(), times));
            }
            Err(error) => story.promises.expect(false, format!("{}: {error}", service.name)),
        }
    }
    let total: Sample = story.cold.iter().map(|(_, times)| times.total_ms).collect();
    let name: Sample = story.cold.iter().map(|(_, times)| times.name_ms).collect();
    println!("  answered        {:>4} of {COLD}", story.cold.len());
    println!("  name            {name}");
    println!("  whole request   {total}");
    if total.percentile(50) > CURL_P50_AIM_MS {
        println!("  MISSED THE AIM of {CURL_P50_AIM_MS} ms p50");
    }
    let services = appliance.show("services")?;
    for service in &site.services[..COLD] {
        let wakes = wakes_of(&services, &service.name);
        story
            .promises
            .expect(wakes == Some(1), format!("{} was woken {wakes:?} times, not once", service.name));
    }
    let wakes = appliance.wakes()?;
    let typical = typical(story);
    if let Some(wake) =
        wakes.iter().find(|wake| typical.as_ref().is_some_and(|(name, _)| *name == wake.service))
    {
        timeline(wake, typical.as_ref().map(|(_, times)| times));
    }
    Ok(())
}

/// The cold request whose time is the median.
fn typical(story: &Story) -> Option<(String, client::CurlTimes)> {
    let mut cold = story.cold.clone();
    cold.sort_by(|a, b| a.1.total_ms.total_cmp(&b.1.total_ms));
    let middle = cold.len() / 2;
    (!cold.is_empty()).then(|| cold.swap_remove(middle))
}

fn timeline(wake: &Wake, times: Option<&client::CurlTimes>) {
    println!("\n  one cold request, {} (the median), in milliseconds", wake.service);
    println!("    appliance, since the first packet:");
    for (at, what) in wake.timeline() {
        println!("      {at:9.3}  {what}");
    }
    if let Some(times) = times {
        println!("    client, since curl began:");
        let points = [
            (times.name_ms, "address known"),
            (times.connect_ms, "connected"),
            (times.first_byte_ms, "first byte"),
            (times.total_ms, "last byte"),
        ];
        for (at, what) in points {
            println!("      {at:9.3}  {what}");
        }
    }
    println!();
}

fn digs(edge: &Edge, site: &Site, story: &mut Story) -> Result<(), LabError> {
    println!("dig at {COLD_DIGS} cold names, then at the same names warm");
    for warm in [false, true] {
        for service in &site.services[COLD..COLD + COLD_DIGS] {
            let asked = client::dig(&edge.client, &format!("@{} {} A", DNS[0], service.dns_name()))?;
            story.promises.expect(
                asked.answers == [service.v4.clone()] && asked.flags.iter().any(|flag| flag == "aa"),
                format!("dig {}: {}", service.name, asked.text),
            );
            let sample = if warm { &mut story.warm_dig } else { &mut story.cold_dig };
            sample.push(asked.time.as_secs_f64() * 1000.0);
        }
    }
    println!("  cold            {}\n  warm            {}\n", story.cold_dig, story.warm_dig);
    Ok(())
}

fn warm(edge: &Edge, site: &Site, story: &mut Story) -> Result<(), LabError> {
    println!("{WARM} requests to a warm function");
    let service = &site.services[0];
    for _ in 0..WARM {
        let times = client::curl(&edge.client, "-4", &service.url())?;
        story.promises.expect(times.status == 200, format!("warm: status {}", times.status));
        story.warm.push(times.total_ms);
    }
    println!("  whole request   {}\n", story.warm);
    Ok(())
}

fn others(edge: &Edge, story: &mut Story) -> Result<(), LabError> {
    println!("{TRANSIT} names that are not ours, asked of the upstream through the appliance");
    let transit = transit::ask(edge, TRANSIT)?;
    println!("  answered        {:>4} of {TRANSIT}", transit.answered);
    println!(
        "  payload         {}\n",
        if transit.payload_identical { "identical on both sides" } else { "CHANGED ON THE WAY" }
    );
    story.promises.expect(transit.answered == TRANSIT, format!("{transit:?}"));
    story.promises.expect(transit.payload_identical, "payload of others' queries changed on the way");
    story.transit = Some(transit);
    Ok(())
}

fn burst_step(edge: &Edge, appliance: &Appliance, story: &mut Story) -> Result<(), LabError> {
    let clients = burst::clients().count();
    println!("{clients} clients of {CLIENT_PREFIXES} networks at one cold function, all at once");
    let before = edge.client.kernel_counter("TcpExtTCPSynRetrans")?;
    story.burst = burst::run(&edge.client, DNS[0], "burst.fn.example.")?;
    story.syn_retransmits = edge.client.kernel_counter("TcpExtTCPSynRetrans")? - before;
    let failed: Vec<_> = story.burst.iter().filter(|outcome| outcome.error.is_some()).collect();
    let answered = story.burst.len() - failed.len();
    let total: Sample = story
        .burst
        .iter()
        .filter(|outcome| outcome.error.is_none())
        .map(|outcome| outcome.total_ms)
        .collect();
    let wakes = wakes_of(&appliance.show("services")?, "burst");
    println!("  answered        {answered:>4} of {clients}");
    println!("  wakes           {:>4}", wakes.map_or_else(|| "?".to_owned(), |wakes| wakes.to_string()));
    println!("  SYN sent again  {:>4}", story.syn_retransmits);
    println!("  whole request   {total}");
    for outcome in failed.iter().take(5) {
        println!("  failed: {} {}", outcome.client, outcome.error.as_deref().unwrap_or_default());
    }
    story
        .promises
        .expect(answered == clients, format!("{} clients of the burst got no page", clients - answered));
    story.promises.expect(wakes == Some(1), format!("the burst woke its function {wakes:?} times, not once"));
    Ok(())
}

fn conclude(appliance: &Appliance, story: &mut Story) -> Result<Value, LabError> {
    let wakes = appliance.wakes()?;
    let cold = |wake: &&Wake| story.cold.iter().any(|(name, _)| *name == wake.service);
    let wake: Sample = wakes.iter().filter(cold).filter_map(Wake::wake_ms).collect();
    let release: Sample = wakes.iter().filter(cold).filter_map(Wake::release_ms).collect();
    println!("\nwhat the appliance saw of the cold starts");
    println!("  wake            {wake}   ({} of them)", wake.len());
    println!("  release         {release}   ({} with a held packet)", release.len());
    if release.percentile(99) > RELEASE_P99_AIM_MS {
        println!("  MISSED THE AIM of {RELEASE_P99_AIM_MS} ms p99");
    }
    let fates = appliance.fates().or_else(|_| appliance.fates_now())?;
    println!(
        "\nevery frame has one fate: {} received, {} unexplained",
        fates.get("received"),
        fates.unexplained()
    );
    story.promises.expect(fates.unexplained() == 0, format!("laws broken: {:?}", fates.broken()));
    for (name, _) in &story.cold {
        let told: Vec<_> = wakes.iter().filter(|wake| wake.service == *name).collect();
        let once = matches!(told[..], [wake] if wake.ready_ms.is_some());
        story.promises.expect(once, format!("the wakes of {name} are not one that ended ready: {told:?}"));
    }
    let failed = story.burst.iter().filter(|outcome| outcome.error.is_some()).count();
    let transit = story.transit.unwrap_or(Transit { queries: 0, answered: 0, payload_identical: false });
    Ok(json!({
        "driver": format!("{:?}", appliance.driver()),
        "cold": {
            "n": story.cold.len(),
            "curl_ms": story.cold.iter().map(|(_, times)| times.total_ms).collect::<Sample>().to_json(),
            "dns_ms": story.cold.iter().map(|(_, times)| times.name_ms).collect::<Sample>().to_json(),
            "dig_ms": story.cold_dig.to_json(),
            "wake_ms": wake.to_json(),
            "release_ms": release.to_json(),
        },
        "warm": { "n": story.warm.len(), "curl_ms": story.warm.to_json(), "dig_ms": story.warm_dig.to_json() },
        "burst": {
            "clients": story.burst.len(),
            "answered": story.burst.len() - failed,
            "failed": failed,
            "wakes": wakes_of(&appliance.show("services")?, "burst"),
            "syn_retransmits": story.syn_retransmits,
            "total_ms": story.burst.iter().map(|outcome| outcome.total_ms).collect::<Sample>().to_json(),
        },
        "transit_dns": {
            "queries": transit.queries,
            "answered": transit.answered,
            "payload_identical": transit.payload_identical,
        },
        "fates": { "received": fates.get("received"), "unexplained": fates.unexplained() },
    }))
}

/// How often a service was woken: the number of its latest wake.
fn wakes_of(services: &Value, name: &str) -> Option<u64> {
    edge::row(services, "services", name)?["wake"].as_u64()
}

fn beside_us(name: &str) -> Result<PathBuf, LabError> {
    let us = std::env::current_exe().map_err(|error| unreadable("our own path", error))?;
    let path = us.with_file_name(name);
    if path.exists() { Ok(path) } else { Err(unreadable("no such program", path.display())) }
}

fn write_summary(binary: &Path, summary: &Value) -> Result<PathBuf, LabError> {
    let folder = edge::target(binary).join("demo");
    std::fs::create_dir_all(&folder).map_err(file(&folder))?;
    let path = folder.join("summary.json");
    let text = serde_json::to_string_pretty(summary).map_err(|error| unreadable("summary", error))?;
    std::fs::write(&path, text + "\n").map_err(file(&path))?;
    Ok(path)
}
