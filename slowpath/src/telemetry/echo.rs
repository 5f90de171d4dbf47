//! The course of a ping and of a trace, from report to report: what is asked next, and what came of it all. No I/O.

use std::collections::BTreeMap;

use millrace_bier::id::BfrId;
use millrace_config::model::BfrIds;
use serde::Serialize;

use super::collect::{name, neighbours};
use super::rows::*;

/// What one router answered to a ping.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Answered {
    /// Requests that were sent to it.
    pub sent: u32,
    /// Those that it said had arrived.
    pub answered: u32,
    /// The shortest time, in milliseconds; of those that were answered, as the next two.
    pub min_ms: f64,
    /// The mean.
    pub mean_ms: f64,
    /// The longest.
    pub max_ms: f64,
}

/// A ping: every receiver, again and again.
#[derive(Debug, Serialize)]
pub struct Ping {
    /// What came of each request.
    pub reports: Vec<EchoReport>,
    /// By BFR-id.
    pub routers: BTreeMap<u16, Answered>,
}

impl Ping {
    /// A ping of these routers.
    pub fn new(ids: &BfrIds) -> Self {
        Self { reports: Vec::new(), routers: ids.iter().map(|id| (id.get(), Answered::default())).collect() }
    }

    /// Takes what came of a request.
    pub fn take(&mut self, report: EchoReport) {
        for one in self.routers.values_mut() {
            one.sent += 1;
        }
        let missing: Vec<u16> = numbers(&report.missing);
        for (id, one) in self.routers.iter_mut().filter(|(id, _)| !missing.contains(id)) {
            let is_for_it =
                |reply: &&EchoReplyRow| reply.bfr_id == Some(*id) || numbers(&reply.hosts).contains(id);
            let Some(reply) = report.replies.iter().find(is_for_it) else { continue };
            let ms = reply.rtt_ms;
            one.min_ms = if one.answered == 0 { ms } else { one.min_ms.min(ms) };
            one.max_ms = one.max_ms.max(ms);
            one.mean_ms += (ms - one.mean_ms) / f64::from(one.answered + 1);
            one.answered += 1;
        }
        self.reports.push(report);
    }

    /// Whether every router has answered every request, and there was one.
    pub fn is_whole(&self) -> bool {
        !self.reports.is_empty() && self.routers.values().all(|one| one.answered == one.sent)
    }
}

/// The routers that replied for the first time at a distance.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Hop {
    /// Hops from us.
    pub ttl: u8,
    /// Their replies.
    pub replies: Vec<EchoReplyRow>,
    /// Routers that should have replied, as far as those before told, and didn't.
    pub silent: usize,
}

/// A trace: one hop further each time, until all receivers have replied.
#[derive(Debug, Serialize)]
pub struct Hops {
    /// So far.
    pub hops: Vec<Hop>,
    /// Where we sent the first request.
    pub ways: Vec<EchoWayRow>,
    /// The receivers that haven't replied yet.
    #[serde(serialize_with = "as_text")]
    pub missing: BfrIds,
    #[serde(skip)]
    request: EchoRequest,
    #[serde(skip)]
    hops_max: u8,
}

impl Hops {
    /// A trace to the routers of this request, of which everything but the hops holds for all.
    pub fn new(ids: BfrIds, request: EchoRequest, hops_max: u8) -> Self {
        let until = EchoUntil::New { count: None, seen: Vec::new() };
        let request = EchoRequest { ttl: 1, sequence: 1, ways: Some(Vec::new()), until, ..request };
        Self { hops: Vec::new(), ways: Vec::new(), missing: ids, request, hops_max }
    }

    /// What to ask next; `None` when there is no more to be found out.
    pub fn next(&self) -> Option<EchoRequest> {
        let silent = self.hops.iter().rev().take_while(|hop| hop.replies.is_empty()).count();
        let goes_on = self.hops.len() < usize::from(self.hops_max) && silent < SILENT_MAX;
        (goes_on && self.missing.iter().next().is_some()).then(|| {
            let target = Some(self.missing.to_string());
            EchoRequest { target, ..self.request.clone() }
        })
    }

    /// Takes what came of it.
    pub fn take(&mut self, report: EchoReport) -> &Hop {
        let EchoUntil::New { count, seen } = &mut self.request.until else {
            unreachable!("a trace waits for new routers")
        };
        if self.hops.is_empty() {
            self.ways.clone_from(&report.ways);
        }
        let to = |ways: &[EchoWayRow]| neighbours(ways.iter().map(|way| way.neighbour.clone()));
        let expected = count.unwrap_or_else(|| to(&report.ways) + usize::from(report.local));
        let mut fresh = Vec::new();
        for reply in report.replies {
            if !seen.contains(&name(&reply)) {
                seen.push(name(&reply));
                fresh.push(reply);
            }
        }
        let still = numbers(&report.missing);
        self.missing = self.missing.iter().filter(|id| still.contains(&id.get())).collect();
        let ways: Vec<EchoWayRow> = fresh.iter().flat_map(|reply| reply.ways.clone()).collect();
        // Behind silent routers somebody may be whom nobody tells of.
        let untold = ways.is_empty() && self.missing.iter().next().is_some();
        *count = Some(if untold { self.missing.iter().count() } else { to(&ways) });
        if !ways.is_empty() {
            self.request.ways = Some(ways);
        }
        let silent = expected.saturating_sub(fresh.len());
        self.hops.push(Hop { ttl: self.request.ttl, replies: fresh, silent });
        self.request.ttl = self.request.ttl.saturating_add(1);
        self.request.sequence += 1;
        self.hops.last().expect("it was just put there")
    }
}

fn numbers(ids: &str) -> Vec<u16> {
    ids.parse::<BfrIds>().map(|ids| ids.iter().map(BfrId::get).collect()).unwrap_or_default()
}

fn as_text<S: serde::Serializer>(ids: &BfrIds, to: S) -> Result<S::Ok, S::Error> {
    to.collect_str(ids)
}

/// Hops at which nobody replies, one after the other, before a trace gives up.
const SILENT_MAX: usize = 3;

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(text: &str) -> BfrIds {
        text.parse().unwrap()
    }

    fn reply(prefix: &str, bfr_id: Option<u16>, code: u8, ways: &[(&str, &str)]) -> EchoReplyRow {
        let way = |(neighbour, ids): &(&str, &str)| EchoWayRow {
            neighbour: (*neighbour).to_owned(),
            bfr_ids: (*ids).to_owned(),
            ..EchoWayRow::default()
        };
        let ways = ways.iter().map(way).collect();
        EchoReplyRow {
            prefix: Some(prefix.to_owned()),
            bfr_id,
            code,
            ways,
            rtt_ms: 2.0,
            ..Default::default()
        }
    }

    fn report(sequence: u32, replies: Vec<EchoReplyRow>, missing: &str) -> EchoReport {
        EchoReport { sequence, replies, missing: missing.to_owned(), ..EchoReport::default() }
    }

    fn request() -> EchoRequest {
        EchoRequest {
            subdomain: 0,
            bfr_ids: "2,3".to_owned(),
            target: None,
            entropy: 0,
            ttl: 255,
            reply: ReplyBy::Bier,
            sequence: 1,
            timeout_ms: 100,
            ways: None,
            until: EchoUntil::All,
        }
    }

    /// An access switch answers for its hosts, in one reply.
    #[test]
    fn a_reply_counts_for_all_whom_it_names() {
        let mut ping = Ping::new(&"66,68,69,70".parse().unwrap());
        let switch = EchoReplyRow { hosts: "68-69".to_owned(), ..reply("switch", Some(66), 3, &[]) };
        let text = crate::telemetry::render_echo(&report(1, vec![switch.clone()], "70"));
        assert!(text.starts_with("seq 1: 66,68-69 switch 2.000 ms"), "{text}");
        ping.take(report(1, vec![switch], "70"));
        let answered: Vec<_> = ping.routers.values().map(|one| one.answered).collect();
        assert_eq!((answered, ping.is_whole()), (vec![1, 1, 1, 0], false));
    }

    #[test]
    fn a_ping_counts_each_router_apart() {
        let mut ping = Ping::new(&ids("2,3"));
        assert!(!ping.is_whole(), "nothing was asked");
        ping.take(report(1, vec![reply("p2", Some(2), 3, &[]), reply("p3", Some(3), 3, &[])], ""));
        assert!(ping.is_whole());
        let late = EchoReplyRow { rtt_ms: 4.0, ..reply("p2", Some(2), 3, &[]) };
        ping.take(report(2, vec![late], "3"));
        let [two, three] = [2, 3].map(|id| ping.routers[&id]);
        assert_eq!((two.sent, two.answered, two.min_ms, two.mean_ms, two.max_ms), (2, 2, 2.0, 3.0, 4.0));
        assert_eq!((three.sent, three.answered), (2, 1));
        assert!(!ping.is_whole());
    }

    /// Router 2 passes packets on to 3: it replies each time, and counts once.
    #[test]
    fn a_trace_goes_on_until_all_receivers_have_replied() {
        let mut hops = Hops::new(ids("2,3"), request(), 16);
        let first = hops.next().unwrap();
        assert_eq!((first.ttl, first.target.as_deref(), first.ways), (1, Some("2,3"), Some(vec![])));
        let two = reply("p2", Some(2), 4, &[("p3", "3")]);
        let hop = hops.take(EchoReport { ways: two.ways.clone(), ..report(1, vec![two.clone()], "3") });
        assert_eq!((hop.ttl, hop.replies.len(), hop.silent), (1, 1, 0));
        let second = hops.next().unwrap();
        assert_eq!(
            (second.ttl, second.target.as_deref(), second.ways),
            (2, Some("3"), Some(two.ways.clone()))
        );
        assert_eq!(second.until, EchoUntil::New { count: Some(1), seen: vec!["p2".to_owned()] });
        let hop = hops.take(report(2, vec![two, reply("p3", Some(3), 3, &[])], ""));
        assert_eq!((hop.ttl, hop.replies.len(), hop.silent), (2, 1, 0));
        assert_eq!(hops.next(), None);
        assert_eq!(hops.missing.to_string(), "");
    }

    /// Where bits stand for adjacencies several copies may go to one router, which replies to the first that comes.
    #[test]
    fn a_router_that_gets_several_copies_is_waited_for_once() {
        let mut hops = Hops::new(ids("7"), request(), 16);
        let one = reply("p2", None, 5, &[("p3", "3,7"), ("p3", "4,7"), ("p4", "7")]);
        let ways = [("p2", "1,7"), ("p2", "2,7")].map(|(neighbour, ids)| EchoWayRow {
            neighbour: neighbour.to_owned(),
            bfr_ids: ids.to_owned(),
            ..EchoWayRow::default()
        });
        let hop = hops.take(EchoReport { ways: ways.into(), ..report(1, vec![one], "7") });
        assert_eq!(hop.silent, 0);
        let EchoUntil::New { count, .. } = hops.next().unwrap().until else {
            panic!("it waits for new ones")
        };
        assert_eq!(count, Some(2));
    }

    #[test]
    fn a_trace_gives_up_where_nobody_replies() {
        let mut hops = Hops::new(ids("3"), request(), 16);
        hops.take(report(1, vec![reply("p2", None, 5, &[("p3", "3")])], "3"));
        for ttl in 2..5 {
            assert_eq!(hops.next().unwrap().ttl, ttl);
            assert_eq!(hops.take(report(ttl.into(), vec![], "3")).silent, 1);
        }
        assert_eq!(hops.next(), None);
        assert_eq!(hops.missing.to_string(), "3");
        let mut short = Hops::new(ids("3"), request(), 1);
        short.take(report(1, vec![reply("p2", None, 5, &[("p3", "3")])], "3"));
        assert_eq!(short.next(), None, "so far and no further");
    }
}
