//! DNS cookies (RFC 7873) as all servers of an address can make them alike (RFC 9018): a client that shows the cookie it
//! was given proves that it receives what is sent to its address.
//!
//! ```text
//!    0            8        9         12         16            24
//!    client's own │ 1      │ 0 0 0   │ time     │ SipHash-2-4 of all before it and the client's address
//!    └─ client ───┘└─ server: version, reserved, seconds since 1970, hash ─┘
//! ```
//!
//! Secrets are rolled as RFC 9018 section 5 says: the first of [`CookieKeys`] makes cookies, all of them are accepted.

use siphasher::sip::SipHasher24;

use super::message::Malformed;
use crate::addr::Addr;
use crate::clock::Nanos;

/// Length of a client's own cookie.
pub(super) const CLIENT_LEN: usize = 8;
/// Length of a cookie with the server's part.
pub(super) const FULL_LEN: usize = CLIENT_LEN + 16;
/// Where the hash stands.
const HASH_AT: usize = FULL_LEN - 8;
/// The server's part of others' cookies is at most this long (RFC 7873 section 4).
const FULL_LEN_MAX: usize = CLIENT_LEN + 32;
/// Secrets that are accepted at a time: the current one, the one before, and the next.
pub const COOKIE_SECRETS_MAX: usize = 3;
/// The one version of interoperable cookies.
const VERSION: u8 = 1;
/// How old a cookie may be, in seconds (RFC 9018 section 4.3).
const AGE_SECONDS_MAX: i32 = 3600;
/// From which age on it is replaced.
const AGE_SECONDS_FRESH: i32 = 1800;
/// How far a cookie may be ahead of our clock.
const AHEAD_SECONDS_MAX: i32 = 300;

/// A secret, 128 bits, as other servers of the same address have it too.
pub type CookieSecret = [u8; 16];

/// The secrets that cookies are made and checked with.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct CookieKeys {
    secrets: [CookieSecret; COOKIE_SECRETS_MAX],
    count: u8,
    unix_offset_nanos: u64,
}

/// What it takes to check and make a client's cookie.
#[derive(Clone, Copy, Debug)]
pub struct Cookies<'a> {
    /// The secrets.
    pub keys: &'a CookieKeys,
    /// The client's address.
    pub client: Addr,
    /// The time, by the clock that the keys' offset goes with.
    pub now: Nanos,
}

/// Where in a query the data of a cookie option stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct CookieOption {
    pub(super) at: u16,
    pub(super) len: u16,
}

/// What a cookie comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Checked {
    /// What the answer carries.
    pub(super) answer: [u8; FULL_LEN],
    /// Whether the client has shown a cookie of ours.
    pub(super) proven: bool,
}

impl CookieKeys {
    /// Keys with these secrets, the one that makes cookies first; `None` without one. Those beyond
    /// [`COOKIE_SECRETS_MAX`] are left out. `unix_offset_nanos` is the wall clock minus the monotonic clock, in
    /// nanoseconds since 1970-01-01 UTC.
    pub fn new(secrets: &[CookieSecret], unix_offset_nanos: u64) -> Option<Self> {
        let first = *secrets.first()?;
        let mut all = [first; COOKIE_SECRETS_MAX];
        for (to, from) in all.iter_mut().zip(secrets) {
            *to = *from;
        }
        Some(Self { secrets: all, count: secrets.len().min(COOKIE_SECRETS_MAX) as u8, unix_offset_nanos })
    }

    /// The same with a new secret that makes cookies; those it had are accepted still, but for the oldest.
    pub fn rolled(&self, secret: CookieSecret) -> Self {
        let [first, second, _] = self.secrets;
        let count = (self.count + 1).min(COOKIE_SECRETS_MAX as u8);
        Self { secrets: [secret, first, second], count, ..*self }
    }

    fn secrets(&self) -> &[CookieSecret] {
        &self.secrets[..usize::from(self.count)]
    }
}

impl std::fmt::Debug for CookieKeys {
    /// Without the secrets.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CookieKeys").field("count", &self.count).finish_non_exhaustive()
    }
}

impl CookieOption {
    /// Checks the cookie in `message` and makes the one for the answer. One of ours that is neither old nor wrong goes
    /// back as it is, until it is time for a new one.
    ///
    /// # Errors
    /// The option has a length that no cookie has (RFC 7873 section 5.2.2).
    #[inline(never)]
    pub(super) fn check(self, message: &[u8], cookies: &Cookies<'_>) -> Result<Checked, Malformed> {
        let at = usize::from(self.at);
        let data = message.get(at..at + usize::from(self.len)).ok_or(Malformed)?;
        if data.len() != CLIENT_LEN && !(CLIENT_LEN + 8..=FULL_LEN_MAX).contains(&data.len()) {
            return Err(Malformed);
        }
        let now = (cookies.keys.unix_offset_nanos.wrapping_add(cookies.now.0) / 1_000_000_000) as u32;
        let [current, ..] = cookies.keys.secrets;
        let client: [u8; CLIENT_LEN] = *data.first_chunk().ok_or(Malformed)?;
        let shown = <[u8; FULL_LEN]>::try_from(data).ok();
        let valid_with = shown.and_then(|shown| {
            // What the reserved bytes say is hashed, and otherwise ignored.
            let [head @ .., _, _, _, _, _, _, _, _] = shown;
            let [.., version, _, _, _, t0, t1, t2, t3] = head;
            // Differences of serial numbers (RFC 1982): times wrap in 2106.
            let age = now.wrapping_sub(u32::from_be_bytes([t0, t1, t2, t3])) as i32;
            if version != VERSION || !(-AHEAD_SECONDS_MAX..=AGE_SECONDS_MAX).contains(&age) {
                return None;
            }
            let of = |secret: &&CookieSecret| sign(secret, head, cookies.client) == shown;
            cookies.keys.secrets().iter().find(of).map(|secret| (*secret, age))
        });
        let answer = match (valid_with, shown) {
            (Some((secret, age)), Some(shown)) if secret == current && age < AGE_SECONDS_FRESH => shown,
            _ => {
                let mut head = [0; HASH_AT];
                head[..CLIENT_LEN].copy_from_slice(&client);
                head[CLIENT_LEN] = VERSION;
                head[CLIENT_LEN + 4..].copy_from_slice(&now.to_be_bytes());
                sign(&current, head, cookies.client)
            }
        };
        Ok(Checked { answer, proven: valid_with.is_some() })
    }
}

/// A cookie and its hash (RFC 9018 section 4.4).
fn sign(secret: &CookieSecret, head: [u8; HASH_AT], addr: Addr) -> [u8; FULL_LEN] {
    let mut input = [0; HASH_AT + 16];
    input[..HASH_AT].copy_from_slice(&head);
    let len = if addr.is_v4() {
        input[HASH_AT..HASH_AT + 4].copy_from_slice(&addr.v4_bytes());
        HASH_AT + 4
    } else {
        input[HASH_AT..].copy_from_slice(&addr.v6_bytes());
        HASH_AT + 16
    };
    let hash = SipHasher24::new_with_key(secret).hash(&input[..len]);
    let mut cookie = [0; FULL_LEN];
    cookie[..HASH_AT].copy_from_slice(&head);
    cookie[HASH_AT..].copy_from_slice(&hash.to_le_bytes());
    cookie
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: CookieSecret = 0xe5e9_73e5_a6b2_a43f_48e7_dc84_9e37_bfcf_u128.to_be_bytes();
    const OLD: CookieSecret = 0xdd3b_df93_44b6_78b1_85a6_f5cb_60fc_a715_u128.to_be_bytes();
    const NEW: CookieSecret = 0x4455_36bc_d251_3298_075a_5d37_9663_c962_u128.to_be_bytes();

    fn bytes(hex: &str) -> Vec<u8> {
        (0..hex.len() / 2).map(|at| u8::from_str_radix(&hex[2 * at..2 * at + 2], 16).unwrap()).collect()
    }

    /// What comes of a cookie shown to a server with these secrets, at a time in seconds.
    fn check(
        secrets: &[CookieSecret],
        client: &str,
        seconds: u64,
        shown: &[u8],
    ) -> Result<Checked, Malformed> {
        let keys = CookieKeys::new(secrets, 1_000_000_000_000_000_000).unwrap();
        let now = Nanos(seconds * 1_000_000_000 - 1_000_000_000_000_000_000);
        let client = Addr::from(client.parse::<std::net::IpAddr>().unwrap());
        let option = CookieOption { at: 3, len: shown.len() as u16 };
        option.check(&[b"abc", shown].concat(), &Cookies { keys: &keys, client, now })
    }

    fn checked(answer: &str, proven: bool) -> Result<Checked, Malformed> {
        Ok(Checked { answer: bytes(answer).try_into().unwrap(), proven })
    }

    /// RFC 9018 appendix A.
    #[test]
    fn cookies_are_those_of_the_rfc() {
        let first = "2464c4abcf10c957010000005cf79f111f8130c3eee29480";
        assert_eq!(
            check(&[SECRET], "198.51.100.100", 1_559_731_985, &bytes("2464c4abcf10c957")),
            checked(first, false)
        );
        assert_eq!(
            check(&[SECRET], "198.51.100.100", 1_559_734_385, &bytes(first)),
            checked("2464c4abcf10c957010000005cf7a871d4a564a1442aca77", true)
        );
        // Older than an hour, and reserved bytes that are set: here valid at the time it was made.
        let reserved = bytes("fc93fc62807ddb8601abcdef5cf78f71a314227b6679ebf5");
        let fresh = "fc93fc62807ddb86010000005cf7a9acf73a7810aca2381e";
        assert_eq!(check(&[SECRET], "203.0.113.203", 1_559_734_700, &reserved), checked(fresh, false));
        assert!(check(&[SECRET], "203.0.113.203", 1_559_727_985, &reserved).unwrap().proven);
        let rolled = bytes("22681ab97d52c298010000005cf7c57926556bd0934c72f8");
        assert_eq!(
            check(&[NEW, OLD], "2001:db8:220:1:59de:d0f4:8769:82b8", 1_559_741_961, &rolled),
            checked("22681ab97d52c298010000005cf7c609a6bb79d16625507a", true)
        );
    }

    #[test]
    fn a_cookie_is_good_for_its_client_its_hour_and_its_secrets() {
        let (client, time) = ("192.0.2.1", 1_700_000_000);
        let fresh = check(&[SECRET], client, time, &[7; 8]).unwrap().answer;
        let proven =
            |secrets: &[CookieSecret], client, time| check(secrets, client, time, &fresh).unwrap().proven;
        assert!(proven(&[SECRET], client, time) && proven(&[SECRET], client, time + 3600));
        assert!(!proven(&[SECRET], client, time + 3601));
        assert!(proven(&[SECRET], client, time - 300) && !proven(&[SECRET], client, time - 301));
        assert!(!proven(&[SECRET], "192.0.2.2", time) && !proven(&[SECRET], "2001:db8::1", time));
        assert!(proven(&[NEW, SECRET], client, time) && proven(&[NEW, OLD, SECRET], client, time));
        assert!(!proven(&[NEW, OLD], client, time));
        for at in 0..FULL_LEN {
            let mut wrong = fresh;
            wrong[at] ^= 1;
            assert!(!check(&[SECRET], client, time, &wrong).unwrap().proven, "byte {at}");
        }
        let answer = |secrets: &[CookieSecret], time| check(secrets, client, time, &fresh).unwrap().answer;
        assert_eq!(answer(&[SECRET], time + 1799), fresh, "as long as it is fresh, nothing is made anew");
        assert_ne!(answer(&[SECRET], time + 1800), fresh);
        assert_ne!(answer(&[NEW, SECRET], time), fresh, "an older secret's cookie is replaced at once");
    }

    #[test]
    fn rolling_keeps_the_last_secrets() {
        let keys = CookieKeys::new(&[SECRET], 5).unwrap().rolled(OLD).rolled(NEW);
        assert_eq!(keys.secrets(), [NEW, OLD, SECRET]);
        assert_eq!(keys.rolled([1; 16]).secrets(), [[1; 16], NEW, OLD]);
        assert_eq!(CookieKeys::new(&[], 5), None);
        assert!(!format!("{keys:?}").contains("229"), "secrets aren't shown");
    }

    #[test]
    fn lengths_that_no_cookie_has_are_malformed() {
        let well = (0..60_usize).filter(|len| check(&[SECRET], "::2", 1_700_000_000, &vec![1; *len]).is_ok());
        assert!(well.eq([8].into_iter().chain(16..=40)));
        let keys = CookieKeys::new(&[SECRET], 0).unwrap();
        let cookies = Cookies { keys: &keys, client: Addr::default(), now: Nanos(0) };
        assert_eq!(CookieOption { at: 9, len: 8 }.check(&[0; 16], &cookies), Err(Malformed));
    }
}
