//! Looking for neighbours: asked for, found, asked again whether they are still there, given up.

use millrace_fastpath::addr::Addr;
use millrace_fastpath::clock::Nanos;
use millrace_fastpath::tables::interfaces::Mac;

use super::table::{Key, State};
use super::{FAILED_NANOS, Link, MILLISECOND, Machine, Output, arp, nd, same_network};
use crate::builder::is_link_local;

impl<P> Machine<P> {
    /// An entry's time has come.
    pub(super) fn due(&mut self, now: Nanos, key: Key, out: &mut Vec<Output<P>>) {
        let Some(entry) = self.table.get_mut(key) else { return };
        match entry.state {
            State::Static => {}
            State::Reachable => self.probe(now, key, out),
            State::Probing if entry.tries < PROBES_MAX => self.ask(now, key, out),
            State::Probing => {
                let kept = entry.wanted || entry.demanded;
                entry.mac = None;
                out.push(Output::Remove(key.0, key.1));
                if kept {
                    self.search(now, key, out);
                } else {
                    self.table.remove(key);
                }
            }
            State::Incomplete if entry.tries < TRIES_MAX => self.ask(now, key, out),
            State::Incomplete => {
                entry.state = State::Failed;
                entry.lost = true;
                entry.since = now;
                entry.demanded = false;
                let wanted = entry.wanted;
                self.table.schedule(key, Some(now.plus(if wanted { RETRY_NANOS } else { FAILED_NANOS })));
                for packet in self.table.take_parked(key) {
                    self.discard(packet, out);
                }
            }
            State::Failed if entry.wanted => self.search(now, key, out),
            State::Failed => {
                self.table.remove(key);
            }
        }
    }

    /// Begins to look for a neighbour whose address isn't known.
    pub(super) fn search(&mut self, now: Nanos, key: Key, out: &mut Vec<Output<P>>) {
        if let Some(entry) = self.table.get_mut(key) {
            entry.state = State::Incomplete;
            entry.tries = 0;
            entry.since = now;
            self.ask(now, key, out);
        }
    }

    /// Begins to ask a known neighbour whether it is still there.
    pub(super) fn probe(&mut self, now: Nanos, key: Key, out: &mut Vec<Output<P>>) {
        if let Some(entry) = self.table.get_mut(key) {
            entry.state = State::Probing;
            entry.tries = 0;
            self.ask(now, key, out);
        }
    }

    /// Sends one request and sets the time for the next step.
    fn ask(&mut self, now: Nanos, key: Key, out: &mut Vec<Output<P>>) {
        let (interface, addr) = key;
        let link = &self.links[interface.index()];
        let Some(entry) = self.table.get_mut(key) else { return };
        let from = source(link, addr);
        out.push(Output::Send(
            interface,
            if addr.is_v4() {
                arp::request(from, link.mac, addr, entry.mac)
            } else {
                nd::solicitation(from, link.mac, addr, entry.mac)
            },
        ));
        let wait = match entry.state {
            State::Probing => PROBE_NANOS,
            // Twice as long each time.
            _ => FIRST_TRY_NANOS << entry.tries.min(TRIES_MAX),
        };
        entry.tries += 1;
        self.counters.asked += 1;
        self.table.schedule(key, Some(now.plus(wait)));
    }

    /// The neighbour is there, at `mac`.
    pub(super) fn confirm(&mut self, now: Nanos, key: Key, mac: Mac, out: &mut Vec<Output<P>>) {
        let Some(entry) = self.table.get_mut(key) else { return };
        if entry.state == State::Static {
            return;
        }
        let news = entry.mac != Some(mac);
        entry.mac = Some(mac);
        entry.state = State::Reachable;
        entry.lost = false;
        entry.tries = 0;
        entry.since = now;
        self.table.schedule(key, Some(now.plus(REACHABLE_NANOS)));
        if news {
            out.push(Output::Set(key.0, key.1, mac));
        }
        out.extend(self.table.take_parked(key).into_iter().map(|packet| Output::Release(key.0, mac, packet)));
    }
}

/// Our address to ask from: one on the neighbour's network, else any of its family.
fn source(link: &Link, addr: Addr) -> Addr {
    let like = || link.addresses.iter().map(|(ours, _)| *ours).filter(|ours| ours.is_v4() == addr.is_v4());
    let near =
        link.addresses.iter().find(|(ours, len)| same_network(*ours, addr, *len)).map(|(ours, _)| *ours);
    // Without an address of our own, an ARP request says "nobody", as a probe does (RFC 5227 §1.1); for IPv6 there always
    // is a link-local one.
    near.or_else(|| like().find(|ours| is_link_local(*ours)))
        .or_else(|| like().next())
        .unwrap_or(Addr::v4([0; 4]))
}

/// How long an answer is believed (REACHABLE_TIME, RFC 4861 §10).
pub const REACHABLE_NANOS: u64 = 30_000 * MILLISECOND;
/// Between two probes of a known neighbour (RETRANS_TIMER, RFC 4861 §10).
const PROBE_NANOS: u64 = 1000 * MILLISECOND;
/// Probes without answer that mean it is gone (MAX_UNICAST_SOLICIT, RFC 4861 §10).
const PROBES_MAX: u32 = 3;
/// After the first request for an unknown neighbour; it doubles. A held packet waits for this, so it is shorter than the
/// second of RFC 4861.
const FIRST_TRY_NANOS: u64 = 100 * MILLISECOND;
/// Requests for an unknown neighbour before it has failed: after 100, 300, 700 and 1500 ms.
const TRIES_MAX: u32 = 4;
/// How long a wanted neighbour that doesn't answer is left alone.
const RETRY_NANOS: u64 = 5000 * MILLISECOND;
