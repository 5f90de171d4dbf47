//! The appliance's own connection to the instance, from its SYN to the answer.
//!
//! ```text
//!   client                     appliance                        instance
//!     │ SYN ───────────────────► cookie                            │
//!     │ ◄─────────────── SYN-ACK │                                 │
//!     │ ACK, data ─────────────► held, not acknowledged            │
//!     │                          │ SYN (the client's options) ───► │  again after 250, 500, 1000 ... ms
//!     │                          │ ◄────────────────────── SYN-ACK │  consumed: the differences are known
//!     │                          │ held ACK and data ────────────► │
//!     │ ◄──────────────────── translated both ways ──────────────► │
//! ```

use super::options::{Options, Timestamps};
use super::segment::Head;
use super::translate::{Rescale, Stamps, Translation};
use crate::clock::Nanos;
use crate::wire::tcp;

/// The shift of the windows that we announce for instances to come: up to 16 MiB, in units of 256 bytes.
pub const OWN_SCALE: u8 = 8;
/// After how long an unanswered SYN is sent again; doubled each time. The instance is near.
pub const RETRY_NANOS: u64 = 250_000_000;
/// SYNs sent in all; the last is waited for as well: 7.75 seconds.
pub const TRIES_MAX: u8 = 5;

/// What the client agreed to, from its cookie and its first segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Accepted {
    /// The client's initial sequence number.
    pub client_isn: u32,
    /// Ours.
    pub own_isn: u32,
    /// The client's options, with the latest value of its clock.
    pub options: Options,
    /// The client's window, shifted by its scale.
    pub window: u16,
}

/// What to do about a connection that isn't open yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// Nothing for now.
    Wait,
    /// Send the SYN (again).
    Send,
    /// The instance doesn't answer.
    GiveUp,
}

/// What a segment of the instance says about a connection that isn't open yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// It accepts.
    Opened(Translation),
    /// It refuses.
    Refused,
    /// Something else: an old duplicate.
    Stray,
}

/// A connection that is being opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Connect {
    /// What the client agreed to.
    pub accepted: Accepted,
    next: Nanos,
    tries: u8,
}

impl Connect {
    /// A connection whose first SYN is due at once.
    pub fn new(accepted: Accepted, now: Nanos) -> Self {
        Self { accepted, next: now, tries: 0 }
    }

    /// What is due by now; a SYN is counted as sent.
    pub fn turn(&mut self, now: Nanos) -> Turn {
        if now < self.next {
            return Turn::Wait;
        }
        if self.tries == TRIES_MAX {
            return Turn::GiveUp;
        }
        self.next = now.plus(RETRY_NANOS << self.tries);
        self.tries += 1;
        Turn::Send
    }

    /// Takes back the last [`Turn::Send`]: there was no frame to send it in.
    pub fn not_sent(&mut self, now: Nanos) {
        self.tries -= 1;
        self.next = now;
    }

    /// What a segment from the instance says. `stamp` is our clock, as the client knows it.
    pub fn answer(&self, head: &Head, stamp: u32) -> Answer {
        let ours = head.has(tcp::ACK) && head.acknowledgement == self.accepted.client_isn.wrapping_add(1);
        match head.flags & (tcp::SYN | tcp::RST) {
            tcp::SYN if ours => Answer::Opened(self.accepted.translation(head, stamp)),
            flags if flags & tcp::RST != 0 && ours => Answer::Refused,
            _ => Answer::Stray,
        }
    }
}

impl Accepted {
    /// Reads what a cookie's options and the client's acknowledgement say together; `None` where it doesn't acknowledge.
    pub fn new(head: &Head, options: Options) -> Option<Self> {
        let shift = options.scale.unwrap_or(0);
        head.has(tcp::ACK).then_some(Self {
            client_isn: head.sequence.wrapping_sub(1),
            own_isn: head.acknowledgement.wrapping_sub(1),
            options: Options { timestamps: head.options.timestamps, ..options },
            // A SYN's window is never shifted (RFC 7323 §2.2).
            window: Rescale { from: shift, to: 0 }.apply(head.window),
        })
    }

    /// Our answer to a client's SYN: it agrees to what the client offered. `window` bounds the early data, `mss` is what
    /// we can take in one segment.
    pub fn syn_ack(syn: &Head, own_isn: u32, stamp: u32, mss: u16, window: u16) -> Head {
        let offered = syn.options;
        Head {
            source_port: syn.destination_port,
            destination_port: syn.source_port,
            sequence: own_isn,
            acknowledgement: syn.sequence.wrapping_add(1),
            flags: tcp::SYN | tcp::ACK,
            window,
            options: Options {
                mss: offered.mss.map(|_| mss),
                scale: offered.scale.map(|_| OWN_SCALE),
                timestamps: offered.timestamps.map(|theirs| Timestamps { value: stamp, echo: theirs.value }),
                ..offered
            },
        }
    }

    /// The SYN that reproduces the client's towards the instance; ports are the client's and the service's.
    pub fn syn(&self, client_port: u16, service_port: u16) -> Head {
        let timestamps = self.options.timestamps.map(|own| Timestamps { echo: 0, ..own });
        Head {
            source_port: client_port,
            destination_port: service_port,
            sequence: self.client_isn,
            acknowledgement: 0,
            flags: tcp::SYN,
            window: self.window,
            options: Options { timestamps, ..self.options },
        }
    }

    fn translation(&self, syn_ack: &Head, stamp: u32) -> Translation {
        let theirs = &syn_ack.options;
        // Windows are scaled in both directions or in none (RFC 7323 §2.2); ours towards the client are, if it offered.
        let scaled = self.options.scale.is_some() && theirs.scale.is_some();
        let client = self.options.scale.unwrap_or(0);
        Translation {
            sequence: self.own_isn.wrapping_sub(syn_ack.sequence),
            clock: theirs.timestamps.map_or(0, |theirs| stamp.wrapping_sub(theirs.value)),
            to_instance: Rescale { from: client, to: if scaled { client } else { 0 } },
            to_client: Rescale {
                from: theirs.scale.filter(|_| scaled).unwrap_or(0),
                to: self.options.scale.map_or(0, |_| OWN_SCALE),
            },
            sack: self.options.sack_permitted && theirs.sack_permitted,
            stamps: match (self.options.timestamps, theirs.timestamps) {
                (None, _) => Stamps::None,
                (Some(_), None) => Stamps::Refused,
                (Some(_), Some(_)) => Stamps::Own { first: stamp },
            },
        }
    }
}

/// The acknowledgement that an instance's SYN-ACK asks for, in the instance's own numbers: it repeats one whose answer was lost.
/// `window` and `stamps` are the client's, as it last said them.
pub fn acknowledge(syn_ack: &Head, window: u16) -> Head {
    Head {
        source_port: syn_ack.destination_port,
        destination_port: syn_ack.source_port,
        sequence: syn_ack.acknowledgement,
        acknowledgement: syn_ack.sequence.wrapping_add(1),
        flags: tcp::ACK,
        window,
        options: Options {
            // The client's clock as its SYN showed it: the instance has seen no later one, or it wouldn't ask.
            timestamps: syn_ack
                .options
                .timestamps
                .map(|theirs| Timestamps { value: theirs.echo, echo: theirs.value }),
            ..Options::default()
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    fn accepted() -> Accepted {
        let timestamps = Some(Timestamps { value: 500, echo: 9000 });
        Accepted {
            client_isn: u32::MAX,
            own_isn: 70,
            options: Options { mss: Some(1460), scale: Some(3), sack_permitted: true, timestamps },
            window: 1000,
        }
    }

    fn syn_ack() -> Head {
        Head {
            sequence: 100,
            acknowledgement: 0,
            flags: tcp::SYN | tcp::ACK,
            options: Options {
                mss: Some(1460),
                scale: Some(10),
                sack_permitted: true,
                timestamps: Some(Timestamps { value: 77, echo: 500 }),
            },
            ..Head::default()
        }
    }

    #[test]
    fn a_syn_is_sent_again_at_growing_distances_and_then_no_more() {
        let mut connect = Connect::new(accepted(), Nanos(0));
        let mut sent = Vec::new();
        let end = (0..).find(|ms| match connect.turn(Nanos(ms * MS)) {
            Turn::Send => {
                sent.push(*ms);
                false
            }
            Turn::Wait => false,
            Turn::GiveUp => true,
        });
        assert_eq!(sent, [0, 250, 750, 1750, 3750]);
        assert_eq!(end, Some(7750));
    }

    #[test]
    fn only_the_answer_to_our_syn_opens_or_refuses() {
        let connect = Connect::new(accepted(), Nanos(0));
        assert!(
            matches!(connect.answer(&syn_ack(), 9005), Answer::Opened(_)),
            "the client's ISN was the last number"
        );
        let with =
            |flags, acknowledgement| connect.answer(&Head { flags, acknowledgement, ..syn_ack() }, 9005);
        assert_eq!(with(tcp::SYN | tcp::ACK, 1), Answer::Stray);
        assert_eq!(with(tcp::SYN, 0), Answer::Stray, "nobody opens towards us");
        assert_eq!(with(tcp::RST | tcp::ACK, 0), Answer::Refused);
        assert_eq!(with(tcp::RST | tcp::ACK, 9), Answer::Stray, "a blind reset");
        assert_eq!(with(tcp::RST, 0), Answer::Stray);
        assert_eq!(with(tcp::ACK, 0), Answer::Stray);
    }

    #[test]
    fn what_only_one_side_has_is_kept_from_the_other() {
        let connect = Connect::new(accepted(), Nanos(0));
        let opened = |options| match connect.answer(&Head { options, ..syn_ack() }, 9005) {
            Answer::Opened(translation) => translation,
            other => panic!("{other:?}"),
        };
        let full = opened(syn_ack().options);
        assert_eq!((full.sequence, full.clock), (70u32.wrapping_sub(100), 9005 - 77));
        assert_eq!(full.to_client, Rescale { from: 10, to: OWN_SCALE });
        assert_eq!(full.to_instance, Rescale { from: 3, to: 3 });
        assert_eq!((full.sack, full.stamps), (true, Stamps::Own { first: 9005 }));
        let bare = opened(Options { mss: Some(1460), ..Options::default() });
        assert_eq!(
            (bare.to_client, bare.to_instance),
            (Rescale { from: 0, to: OWN_SCALE }, Rescale { from: 3, to: 0 })
        );
        assert_eq!((bare.sack, bare.stamps, bare.clock), (false, Stamps::Refused, 0));
    }
}
