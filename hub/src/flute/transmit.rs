//! What the sender hands out: a packet, and who gets it.

use super::{Oti, SymbolId};
use crate::session::{Content, Kind, To, Unread};

/// What follows the header of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Body {
    /// Nothing: the header is all.
    None,
    /// Bytes of an object.
    Source {
        /// Which object.
        toi: u64,
        /// From here on,
        offset: u64,
        /// so many.
        len: usize,
    },
    /// A repair symbol of RaptorQ.
    Repair {
        /// Of which object.
        toi: u64,
        /// Which symbol.
        id: SymbolId,
        /// How the object is cut.
        oti: Oti,
    },
}

/// A packet to be sent: a UDP datagram to the session's group and port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transmit {
    /// Who gets it.
    pub to: To,
    /// What it is for: symbols of the first pass, repair symbols and later passes, tables.
    pub kind: Kind,
    /// The packet up to its symbol, and for tables all of it.
    pub header: Vec<u8>,
    /// The symbol, which the session doesn't have.
    pub body: Body,
}

impl Transmit {
    /// How long the packet is, in bytes.
    #[must_use]
    pub fn packet_len(&self) -> usize {
        self.header.len()
            + match self.body {
                Body::None => 0,
                Body::Source { len, .. } => len,
                Body::Repair { oti, .. } => oti.symbol_len(),
            }
    }

    /// Appends the packet.
    ///
    /// # Errors
    /// [`Unread`]; what was appended is no packet then.
    pub fn write(
        &self,
        content: &mut impl Content<u64>,
        coder: &mut Coder,
        out: &mut Vec<u8>,
    ) -> Result<(), Unread> {
        out.extend(&self.header);
        match self.body {
            Body::None => Ok(()),
            Body::Source { toi, offset, len } => {
                let start = out.len();
                out.resize(start + len, 0);
                content.read(toi, offset, &mut out[start..])
            }
            Body::Repair { toi, id, oti } => {
                out.extend(coder.symbol(content, toi, &oti, id)?);
                Ok(())
            }
        }
    }
}

/// Makes repair symbols, and keeps the block that it made the last one of: the others of that block follow. That is all of its
/// memory: about three blocks' worth.
#[derive(Debug, Default)]
pub struct Coder {
    kept: Option<(u64, Oti, u32, raptorq::SourceBlockEncoder)>,
}

impl Coder {
    fn symbol(
        &mut self,
        content: &mut impl Content<u64>,
        toi: u64,
        oti: &Oti,
        id: SymbolId,
    ) -> Result<Vec<u8>, Unread> {
        let kept =
            self.kept.take().filter(|(of, cut, block, _)| (*of, *cut, *block) == (toi, *oti, id.block));
        let (.., encoder) = self.kept.insert(match kept {
            Some(kept) => kept,
            None => (toi, *oti, id.block, encoder(content, toi, oti, id.block)?),
        });
        let nth = id.symbol.checked_sub(oti.block_len(id.block)).ok_or(Unread)?;
        let packet = encoder.repair_packets(nth, 1).pop().ok_or(Unread)?;
        Ok(packet.split().1)
    }
}

fn encoder(
    content: &mut impl Content<u64>,
    toi: u64,
    oti: &Oti,
    block: u32,
) -> Result<raptorq::SourceBlockEncoder, Unread> {
    let config = oti.raptorq(block).ok_or(Unread)?;
    let (offset, len) = oti.block_range(block).ok_or(Unread)?;
    // The last symbol is filled up with zeros.
    let mut bytes = vec![0; oti.block_len(block) as usize * oti.symbol_len()];
    content.read(toi, offset, &mut bytes[..len])?;
    Ok(raptorq::SourceBlockEncoder::new(0, &config, &bytes))
}
