//! A client's conversation in datagrams: some rounds of a datagram and its answer, in pieces where it is long. One that looks
//! like QUIC goes on from other ports and addresses, by the id that its instance has made.

use std::net::IpAddr;

use millrace_fastpath::clock::Nanos;

use crate::client::{Outcome, Wish};
use crate::datagram::{self, ID, Said};
use crate::pieces::cut;
use crate::random::Random;
use crate::scenario::UDP_PORT;
use crate::services::Facts;
use crate::wire::{End, udp};

#[derive(Debug)]
pub(crate) struct Chat {
    pub(crate) wish: Wish,
    pub(crate) port: u16,
    /// Which of the client's addresses.
    address: usize,
    rounds: u8,
    said: Said,
    /// The datagram is said, or said again, at this time.
    pub(crate) again: Nanos,
    /// Nobody waits for the answer, but for the next round.
    pauses: bool,
    pub(crate) until: Nanos,
}

/// What a client has of its own for that.
pub(crate) struct Means<'a> {
    pub(crate) addresses: &'a [IpAddr; 4],
    /// Gives ports that weren't used before.
    pub(crate) port: &'a mut u16,
    /// Gives identifications of what is cut in pieces.
    pub(crate) piece: &'a mut u32,
    pub(crate) random: &'a mut Random,
    /// What it sends.
    pub(crate) out: &'a mut Vec<Vec<u8>>,
}

impl Chat {
    pub(crate) fn new(
        wish: Wish,
        service: &Facts,
        port: u16,
        now: Nanos,
        patience: u64,
        random: &mut Random,
    ) -> Self {
        let long = !service.quic && random.percent(30);
        let connection = service.quic.then(|| random.next().to_be_bytes().to_vec());
        let said = Said {
            id: random.next() & ID,
            leg: 0,
            round: 1,
            wanted: if long && random.percent(50) { random.within(1500..=2600) as u16 } else { 20 },
            body: if long { random.within(1500..=3500) as usize } else { random.below(100) as usize },
            is_long: connection.is_some(),
            connection,
        };
        Self {
            wish,
            port,
            address: usize::from(!wish.v4),
            rounds: random.within(1..=4) as u8,
            said,
            again: now,
            pauses: false,
            until: now.plus(patience),
        }
    }

    pub(crate) fn due(&self) -> Nanos {
        self.until.min(self.again)
    }

    /// Hears what has come, and says what is due.
    pub(crate) fn turn(
        &mut self,
        now: Nanos,
        heard: &[(End, u16, Vec<u8>)],
        service: &Facts,
        patience: u64,
        means: Means<'_>,
    ) -> Option<Outcome> {
        for (_, _, bytes) in heard.iter().filter(|(_, at, _)| *at == self.port) {
            let answer = datagram::heard(self.said.id, bytes);
            let (round, _, made) =
                answer.unwrap_or_else(|| panic!("{:?} is answered by {bytes:02x?}", self.said));
            if round != self.said.round || self.pauses {
                continue;
            }
            if round == self.rounds {
                return Some(Outcome::Served);
            }
            if !made.is_empty() {
                (self.said.connection, self.said.is_long) = (Some(made), false);
            }
            self.said.round += 1;
            self.pauses = true;
            self.again = now.plus(means.random.within(20..=700) * 1_000_000);
            self.until = self.again.plus(patience);
        }
        if now >= self.until {
            return Some(Outcome::TooLate);
        }
        if now >= self.again {
            if std::mem::take(&mut self.pauses) && service.quic && means.random.percent(60) {
                *means.port += 1;
                self.port = *means.port;
                self.said.leg += 1;
                self.address = usize::from(!self.wish.v4) + 2 * means.random.below(2) as usize;
            }
            self.again = now.plus(AGAIN_NANOS);
            let from = (means.addresses[self.address], self.port);
            let packet = udp(from, (service.address(self.wish.v4), UDP_PORT), &self.said.bytes());
            if self.said.body < 1000 {
                means.out.push(packet);
            } else {
                *means.piece += 1;
                means.out.extend(cut(
                    &packet,
                    *means.piece,
                    8 * means.random.within(100..=PIECE_MAX / 8) as usize,
                ));
            }
        }
        None
    }
}

/// Before a datagram without an answer is repeated.
const AGAIN_NANOS: u64 = 700_000_000;
/// The longest piece that is still carried whole: 1 500 bytes, without two IPv6 headers, a fragment's, and GUE's.
pub(crate) const PIECE_MAX: u64 = 1392;
