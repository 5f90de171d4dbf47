//! The hash that gives a flow its owner.
//!
//! It covers the client's address and port and the protocol, nothing else: that much stands in the packets of both
//! directions, before and after translation, and in the packet quoted in an ICMP error. So every worker computes the same
//! owner for every packet of a flow. It is keyed, for clients choose their ports.

use siphasher::sip::SipHasher13;

use crate::addr::Addr;

/// Computes flow hashes; all workers of an appliance share its keys.
#[derive(Clone, Copy, Debug)]
pub struct FlowHasher {
    hasher: SipHasher13,
}

impl FlowHasher {
    /// A hasher with these secret keys.
    pub fn new(keys: [u64; 2]) -> Self {
        Self { hasher: SipHasher13::new_with_keys(keys[0], keys[1]) }
    }

    /// Other secret keys that follow from these; different for each `purpose`.
    pub fn keys_for(&self, purpose: u64) -> [u64; 2] {
        [0, 1].map(|half| self.hasher.hash(&[purpose.to_le_bytes(), u64::to_le_bytes(half)].concat()))
    }

    /// The hash of one side of a flow: the client's, or the appliance's own where it translates the source.
    #[inline(always)]
    pub fn hash(&self, addr: Addr, port: u16, protocol: u8) -> u64 {
        let mut bytes = [0; 19];
        bytes[..16].copy_from_slice(&addr.0.to_le_bytes());
        bytes[16..18].copy_from_slice(&port.to_le_bytes());
        bytes[18] = protocol;
        self.hasher.hash(&bytes)
    }

    /// The hash of what the trigger `flow` tells packets apart by. Its input is as long as no other's.
    pub fn hash_triple(&self, source: Addr, destination: Addr, protocol: u8) -> u64 {
        let mut bytes = [0; 33];
        bytes[..16].copy_from_slice(&source.0.to_le_bytes());
        bytes[16..32].copy_from_slice(&destination.0.to_le_bytes());
        bytes[32] = protocol;
        self.hasher.hash(&bytes)
    }

    /// The hash by which the fragments of one packet meet at one worker. Its input is longer than that of a flow's, so
    /// the two never mean the same.
    pub fn hash_fragment(&self, source: Addr, destination: Addr, protocol: u8, id: u32) -> u64 {
        let mut bytes = [0; 37];
        bytes[..16].copy_from_slice(&source.0.to_le_bytes());
        bytes[16..32].copy_from_slice(&destination.0.to_le_bytes());
        bytes[32..36].copy_from_slice(&id.to_le_bytes());
        bytes[36] = protocol;
        self.hasher.hash(&bytes)
    }
}

/// The worker, of `workers`, that owns the flows of this hash.
#[inline]
pub fn owner(hash: u64, workers: usize) -> usize {
    // The upper half picks the worker; the flow table uses the lower one.
    (((hash >> 32) * workers as u64) >> 32) as usize
}
