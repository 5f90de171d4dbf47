//! The content hub's pure part: what NORM and FLUTE look like on the wire, who missed what, which repairs that needs, and
//! when everything is sent. The hub's cache, its sockets and its threads are elsewhere (`hub/store`).
//!
//! ```text
//!              ┌───────────────────────── session::Sender ──────────────────────────┐
//!  Offer ─────►│ first copies ──────────────────────────────────────────────────────┼─► Transmit: to whom, header,
//!  NACK, ACK ─►│ norm ─► ledger (who misses what) ─► plan (which repairs, to whom) ─┼─►   which bytes of which object
//!              └────────────────────────────────────────────────────────────────────┘
//!   nodes: the roster and its bits      shape: how objects are cut      rs: parity
//!
//!  datagram ──► session::Receiver ──► Storage, NACK and ACK back
//!               flute: the same objects for one-way receivers, and from one-way senders
//! ```
//!
//! Repairs go to those who missed something and to nobody else: each has the bit string of the nodes that asked. The
//! trunk carries as many as the node that missed most; each leg carries what its own node missed.
//!
//! A transfer, by hand. Real callers send what `Transmit` says through the fastpath or a socket, and wait for
//! `poll_timeout`.
//!
//! ```
//! use core::time::Duration;
//!
//! use millrace_bier::id::{BfrId, Bsl};
//! use millrace_hub::nodes::{Node, Roster};
//! use millrace_hub::norm::{NodeId, ObjectId};
//! use millrace_hub::session::{
//!     Config, Content, Event, Offer, Receiver, ReceiverConfig, Report, Sender, Storage, Unread, Unstored,
//! };
//!
//! struct Memory(Vec<u8>);
//! impl Content for Memory {
//!     fn read(&mut self, _: ObjectId, offset: u64, out: &mut [u8]) -> Result<(), Unread> {
//!         out.copy_from_slice(&self.0[offset as usize..][..out.len()]);
//!         Ok(())
//!     }
//! }
//! impl Storage for Memory {
//!     fn write(&mut self, _: ObjectId, offset: u64, bytes: &[u8]) -> Result<(), Unstored> {
//!         self.0[offset as usize..][..bytes.len()].copy_from_slice(bytes);
//!         Ok(())
//!     }
//!     fn read(&mut self, object: ObjectId, offset: u64, out: &mut [u8]) -> Result<(), Unstored> {
//!         Content::read(self, object, offset, out).map_err(|_| Unstored)
//!     }
//! }
//!
//! let (hub, name) = ("10.0.0.1".parse().unwrap(), NodeId(1));
//! let node = Node { id: NodeId(2), bfr: BfrId::new(2).unwrap(), address: "10.0.0.2".parse().unwrap() };
//! let mut roster = Roster::new(Bsl::B256);
//! roster.add(node).unwrap();
//! let mut sender = Sender::new(Config::lan(name, 7), roster, Duration::ZERO);
//! let mut receiver = Receiver::new(ReceiverConfig::new(node.id, name, hub));
//!
//! let mut source = Memory((0..100_000).map(|at| (at % 251) as u8).collect());
//! let mut copy = Memory(vec![0; 100_000]);
//! let object = sender.announce(Duration::ZERO, Offer::file(100_000, b"name".to_vec())).unwrap();
//!
//! let (mut now, mut sent, mut events) = (Duration::ZERO, 0, Vec::new());
//! while let Some(wake) = sender.poll_timeout() {
//!     now = now.max(wake);
//!     while let Some(packet) = sender.poll_transmit(now) {
//!         sent += 1;
//!         if sent % 10 != 0 { // every tenth packet is lost
//!             let mut datagram = Vec::new();
//!             packet.write(&mut source, &mut datagram).unwrap();
//!             receiver.handle(now, hub, &datagram, &mut copy);
//!         }
//!     }
//!     while let Some(datagram) = receiver.poll_transmit(now) {
//!         sender.handle(now, node.address, &datagram);
//!     }
//!     events.extend(std::iter::from_fn(|| sender.poll_event()));
//! }
//! assert_eq!(events.last(), Some(&Event::Finished { object }));
//! assert_eq!(source.0, copy.0);
//! assert!(std::iter::from_fn(|| receiver.poll_event()).any(|report| report == Report::Complete(object)));
//! ```
//!
//! # Limits
//!
//! NORM's fixed rate, no NORM-CC: feedback of single nodes drives a rate plan, not the protocol. FEC id 5 alone. Objects have bytes; an
//! empty file is its name only.

#![forbid(unsafe_code)]

pub mod flute;
pub mod ledger;
pub mod nodes;
pub mod norm;
mod partition;
pub mod plan;
pub mod rs;
pub mod segments;
pub mod session;
pub mod shape;
