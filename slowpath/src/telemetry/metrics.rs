//! OpenMetrics 1.0, written by hand: the same values as in the rows, so that a dashboard and an operator see the same.

mod hub;

use std::collections::{BTreeMap, HashSet};
use std::fmt::Write;

use serde_json::Value;

use super::collect::{Sources, counters};
use super::rows::{CheckRow, HandshakeRow, ServiceRow};
use millrace_orchestrator_api::LinkState;

/// How metrics are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    /// OpenMetrics 1.0.
    OpenMetrics,
    /// The text format that came before (0.0.4): a counter's family has the name of its sample.
    Text,
}

impl Format {
    /// The media type.
    pub(super) fn content_type(self) -> &'static str {
        match self {
            Format::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Format::Text => "text/plain; version=0.0.4; charset=utf-8",
        }
    }
}

/// All metrics.
pub(super) fn render(sources: &Sources, format: Format) -> String {
    let mut page = Page { text: String::new(), format };
    ports(sources, &mut page);
    workers(sources, &mut page);
    nodes(sources, &mut page);
    services(sources, &mut page);
    bier(sources, &mut page);
    if let Some(status) = sources.hub_totals() {
        hub::hub(&status, &mut page);
    }
    control(sources, &mut page);
    reloads(sources, &mut page);
    if format == Format::OpenMetrics {
        page.text.push_str("# EOF\n");
    }
    page.text
}

struct Page {
    text: String,
    format: Format,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Counter,
    Gauge,
}

type Labels<'a> = Vec<(&'a str, String)>;

impl Page {
    /// One family with its samples; `name` without the `_total` that counters' samples have.
    fn family<'a>(
        &mut self,
        kind: Kind,
        name: &str,
        help: &str,
        samples: impl IntoIterator<Item = (Labels<'a>, f64)>,
    ) {
        let sample = if kind == Kind::Counter { format!("{name}_total") } else { name.to_owned() };
        let family = if self.format == Format::Text { &sample } else { name };
        let word = if kind == Kind::Counter { "counter" } else { "gauge" };
        // Writing to a string can't fail.
        let _ = write!(self.text, "# HELP {family} {help}\n# TYPE {family} {word}\n");
        for (labels, value) in samples {
            self.text.push_str(&sample);
            for (at, (label, text)) in labels.iter().enumerate() {
                let before = if at == 0 { '{' } else { ',' };
                let _ = write!(self.text, "{before}{label}=\"{}\"", escape(text));
            }
            let end = if labels.is_empty() { "" } else { "}" };
            let _ = writeln!(self.text, "{end} {value}");
        }
    }
}

fn escape(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

fn ports(sources: &Sources, page: &mut Page) {
    let ports = sources.ports();
    let label = |name: &str| vec![("port", name.to_owned())];
    let up = ports.iter().map(|port| (label(&port.name), f64::from(u8::from(port.up))));
    page.family(Kind::Gauge, "millrace_port_up", "Whether the port's link is up.", up);
    let free = ports.iter().map(|port| (label(&port.name), port.pool_free as f64));
    page.family(
        Kind::Gauge,
        "millrace_port_pool_free_frames",
        "Free frames in the pool that the port receives into.",
        free,
    );
    for (name, help, value) in [
        (
            "rx_packets",
            "Frames received, by the device's count.",
            (|port| port.rx_packets) as fn(&super::rows::PortRow) -> u64,
        ),
        ("rx_bytes", "Bytes received.", |port| port.rx_bytes),
        ("rx_missed", "Frames that came while no descriptor was free.", |port| port.rx_missed),
        ("rx_errors", "Frames that came broken.", |port| port.rx_errors),
        ("rx_no_buffer", "Frames lost because the pool was empty.", |port| port.rx_no_buffer),
        ("tx_packets", "Frames sent.", |port| port.tx_packets),
        ("tx_bytes", "Bytes sent.", |port| port.tx_bytes),
        ("tx_errors", "Frames that the device couldn't send.", |port| port.tx_errors),
    ] {
        let samples = ports.iter().map(|port| (label(&port.name), value(port) as f64));
        page.family(Kind::Counter, &format!("millrace_port_{name}"), help, samples);
    }
}

fn workers(sources: &Sources, page: &mut Page) {
    let report = sources.workers();
    let label = |worker: usize| ("worker", worker.to_string());
    let rows = || report.workers.iter();
    let idle = rows().map(|row| (vec![label(row.worker)], row.idle_share));
    page.family(
        Kind::Gauge,
        "millrace_worker_idle_share",
        "Polls that found nothing, as a share of all.",
        idle,
    );
    let generation = rows().filter_map(|row| Some((vec![label(row.worker)], row.generation? as f64)));
    page.family(
        Kind::Gauge,
        "millrace_worker_generation",
        "Generation of the tables that the worker works by.",
        generation,
    );
    let flows = rows().map(|row| (vec![label(row.worker)], row.flows as f64));
    page.family(Kind::Gauge, "millrace_worker_flows", "Flows that the worker knows.", flows);
    let held = rows().map(|row| (vec![label(row.worker)], row.fates.still_held as f64));
    page.family(Kind::Gauge, "millrace_worker_held_packets", "Packets in holds.", held);
    let unexplained = [(vec![], report.unexplained as f64)];
    page.family(
        Kind::Gauge,
        "millrace_unexplained_frames",
        "Frames that no law of fates explains; 0, or there is a bug.",
        unexplained,
    );
    for (name, help, value) in [
        (
            "flows_evicted",
            "Flows that had to make room.",
            (|row| row.flows_evicted) as fn(&super::rows::WorkerRow) -> u64,
        ),
        ("flows_by_id", "Flows begun by what a QUIC connection id says.", |row| row.flows_by_id),
        ("flows_refused", "Flows that found no room beside established ones.", |row| row.flows_refused),
        (
            "fragments_evicted",
            "Fragmented packets forgotten before their time.",
            (|row| row.fragments_evicted),
        ),
        (
            "triples_evicted",
            "Triples of the trigger flow forgotten before their time.",
            (|row| row.triples_evicted),
        ),
        ("injects_lost", "Frames of the control thread that found no buffer.", |row| row.injects_lost),
        ("events_lost", "Messages to the control thread that found the queue full.", |row| row.events_lost),
        ("wakes_limited", "Wakes that the limit refused.", |row| row.wakes_limited),
        ("errors_sent", "ICMP errors sent about packets that were refused.", |row| row.errors_sent),
        ("errors_limited", "ICMP errors that the limit left unsent.", |row| row.errors_limited),
        (
            "responses_slipped",
            "Answers sent truncated to a prefix that had its share.",
            (|row| row.responses_slipped),
        ),
        ("limits_evicted", "Prefixes forgotten before their time.", |row| row.limits_evicted),
    ] {
        let samples = rows().map(|row| (vec![label(row.worker)], value(row) as f64));
        page.family(Kind::Counter, &format!("millrace_worker_{name}"), help, samples);
    }
    let refused = rows().flat_map(|row| {
        row.holds_refused
            .iter()
            .map(move |(reason, count)| (vec![label(row.worker), ("reason", reason.clone())], *count as f64))
    });
    page.family(
        Kind::Counter,
        "millrace_worker_holds_refused",
        "Packets that couldn't be held, by reason.",
        refused,
    );
    // The fates are a flat struct of numbers, whose field names are the labels.
    let fates = rows().flat_map(|row| {
        let fates = serde_json::to_value(row.fates).ok();
        let fields = fates.as_ref().and_then(Value::as_object).cloned().unwrap_or_default();
        fields.into_iter().filter(|(fate, _)| fate != "still_held").filter_map(move |(fate, value)| {
            Some((vec![label(row.worker), ("fate", fate)], value.as_u64()? as f64))
        })
    });
    page.family(Kind::Counter, "millrace_worker_frames", "Frames by what became of them.", fates);
}

fn nodes(sources: &Sources, page: &mut Page) {
    let nodes = sources.nodes();
    let label = |name: &str| ("node", name.to_owned());
    for (name, help, value) in [
        ("frames", "Frames that came into the node.", (|row| row.frames) as fn(&super::rows::NodeRow) -> u64),
        ("vectors", "Vectors that they came in.", |row| row.vectors),
        ("cycles", "Cycles spent on them.", |row| row.cycles),
    ] {
        let samples = nodes.iter().map(|row| (vec![label(&row.node)], value(row) as f64));
        page.family(Kind::Counter, &format!("millrace_node_{name}"), help, samples);
    }
    let drops = nodes.iter().flat_map(|row| {
        row.drops
            .iter()
            .map(|(reason, count)| (vec![label(&row.node), ("reason", reason.clone())], *count as f64))
    });
    page.family(Kind::Counter, "millrace_node_drops", "Frames dropped, by reason.", drops);
}

fn services(sources: &Sources, page: &mut Page) {
    let services = sources.services();
    let label = |name: &str| ("service", name.to_owned());
    let phases = services.iter().flat_map(|row| {
        PHASES.iter().map(|phase| {
            (vec![label(&row.name), ("phase", (*phase).to_owned())], f64::from(u8::from(row.phase == *phase)))
        })
    });
    page.family(Kind::Gauge, "millrace_service_phase", "1 for the phase that the service is in.", phases);
    for (name, help, value) in [
        ("flows", "Flows of the service.", (|row| row.flows) as fn(&ServiceRow) -> u64),
        ("held_packets", "Packets held for the service.", |row| row.held),
        ("instances", "Instances and backends of the service.", |row| row.instances.len() as u64),
        ("strikes", "Wakes in a row that led to nothing.", |row| u64::from(row.strikes)),
        (
            "escalation",
            "What strikes ask of the next first packet: 0 nothing, 1 a repetition, 2 a cookie's answer.",
            |row| u64::from(row.escalation),
        ),
    ] {
        let samples = services.iter().map(|row| (vec![label(&row.name)], value(row) as f64));
        page.family(Kind::Gauge, &format!("millrace_service_{name}"), help, samples);
    }
    for (name, help, value) in [
        ("flows_begun", "Flows begun.", (|row| row.flows_begun) as fn(&ServiceRow) -> u64),
        ("flows_established", "Flows whose handshake was completed.", |row| row.flows_established),
        ("arrivals", "Triples that the trigger flow took for new.", |row| row.arrivals),
        ("wakes", "Wakes begun.", |row| row.wake),
        ("overflowed", "Packets that took the overflow action.", |row| row.overflowed),
    ] {
        let samples = services.iter().map(|row| (vec![label(&row.name)], value(row) as f64));
        page.family(Kind::Counter, &format!("millrace_service_{name}"), help, samples);
    }
    health(&services, page);
}

fn health(services: &[ServiceRow], page: &mut Page) {
    let panics = services.iter().map(|row| (vec![("service", row.name.clone())], row.panics as f64));
    page.family(
        Kind::Counter,
        "millrace_service_panics",
        "Times that handshakes failed everywhere, so that all instances were used.",
        panics,
    );
    // Instances on one node may share what is probed.
    let mut named = HashSet::new();
    let checks: Vec<(Labels<'_>, &CheckRow)> = services
        .iter()
        .flat_map(|row| row.instances.iter().flat_map(|instance| &instance.checks).map(move |one| (row, one)))
        .filter(|(row, check)| named.insert((&row.name, &check.address, check.port)))
        .map(|(row, check)| {
            let address = ("address", check.address.clone());
            (vec![("service", row.name.clone()), address, ("port", check.port.to_string())], check)
        })
        .collect();
    let up = checks.iter().map(|(labels, check)| (labels.clone(), f64::from(u8::from(check.state == "up"))));
    page.family(Kind::Gauge, "millrace_check_up", "Whether the probed address is up.", up);
    for (name, help, value) in [
        ("probes", "Probes of the address.", (|check| check.probes) as fn(&CheckRow) -> u64),
        ("failures", "Probes of it that failed.", |check| check.failures),
    ] {
        let samples = checks.iter().map(|(labels, check)| (labels.clone(), value(check) as f64));
        page.family(Kind::Counter, &format!("millrace_check_{name}"), help, samples);
    }
    let watched = handshakes(services);
    let ejected = watched
        .iter()
        .map(|(labels, one)| (labels.clone(), f64::from(u8::from(one.ejected_seconds.is_some()))));
    page.family(
        Kind::Gauge,
        "millrace_instance_ejected",
        "Whether the instance is left out because its handshakes fail.",
        ejected,
    );
    for (name, help, value) in [
        (
            "handshakes_begun",
            "Handshakes of clients with the instance.",
            (|one| one.begun) as fn(&HandshakeRow) -> u64,
        ),
        ("handshakes_answered", "Handshakes that the instance accepted.", |one| one.answered),
        ("handshakes_refused", "Handshakes that it refused, or that couldn't reach it.", |one| one.refused),
        ("handshakes_unanswered", "Handshakes that nothing came back to.", |one| one.unanswered),
        ("ejections", "Times that the instance was left out.", |one| one.ejections),
    ] {
        let samples = watched.iter().map(|(labels, one)| (labels.clone(), value(one) as f64));
        page.family(Kind::Counter, &format!("millrace_instance_{name}"), help, samples);
    }
}

/// By instance. Those of a function may be on one node, and differ by their port; while one takes another's place, both may
/// be at the same, and are told as one.
fn handshakes(services: &[ServiceRow]) -> Vec<(Labels<'static>, HandshakeRow)> {
    let mut places = BTreeMap::new();
    for row in services {
        for instance in &row.instances {
            let Some(one) = &instance.handshakes else { continue };
            let place = (&row.name, instance.addresses.join(" "), instance.port);
            let sum: &mut HandshakeRow = places.entry(place).or_default();
            sum.begun += one.begun;
            sum.answered += one.answered;
            sum.refused += one.refused;
            sum.unanswered += one.unanswered;
            sum.ejections += one.ejections;
            sum.ejected_seconds = sum.ejected_seconds.or(one.ejected_seconds);
        }
    }
    let labels = |(service, addresses, port): (&String, String, u16)| {
        vec![("service", service.clone()), ("instance", addresses), ("port", port.to_string())]
    };
    places.into_iter().map(|(place, sum)| (labels(place), sum)).collect()
}

fn bier(sources: &Sources, page: &mut Page) {
    let report = sources.bier_tables();
    // Two interfaces that are gone can't be told apart.
    let named = report.counters.copies.iter().filter(|row| !row.interface.is_empty());
    let copies = named.map(|row| {
        let link = [
            ("interface", &row.interface),
            ("neighbour", &row.address),
            ("encapsulation", &row.encapsulation),
        ];
        (link.map(|(label, text)| (label, text.clone())).into(), row.copies as f64)
    });
    page.family(Kind::Counter, "millrace_bier_copies", "Copies given to ports, by link.", copies);
    // The tables that entropy chooses between are one to this; receivers would be too many for a label.
    let first = report.bift.iter().filter(|row| row.table == 0);
    let packets = first.filter_map(|row| {
        let table = [("subdomain", row.subdomain.to_string()), ("si", row.si.to_string())];
        Some((table.into(), row.packets? as f64))
    });
    page.family(Kind::Counter, "millrace_bier_packets", "Packets by table: sub-domain and set.", packets);
    let punted = [(Vec::new(), report.counters.punted as f64)];
    page.family(Kind::Counter, "millrace_bier_punted", "Packets shown to the control thread.", punted);
    let lost = &report.counters.lost;
    let lost = lost.iter().map(|(reason, count)| (vec![("reason", reason.clone())], *count as f64));
    page.family(Kind::Counter, "millrace_bier_lost", "Copies that weren't made, by reason.", lost);
}

fn control(sources: &Sources, page: &mut Page) {
    // Without the control loop there is nothing to say of it; the gap is what a dashboard should show.
    let Some(status) = sources.asker.status() else { return };
    for (name, help, value) in [
        (
            "millrace_link_up",
            "Whether the orchestrator is there.",
            f64::from(u8::from(status.link == LinkState::Up)),
        ),
        (
            "millrace_placement_generation",
            "Generation of the placement in the tables.",
            status.placement.0 as f64,
        ),
        ("millrace_neighbours", "Neighbours known or looked for.", status.neighbours_len as f64),
        (
            "millrace_neighbour_waiting_packets",
            "Packets that wait for neighbours.",
            status.neighbours_parked as f64,
        ),
    ] {
        page.family(Kind::Gauge, name, help, [(vec![], value)]);
    }
    for (name, value) in counters(&status) {
        let help = format!("Control thread: {}.", name.replace('_', " "));
        page.family(Kind::Counter, &format!("millrace_control_{name}"), &help, [(vec![], value as f64)]);
    }
}

fn reloads(sources: &Sources, page: &mut Page) {
    let Ok(config) = sources.config() else { return };
    let reloads = [("applied", config.reloads_applied), ("refused", config.reloads_refused)]
        .map(|(outcome, count)| (vec![("outcome", outcome.to_owned())], count as f64));
    page.family(Kind::Counter, "millrace_config_reloads", "Reloads of the configuration.", reloads);
    let successful = f64::from(u8::from(config.refusal.is_empty()));
    for (name, help, value) in [
        ("last_reload_successful", "Whether the last reload was carried out.", successful),
        (
            "loaded_timestamp_seconds",
            "When the configuration that runs was read.",
            config.loaded_unix_seconds as f64,
        ),
    ] {
        page.family(Kind::Gauge, &format!("millrace_config_{name}"), help, [(vec![], value)]);
    }
}

const PHASES: [&str; 7] = ["cold", "waking", "ready", "draining", "quarantined", "bypass", "down"];
