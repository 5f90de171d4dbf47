//! Packets of ALC (RFC 5775 section 4): the LCT header with what FLUTE and FEC add, and one symbol.

use super::lct::Header;
use super::{Malformed, NO_CODE, Oti, RAPTORQ};

const HET_FTI: u8 = 64;
const HET_FDT: u8 = 192;
/// The version of FLUTE that EXT_FDT names (RFC 6726 section 3.4.1).
const FLUTE_VERSION: u8 = 2;

/// EXT_FDT: which File Delivery Table a packet of object 0 belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fdt {
    /// The version of FLUTE: 2, or 1 for RFC 3926.
    pub version: u8,
    /// The number of the table, 20 bits.
    pub instance: u32,
}

impl Fdt {
    /// One of ours.
    #[must_use]
    pub fn of(instance: u32) -> Self {
        Self { version: FLUTE_VERSION, instance: instance & 0xf_ffff }
    }
}

/// The FEC payload id: a symbol of a block. Source symbols come first, then repair symbols.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SymbolId {
    /// The source block.
    pub block: u32,
    /// The symbol in it.
    pub symbol: u32,
}

impl SymbolId {
    /// Bits of the symbol's number; the block has the others of 32.
    fn symbol_bits(codepoint: u8) -> Result<u32, Malformed> {
        match codepoint {
            NO_CODE => Ok(16),
            RAPTORQ => Ok(24),
            _ => Err(Malformed::Fec),
        }
    }
}

/// A packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packet<'a> {
    /// Session and object.
    pub header: Header,
    /// Which table, if it is one.
    pub fdt: Option<Fdt>,
    /// How the object is cut, if the packet says so.
    pub oti: Option<Oti>,
    /// Which symbol; without one, the packet is its header.
    pub id: Option<SymbolId>,
    /// The symbol.
    pub content: &'a [u8],
}

/// Checks a datagram and says what it is.
///
/// # Errors
/// Whichever of [`Malformed`] is found first.
pub fn parse(datagram: &[u8]) -> Result<Packet<'_>, Malformed> {
    let (header, mut extensions, rest) = Header::parse(datagram)?;
    let (mut fdt, mut oti) = (None, None);
    while let [kind, length, ..] = *extensions {
        // As in NORM: below 128 the length follows, in words.
        let length = if kind < 128 { usize::from(length) * 4 } else { 4 };
        if length == 0 {
            return Err(Malformed::Extension);
        }
        let (this, after) = extensions.split_at_checked(length).ok_or(Malformed::Extension)?;
        match (kind, this) {
            (HET_FDT, &[_, high, middle, low]) => {
                let instance = u32::from_be_bytes([0, high & 15, middle, low]);
                fdt = Some(Fdt { version: high >> 4, instance });
            }
            (HET_FTI, this) => oti = Some(Oti::read(header.codepoint, this)?),
            _ => {}
        }
        extensions = after;
    }
    if !extensions.is_empty() {
        return Err(Malformed::Extension);
    }
    if rest.is_empty() {
        return Ok(Packet { header, fdt, oti, id: None, content: rest });
    }
    let bits = SymbolId::symbol_bits(header.codepoint)?;
    let (id, content) = rest.split_first_chunk().ok_or(Malformed::Cut)?;
    let id = u32::from_be_bytes(*id);
    let id = SymbolId { block: id >> bits, symbol: id & ((1 << bits) - 1) };
    Ok(Packet { header, fdt, oti, id: Some(id), content })
}

impl Packet<'_> {
    /// The packet as it is on the wire.
    ///
    /// # Panics
    /// If there is a symbol and the codepoint is of another FEC than ours.
    #[must_use]
    pub fn to_vec(&self) -> Vec<u8> {
        let (mut extensions, mut out) = (Vec::new(), Vec::new());
        if let Some(fdt) = self.fdt {
            let [_, high, middle, low] = fdt.instance.to_be_bytes();
            extensions.extend([HET_FDT, fdt.version << 4 | high & 15, middle, low]);
        }
        if let Some(oti) = self.oti {
            oti.write(&mut extensions);
        }
        self.header.emit(&extensions, &mut out);
        if let Some(id) = self.id {
            let bits =
                SymbolId::symbol_bits(self.header.codepoint).expect("the caller sends what can be coded");
            out.extend((id.block << bits | id.symbol).to_be_bytes());
            out.extend(self.content);
        }
        out
    }
}
