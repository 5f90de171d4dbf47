//! What clients and instances say in datagrams, plainly or inside something that looks like QUIC (RFC 8999).
//!
//! ```text
//!  plain   id, 8 bytes, the first below 0x40 │ leg │ round │ wanted, 2 │ bytes of a pattern
//!  long    0xc0 │ version, 4 │ length, id │ length, id │ as above
//!  short   0x40 │ id, whose first byte tells its length (QUIC-LB §3.3) │ as above
//!  answer  id, 8 bytes │ round │ who, 8 │ length, connection id │ bytes of a pattern
//! ```

use crate::random::pattern;
use crate::server::Wrong;

/// What a client says.
#[derive(Clone, Debug)]
pub(crate) struct Said {
    /// Of the conversation; each has another.
    pub(crate) id: u64,
    /// How often it has gone on from somewhere else.
    pub(crate) leg: u8,
    pub(crate) round: u8,
    /// Bytes that the answer has of its pattern.
    pub(crate) wanted: u16,
    pub(crate) body: usize,
    /// The connection's id, where it looks like QUIC: one of the client's own making before it has heard an instance's.
    pub(crate) connection: Option<Vec<u8>>,
    /// Whether the connection begins with it.
    pub(crate) is_long: bool,
}

const PLAIN: usize = 12;
/// What an id of a conversation hasn't: then it can't be taken for QUIC.
pub(crate) const ID: u64 = u64::MAX >> 2;
const LONG: u8 = 0xc0;
const SHORT: u8 = 0x40;

impl Said {
    pub(crate) fn bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        match &self.connection {
            Some(id) if self.is_long => {
                bytes.extend_from_slice(&[LONG, 0, 0, 0, 1, id.len() as u8]);
                bytes.extend_from_slice(id);
                bytes.push(0);
            }
            Some(id) => {
                bytes.push(SHORT);
                bytes.extend_from_slice(id);
            }
            None => {}
        }
        bytes.extend_from_slice(&self.id.to_be_bytes());
        bytes.extend_from_slice(&[self.leg, self.round]);
        bytes.extend_from_slice(&self.wanted.to_be_bytes());
        let from = bytes.len();
        bytes.resize(from + self.body, 0);
        pattern(self.id, 0, &mut bytes[from..]);
        bytes
    }

    /// Reads what came; `None` for what no client says. Of a first fragment, `body` is what there is of it.
    pub(crate) fn read(bytes: &[u8]) -> Option<Self> {
        let (connection, is_long, rest) = match bytes.first()? & (LONG | SHORT) {
            LONG => {
                let (id, rest) = bytes.get(6..)?.split_at_checked(usize::from(bytes[5]))?;
                (Some(id), true, rest.get(1..)?)
            }
            SHORT => {
                let len = 1 + usize::from(bytes.get(1)? & 0x1f);
                let (id, rest) = bytes.get(1..)?.split_at_checked(len)?;
                (Some(id), false, rest)
            }
            _ => (None, false, bytes),
        };
        let (head, body) = rest.split_first_chunk::<PLAIN>()?;
        Some(Self {
            id: u64::from_be_bytes([head[0], head[1], head[2], head[3], head[4], head[5], head[6], head[7]]),
            leg: head[8],
            round: head[9],
            wanted: u16::from_be_bytes([head[10], head[11]]),
            body: body.len(),
            connection: connection.map(<[u8]>::to_vec),
            is_long,
        })
    }

    /// Whether `bytes`, from which it was read, are what its client said.
    pub(crate) fn check(&self, bytes: &[u8]) -> Result<(), Wrong> {
        if self.bytes() == bytes { Ok(()) } else { Err(Wrong::Bytes { connection: self.id, at: 0 }) }
    }
}

/// An instance's answer; `made` is the connection id that it has made.
pub(crate) fn answer(said: &Said, who: u64, made: &[u8]) -> Vec<u8> {
    let mut bytes = said.id.to_be_bytes().to_vec();
    bytes.push(said.round);
    bytes.extend_from_slice(&who.to_be_bytes());
    bytes.push(made.len() as u8);
    bytes.extend_from_slice(made);
    let from = bytes.len();
    bytes.resize(from + usize::from(said.wanted), 0);
    pattern(!said.id, 0, &mut bytes[from..]);
    bytes
}

/// Reads an answer: its round, who gave it, and the connection id that it tells.
pub(crate) fn heard(id: u64, bytes: &[u8]) -> Option<(u8, u64, Vec<u8>)> {
    let round = *bytes.get(8)?;
    let who = u64::from_be_bytes(*bytes.get(9..)?.first_chunk()?);
    let len = usize::from(*bytes.get(17)?);
    let (made, body) = bytes.get(18..)?.split_at_checked(len)?;
    let mut expected = vec![0; body.len()];
    pattern(!id, 0, &mut expected);
    (bytes[..8] == id.to_be_bytes() && expected == body).then(|| (round, who, made.to_vec()))
}
