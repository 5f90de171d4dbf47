//! BIER ping: the request is handed to the control loop, and the replies are waited for here.

use std::collections::HashSet;
use std::net::IpAddr;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use millrace_bier::bits::BitString;
use millrace_bier::id::{BfrId, SubDomain};
use millrace_bier::oam::{Downstream, Interface, Mapping, ReplyMode, ReturnCode, SetBits, SubTlv};
use millrace_config::model::BfrIds;

use super::{CollectError, Sources};
use crate::oam::{Asked, Question, REPLIES_MAX, Reply, Way};
use crate::telemetry::rows::*;

impl Sources {
    /// `bier ping`, and each hop of `bier trace`.
    ///
    /// # Errors
    /// The request can't be sent.
    pub fn echo(&self, request: &EchoRequest) -> Result<EchoReport, CollectError> {
        let wanted = ids(&request.bfr_ids)?;
        let target = request.target.as_deref().map(ids).transpose()?;
        let patience = Duration::from_millis(request.timeout_ms.min(ECHO_MS_MAX).into());
        let sub_domain = SubDomain(request.subdomain);
        let bsl = self.bsl_of(sub_domain);
        let known = |ways: &Vec<EchoWayRow>| {
            ways.iter().flat_map(|way| mappings(way, sub_domain, bsl)).collect::<Vec<_>>()
        };
        let (sender, replies) = mpsc::sync_channel(REPLIES_MAX);
        let begun = Instant::now();
        let question = Question {
            sub_domain,
            ids: wanted.clone(),
            target: target.clone(),
            entropy: request.entropy & 0xf_ffff,
            ttl: request.ttl.max(1),
            reply_mode: match request.reply {
                ReplyBy::Bier => ReplyMode::Bier,
                ReplyBy::Udp => ReplyMode::Udp,
            },
            sequence: request.sequence,
            mappings: request.ways.as_ref().map(known),
            patience,
            replies: sender,
        };
        let asked = self.asker.echo(question).ok_or(CollectError::NoControl)??;
        let mut waited = Waited::new(request, target.as_ref().unwrap_or(&wanted), &asked);
        let until = begun + patience;
        while !waited.is_over()
            && let Some(rest) = until.checked_duration_since(Instant::now())
        {
            match replies.recv_timeout(rest) {
                Ok(reply) => waited.take(reply),
                Err(_) => break,
            }
        }
        let local = asked.ways.iter().any(|ways| ways.local);
        let ways = asked.ways.iter().flat_map(|ways| &ways.ways).map(way_row).collect();
        let Waited { missing, rows, .. } = waited;
        Ok(EchoReport {
            sequence: request.sequence,
            ways,
            local,
            replies: rows,
            missing: BfrIds::from_iter(missing).to_string(),
        })
    }

    fn bsl_of(&self, sub_domain: SubDomain) -> Option<millrace_bier::id::Bsl> {
        let tables = self.shared.tables();
        let table = tables.bier.as_ref()?.plane.iter().find(|one| one.key().sub_domain == sub_domain)?;
        Some(table.key().bsl)
    }
}

/// The replies so far, and whom we still wait for.
struct Waited {
    /// In order.
    missing: Vec<BfrId>,
    /// Routers that hadn't replied before, if it is those that count: how many are wanted, and those that had or have.
    new: Option<(usize, HashSet<String>)>,
    rows: Vec<EchoReplyRow>,
}

impl Waited {
    fn new(request: &EchoRequest, wanted: &[BfrId], asked: &Asked) -> Self {
        let first = || {
            let locals = asked.ways.iter().filter(|ways| ways.local).count();
            neighbours(asked.ways.iter().flat_map(|ways| &ways.ways).map(|way| way.prefix)) + locals
        };
        let new = match &request.until {
            EchoUntil::All => None,
            EchoUntil::New { count, seen } => {
                Some((count.unwrap_or_else(first), seen.iter().cloned().collect()))
            }
        };
        Self { missing: wanted.to_vec(), new, rows: Vec::new() }
    }

    fn take(&mut self, reply: Reply) {
        let arrived = matches!(reply.code, ReturnCode::OnlyBfer | ReturnCode::OneBfer);
        if arrived {
            self.missing.retain(|one| !reply.bfers.contains(one));
        }
        let row = reply_row(reply);
        if let Some((left, seen)) = &mut self.new
            && seen.insert(name(&row))
        {
            *left = left.saturating_sub(1);
        }
        self.rows.push(row);
    }

    fn is_over(&self) -> bool {
        match &self.new {
            None => self.missing.is_empty(),
            Some((left, _)) => *left == 0,
        }
    }
}

/// How many different ones there are: several copies may go to one router.
pub(in crate::telemetry) fn neighbours<T: Eq + std::hash::Hash>(all: impl Iterator<Item = T>) -> usize {
    all.collect::<HashSet<_>>().len()
}

/// What a router goes by.
pub(in crate::telemetry) fn name(row: &EchoReplyRow) -> String {
    let number = || row.bfr_id.map(|id| id.to_string());
    row.prefix.clone().or_else(number).unwrap_or_default()
}

fn ids(text: &str) -> Result<Vec<BfrId>, CollectError> {
    text.parse::<BfrIds>().map(|ids| ids.iter().collect()).map_err(|_| CollectError::BfrIds)
}

fn reply_row(reply: Reply) -> EchoReplyRow {
    EchoReplyRow {
        bfr_id: reply.bfers.first().copied().map(BfrId::get),
        hosts: BfrIds::from_iter(reply.bfers.iter().skip(1).copied()).to_string(),
        prefix: reply.bfr.map(|prefix| prefix.to_string()),
        code: reply.code.into(),
        result: words(reply.code),
        rtt_ms: reply.nanos as f64 / 1e6,
        by: if reply.by == ReplyMode::Udp { "udp" } else { "bier" }.to_owned(),
        ingress: reply.ingress.map(|interface| match interface {
            Interface::V4(address) => address.to_string(),
            Interface::V6(address) => address.to_string(),
            Interface::V4Unnumbered(index) | Interface::V6LinkLocal(index) => index.to_string(),
        }),
        incoming: reply.incoming.as_ref().map(set_text),
        ways: reply.mappings.iter().map(mapping_row).collect(),
        pointer: reply.pointer,
    }
}

fn words(code: ReturnCode) -> String {
    match code {
        ReturnCode::None => "says nothing",
        ReturnCode::Malformed => "finds the request malformed",
        ReturnCode::UnsupportedTlv => "doesn't know a part of the request",
        ReturnCode::OnlyBfer => "the only receiver",
        ReturnCode::OneBfer => "one of the receivers",
        ReturnCode::Forwarded => "passes it on",
        ReturnCode::InvalidMultipath => "can't tell the ways to several receivers",
        ReturnCode::NoEntry => "has no way to any receiver",
        ReturnCode::SetMismatch => "has another set by this BIFT-id",
        ReturnCode::MappingMismatch => "got other receivers than the router before said",
        ReturnCode::Other(code) => return format!("code {code}"),
    }
    .to_owned()
}

fn set_text(set: &SetBits) -> String {
    BfrIds::from_iter(crate::oam::ids(set.key, set.bits.words())).to_string()
}

fn way_row(way: &Way) -> EchoWayRow {
    EchoWayRow {
        neighbour: way.prefix.to_string(),
        address: way.link.map(|(address, _)| address.to_string()),
        index: way.link.map_or(0, |(_, index)| index),
        mtu_bytes: way.mtu,
        bfr_ids: set_text(&way.set),
    }
}

fn mapping_row(mapping: &Mapping) -> EchoWayRow {
    let (address, index) = match mapping.downstream {
        Downstream::V4 { interface, .. } => (Some(interface.to_string()), 0),
        Downstream::V6 { interface, .. } => (Some(interface.to_string()), 0),
        Downstream::V4Unnumbered { index, .. } | Downstream::V6LinkLocal { index, .. } => (None, index),
    };
    EchoWayRow {
        neighbour: mapping.downstream.prefix().to_string(),
        address,
        index,
        mtu_bytes: mapping.mtu,
        bfr_ids: mapping.egress().map(set_text).unwrap_or_default(),
    }
}

/// What a row says, as a request repeats it: one for each set.
fn mappings(row: &EchoWayRow, sub_domain: SubDomain, bsl: Option<millrace_bier::id::Bsl>) -> Vec<Mapping> {
    let address = row.address.as_ref().and_then(|address| address.parse::<IpAddr>().ok());
    let downstream = match (row.neighbour.parse::<IpAddr>(), address) {
        (Ok(IpAddr::V4(prefix)), Some(IpAddr::V4(interface))) => Downstream::V4 { prefix, interface },
        (Ok(IpAddr::V4(prefix)), _) => Downstream::V4Unnumbered { prefix, index: row.index },
        (Ok(IpAddr::V6(prefix)), Some(IpAddr::V6(interface))) => Downstream::V6 { prefix, interface },
        (Ok(IpAddr::V6(prefix)), _) => Downstream::V6LinkLocal { prefix, index: row.index },
        (Err(_), _) => return Vec::new(),
    };
    let (Ok(ids), Some(bsl)) = (ids(&row.bfr_ids), bsl) else { return Vec::new() };
    let sets = millrace_bier::overlay::Receivers::new(ids).sets(bsl);
    let egress = |(si, bits): (millrace_bier::id::Si, BitString)| {
        let set = SetBits::new(millrace_bier::id::BiftKey { sub_domain, si, bsl }, bits);
        Mapping { mtu: 0, wants_incoming: true, downstream, sub_tlvs: vec![SubTlv::Egress(set)] }
    };
    sets.into_iter().map(egress).collect()
}

/// The longest wait for replies, in milliseconds.
pub const ECHO_MS_MAX: u32 = 60_000;
