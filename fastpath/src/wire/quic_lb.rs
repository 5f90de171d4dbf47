//! QUIC connection ids that say which server made them: QUIC-LB, draft-ietf-quic-load-balancers-21.
//!
//! ```text
//!   rotation, 3 bits │ length or anything, 5 bits │ server id │ nonce │ whatever the server likes
//!                                                 └─ with a key, these two encrypted ─┘
//! ```
//!
//! Servers make their ids so (§5.4); whoever balances reads the server's from the id of any packet (§5.5), at whatever
//! address its client is now. The cipher is AES-128: of the crate `aes`, because a table-driven one of our own would be slow
//! and would tell its key by its timing, and that crate uses the processor's instructions where there are any.
//!
//! Of the drafts this is the latest; those before -17 have two bits of rotation, and those before -19 encrypt
//! otherwise.

use std::fmt;

use aes::Aes128;
use aes::cipher::{BlockCipherDecrypt, BlockCipherEncrypt, KeyInit};
use arrayvec::ArrayVec;

/// Configurations that can be told apart by the first three bits of an id; the eighth value says that an id can't be
/// read (§3.2).
pub const ROTATIONS: usize = 7;
/// The longest id of QUIC version 1 (RFC 9000 §17.2).
pub const ID_MAX: usize = 20;
/// The longest server id and nonce together (§5.3).
pub const PLAIN_MAX: usize = ID_MAX - 1;
/// The shortest nonce (§5.3).
pub const NONCE_MIN: usize = 4;
/// The longest server id.
pub const SERVER_ID_MAX: usize = PLAIN_MAX - NONCE_MIN;
/// The one length of server id and nonce that makes a whole block (§5.4.1).
const BLOCK: usize = 16;

/// A server's id. All of one configuration are equally long.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ServerId(u128);

impl ServerId {
    /// The id with these bytes, at most [`SERVER_ID_MAX`] of them; `None` for more.
    pub fn new(bytes: &[u8]) -> Option<Self> {
        (bytes.len() <= SERVER_ID_MAX).then(|| Self::of(bytes))
    }

    #[inline]
    fn of(bytes: &[u8]) -> Self {
        Self(bytes.iter().fold(0, |id, byte| id << 8 | u128::from(*byte)))
    }
}

/// What ids are encrypted with.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Key(pub [u8; 16]);

impl fmt::Debug for Key {
    /// Without the key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key")
    }
}

/// How ids of one configuration are made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    rotation: u8,
    server_id_len: u8,
    nonce_len: u8,
    key: Option<Key>,
}

impl Layout {
    /// A layout with these lengths in bytes; `None` where the draft has no such (§3.1, §5.3).
    pub fn new(rotation: u8, server_id_len: usize, nonce_len: usize, key: Option<Key>) -> Option<Self> {
        let lengths = server_id_len >= 1 && nonce_len >= NONCE_MIN && server_id_len + nonce_len <= PLAIN_MAX;
        (usize::from(rotation) < ROTATIONS && lengths).then_some(Self {
            rotation,
            server_id_len: server_id_len as u8,
            nonce_len: nonce_len as u8,
            key,
        })
    }

    /// The first three bits of its ids, below [`ROTATIONS`].
    pub fn rotation(&self) -> usize {
        usize::from(self.rotation)
    }

    fn server_id_len(&self) -> usize {
        usize::from(self.server_id_len)
    }

    fn plain_len(&self) -> usize {
        self.server_id_len() + usize::from(self.nonce_len)
    }
}

/// The rotation that an id's first byte tells, which may be one that nobody has.
#[inline]
pub fn rotation(first: u8) -> usize {
    usize::from(first >> 5)
}

/// Reads and makes the ids of one configuration.
#[derive(Clone)]
pub struct Codec {
    layout: Layout,
    cipher: Option<Aes128>,
}

impl Codec {
    /// For ids of this layout.
    pub fn new(layout: Layout) -> Self {
        Self { layout, cipher: layout.key.map(|Key(key)| Aes128::new(&key.into())) }
    }

    /// The server that made an id; `id` may go on behind it. `None` where it is too short, or another configuration's.
    #[inline]
    pub fn read(&self, id: &[u8]) -> Option<ServerId> {
        let layout = &self.layout;
        let (first, rest) = id.split_first()?;
        let text = rest.get(..layout.plain_len())?;
        if rotation(*first) != layout.rotation() {
            return None;
        }
        match &self.cipher {
            None => Some(ServerId::of(text.get(..layout.server_id_len())?)),
            Some(cipher) => {
                let mut plain = [0; PLAIN_MAX];
                let plain = plain.get_mut(..text.len())?;
                plain.copy_from_slice(text);
                decrypt(cipher, layout, plain);
                Some(ServerId::of(plain.get(..layout.server_id_len())?))
            }
        }
    }

    /// An id that `server` makes, which tells its own length (§3.3). `nonce` is never used twice, and looks like chance
    /// where there is no key. `None` where its length, or the server's id, isn't the layout's.
    pub fn make(&self, server: ServerId, nonce: &[u8]) -> Option<ArrayVec<u8, ID_MAX>> {
        let layout = &self.layout;
        let fits = server.0 >> (8 * layout.server_id_len()) == 0;
        if !fits || nonce.len() != usize::from(layout.nonce_len) {
            return None;
        }
        let mut id = ArrayVec::new();
        id.push(layout.rotation << 5 | layout.plain_len() as u8);
        let server = server.0.to_be_bytes();
        id.try_extend_from_slice(&server[server.len() - layout.server_id_len()..]).ok()?;
        id.try_extend_from_slice(nonce).ok()?;
        if let Some(cipher) = &self.cipher {
            encrypt(cipher, id.get_mut(1..)?);
        }
        Some(id)
    }
}

impl fmt::Debug for Codec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Codec").field("layout", &self.layout).finish_non_exhaustive()
    }
}

/// Encrypts server id and nonce: as one block where they are one (§5.4.1), and by four passes otherwise (§5.4.2).
fn encrypt(cipher: &Aes128, text: &mut [u8]) {
    if let Ok(block) = <&mut [u8; BLOCK]>::try_from(&mut *text) {
        cipher.encrypt_block(block.into());
        return;
    }
    let passes = Passes { cipher, halves: Halves::of(text.len()) };
    let [left, right] = passes.halves.split(text);
    let right = passes.right(right, left, 1);
    let left = passes.left(left, right, 2);
    let right = passes.right(right, left, 3);
    let left = passes.left(left, right, 4);
    passes.halves.join([left, right], text);
}

/// The way back, as far as the server's id needs it: the last pass is for what stands in the second half (§5.5.2).
#[inline]
fn decrypt(cipher: &Aes128, layout: &Layout, text: &mut [u8]) {
    if let Ok(block) = <&mut [u8; BLOCK]>::try_from(&mut *text) {
        cipher.decrypt_block(block.into());
        return;
    }
    let passes = Passes { cipher, halves: Halves::of(text.len()) };
    let [left, right] = passes.halves.split(text);
    let left = passes.left(left, right, 4);
    let right = passes.right(right, left, 3);
    let left = passes.left(left, right, 2);
    let right = if layout.server_id_len > layout.nonce_len { passes.right(right, left, 1) } else { right };
    passes.halves.join([left, right], text);
}

/// A network of Feistel's whose round is AES (§5.4.2).
struct Passes<'a> {
    cipher: &'a Aes128,
    halves: Halves,
}

impl Passes<'_> {
    #[inline]
    fn left(&self, left: u128, right: u128, pass: u8) -> u128 {
        (left ^ self.round(right, pass)) & self.halves.left
    }

    #[inline]
    fn right(&self, right: u128, left: u128, pass: u8) -> u128 {
        (right ^ self.round(left, pass)) & self.halves.right
    }

    /// The draft's `expand`, encrypted. A half has ten bytes at most, so that the last two are free.
    #[inline]
    fn round(&self, half: u128, pass: u8) -> u128 {
        let expanded = half | (self.halves.len as u128) << 8 | u128::from(pass);
        let mut block = expanded.to_be_bytes();
        self.cipher.encrypt_block((&mut block).into());
        u128::from_be_bytes(block)
    }
}

/// The halves of a text, each in the upper bits of a word. Where the length is odd, the byte in the middle is shared out:
/// its upper half is the left's last, its lower one the right's first, and the other halves of those two bytes are zero.
#[derive(Clone, Copy)]
struct Halves {
    /// Length of the text, in bytes.
    len: usize,
    /// Bytes of a half, the shared one included.
    half: usize,
    left: u128,
    right: u128,
}

impl Halves {
    #[inline]
    fn of(len: usize) -> Self {
        let left = u128::MAX << (128 - 4 * len);
        Self { len, half: len.div_ceil(2), left, right: if len.is_multiple_of(2) { left } else { left >> 4 } }
    }

    #[inline]
    fn split(&self, text: &[u8]) -> [u128; 2] {
        let word = |bytes: &[u8]| {
            let mut block = [0; 16];
            block[..self.half].copy_from_slice(bytes);
            u128::from_be_bytes(block)
        };
        [word(&text[..self.half]) & self.left, word(&text[self.len - self.half..]) & self.right]
    }

    #[inline]
    fn join(&self, halves: [u128; 2], text: &mut [u8]) {
        let [left, right] = halves.map(u128::to_be_bytes);
        text[..self.half].copy_from_slice(&left[..self.half]);
        for (to, from) in text[self.half..].iter_mut().zip(&right[self.len % 2..]) {
            *to = *from;
        }
        if self.len % 2 == 1 {
            text[self.half - 1] |= right[0];
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn hex(text: &str) -> Vec<u8> {
        (0..text.len() / 2).map(|at| u8::from_str_radix(&text[2 * at..2 * at + 2], 16).unwrap()).collect()
    }

    fn key(text: &str) -> Key {
        Key(hex(text).try_into().unwrap())
    }

    /// That the server's id and the nonce make this id, and that it is read again.
    fn check(key: Option<Key>, server: &str, nonce: &str, id: &str) {
        let (server, nonce, id) = (hex(server), hex(nonce), hex(id));
        let layout = Layout::new(id[0] >> 5, server.len(), nonce.len(), key).unwrap();
        let (codec, server) = (Codec::new(layout), ServerId::new(&server).unwrap());
        assert_eq!(codec.make(server, &nonce).unwrap()[..], id);
        assert_eq!(codec.read(&id), Some(server));
        // Behind it are more bytes of the server's own (§5.4), or of a packet with a short header.
        assert_eq!(codec.read(&[&id[..], &[1, 2, 3]].concat()), Some(server));
        assert_eq!(codec.read(&id[..id.len() - 1]), None, "too short");
        assert_eq!(codec.read(&[&[id[0] ^ 0x20], &id[1..]].concat()), None, "another rotation's");
    }

    /// Appendix B. The second of B.1 lacks half a byte there, so it is left out; the last of B.2 is labelled with another
    /// rotation than its id has.
    #[test]
    fn ids_are_those_of_the_draft() {
        check(None, "c4605e", "4504cc4f", "07c4605e4504cc4f");
        let key = Some(key("8f95f09245765f80256934e50c66207f"));
        check(key, "ed793a", "ee080dbf", "0720b1d07b359d3c");
        check(key, "ed793a51d49b8f5fab65", "ee080dbf48", "2fcc381bc74cb4fbad2823a3d1f8fed2");
        check(key, "ed793a51d49b8f5f", "ee080dbf48c0d1e5", "504dd2d05a7b0de9b2b9907afb5ecf8cc3");
        check(key, "ed793a51d49b8f5fab", "ee080dbf48c0d1e55d", "125779c9cc86beb3a3a4a3ca96fce4bfe0cdbc");
    }

    /// The example of §5.4.2.4.
    #[test]
    fn the_drafts_example_comes_out_as_it_says() {
        check(Some(key("fdf726a9893ec05c0632d3956680baf0")), "31441a", "9c69c275", "0767947d29be054a");
    }

    #[test]
    fn no_layout_is_beyond_the_drafts_bounds() {
        for (rotation, server, nonce, good) in [
            (0, 1, 4, true),
            (6, 15, 4, true),
            (6, 1, 18, true),
            (7, 1, 4, false),
            (0, 0, 4, false),
            (0, 1, 3, false),
            (0, 16, 4, false),
            (0, 2, 18, false),
        ] {
            assert_eq!(
                Layout::new(rotation, server, nonce, None).is_some(),
                good,
                "{rotation} {server} {nonce}"
            );
        }
    }

    #[test]
    fn a_codec_makes_no_id_of_another_layout() {
        let codec = Codec::new(Layout::new(0, 2, 4, None).unwrap());
        assert_eq!(codec.make(ServerId::new(&[1, 0, 0]).unwrap(), &[0; 4]), None);
        assert_eq!(codec.make(ServerId::new(&[1, 0]).unwrap(), &[0; 5]), None);
        assert_eq!(ServerId::new(&[0; SERVER_ID_MAX + 1]), None);
    }

    /// The draft's text, word by word, on bytes; slow, and it shares nothing with the passes above but the cipher.
    fn model(key: Key, server: &[u8], nonce: &[u8]) -> Vec<u8> {
        let cipher = Aes128::new(&key.0.into());
        let mut plain = [server, nonce].concat();
        let len = plain.len();
        if len == 16 {
            cipher.encrypt_block(plain.as_mut_slice().try_into().unwrap());
            return plain;
        }
        let odd = len % 2 == 1;
        let half = len.div_ceil(2);
        let clear_first = |bytes: &mut Vec<u8>| bytes[0] &= if odd { 0x0f } else { 0xff };
        let clear_last = |bytes: &mut Vec<u8>| bytes[half - 1] &= if odd { 0xf0 } else { 0xff };
        let xor_round = |to: &[u8], from: &[u8], pass: u8| -> Vec<u8> {
            let mut input = from.to_vec();
            input.resize(14, 0);
            input.extend([len as u8, pass]);
            cipher.encrypt_block(input.as_mut_slice().try_into().unwrap());
            to.iter().zip(&input).map(|(a, b)| a ^ b).collect()
        };
        let (mut left, mut right) = (plain[..half].to_vec(), plain[len - half..].to_vec());
        clear_last(&mut left);
        clear_first(&mut right);
        for pass in 1..=4 {
            if pass % 2 == 1 {
                right = xor_round(&right, &left, pass);
                clear_first(&mut right);
            } else {
                left = xor_round(&left, &right, pass);
                clear_last(&mut left);
            }
        }
        if odd {
            let shared = left.pop().unwrap() | right[0];
            right[0] = shared;
        }
        [left, right].concat()
    }

    proptest! {
        #[test]
        fn what_is_made_is_read_and_is_what_the_text_says(
            rotation in 0..ROTATIONS as u8,
            server in prop::collection::vec(any::<u8>(), 1..=SERVER_ID_MAX),
            nonce in prop::collection::vec(any::<u8>(), NONCE_MIN..=PLAIN_MAX - 1),
            key in any::<Option<[u8; 16]>>(),
        ) {
            let nonce = &nonce[..nonce.len().min(PLAIN_MAX - server.len())];
            let key = key.map(Key);
            let codec = Codec::new(Layout::new(rotation, server.len(), nonce.len(), key).unwrap());
            let id = codec.make(ServerId::new(&server).unwrap(), nonce).unwrap();
            let text = key.map_or_else(|| [&server, nonce].concat(), |key| model(key, &server, nonce));
            prop_assert_eq!(&id[1..], &text[..]);
            prop_assert_eq!((rotation, text.len()), (id[0] >> 5, usize::from(id[0] & 31)));
            prop_assert_eq!(codec.read(&id), ServerId::new(&server));
        }

        #[test]
        fn any_bytes_are_read_without_a_panic(
            rotation in 0..ROTATIONS as u8,
            server in 1..=SERVER_ID_MAX,
            key in any::<Option<[u8; 16]>>(),
            bytes in prop::collection::vec(any::<u8>(), 0..40),
        ) {
            let layout = Layout::new(rotation, server, NONCE_MIN, key.map(Key)).unwrap();
            let read = Codec::new(layout).read(&bytes);
            let whole = bytes.len() > server + NONCE_MIN && bytes[0] >> 5 == rotation;
            prop_assert_eq!(read.is_some(), whole);
            prop_assert!(read.is_none_or(|id| id.0 >> (8 * server) == 0));
        }
    }
}
