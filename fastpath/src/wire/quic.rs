//! What every version of QUIC shows of a datagram's first packet (RFC 8999): whose connection it is, and no more.
//!
//! ```text
//!  long   1xxxxxxx │ version, 4 bytes │ length │ destination id │ length │ source id │ ...      §5.1
//!  short  xxxxxxxx │ destination id, as long as whoever made it knows │ ...                     §5.2
//! ```
//!
//! A datagram may hold several packets; they are of one connection (RFC 9000 §12.2), so the first says it all.

/// What a version negotiation has for its version (RFC 8999 §6).
pub const VERSION_NEGOTIATION: u32 = 0;
/// What the first byte has where the header is long.
const LONG: u8 = 0x80;

/// The header of a datagram's first packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Header<'a> {
    /// One that says how long its ids are. Connections begin with it.
    Long {
        /// The version; [`VERSION_NEGOTIATION`] in what only servers send.
        version: u32,
        /// Whom it is for: made by the client until it has heard the server's.
        destination: &'a [u8],
        /// Whom answers are for.
        source: &'a [u8],
    },
    /// One that doesn't. No connection begins with it.
    Short {
        /// What begins with the destination's id.
        rest: &'a [u8],
    },
}

impl<'a> Header<'a> {
    /// Reads the front of a UDP datagram; `None` where it is cut off within the header.
    #[inline]
    pub fn parse(datagram: &'a [u8]) -> Option<Self> {
        let (first, rest) = datagram.split_first()?;
        if first & LONG == 0 {
            return Some(Header::Short { rest });
        }
        let (version, rest) = rest.split_first_chunk::<4>()?;
        let (destination, rest) = id(rest)?;
        let (source, _) = id(rest)?;
        Some(Header::Long { version: u32::from_be_bytes(*version), destination, source })
    }

    /// What begins with the destination's id, or is it.
    #[inline]
    pub fn destination(&self) -> &'a [u8] {
        match self {
            Header::Long { destination, .. } => destination,
            Header::Short { rest } => rest,
        }
    }
}

/// An id behind its length, and what follows. Versions may have ids of up to 255 bytes; that of today has 20 (RFC 9000
/// §17.2).
#[inline]
fn id(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (len, rest) = bytes.split_first()?;
    rest.split_at_checked(usize::from(*len))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The client's Initial of RFC 9001 appendix A.2, as far as the token's length.
    const INITIAL: [u8; 16] = [0xc0, 0, 0, 0, 1, 8, 0x83, 0x94, 0xc8, 0xf0, 0x3e, 0x51, 0x57, 0x08, 0, 0];

    #[test]
    fn an_initial_shows_version_and_ids() {
        let destination = &[0x83, 0x94, 0xc8, 0xf0, 0x3e, 0x51, 0x57, 0x08][..];
        assert_eq!(Header::parse(&INITIAL), Some(Header::Long { version: 1, destination, source: &[] }));
    }

    #[test]
    fn a_short_header_is_an_id_and_what_follows() {
        assert_eq!(Header::parse(&[0x4c, 1, 2, 3]), Some(Header::Short { rest: &[1, 2, 3] }));
        assert_eq!(Header::parse(&[0x4c]), Some(Header::Short { rest: &[] }));
    }

    #[test]
    fn what_is_cut_within_the_header_is_none() {
        for len in 0..15 {
            assert_eq!(Header::parse(&INITIAL[..len]), None, "{len} bytes");
        }
        assert!(Header::parse(&INITIAL[..15]).is_some(), "the token is no invariant");
    }

    #[test]
    fn ids_may_be_longer_than_version_1_has_them() {
        let long = [&[0xff, 0, 0, 0, 9, 255][..], &[7; 255], &[3, 1, 2, 3]].concat();
        let Some(Header::Long { version: 9, destination, source }) = Header::parse(&long) else {
            panic!("it is whole")
        };
        assert_eq!((destination, source), (&[7; 255][..], &[1, 2, 3][..]));
        assert_eq!(Header::parse(&long[..long.len() - 1]), None);
    }
}
