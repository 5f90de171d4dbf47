//! Any bytes as a frame, Ethernet to TCP: what is read from headers lies within the frame.

#![no_main]

use libfuzzer_sys::fuzz_target;
use millrace_fastpath::driver::RxChecksum;
use millrace_fastpath::packet::{L3, Meta, Network};

fuzz_target!(|frame: &[u8]| {
    // What the first segment holds, of a frame that may be longer.
    for available in [frame.len(), frame.len() + 100] {
        for checksum in [RxChecksum::Unknown, RxChecksum::Good, RxChecksum::Bad] {
            let Ok(meta) = Meta::parse(frame, available, checksum) else { continue };
            assert_eq!(meta, Meta::parse(frame, available, checksum).expect("reading has no memory"));
            if meta.network == Network::Arp {
                continue;
            }
            assert!(L3 + usize::from(meta.ip_len) <= available, "the IP packet ends within the frame");
            if meta.has_l4 {
                assert!(!meta.fragment, "a fragment has no ports");
                // TCP, UDP, and type, code and checksum of ICMP.
                let header_len = match meta.protocol {
                    6 => 20,
                    17 => 8,
                    _ => 4,
                };
                let end = usize::from(meta.l4) + header_len;
                assert!(end <= frame.len(), "the first segment holds the header");
                assert!(end <= L3 + usize::from(meta.ip_len), "and IP says that it is there");
            }
        }
    }
});
