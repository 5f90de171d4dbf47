//! The sender of a session: files one after the other, each in so many passes, with its table again and again.
//!
//! ```text
//!  a pass    T s s s s ... r r  T  s s s ... r r  T      T table, every hundred symbols, and at both ends
//!              └─ block 0 ───┘     └─ block 1 ─┘         s source symbols, r repair symbols: with a code, other ones in each pass
//! ```
//!
//! Nobody answers, so a file is done when its passes are sent. Files don't take turns: receivers give one up of which nothing comes
//! for seconds. Each has a table of its own, whose number follows from its object's, so that a table that is sent again after a
//! restart is the same one. The close flags are never set: who lacks something then, and is sent it some other way, can still take it.

use core::time::Duration;
use std::collections::VecDeque;

use super::lct::Header;
use super::transmit::{Body, Transmit};
use super::{File, Oti, OtiError, Packet, SymbolId, TABLE, Table, table};
use crate::session::{Kind, LegCounters, Pacer, Rate, To};

/// Files that wait at once.
const FILES_MAX: usize = 256;
/// Symbols between two copies of a table: about a hundredth of what is sent.
const TABLE_EVERY: u32 = 100;
/// RaptorQ's blocks have about so many symbols, as long as there are no more blocks than a byte numbers: long enough to even out
/// losses, and coded in a moment.
const RAPTORQ_BLOCK: u64 = 1024;
/// They are no longer than this, in bytes: what a receiver decodes in memory.
const RAPTORQ_BLOCK_BYTES_MAX: u64 = 64 << 20;
/// Symbols of a block without a code. Any number does; other senders' are as long.
const NO_CODE_BLOCK: u16 = 1024;
/// Numbers of symbols have so many bits (RFC 6330 section 3.2).
const SYMBOL_BITS: u32 = 24;

/// How losses are made good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Code {
    /// By sending again.
    None,
    /// By RaptorQ.
    RaptorQ {
        /// Repair symbols of a block in each pass, in hundredths of its source symbols.
        overhead_percent: u32,
    },
}

/// How a sender works.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Config {
    /// The session, below 2^48.
    pub tsi: u64,
    /// Bytes of a symbol; with a code, a multiple of 4.
    pub symbol: u16,
    /// How losses are made good.
    pub code: Code,
    /// How often each file is sent, at least once.
    pub passes: u32,
    /// The rate of the group.
    pub rate: Rate,
    /// Time that may be made up for at once, when the caller comes late.
    pub catch_up: Duration,
    /// When tables expire: seconds of NTP time, since 1900.
    pub expires: u32,
}

/// A file to be sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Offer {
    /// Its length in bytes.
    pub size: u64,
    /// Its name: a URI.
    pub location: String,
    /// Its MD5, in base 64.
    pub md5: Option<String>,
    /// After a restart: its object's number. Else the next is taken.
    pub toi: Option<u64>,
    /// Who gets it.
    pub to: To,
    /// How many packets leave for them, for the rate.
    pub copies: usize,
}

/// Why a file isn't announced.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// It can't be cut.
    #[error(transparent)]
    Unfit(#[from] OtiError),
    /// With symbols of this length, its blocks would be longer than receivers decode.
    #[error("the file is too long for the code")]
    Long,
    /// As many wait already as can.
    #[error("the session has as many files as it can")]
    Full,
    /// The number is that of another file, or of the table.
    #[error("another object has this number")]
    Number,
}

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// A pass of a file was sent; others follow.
    Passed {
        /// Its object.
        toi: u64,
        /// How many were.
        passes: u32,
    },
    /// All passes of a file were sent, and nothing of it is sent any more.
    Finished {
        /// Its object.
        toi: u64,
    },
}

/// How far a file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Passes that were sent whole.
    pub passes: u32,
    /// Bytes of the file that were sent in the pass that is under way.
    pub sent: u64,
    /// Bytes of symbols that were sent beyond the first pass' source symbols.
    pub repaired: u64,
}

/// A file on its way.
#[derive(Clone, Debug)]
struct Outgoing {
    toi: u64,
    oti: Oti,
    to: To,
    copies: usize,
    table: Vec<Vec<u8>>,
    /// Packets of the table that are still to be sent this time.
    table_left: usize,
    /// Symbols since it was sent.
    since_table: u32,
    passes: u32,
    /// The next symbol: of a block, source symbols and then this pass' repair symbols.
    next: SymbolId,
    sent: u64,
    repaired: u64,
}

/// The sender of a session; driven as [`crate::session::Sender`] is, without anything to hear.
#[derive(Clone, Debug)]
pub struct Sender {
    config: Config,
    pacer: Pacer,
    files: VecDeque<Outgoing>,
    next_toi: u64,
    events: VecDeque<Event>,
    counters: LegCounters,
}

impl Sender {
    /// A sender without files, which numbers them from 1.
    #[must_use]
    pub fn new(config: Config, now: Duration) -> Self {
        Self {
            config,
            pacer: Pacer::new(config.rate, config.catch_up, now),
            files: VecDeque::new(),
            next_toi: TABLE + 1,
            events: VecDeque::new(),
            counters: LegCounters::default(),
        }
    }

    /// Takes a file in: it is sent after those before it. Returns its object's number.
    ///
    /// # Errors
    /// [`Refused`].
    pub fn announce(&mut self, offer: Offer) -> Result<u64, Refused> {
        let oti = self.cut(offer.size)?;
        if self.files.len() >= FILES_MAX {
            return Err(Refused::Full);
        }
        let toi = offer.toi.unwrap_or(self.next_toi);
        if toi == TABLE || self.files.iter().any(|file| file.toi == toi) {
            return Err(Refused::Number);
        }
        let (length, location, md5) = (Some(offer.size), offer.location, offer.md5);
        let file = File { toi, location, length, md5, ..File::default() };
        let named = Table { expires: self.config.expires, complete: false, files: vec![file] };
        // The 20 bits that a table's number has.
        let instance = (toi & 0xf_ffff) as u32;
        let table = table(self.config.tsi, instance, &named, self.config.symbol)?;
        self.next_toi = toi.wrapping_add(1).max(TABLE + 1);
        self.files.push_back(Outgoing {
            toi,
            oti,
            to: offer.to,
            copies: offer.copies,
            table_left: table.len(),
            table,
            since_table: 0,
            passes: 0,
            next: SymbolId::default(),
            sent: 0,
            repaired: 0,
        });
        Ok(toi)
    }

    fn cut(&self, size: u64) -> Result<Oti, Refused> {
        let symbol = self.config.symbol;
        match self.config.code {
            Code::None => Ok(Oti::no_code(size, symbol, NO_CODE_BLOCK)?),
            Code::RaptorQ { .. } => {
                let symbols = size.div_ceil(u64::from(symbol.max(1)));
                let blocks = symbols.div_ceil(RAPTORQ_BLOCK).clamp(1, u64::from(u8::MAX));
                if symbols.div_ceil(blocks) * u64::from(symbol) > RAPTORQ_BLOCK_BYTES_MAX {
                    return Err(Refused::Long);
                }
                Ok(Oti::with_raptorq(size, symbol, blocks as u8)?)
            }
        }
    }

    /// Gives a file up: nothing of it is sent any more. Whether it was there.
    pub fn retire(&mut self, toi: u64) -> bool {
        let before = self.files.len();
        self.files.retain(|file| file.toi != toi);
        self.files.len() < before
    }

    /// The next packet, if one is to be sent now.
    pub fn poll_transmit(&mut self, now: Duration) -> Option<Transmit> {
        if now < self.pacer.next() {
            return None;
        }
        let file = self.files.front_mut()?;
        let transmit = match file.table.len() - file.table_left {
            at if file.table_left > 0 => {
                file.table_left -= 1;
                let header = file.table[at].clone();
                Transmit { to: file.to.clone(), kind: Kind::Control, header, body: Body::None }
            }
            _ => file.symbol(&self.config),
        };
        self.pacer.spend(now, file.copies, transmit.packet_len());
        let (packets, bytes) = (file.copies as u64, (file.copies * transmit.packet_len()) as u64);
        if file.table_left == 0 && file.is_pass_over() {
            self.end_pass();
        }
        let (of_packets, of_bytes) = match transmit.kind {
            Kind::First => (&mut self.counters.first_packets, &mut self.counters.first_bytes),
            Kind::Repair => (&mut self.counters.repair_packets, &mut self.counters.repair_bytes),
            Kind::Control => (&mut self.counters.control_packets, &mut self.counters.control_bytes),
        };
        (*of_packets, *of_bytes) = (*of_packets + packets, *of_bytes + bytes);
        Some(transmit)
    }

    /// When to call [`Sender::poll_transmit`] again; `None` if there is nothing to do.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Duration> {
        (!self.files.is_empty()).then(|| self.pacer.next())
    }

    /// What happened since the last call.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// How far a file is; `None` if it isn't under way.
    #[must_use]
    pub fn progress(&self, toi: u64) -> Option<Progress> {
        let file = self.files.iter().find(|file| file.toi == toi)?;
        Some(Progress { passes: file.passes, sent: file.sent, repaired: file.repaired })
    }

    /// The packets that left: source symbols of first passes, all other symbols, and tables.
    #[must_use]
    pub fn counters(&self) -> &LegCounters {
        &self.counters
    }

    /// The first file's pass is over, its table sent once more.
    fn end_pass(&mut self) {
        let Some(mut file) = self.files.pop_front() else { return };
        file.passes += 1;
        if file.passes >= self.config.passes {
            return self.events.push_back(Event::Finished { toi: file.toi });
        }
        // The table at the end of one pass is that at the beginning of the next.
        (file.next, file.sent) = (SymbolId::default(), 0);
        self.events.push_back(Event::Passed { toi: file.toi, passes: file.passes });
        self.files.push_front(file);
    }
}

impl Outgoing {
    fn is_pass_over(&self) -> bool {
        self.next.block >= self.oti.blocks()
    }

    /// The packet of the next symbol, which is there: the pass isn't over.
    fn symbol(&mut self, config: &Config) -> Transmit {
        let SymbolId { block, symbol: at } = self.next;
        let source = self.oti.block_len(block);
        let repair = repairs(config.code, source);
        let (id, body) = match self.oti.range(self.next) {
            Some((offset, len)) => {
                self.sent += len as u64;
                (self.next, Body::Source { toi: self.toi, offset, len })
            }
            None => {
                // Other ones in each pass, and the first again when their numbers are used up.
                let nth = u64::from(self.passes) * u64::from(repair) + u64::from(at - source);
                let numbers = u64::from((1 << SYMBOL_BITS) - source);
                let id = SymbolId { block, symbol: source + (nth % numbers) as u32 };
                (id, Body::Repair { toi: self.toi, id, oti: self.oti })
            }
        };
        self.next.symbol += 1;
        if self.next.symbol >= source + repair {
            self.next = SymbolId { block: block + 1, symbol: 0 };
        }
        self.since_table += 1;
        if self.since_table >= TABLE_EVERY || self.is_pass_over() {
            (self.since_table, self.table_left) = (0, self.table.len());
        }
        let first = self.passes == 0 && matches!(body, Body::Source { .. });
        let header = Header {
            tsi: config.tsi,
            toi: self.toi,
            close_session: false,
            close_object: false,
            codepoint: self.oti.codepoint(),
        };
        let header = Packet { header, fdt: None, oti: Some(self.oti), id: Some(id), content: &[] }.to_vec();
        let kind = if first { Kind::First } else { Kind::Repair };
        let transmit = Transmit { to: self.to.clone(), kind, header, body };
        if !first {
            self.repaired += (transmit.packet_len() - transmit.header.len()) as u64;
        }
        transmit
    }
}

/// Repair symbols of a block in each pass: one at least, where there is a share.
fn repairs(code: Code, source: u32) -> u32 {
    match code {
        Code::None => 0,
        Code::RaptorQ { overhead_percent } => {
            let share = u64::from(source) * u64::from(overhead_percent);
            u32::try_from(share.div_ceil(100)).unwrap_or(u32::MAX).min((1 << SYMBOL_BITS) - source)
        }
    }
}

#[cfg(test)]
mod tests;
