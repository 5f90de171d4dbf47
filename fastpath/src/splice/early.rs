//! What a client may say before anybody can hear it: its acknowledgement and one segment, held in each other's place.
//!
//! Nothing of it is acknowledged, so whatever isn't kept is sent again. The window that our SYN-ACK announces is one
//! segment long: a client has no reason to send more.

use super::segment::Head;
use crate::wire::tcp;

/// A segment: its header and how many bytes of data follow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Early {
    /// The header.
    pub head: Head,
    /// Bytes of data.
    pub data: u32,
}

/// What a segment does to the one that is held for its connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It says the same or more, and takes the place.
    Replaces,
    /// The client has given up.
    Aborts,
    /// It can wait until the client sends it again.
    Surplus,
}

impl Early {
    /// What `newer` does to this one, both of the same connection's client.
    pub fn judge(&self, newer: &Early) -> Verdict {
        let (held, head) = (&self.head, &newer.head);
        if head.flags & tcp::RST != 0 {
            // Only in the number that we expect, or behind what it said: others can't know it (RFC 5961 §3.2).
            let offset = head.sequence.wrapping_sub(held.sequence);
            return if offset <= self.data + u32::from(held.has(tcp::FIN)) {
                Verdict::Aborts
            } else {
                Verdict::Surplus
            };
        }
        let same_place = head.sequence == held.sequence && head.acknowledgement == held.acknowledgement;
        let says_more = newer.data >= self.data && (head.has(tcp::FIN) || !held.has(tcp::FIN));
        match head.flags & (tcp::SYN | tcp::ACK) {
            tcp::ACK if same_place && says_more => Verdict::Replaces,
            _ => Verdict::Surplus,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn early(sequence: u32, flags: u8, data: u32) -> Early {
        Early { head: Head { sequence, acknowledgement: 5, flags, ..Head::default() }, data }
    }

    #[test]
    fn more_of_the_same_replaces_and_nothing_else_does() {
        let bare = early(u32::MAX, tcp::ACK, 0);
        let data = early(u32::MAX, tcp::ACK, 100);
        assert_eq!(bare.judge(&data), Verdict::Replaces);
        assert_eq!(data.judge(&data), Verdict::Replaces, "sent again");
        assert_eq!(data.judge(&early(u32::MAX, tcp::ACK, 150)), Verdict::Replaces, "joined when sent again");
        assert_eq!(data.judge(&bare), Verdict::Surplus, "a late duplicate of the bare acknowledgement");
        assert_eq!(data.judge(&early(99, tcp::ACK, 100)), Verdict::Surplus, "the second segment");
        assert_eq!(data.judge(&early(u32::MAX - 1, tcp::ACK, 1)), Verdict::Surplus, "a keep-alive");
        assert_eq!(bare.judge(&early(u32::MAX, tcp::SYN | tcp::ACK, 0)), Verdict::Surplus);
        let other = Early { head: Head { acknowledgement: 6, ..data.head }, ..data };
        assert_eq!(bare.judge(&other), Verdict::Surplus);
        let last = early(u32::MAX, tcp::ACK | tcp::FIN, 100);
        assert_eq!((data.judge(&last), last.judge(&data)), (Verdict::Replaces, Verdict::Surplus));
    }

    #[test]
    fn a_reset_counts_where_only_the_client_can_have_sent_it() {
        let data = early(u32::MAX, tcp::ACK, 100);
        for (sequence, verdict) in [
            (u32::MAX, Verdict::Aborts),
            (99, Verdict::Aborts),
            (100, Verdict::Surplus),
            (u32::MAX - 1, Verdict::Surplus),
        ] {
            assert_eq!(data.judge(&early(sequence, tcp::RST, 0)), verdict, "{sequence}");
        }
    }
}
