//! FLUTE (RFC 6726) on ALC (RFC 5775) and LCT (RFC 5651): files for receivers that can't answer, and from senders that don't
//! listen. Without a code, and with RaptorQ (RFC 6330).
//!
//! ```text
//!   LCT header: session (TSI), object (TOI), close flags, codepoint = FEC encoding id
//!     EXT_FDT   on object 0 only: which File Delivery Table this is
//!     EXT_FTI   how the object is cut; ours say it in every packet
//!   FEC payload id: source block, symbol
//!   symbol
//! ```
//!
//! Object 0 is the File Delivery Table: XML that names the others. [`packet`] makes packets of any object, [`table`] those of the
//! table, [`repair_symbols`] what RaptorQ adds. [`Sender`] sends files often enough, at a rate. [`Receiver`] puts objects together
//! and says what is missing.
//!
//! A receiver takes the close flags at their word and gives up what it lacks, so they are set when nothing follows any more. The
//! table has to be repeated while its files are sent.

mod alc;
mod fdt;
mod lct;
mod oti;
mod receiver;
mod sender;
mod transmit;

pub use alc::{Fdt, Packet, SymbolId, parse};
pub use fdt::{File, Table, Unreadable};
pub use lct::Header;
pub use oti::{Oti, OtiError};
pub use receiver::{Counters, Limits, Missing, Receiver, Report};
pub use sender::{Code, Config, Event, Offer, Progress, Refused, Sender};
pub use transmit::{Body, Coder, Transmit};

/// The object that is the File Delivery Table (RFC 6726 section 3.3).
pub const TABLE: u64 = 0;
/// Bytes in front of the symbol in packets of ours, at most, without what carries them: sessions below 2^32.
pub const HEADER_LEN: usize = 40;
/// FEC encoding id 0: no code (RFC 5445 section 3).
pub const NO_CODE: u8 = 0;
/// FEC encoding id 6: RaptorQ (RFC 6330 section 3).
pub const RAPTORQ: u8 = 6;

/// Why a datagram isn't a FLUTE packet that could be understood.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Malformed {
    /// Shorter than its header says.
    #[error("the packet is cut")]
    Cut,
    /// The version of LCT isn't 1.
    #[error("the version is unknown")]
    Version,
    /// The header is shorter than its fields.
    #[error("the header length is too short for the fields")]
    HeaderLength,
    /// No session is named, or an object number is longer than 64 bits.
    #[error("the session or object number is missing or too long")]
    Numbers,
    /// An extension is empty, goes beyond the header, or has the wrong length.
    #[error("an extension doesn't fit")]
    Extension,
    /// The codepoint is neither no code nor RaptorQ.
    #[error("the FEC encoding is unknown")]
    Fec,
    /// EXT_FTI contradicts itself.
    #[error("the object's FEC parameters are impossible")]
    Oti,
}

impl Malformed {
    /// All of them, for counters.
    pub const ALL: [Self; 7] =
        [Self::Cut, Self::Version, Self::HeaderLength, Self::Numbers, Self::Extension, Self::Fec, Self::Oti];
}

/// A packet with one symbol of an object.
#[must_use]
pub fn packet(tsi: u64, toi: u64, oti: &Oti, id: SymbolId, content: &[u8], close_object: bool) -> Vec<u8> {
    let header = Header { tsi, toi, close_session: false, close_object, codepoint: oti.codepoint() };
    Packet { header, fdt: None, oti: Some(*oti), id: Some(id), content }.to_vec()
}

/// The packet that ends a session.
#[must_use]
pub fn end(tsi: u64) -> Vec<u8> {
    let header = Header { tsi, toi: TABLE, close_session: true, close_object: false, codepoint: NO_CODE };
    Packet { header, fdt: None, oti: None, id: None, content: &[] }.to_vec()
}

/// The packets of a File Delivery Table, whose symbols are so long. Another table needs another number, 20 bits.
///
/// # Errors
/// [`OtiError`], if the table doesn't fit symbols of this length.
pub fn table(tsi: u64, instance: u32, table: &Table, symbol: u16) -> Result<Vec<Vec<u8>>, OtiError> {
    let xml = table.to_xml();
    let oti = Oti::no_code(xml.len() as u64, symbol, u16::MAX)?;
    let header = Header { tsi, toi: TABLE, close_session: false, close_object: false, codepoint: NO_CODE };
    let packets = oti.source_symbols().map(|(id, offset, len)| {
        let content = &xml.as_bytes()[offset as usize..][..len];
        Packet { header, fdt: Some(Fdt::of(instance)), oti: Some(oti), id: Some(id), content }.to_vec()
    });
    Ok(packets.collect())
}

/// Repair symbols of a block, from the `first` on (0 follows the source symbols), out of the block's bytes.
///
/// # Panics
/// If the object isn't coded with RaptorQ, or has no such block.
#[must_use]
pub fn repair_symbols(
    oti: &Oti,
    block: u32,
    bytes: &[u8],
    first: u32,
    count: u32,
) -> Vec<(SymbolId, Vec<u8>)> {
    let config = oti.raptorq(block).expect("coded with RaptorQ");
    let mut padded = bytes.to_vec();
    padded.resize(config.transfer_length() as usize, 0);
    let encoder = raptorq::SourceBlockEncoder::new(0, &config, &padded);
    let packets = encoder.repair_packets(first, count).into_iter();
    packets
        .map(|packet| {
            let (id, data) = packet.split();
            (SymbolId { block, symbol: id.encoding_symbol_id() }, data)
        })
        .collect()
}

#[cfg(test)]
mod tests;
