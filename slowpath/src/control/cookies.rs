//! The secrets of DNS cookies over time.
//!
//! Those of a file are the operator's to roll, for other servers have them too (RFC 9018 section 5). One of our own is rolled
//! once a day; clients that show a cookie of the day before are known still.

use std::hash::{BuildHasher, RandomState};

use millrace_config::model::{Config, Cookies};
use millrace_fastpath::clock::Nanos;
use millrace_fastpath::dns::{CookieKeys, CookieSecret};

/// The secrets, and when they are rolled.
#[derive(Debug)]
pub(super) struct CookieRoll {
    keys: CookieKeys,
    /// `None` for shared secrets.
    due: Option<Nanos>,
}

impl CookieRoll {
    /// The secrets to begin with, if cookies are answered: `shared` ones, or one of our own.
    pub(super) fn start(
        config: &Config,
        shared: &[CookieSecret],
        unix_offset_nanos: u64,
        now: Nanos,
    ) -> Option<Self> {
        match config.dns.as_ref().filter(|_| config.roles.dns)?.cookies.as_ref()? {
            Cookies::Shared(_) => Some(Self { keys: CookieKeys::new(shared, unix_offset_nanos)?, due: None }),
            Cookies::Own => Some(Self {
                keys: CookieKeys::new(&[secret()], unix_offset_nanos)?,
                due: Some(now.plus(ROLL_NANOS)),
            }),
        }
    }

    /// The secrets that another configuration goes on with. Ours outlive it, and so do the cookies that clients have.
    pub(super) fn reload(
        before: Option<Self>,
        config: &Config,
        shared: &[CookieSecret],
        unix_offset_nanos: u64,
        now: Nanos,
    ) -> Option<Self> {
        let next = Self::start(config, shared, unix_offset_nanos, now)?;
        Some(before.filter(|before| before.due.is_some() && next.due.is_some()).unwrap_or(next))
    }

    /// The secrets of now.
    pub(super) fn keys(&self) -> CookieKeys {
        self.keys
    }

    /// New ones, if it is time.
    pub(super) fn roll(&mut self, now: Nanos) -> Option<CookieKeys> {
        let due = self.due.filter(|due| *due <= now)?;
        self.due = Some(due.plus(ROLL_NANOS).max(now));
        self.keys = self.keys.rolled(secret());
        Some(self.keys)
    }
}

/// A secret that nobody outside can guess: the standard library seeds its hashers from the system's random numbers.
fn secret() -> CookieSecret {
    let [high, low] = [RandomState::new().hash_one(0_u8), RandomState::new().hash_one(1_u8)];
    (u128::from(high) << 64 | u128::from(low)).to_be_bytes()
}

/// How long a secret makes cookies, in nanoseconds: a day. RFC 7873 section 7.1 asks for no more than 36 days.
const ROLL_NANOS: u64 = 86_400_000_000_000;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::EDGE;

    fn config(cookies: &str) -> Config {
        Config::parse("t", &EDGE.replacen("[dns]", &format!("[dns]\n{cookies}"), 1)).unwrap()
    }

    #[test]
    fn our_own_secret_is_rolled_every_day() {
        let config = config("cookies = true");
        let mut roll = CookieRoll::start(&config, &[], 0, Nanos(5)).unwrap();
        let first = roll.keys();
        assert_eq!(roll.roll(Nanos(5 + ROLL_NANOS - 1)), None);
        let second = roll.roll(Nanos(5 + ROLL_NANOS)).unwrap();
        assert_ne!(second, first);
        assert_eq!(roll.roll(Nanos(5 + ROLL_NANOS)), None);
        assert!(roll.roll(Nanos(5 + 2 * ROLL_NANOS)).is_some());
        let again = CookieRoll::start(&config, &[], 0, Nanos(5)).unwrap();
        assert_ne!(again.keys(), first, "and nobody knows it beforehand");
    }

    #[test]
    fn shared_secrets_stay_and_without_the_key_there_are_none() {
        let shared = config("cookies = true\ncookie_secrets = \"file:x\"");
        let mut roll = CookieRoll::start(&shared, &[[7; 16]], 0, Nanos(0)).unwrap();
        assert_eq!(roll.roll(Nanos(u64::MAX)), None);
        assert_eq!(Some(roll.keys()), CookieKeys::new(&[[7; 16]], 0));
        assert!(CookieRoll::start(&config(""), &[], 0, Nanos(0)).is_none());
    }

    #[test]
    fn another_configuration_keeps_our_own_secret_and_takes_shared_ones_anew() {
        let own = config("cookies = true");
        let shared = config("cookies = true\ncookie_secrets = \"file:x\"");
        let reload = |before, config: &Config, secrets: &[CookieSecret]| {
            CookieRoll::reload(before, config, secrets, 0, Nanos(9))
        };
        let start = || CookieRoll::start(&own, &[], 0, Nanos(5)).unwrap();
        let (before, first) = (start(), start().keys());
        assert_ne!(before.keys(), first);
        let keys = before.keys();
        let mut kept = reload(Some(before), &own, &[]).unwrap();
        assert_eq!(kept.keys(), keys);
        assert!(kept.roll(Nanos(5 + ROLL_NANOS)).is_some(), "it is rolled when it would have been");
        let theirs = reload(Some(kept), &shared, &[[7; 16]]).unwrap();
        assert_eq!(Some(theirs.keys()), CookieKeys::new(&[[7; 16]], 0));
        let others = reload(Some(theirs), &shared, &[[8; 16]]).unwrap();
        assert_eq!(Some(others.keys()), CookieKeys::new(&[[8; 16]], 0));
        assert!(reload(Some(others), &own, &[]).unwrap().due.is_some());
        assert!(reload(Some(start()), &config(""), &[]).is_none());
    }
}
