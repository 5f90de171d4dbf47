//! Metrics of the content hub.

use millrace_hub_store::desk::{LegStatus, RuleStatus, SiteStatus, Status};

use super::{Kind, Labels, Page};

/// A figure of a site.
type OfSite = (&'static str, &'static str, fn(&SiteStatus) -> f64);

pub(super) fn hub(status: &Status, page: &mut Page) {
    for (name, help, value) in [
        ("budget_bytes", "Bytes that contents may take.", status.budget_bytes as f64),
        ("used_bytes", "Bytes that they take.", status.used_bytes as f64),
        ("ledger_behind", "Whether the ledger can't be written.", f64::from(u8::from(status.behind))),
    ] {
        page.family(Kind::Gauge, &format!("millrace_hub_{name}"), help, [(vec![], value)]);
    }
    let events = status.counters.iter().map(|(event, count)| (vec![("event", event.clone())], *count as f64));
    page.family(Kind::Counter, "millrace_hub_store_events", "What happened in the store, by kind.", events);
    sites(&status.sites, page);
    let rows = status.rules.iter().flat_map(|rule: &RuleStatus| {
        let label = ("rule", rule.rule.clone());
        rule.counters
            .iter()
            .map(move |(event, count)| (vec![label.clone(), ("event", event.clone())], *count as f64))
    });
    page.family(Kind::Counter, "millrace_hub_taken_in", "What came by the rules, by kind.", rows);
}

fn sites(all: &[SiteStatus], page: &mut Page) {
    let label = |site: &SiteStatus| ("site", site.site.clone());
    let counters: [OfSite; 3] = [
        ("nacks", "Requests for repairs.", |site| site.nacks as f64),
        ("acks", "Acknowledgements.", |site| site.acks as f64),
        ("feedback_bytes", "Bytes of both.", |site| site.feedback_bytes as f64),
    ];
    for (name, help, value) in counters {
        let samples = all.iter().map(|site| (vec![label(site)], value(site)));
        page.family(Kind::Counter, &format!("millrace_hub_site_{name}"), help, samples);
    }
    let grtt = all.iter().map(|site| (vec![label(site)], site.grtt_seconds));
    page.family(
        Kind::Gauge,
        "millrace_hub_site_grtt_seconds",
        "Greatest round-trip time of its nodes.",
        grtt,
    );
    let rates = all.iter().flat_map(|site| {
        let rates = site.bytes_per_second.iter();
        rates.map(|(node, rate)| (vec![label(site), ("node", node.to_string())], *rate))
    });
    page.family(
        Kind::Gauge,
        "millrace_hub_node_bytes_per_second",
        "First copies and repairs that a node is sent in a second, while it doesn't have everything.",
        rates,
    );
    // The trunk is what left the hub; a leg is what went to one node.
    for (name, help, of) in [
        ("packets", "Packets sent, by link and kind.", packets as fn(&LegStatus) -> [u64; 3]),
        ("bytes", "Bytes of NORM messages sent, by link and kind.", bytes),
    ] {
        let samples = all.iter().flat_map(|site| {
            let legs = site.legs.iter().map(|(node, leg)| (node.to_string(), leg));
            let links = std::iter::once(("trunk".to_owned(), &site.trunk)).chain(legs);
            links.flat_map(move |(link, leg)| {
                KINDS.into_iter().zip(of(leg)).map(move |(kind, value)| {
                    let labels: Labels<'_> =
                        vec![label(site), ("link", link.clone()), ("kind", kind.to_owned())];
                    (labels, value as f64)
                })
            })
        });
        page.family(Kind::Counter, &format!("millrace_hub_sent_{name}"), help, samples);
    }
    for (name, help, of) in [
        (
            "feedback_ignored",
            "Feedback that changed nothing, by reason.",
            (|site| &site.ignored) as fn(&SiteStatus) -> &std::collections::BTreeMap<String, u64>,
        ),
        ("unsent", "Packets that couldn't be sent, by reason.", |site| &site.unsent),
    ] {
        let samples = all.iter().flat_map(|site| {
            of(site)
                .iter()
                .map(move |(reason, count)| (vec![label(site), ("reason", reason.clone())], *count as f64))
        });
        page.family(Kind::Counter, &format!("millrace_hub_site_{name}"), help, samples);
    }
}

const KINDS: [&str; 3] = ["first", "repair", "control"];

fn packets(leg: &LegStatus) -> [u64; 3] {
    [leg.first_packets, leg.repair_packets, leg.control_packets]
}

fn bytes(leg: &LegStatus) -> [u64; 3] {
    [leg.first_bytes, leg.repair_bytes, leg.control_bytes]
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::super::Format;
    use super::*;

    #[test]
    fn each_link_and_reason_has_a_sample() {
        let leg =
            LegStatus { first_packets: 3, first_bytes: 4200, repair_packets: 1, ..LegStatus::default() };
        let site = SiteStatus {
            site: "house".to_owned(),
            trunk: leg,
            legs: BTreeMap::from([(7, leg)]),
            nacks: 2,
            bytes_per_second: BTreeMap::from([(7, 1250.5)]),
            ignored: BTreeMap::from([("stale".to_owned(), 5)]),
            unsent: BTreeMap::from([("too-long".to_owned(), 1)]),
            ..SiteStatus::default()
        };
        let rule = RuleStatus {
            rule: "bier-0".to_owned(),
            senders: 1,
            counters: BTreeMap::from([("taken".to_owned(), 4)]),
        };
        let status = Status {
            budget_bytes: 100,
            used_bytes: 10,
            behind: true,
            sends: true,
            contents: Vec::new(),
            rules: vec![rule],
            sites: vec![site],
            counters: BTreeMap::from([("disk_full".to_owned(), 6)]),
        };
        let mut page = Page { text: String::new(), format: Format::OpenMetrics };
        hub(&status, &mut page);
        for line in [
            "millrace_hub_used_bytes 10",
            "millrace_hub_ledger_behind 1",
            "millrace_hub_store_events_total{event=\"disk_full\"} 6",
            "millrace_hub_node_bytes_per_second{site=\"house\",node=\"7\"} 1250.5",
            "millrace_hub_site_nacks_total{site=\"house\"} 2",
            "millrace_hub_sent_packets_total{site=\"house\",link=\"trunk\",kind=\"first\"} 3",
            "millrace_hub_sent_bytes_total{site=\"house\",link=\"7\",kind=\"first\"} 4200",
            "millrace_hub_site_feedback_ignored_total{site=\"house\",reason=\"stale\"} 5",
            "millrace_hub_site_unsent_total{site=\"house\",reason=\"too-long\"} 1",
            "millrace_hub_taken_in_total{rule=\"bier-0\",event=\"taken\"} 4",
        ] {
            assert!(page.text.lines().any(|one| one == line), "{line}\n{}", page.text);
        }
    }
}
