//! What our operators ask, and who waits for the replies (sections 4.3 and 4.6).

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::mpsc::{SyncSender, TrySendError};
use std::time::Duration;

use millrace_bier::id::{BfrId, BiftKey, Bsl, SubDomain};
use millrace_bier::oam::{Echo, Interface, Mapping, ReplyMode, ReturnCode, SetBits, Tlv};
use millrace_bier::overlay::Receivers;
use millrace_fastpath::clock::Nanos;

use super::{OamContext, Outgoing, Ways, back, bier_packet, bits_of, room};

/// What is asked, of whom, and who waits for it.
#[derive(Debug)]
pub struct Question {
    /// The sub-domain.
    pub sub_domain: SubDomain,
    /// The routers that the packet is for. Where bits stand for adjacencies: the bits of its tree.
    pub ids: Vec<BfrId>,
    /// Of whom replies are wanted; of all without. Where bits stand for adjacencies: those by which receivers get it.
    pub target: Option<Vec<BfrId>>,
    /// 20 bits; chooses between equal ways.
    pub entropy: u32,
    /// Hops that the request goes, 1 to 255.
    pub ttl: u8,
    /// How replies are to come.
    pub reply_mode: ReplyMode,
    /// Its number.
    pub sequence: u32,
    /// The ways onward are asked for: what earlier replies told of them, or nothing yet.
    pub mappings: Option<Vec<Mapping>>,
    /// How long replies are taken.
    pub patience: Duration,
    /// Where replies go. What finds it full is lost.
    pub replies: SyncSender<Reply>,
}

/// What a router replied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// From the request to here, in nanoseconds.
    pub nanos: u64,
    /// How it came.
    pub by: ReplyMode,
    /// What it says.
    pub code: ReturnCode,
    /// Its number, and those of hosts for whom it answers.
    pub bfers: Vec<BfrId>,
    /// Its BFR-prefix.
    pub bfr: Option<IpAddr>,
    /// Where the request came in.
    pub ingress: Option<Interface>,
    /// The bits that it came with.
    pub incoming: Option<SetBits>,
    /// The ways onward.
    pub mappings: Vec<Mapping>,
    /// Where the request is wrong, in bytes.
    pub pointer: Option<u32>,
}

/// What was sent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Asked {
    /// What becomes of the requests here, one for each set.
    pub ways: Vec<Ways>,
}

/// Why a question isn't asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AskError {
    /// There is no BIER.
    #[error("no BIER is configured")]
    NoBier,
    /// No such sub-domain.
    #[error("sub-domain {0} isn't configured here, or has no tables")]
    NoSubDomain(u8),
    /// Which of the bits are those of receivers isn't said, and nobody else could tell.
    #[error("the bits of sub-domain {0} stand for adjacencies: say which of them are those of receivers")]
    NoReceivers(u8),
    /// Bits for adjacencies don't lead back.
    #[error("sub-domain {0} has no `replies_by`, so nobody could reply")]
    NoReplies(u8),
    /// Replies couldn't be addressed.
    #[error("this router has no BFR-id in sub-domain {0}, so nobody could reply to it")]
    NoBfrId(u8),
    /// No table of ours is for this router's set.
    #[error("no table of sub-domain {sub_domain} has router {id}")]
    NoTable {
        /// The sub-domain.
        sub_domain: u8,
        /// The router.
        id: BfrId,
    },
    /// It doesn't fit into a packet on each of our links.
    #[error("the request is longer than the smallest MTU of the ports")]
    TooLong,
    /// So many questions are open.
    #[error("{QUESTIONS_MAX} pings and traces are under way already")]
    TooMany,
}

/// The questions that are open.
#[derive(Debug, Default)]
pub(super) struct Questions {
    handle: u32,
    open: HashMap<u32, Open>,
}

#[derive(Debug)]
struct Open {
    sequence: u32,
    sent: Nanos,
    until: Nanos,
    replies: SyncSender<Reply>,
}

impl Questions {
    pub(super) fn new(seed: u64) -> Self {
        Self { handle: (seed ^ seed >> 32) as u32, open: HashMap::new() }
    }

    pub(super) fn ask(
        &mut self,
        question: Question,
        context: OamContext<'_>,
    ) -> Result<(Asked, Vec<Outgoing>), AskError> {
        let bier = context.tables.bier.as_ref().ok_or(AskError::NoBier)?;
        let sub_domain = question.sub_domain;
        let (bsl, of_routers) = bits_of(bier, sub_domain).ok_or(AskError::NoSubDomain(sub_domain.0))?;
        let own = bier.ingress(sub_domain).ok_or(AskError::NoBfrId(sub_domain.0))?;
        if !of_routers && question.target.is_none() {
            return Err(AskError::NoReceivers(sub_domain.0));
        }
        back(bier, context.names, sub_domain).ok_or(AskError::NoReplies(sub_domain.0))?;
        self.is_waiting(context.now);
        if self.open.len() >= QUESTIONS_MAX {
            return Err(AskError::TooMany);
        }
        let no_table = |id: &BfrId| AskError::NoTable { sub_domain: sub_domain.0, id: *id };
        let has_table = |id: &&BfrId| {
            let key = |(si, _)| BiftKey { sub_domain, si, bsl };
            id.position(bsl).is_some_and(|position| bier.plane.get(key(position)).is_some())
        };
        if let Some(id) = question.ids.iter().find(|id| !has_table(id)) {
            return Err(no_table(id));
        }
        self.handle = self.handle.wrapping_mul(HANDLE_STEP).wrapping_add(1);
        let (mut asked, mut packets) = (Asked::default(), Vec::new());
        let targets = question.target.as_ref().map(|ids| Receivers::new(ids.iter().copied()).sets(bsl));
        for (si, string) in Receivers::new(question.ids.iter().copied()).sets(bsl) {
            let key = BiftKey { sub_domain, si, bsl };
            let mut tlvs = vec![Tlv::Original(SetBits::new(key, string.clone()))];
            if let Some(targets) = &targets {
                let Some((_, wanted)) = targets.iter().find(|(of, _)| *of == si) else { continue };
                tlvs.push(Tlv::Target(SetBits::new(key, wanted.clone())));
            } else if question.mappings.is_some() {
                // Who asks for ways says of whom (section 3.4.2).
                tlvs.push(Tlv::Target(SetBits::new(key, string.clone())));
            }
            tlvs.extend(question.mappings.iter().flat_map(|known| mappings(known, key)).map(Tlv::Mapping));
            let message = self.message(&question, bsl, tlvs, context).ok_or(AskError::TooLong)?;
            let (ttl, entropy) = (question.ttl, question.entropy);
            let packet = bier_packet(bier, key, string.words(), ttl, entropy, Some(own.bfir_id), &message);
            packets.push(packet.ok_or(AskError::TooLong)?);
            let ways = Ways::of(context.tables, context.ports_down, key, string.words(), entropy);
            asked.ways.extend(ways);
        }
        let until = context.now.plus(question.patience.as_nanos() as u64);
        let Question { sequence, replies, .. } = question;
        self.open.insert(self.handle, Open { sequence, sent: context.now, until, replies });
        Ok((asked, packets))
    }

    /// A request that fits: with fewer of the ways that are known, if it must be.
    fn message(
        &self,
        question: &Question,
        bsl: Bsl,
        tlvs: Vec<Tlv>,
        context: OamContext<'_>,
    ) -> Option<Vec<u8>> {
        let Question { sequence, reply_mode, .. } = *question;
        let mut request = Echo::request(self.handle, sequence, reply_mode, context.unix_nanos, tlvs);
        let room = room(context.tables, ReplyMode::Bier, bsl);
        loop {
            let bytes = request.emit()?;
            if bytes.len() <= room {
                return Some(bytes);
            }
            let known = |tlv: &&Tlv| matches!(tlv, Tlv::Mapping(_));
            if request.tlvs.iter().filter(known).count() < 2 {
                return None;
            }
            request.tlvs.pop();
        }
    }

    /// Hands a reply to who waits for it; whether anybody does.
    pub(super) fn reply(&mut self, echo: &Echo, by: ReplyMode, now: Nanos) -> bool {
        let Some(open) = self.open.get(&echo.handle) else { return false };
        if open.sequence != echo.sequence || open.until < now {
            return false;
        }
        let mut reply = Reply {
            nanos: now.since(open.sent),
            by,
            code: echo.return_code,
            bfers: Vec::new(),
            bfr: None,
            ingress: None,
            incoming: None,
            mappings: Vec::new(),
            pointer: None,
        };
        for tlv in &echo.tlvs {
            match tlv {
                Tlv::ResponderBfer(id) => reply.bfers.push(*id),
                Tlv::ResponderBfr(prefix) => reply.bfr = Some(*prefix),
                Tlv::Ingress(interface) => reply.ingress = Some(*interface),
                Tlv::Incoming(set) => reply.incoming = Some(set.clone()),
                Tlv::Mapping(mapping) => reply.mappings.push(mapping.clone()),
                Tlv::Erroneous { pointer, .. } => reply.pointer = Some(*pointer),
                _ => {}
            }
        }
        match open.replies.try_send(reply) {
            Ok(()) => true,
            Err(TrySendError::Full(_)) => false,
            Err(TrySendError::Disconnected(_)) => {
                self.open.remove(&echo.handle);
                false
            }
        }
    }

    pub(super) fn is_waiting(&mut self, now: Nanos) -> bool {
        self.open.retain(|_, open| open.until >= now);
        !self.open.is_empty()
    }
}

/// The ways that a request for this set names: those that are known, or the question for them.
fn mappings(known: &[Mapping], key: BiftKey) -> Vec<Mapping> {
    let of_set = |mapping: &&Mapping| mapping.egress().is_some_and(|set| set.key == key);
    let asked = |mapping: &Mapping| Mapping { mtu: 0, wants_incoming: true, ..mapping.clone() };
    let known: Vec<_> = known.iter().filter(of_set).map(asked).collect();
    if known.is_empty() { vec![Mapping::question()] } else { known }
}

/// Questions that can be open at a time: more than operators who are served.
const QUESTIONS_MAX: usize = 64;
/// Replies that can wait for an operator's thread: one of each router of the longest bit string.
pub const REPLIES_MAX: usize = 4096;
/// From one handle to the next: a multiplier with which none comes twice in 2^32 (Knuth, volume 2, section 3.2.1.2), and odd
/// steps far apart.
const HANDLE_STEP: u32 = 1_664_525;
