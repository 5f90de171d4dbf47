//! Puts objects of one session together, in any order, and says what is missing.
//!
//! It begins with the first packet of an object that says how that is cut, whether the table came or not. Source symbols are
//! stored as they come, repair symbols kept until a block can be decoded; then what was stored is read back. Without a code
//! nothing is repaired but by sending again, which works as long as the object is kept here.

use std::collections::{BTreeMap, VecDeque};

use super::fdt::LEN_MAX;
use super::{Fdt, Malformed, Oti, Packet, SymbolId, TABLE, Table};
use crate::session::{Storage, Unstored};

/// Tables that are put together at once.
const TABLES_MAX: usize = 4;

/// What a receiver takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Objects are no longer than this, in bytes,
    pub size_max: u64,
    /// nor are blocks that have to be decoded in memory.
    pub block_max: u64,
    /// Objects that are received at once.
    pub objects_max: usize,
    /// Bytes of repair symbols that are kept.
    pub repair_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { size_max: 1 << 40, block_max: 64 << 20, objects_max: 64, repair_max: 64 << 20 }
    }
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Report {
    /// An object begins, cut like this.
    Begun {
        /// Which.
        toi: u64,
        /// How it is cut.
        oti: Oti,
    },
    /// A table came. It may name objects that are here already, and some that aren't.
    Table(Table),
    /// All of an object is stored.
    Complete(u64),
    /// The sender says that nothing more of an object comes, and it isn't complete. It is kept: somebody else may have the rest.
    Closed(u64),
    /// An object is given up to make room for another: what comes of it from now on begins it anew.
    GivenUp(u64),
    /// The sender ends the session.
    Ended,
}

/// What a receiver counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Source symbols that were new.
    pub source: u64,
    /// Repair symbols that were new and of use.
    pub repair: u64,
    /// Source symbols that decoding gave.
    pub decoded: u64,
    /// Symbols that were there already, or of blocks and objects that are whole.
    pub duplicate: u64,
    /// Packets of other sessions.
    pub foreign: u64,
    /// Packets that aren't FLUTE.
    pub malformed: u64,
    /// Packets that contradict how the object is cut, or come before it is known; tables that can't be read.
    pub contradictory: u64,
    /// What found no room or couldn't be stored.
    pub unstored: u64,
}

/// Symbols of an object that aren't there: the block, and the first and last of each stretch.
pub type Missing = Vec<(u32, Vec<(u32, u32)>)>;

#[derive(Debug, Default)]
struct Block {
    have: Vec<u64>,
    count: u32,
    repair: BTreeMap<u32, Vec<u8>>,
}

impl Block {
    fn contains(&self, symbol: u32) -> bool {
        self.have.get(symbol as usize / 64).is_some_and(|word| word >> (symbol % 64) & 1 == 1)
    }

    fn insert(&mut self, symbol: u32) {
        let at = symbol as usize / 64;
        if self.have.len() <= at {
            self.have.resize(at + 1, 0);
        }
        self.count += u32::from(!self.contains(symbol));
        self.have[at] |= 1 << (symbol % 64);
    }
}

#[derive(Debug)]
struct Object {
    oti: Oti,
    /// Blocks of which something came and that aren't whole.
    open: BTreeMap<u32, Block>,
    whole: Vec<u64>,
    left: u32,
    closed: bool,
    /// When the last of its symbols came: the number of that packet.
    fed: u64,
}

impl Object {
    fn new(oti: Oti) -> Self {
        let whole = vec![0; (oti.blocks() as usize).div_ceil(64)];
        Self { oti, open: BTreeMap::new(), whole, left: oti.blocks(), closed: false, fed: 0 }
    }

    fn is_block_whole(&self, block: u32) -> bool {
        self.whole[block as usize / 64] >> (block % 64) & 1 == 1
    }

    /// Returns how many bytes of repair symbols aren't needed any more.
    fn stored(&mut self, id: SymbolId) -> usize {
        if self.is_block_whole(id.block) {
            return 0;
        }
        let block = self.open.entry(id.block).or_default();
        block.insert(id.symbol);
        if block.count == self.oti.block_len(id.block) { self.set_whole(id.block) } else { 0 }
    }

    fn set_whole(&mut self, block: u32) -> usize {
        self.whole[block as usize / 64] |= 1 << (block % 64);
        self.left -= 1;
        self.open.remove(&block).map_or(0, |block| block.repair.values().map(Vec::len).sum())
    }

    /// Decodes a block if that can be done: RaptorQ mostly needs as many symbols as the block has, rarely one or two more.
    fn decode(
        &mut self,
        toi: u64,
        at: u32,
        storage: &mut impl Storage<u64>,
    ) -> Result<(u64, usize), Unstored> {
        let (Some(block), Some(config)) = (self.open.get(&at), self.oti.raptorq(at)) else {
            return Ok((0, 0));
        };
        let source = self.oti.block_len(at);
        if block.repair.is_empty() || (block.count as usize + block.repair.len()) < source as usize {
            return Ok((0, 0));
        }
        let packet = |symbol, bytes| raptorq::EncodingPacket::new(raptorq::PayloadId::new(0, symbol), bytes);
        let mut symbols = Vec::new();
        for symbol in (0..source).filter(|symbol| block.contains(*symbol)) {
            let (offset, len) = self.oti.range(SymbolId { block: at, symbol }).ok_or(Unstored)?;
            let mut bytes = vec![0; self.oti.symbol_len()];
            storage.read(toi, offset, &mut bytes[..len])?;
            symbols.push(packet(symbol, bytes));
        }
        symbols.extend(block.repair.iter().map(|(symbol, bytes)| packet(*symbol, bytes.clone())));
        let mut decoder = raptorq::SourceBlockDecoder::new(0, &config, config.transfer_length());
        let Some(bytes) = decoder.decode(symbols) else { return Ok((0, 0)) };
        let missing: Vec<u32> = (0..source).filter(|symbol| !block.contains(*symbol)).collect();
        for symbol in &missing {
            let (offset, len) = self.oti.range(SymbolId { block: at, symbol: *symbol }).ok_or(Unstored)?;
            let from = *symbol as usize * self.oti.symbol_len();
            storage.write(toi, offset, &bytes[from..from + len])?;
        }
        Ok((missing.len() as u64, self.set_whole(at)))
    }
}

/// A table that is being put together.
#[derive(Debug)]
struct Partial {
    oti: Oti,
    bytes: Vec<u8>,
    have: Block,
}

/// The receiver of a session.
#[derive(Debug)]
pub struct Receiver {
    tsi: u64,
    limits: Limits,
    objects: BTreeMap<u64, Object>,
    done: VecDeque<u64>,
    tables: BTreeMap<u32, Partial>,
    /// The table that was reported last: it comes again and again.
    table: Option<u32>,
    repair_bytes: usize,
    /// Packets so far.
    packets: u64,
    ended: bool,
    reports: VecDeque<Report>,
    counters: Counters,
}

impl Receiver {
    /// For a session.
    #[must_use]
    pub fn new(tsi: u64, limits: Limits) -> Self {
        Self {
            tsi,
            limits,
            objects: BTreeMap::new(),
            done: VecDeque::new(),
            tables: BTreeMap::new(),
            table: None,
            repair_bytes: 0,
            packets: 0,
            ended: false,
            reports: VecDeque::new(),
            counters: Counters::default(),
        }
    }

    /// A datagram came.
    pub fn handle(&mut self, datagram: &[u8], storage: &mut impl Storage<u64>) {
        match super::parse(datagram) {
            Ok(packet) if packet.header.tsi == self.tsi => self.packet(packet, storage),
            Ok(_) => self.counters.foreign += 1,
            Err(fault) => self.fault(fault),
        }
    }

    /// What happened since the last call.
    pub fn poll_event(&mut self) -> Option<Report> {
        self.reports.pop_front()
    }

    /// What was counted.
    #[must_use]
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// What isn't there of an object; `None` if nothing is known of it, or it is complete.
    #[must_use]
    pub fn missing(&self, toi: u64) -> Option<Missing> {
        let object = self.objects.get(&toi)?;
        let blocks = (0..object.oti.blocks()).filter(|block| !object.is_block_whole(*block)).map(|at| {
            let Some(block) = object.open.get(&at) else {
                return (at, vec![(0, object.oti.block_len(at) - 1)]);
            };
            let mut stretches: Vec<(u32, u32)> = Vec::new();
            for symbol in (0..object.oti.block_len(at)).filter(|symbol| !block.contains(*symbol)) {
                match stretches.last_mut() {
                    Some((_, last)) if *last + 1 == symbol => *last = symbol,
                    _ => stretches.push((symbol, symbol)),
                }
            }
            (at, stretches)
        });
        Some(blocks.collect())
    }

    /// A source symbol came another way, and is stored.
    pub fn recovered(&mut self, toi: u64, id: SymbolId) {
        let Some(object) = self.objects.get_mut(&toi).filter(|object| object.oti.range(id).is_some()) else {
            return;
        };
        self.repair_bytes -= object.stored(id);
        self.complete(toi);
    }

    /// An object that was complete proved wrong, or was lost: it is received anew.
    pub fn forget(&mut self, toi: u64) {
        self.done.retain(|done| *done != toi);
        if let Some(object) = self.objects.remove(&toi) {
            let kept = |block: &Block| block.repair.values().map(Vec::len).sum::<usize>();
            self.repair_bytes -= object.open.values().map(kept).sum::<usize>();
        }
    }

    fn fault(&mut self, _: Malformed) {
        self.counters.malformed += 1;
    }

    fn packet(&mut self, packet: Packet<'_>, storage: &mut impl Storage<u64>) {
        self.packets += 1;
        let toi = packet.header.toi;
        if let Some(id) = packet.id {
            match packet.fdt {
                Some(fdt) if toi == TABLE => self.table(fdt, packet, id),
                _ if toi == TABLE => self.counters.contradictory += 1,
                _ => self.symbol(toi, packet, id, storage),
            }
        }
        if let Some(object) =
            self.objects.get_mut(&toi).filter(|object| packet.header.close_object && !object.closed)
        {
            object.closed = true;
            self.reports.push_back(Report::Closed(toi));
        }
        if packet.header.close_session && !self.ended {
            self.ended = true;
            self.reports.push_back(Report::Ended);
        }
    }

    fn symbol(&mut self, toi: u64, packet: Packet<'_>, id: SymbolId, storage: &mut impl Storage<u64>) {
        if self.done.contains(&toi) {
            self.counters.duplicate += 1;
            return;
        }
        if !self.begin(toi, packet.oti) {
            return;
        }
        let object = self.objects.get_mut(&toi).expect("begun");
        object.fed = self.packets;
        let (oti, content) = (object.oti, packet.content);
        let other = packet.oti.is_some_and(|other| other != oti);
        let range = oti.range(id);
        let fits = match range {
            // Some pad the last symbol of an object.
            Some((_, len)) => content.len() == len || content.len() == oti.symbol_len(),
            None => oti.has(id) && content.len() == oti.symbol_len(),
        };
        if other || !fits {
            self.counters.contradictory += 1;
            return;
        }
        let open = object.open.get(&id.block);
        let there =
            open.is_some_and(|block| block.contains(id.symbol) || block.repair.contains_key(&id.symbol));
        if object.is_block_whole(id.block) || there {
            self.counters.duplicate += 1;
            return;
        }
        if let Some((offset, len)) = range {
            if storage.write(toi, offset, &content[..len]).is_err() {
                self.counters.unstored += 1;
                return;
            }
            self.counters.source += 1;
            self.repair_bytes -= object.stored(id);
        } else if self.repair_bytes + content.len() <= self.limits.repair_max {
            self.counters.repair += 1;
            self.repair_bytes += content.len();
            object.open.entry(id.block).or_default().repair.insert(id.symbol, content.to_vec());
        } else {
            self.counters.unstored += 1;
        }
        match object.decode(toi, id.block, storage) {
            Ok((decoded, freed)) => {
                self.counters.decoded += decoded;
                self.repair_bytes -= freed;
            }
            Err(Unstored) => self.counters.unstored += 1,
        }
        self.complete(toi);
    }

    /// Whether an object is received, from now on at the latest.
    fn begin(&mut self, toi: u64, oti: Option<Oti>) -> bool {
        if self.objects.contains_key(&toi) {
            return true;
        }
        let Some(oti) = oti else {
            self.counters.contradictory += 1;
            return false;
        };
        let block = u64::from(oti.block_len(0)) * oti.symbol_len() as u64;
        let coded = oti.codepoint() == super::RAPTORQ;
        if oti.size() > self.limits.size_max || (coded && block > self.limits.block_max) {
            self.counters.unstored += 1;
            return false;
        }
        self.make_room();
        self.objects.insert(toi, Object::new(oti));
        self.reports.push_back(Report::Begun { toi, oti });
        true
    }

    /// Gives up what the sender has ended, or else what nothing came of for longest: what lacks a symbol that isn't sent again
    /// would keep its place for ever.
    fn make_room(&mut self) {
        while self.objects.len() >= self.limits.objects_max.max(1) {
            let waiting = |(toi, object): (&u64, &Object)| (!object.closed, object.fed, *toi);
            let Some((_, _, oldest)) = self.objects.iter().map(waiting).min() else { return };
            self.forget(oldest);
            self.reports.push_back(Report::GivenUp(oldest));
        }
    }

    fn complete(&mut self, toi: u64) {
        if self.objects.get(&toi).is_some_and(|object| object.left == 0) {
            self.objects.remove(&toi);
            self.done.push_back(toi);
            // Their packets would begin them anew if they were forgotten at once.
            if self.done.len() > self.limits.objects_max {
                self.done.pop_front();
            }
            self.reports.push_back(Report::Complete(toi));
        }
    }

    fn table(&mut self, fdt: Fdt, packet: Packet<'_>, id: SymbolId) {
        if self.table == Some(fdt.instance) {
            self.counters.duplicate += 1;
            return;
        }
        if !self.tables.contains_key(&fdt.instance) {
            let Some(oti) = packet.oti.filter(|oti| oti.size() <= LEN_MAX) else {
                self.counters.contradictory += 1;
                return;
            };
            if self.tables.len() >= TABLES_MAX {
                self.tables.pop_first();
            }
            let bytes = vec![0; oti.size() as usize];
            self.tables.insert(fdt.instance, Partial { oti, bytes, have: Block::default() });
        }
        let partial = self.tables.get_mut(&fdt.instance).expect("just looked");
        let Some((offset, len)) = partial.oti.range(id) else {
            // Some code their tables. They are short and come again, so that the source symbols serve.
            self.counters.contradictory += u64::from(!partial.oti.has(id));
            return;
        };
        let Some(content) = packet.content.get(..len) else {
            self.counters.contradictory += 1;
            return;
        };
        let offset = offset as usize;
        partial.bytes[offset..offset + len].copy_from_slice(content);
        // Symbols are counted through the table, across its blocks.
        partial.have.insert((offset / partial.oti.symbol_len()) as u32);
        if u64::from(partial.have.count) == partial.oti.size().div_ceil(partial.oti.symbol_len() as u64) {
            let partial = self.tables.remove(&fdt.instance).expect("just looked");
            self.table = Some(fdt.instance);
            match std::str::from_utf8(&partial.bytes).ok().and_then(|xml| Table::from_xml(xml).ok()) {
                Some(table) => self.reports.push_back(Report::Table(table)),
                None => self.counters.contradictory += 1,
            }
        }
    }
}
