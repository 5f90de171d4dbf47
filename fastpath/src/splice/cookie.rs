//! SYN cookies: the handshake's state lies in the number that the client sends back, so a SYN costs no memory.
//!
//! ```text
//!   our initial sequence number     31                    8 7     5 4      1  0
//!                                  │ keyed hash of addresses,│ MSS   │ window │ SACK │
//!                                  │ ports, client's ISN, tick│ index │ scale  │      │   the low byte hidden by more hash
//!
//!   our timestamp (RFC 7323)        keyed hash of addresses, ports, client's ISN  +  milliseconds of our clock
//! ```
//!
//! A tick is 64 seconds; the running and the last one are accepted, so a cookie lives between one and two ticks. Whether
//! timestamps were agreed on is plain from the acknowledgement: who agreed sends them in every segment (RFC 7323 §3.2). Their echo
//! must then be a time at which we could have answered, which adds fifteen bits to the twenty-four that an attacker has
//! to guess. The options aren't covered by the hash: a client that alters its own harms nobody but itself.

use siphasher::sip::SipHasher24;

use super::options::{Options, SCALE_MAX, Timestamps};
use crate::addr::Addr;
use crate::clock::Nanos;

/// How long a tick is.
const TICK_NANOS: u64 = 64_000_000_000;
/// For how long a cookie may come back.
pub const LIFE_NANOS: u64 = TICK_NANOS * (AGE_TICKS + 1);
/// Ticks that a cookie is accepted in after the one that it was given out in.
pub const AGE_TICKS: u64 = 1;
/// The same for one that was accepted already, and has waited: no hold lasts longer than a tick.
pub const AGE_TICKS_HELD: u64 = AGE_TICKS + 1;

/// The segment lengths that a cookie can tell apart, ascending: the smallest that kernels use, the defaults of IPv4
/// (RFC 9293 §3.7.1) and IPv6 (RFC 8200 §5), and those of Ethernet under the usual encapsulations.
const MSS: [u16; 8] = [88, 536, 1220, 1360, 1400, 1440, 1452, 1460];
/// Stands for "windows are not scaled".
const NO_SCALE: u8 = 15;
const _: () = assert!(SCALE_MAX < NO_SCALE);

/// Which connection: its four-tuple and the client's initial sequence number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Handshake {
    /// The client's address and port.
    pub client: (Addr, u16),
    /// The service's address and port.
    pub service: (Addr, u16),
    /// The client's initial sequence number.
    pub client_isn: u32,
}

/// Makes and reads cookies.
#[derive(Clone, Copy, Debug)]
pub struct Cookies {
    hasher: SipHasher24,
}

impl Cookies {
    /// Cookies under these secret keys.
    pub fn new(keys: [u64; 2]) -> Self {
        Self { hasher: SipHasher24::new_with_keys(keys[0], keys[1]) }
    }

    /// The initial sequence number to answer a SYN with; `options` are the client's.
    pub fn issue(&self, handshake: &Handshake, options: &Options, now: Nanos) -> u32 {
        let mask = self.mask(handshake, tick(now));
        mask & !0xff | u32::from(mask as u8 ^ pack(options))
    }

    /// The options that the client sent with its SYN, if `isn` is what [`Cookies::issue`] answered within the last
    /// `age_ticks` ticks or this one. `stamps` are those of the acknowledgement.
    pub fn check(
        &self,
        handshake: &Handshake,
        isn: u32,
        stamps: Option<Timestamps>,
        now: Nanos,
        age_ticks: u64,
    ) -> Option<Options> {
        if let Some(stamps) = stamps {
            let age_ms = u64::from(self.stamp(handshake, now).wrapping_sub(stamps.echo));
            if age_ms * 1_000_000 > (age_ticks + 1) * TICK_NANOS {
                return None;
            }
        }
        let tick = tick(now);
        (0..=age_ticks.min(tick)).find_map(|age| {
            let mask = self.mask(handshake, tick - age);
            let options = unpack(isn as u8 ^ mask as u8);
            (isn >> 8 == mask >> 8).then_some(Options { timestamps: stamps, ..options })
        })
    }

    /// What our clock shows this client: milliseconds from a beginning that only we know.
    pub fn stamp(&self, handshake: &Handshake, now: Nanos) -> u32 {
        // No tick is this one: a cookie and a stamp never come from the same hash.
        self.mask(handshake, u64::MAX).wrapping_add((now.0 / 1_000_000) as u32)
    }

    fn mask(&self, handshake: &Handshake, tick: u64) -> u32 {
        let mut bytes = [0; 48];
        bytes[..16].copy_from_slice(&handshake.client.0.0.to_le_bytes());
        bytes[16..32].copy_from_slice(&handshake.service.0.0.to_le_bytes());
        bytes[32..34].copy_from_slice(&handshake.client.1.to_le_bytes());
        bytes[34..36].copy_from_slice(&handshake.service.1.to_le_bytes());
        bytes[36..40].copy_from_slice(&handshake.client_isn.to_le_bytes());
        bytes[40..].copy_from_slice(&tick.to_le_bytes());
        self.hasher.hash(&bytes) as u32
    }
}

fn tick(now: Nanos) -> u64 {
    now.0 / TICK_NANOS
}

/// The options in a byte; the segment length is rounded down, so that nobody is sent more than it takes.
fn pack(options: &Options) -> u8 {
    // Without the option 536 bytes are meant (RFC 9293 §3.7.1).
    let mss = options.mss.unwrap_or(MSS[1]);
    let index = MSS.iter().rposition(|known| *known <= mss).unwrap_or(0) as u8;
    index << 5 | options.scale.unwrap_or(NO_SCALE) << 1 | u8::from(options.sack_permitted)
}

fn unpack(byte: u8) -> Options {
    Options {
        mss: Some(MSS[usize::from(byte >> 5)]),
        scale: Some(byte >> 1 & 0xf).filter(|scale| *scale != NO_SCALE),
        sack_permitted: byte & 1 != 0,
        timestamps: None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const KEYS: [u64; 2] = [3, 4];
    const SECOND: u64 = 1_000_000_000;

    fn handshake() -> Handshake {
        Handshake {
            client: (Addr::v4([10, 9, 9, 9]), 40_000),
            service: (Addr::v4([203, 0, 113, 10]), 80),
            client_isn: 0xffff_fff0,
        }
    }

    fn some_options() -> Options {
        Options { mss: Some(1460), scale: Some(7), sack_permitted: true, timestamps: None }
    }

    proptest! {
        #[test]
        fn what_goes_in_comes_out(
            client in any::<u32>(), port in any::<u16>(), client_isn in any::<u32>(), nanos in 0..u64::MAX / 2,
            mss in prop::option::of(1u16..), scale in prop::option::of(0u8..=14), sack in any::<bool>(),
            stamp in prop::option::of(any::<u32>()), wait in 0..TICK_NANOS,
        ) {
            let cookies = Cookies::new(KEYS);
            let handshake = Handshake { client: (Addr::v4(client.to_be_bytes()), port), client_isn, ..handshake() };
            let options = Options { mss, scale, sack_permitted: sack, timestamps: None };
            let isn = cookies.issue(&handshake, &options, Nanos(nanos));
            let stamps = stamp.map(|value| Timestamps { value, echo: cookies.stamp(&handshake, Nanos(nanos)) });
            let got = cookies.check(&handshake, isn, stamps, Nanos(nanos + wait), AGE_TICKS).unwrap();
            prop_assert_eq!((got.scale, got.sack_permitted, got.timestamps), (scale, sack, stamps));
            let (said, meant) = (got.mss.unwrap(), mss.unwrap_or(536));
            prop_assert!(MSS.contains(&said) && (said <= meant || said == MSS[0]));
            prop_assert!(MSS.iter().all(|known| *known <= said || *known > meant), "the nearest below");
        }

        #[test]
        fn another_connection_s_cookie_is_worth_nothing(change in 0usize..5, by in 1u16..) {
            let cookies = Cookies::new(KEYS);
            let mut other = handshake();
            match change {
                0 => other.client.0.0 ^= u128::from(by),
                1 => other.client.1 ^= by,
                2 => other.service.0.0 ^= u128::from(by),
                3 => other.service.1 ^= by,
                _ => other.client_isn ^= u32::from(by),
            }
            let isn = cookies.issue(&handshake(), &some_options(), Nanos(0));
            prop_assert_eq!(cookies.check(&other, isn, None, Nanos(0), AGE_TICKS), None);
        }
    }

    #[test]
    fn a_cookie_lives_for_its_tick_and_the_next() {
        let cookies = Cookies::new(KEYS);
        let isn = cookies.issue(&handshake(), &some_options(), Nanos(2 * TICK_NANOS));
        let holds = |nanos, age| cookies.check(&handshake(), isn, None, Nanos(nanos), age).is_some();
        assert!(holds(2 * TICK_NANOS, AGE_TICKS) && holds(4 * TICK_NANOS - 1, AGE_TICKS));
        assert!(!holds(4 * TICK_NANOS, AGE_TICKS), "too old");
        assert!(
            holds(4 * TICK_NANOS, AGE_TICKS_HELD),
            "but not for one that was accepted in time and waited"
        );
        assert!(!holds(2 * TICK_NANOS - 1, AGE_TICKS), "from the future");
        let other = Cookies::new([KEYS[0], KEYS[1] + 1]);
        assert_eq!(
            other.check(&handshake(), isn, None, Nanos(2 * TICK_NANOS), AGE_TICKS),
            None,
            "another key"
        );
    }

    #[test]
    fn an_echo_must_be_a_time_at_which_we_answered() {
        let cookies = Cookies::new(KEYS);
        let now = Nanos(1000 * SECOND);
        let isn = cookies.issue(&handshake(), &some_options(), now);
        let check = |echo: u32| {
            cookies.check(&handshake(), isn, Some(Timestamps { value: 5, echo }), now, AGE_TICKS).is_some()
        };
        let stamp = cookies.stamp(&handshake(), now);
        assert!(check(stamp) && check(stamp.wrapping_sub(128_000)));
        assert!(!check(stamp.wrapping_add(1)), "the future");
        assert!(!check(stamp.wrapping_sub(128_001)), "before any cookie that is still good");
        let later = cookies.stamp(&handshake(), Nanos(now.0 + 5 * SECOND));
        assert_eq!(later.wrapping_sub(stamp), 5000, "milliseconds, for the life of the connection");
    }

    #[test]
    fn guesses_fail() {
        let cookies = Cookies::new(KEYS);
        let hits = (0..100_000u32)
            .filter(|guess| {
                let isn = guess.wrapping_mul(0x9e37_79b1);
                cookies.check(&handshake(), isn, None, Nanos(0), AGE_TICKS).is_some()
            })
            .count();
        assert!(hits <= 1, "one in eight million is expected, {hits} of a hundred thousand hit");
    }
}
