//! How an object is cut, and the symbols that makes (RFC 5445 section 3, RFC 6330 section 3 and 4.4).

use super::{Malformed, NO_CODE, RAPTORQ, SymbolId};
use crate::partition::Partition;

/// Source symbols of a RaptorQ block, at most (RFC 6330 section 5.1.2).
const RAPTORQ_BLOCK_MAX: u64 = 56_403;
/// Symbols aren't parted further, which is for receivers with less memory than a block.
const SUB_BLOCKS: u16 = 1;
const HET_FTI: u8 = 64;

/// FEC Object Transmission Information, checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Oti {
    size: u64,
    symbol: u16,
    code: Code,
    partition: Partition,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Code {
    /// With so many symbols in a block, at most.
    None(u32),
    /// With this alignment of symbols.
    RaptorQ(u8),
}

/// An object that can't be sent like this.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the object doesn't fit symbols and blocks of these lengths")]
pub struct OtiError;

impl Oti {
    /// Without a code, with at most so many symbols in a block.
    ///
    /// # Errors
    /// [`OtiError`]: no bytes, symbols or blocks without length, more than 65 536 blocks.
    pub fn no_code(size: u64, symbol: u16, block: u16) -> Result<Self, OtiError> {
        Self::check(size, symbol, Code::None(block.into()), 0)
    }

    /// With RaptorQ, in so many blocks.
    ///
    /// # Errors
    /// [`OtiError`]: no bytes, 2^40 or more, a symbol that isn't a multiple of 4 bytes, more than 56 403 symbols in a block.
    pub fn with_raptorq(size: u64, symbol: u16, blocks: u8) -> Result<Self, OtiError> {
        Self::check(size, symbol, Code::RaptorQ(4), blocks)
    }

    fn check(size: u64, symbol: u16, code: Code, blocks: u8) -> Result<Self, OtiError> {
        let symbols = size.div_ceil(u64::from(symbol).max(1));
        let (blocks, size_max, len_max) = match code {
            Code::None(block) if (1..=1 << 16).contains(&block) => {
                (symbols.div_ceil(block.into()), 1 << 48, 1 << 16)
            }
            Code::RaptorQ(align) => {
                if align == 0 || !symbol.is_multiple_of(align.into()) {
                    return Err(OtiError);
                }
                (blocks.into(), 1 << 40, RAPTORQ_BLOCK_MAX)
            }
            Code::None(_) => return Err(OtiError),
        };
        let partition = Partition::new(symbols, blocks).ok_or(OtiError)?;
        if symbol == 0 || size >= size_max || blocks > 1 << 16 || partition.len(0) > len_max {
            return Err(OtiError);
        }
        Ok(Self { size, symbol, code, partition })
    }

    /// The FEC encoding id.
    #[must_use]
    pub fn codepoint(&self) -> u8 {
        match self.code {
            Code::None(_) => NO_CODE,
            Code::RaptorQ(_) => RAPTORQ,
        }
    }

    /// Bytes of the object.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Bytes of a symbol.
    #[must_use]
    pub fn symbol_len(&self) -> usize {
        self.symbol.into()
    }

    /// Blocks of the object.
    #[must_use]
    pub fn blocks(&self) -> u32 {
        self.partition.blocks() as u32
    }

    /// Source symbols of a block, 0 if there is no such block.
    #[must_use]
    pub fn block_len(&self, block: u32) -> u32 {
        self.partition.len(block.into()) as u32
    }

    /// Where a source symbol lies in the object, and how long it is there; `None` for others.
    #[must_use]
    pub fn range(&self, id: SymbolId) -> Option<(u64, usize)> {
        if id.symbol >= self.block_len(id.block) {
            return None;
        }
        let offset = (self.partition.start(id.block.into()) + u64::from(id.symbol)) * u64::from(self.symbol);
        Some((offset, (self.size - offset).min(self.symbol.into()) as usize))
    }

    /// Where a block lies in the object, and how long it is; `None` if there is no such block.
    #[must_use]
    pub fn block_range(&self, block: u32) -> Option<(u64, usize)> {
        let (offset, _) = self.range(SymbolId { block, symbol: 0 })?;
        let len = u64::from(self.block_len(block)) * u64::from(self.symbol);
        Some((offset, (self.size - offset).min(len) as usize))
    }

    /// Whether there can be such a symbol.
    #[must_use]
    pub fn has(&self, id: SymbolId) -> bool {
        let coded = matches!(self.code, Code::RaptorQ(_));
        id.block < self.blocks() && (coded || id.symbol < self.block_len(id.block))
    }

    /// Each source symbol, where it lies in the object, and how long it is.
    pub fn source_symbols(&self) -> impl Iterator<Item = (SymbolId, u64, usize)> + use<> {
        let oti = *self;
        (0..oti.partition.units()).filter_map(move |unit| {
            let (block, symbol) = oti.partition.at(unit)?;
            let id = SymbolId { block: block as u32, symbol: symbol as u32 };
            oti.range(id).map(|(offset, len)| (id, offset, len))
        })
    }

    /// What the crate `raptorq` codes a block with; `None` if the object isn't coded so.
    pub(super) fn raptorq(&self, block: u32) -> Option<raptorq::ObjectTransmissionInformation> {
        let Code::RaptorQ(align) = self.code else { return None };
        let len = u64::from(self.block_len(block)) * u64::from(self.symbol);
        (len > 0).then(|| raptorq::ObjectTransmissionInformation::new(len, self.symbol, 1, SUB_BLOCKS, align))
    }

    pub(super) fn read(codepoint: u8, at: &[u8]) -> Result<Self, Malformed> {
        let &[_, _, a, b, c, d, e, f, g, h, i, j, k, l, m, n] =
            <&[u8; 16]>::try_from(at).map_err(|_| Malformed::Extension)?;
        let oti = match codepoint {
            NO_CODE => {
                let size = u64::from_be_bytes([0, 0, a, b, c, d, e, f]);
                let block = u32::from_be_bytes([k, l, m, n]);
                // Longer blocks than symbols have numbers for are the same as the longest.
                Self::check(size, u16::from_be_bytes([i, j]), Code::None(block.min(1 << 16)), 0)
            }
            RAPTORQ => {
                let size = u64::from_be_bytes([0, 0, 0, a, b, c, d, e]);
                if u16::from_be_bytes([j, k]) != SUB_BLOCKS {
                    return Err(Malformed::Oti);
                }
                Self::check(size, u16::from_be_bytes([g, h]), Code::RaptorQ(l), i)
            }
            _ => return Err(Malformed::Fec),
        };
        oti.map_err(|OtiError| Malformed::Oti)
    }

    pub(super) fn write(&self, out: &mut Vec<u8>) {
        out.extend([HET_FTI, 4]);
        match self.code {
            Code::None(block) => {
                out.extend(&self.size.to_be_bytes()[2..]);
                out.extend([0, 0]);
                out.extend(self.symbol.to_be_bytes());
                out.extend(block.to_be_bytes());
            }
            Code::RaptorQ(align) => {
                out.extend(&self.size.to_be_bytes()[3..]);
                out.push(0);
                out.extend(self.symbol.to_be_bytes());
                out.push(self.blocks() as u8);
                out.extend(SUB_BLOCKS.to_be_bytes());
                out.extend([align, 0, 0]);
            }
        }
    }
}
