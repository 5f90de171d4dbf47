//! Any bytes as a frame, Ethernet to TCP: what is read from headers lies within the frame.

#![no_main]

use libfuzzer_sys::fuzz_target;
use millrace_fastpath::driver::RxChecksum;
use millrace_fastpath::packet::{Fragment, L3, Meta, Network};
use millrace_fastpath::wire::icmp::Quote;

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
            let ip_end = L3 + usize::from(meta.ip_len);
            if meta.fragment == Fragment::First {
                let header_len = if meta.protocol == 6 { 20 } else { 8 };
                assert!(matches!(meta.protocol, 6 | 17), "no others have ports");
                assert!(usize::from(meta.l4) + header_len <= frame.len().min(ip_end), "the header is there");
            }
            if meta.has_l4 {
                assert_eq!(meta.fragment, Fragment::Whole, "of a fragment no more is known than its ports");
                // TCP, UDP, and type, code and checksum of ICMP.
                let header_len = match meta.protocol {
                    6 => 20,
                    17 => 8,
                    _ => 4,
                };
                let end = usize::from(meta.l4) + header_len;
                assert!(end <= frame.len(), "the first segment holds the header");
                assert!(end <= ip_end, "and IP says that it is there");
                let at = usize::from(meta.l4);
                if let Some(quote) = Quote::parse(frame, at, meta.network == Network::V4) {
                    assert!(
                        at + 8 + 20 <= quote.l4 && quote.l4 + 8 <= frame.len(),
                        "what is quoted is there"
                    );
                    assert!(quote.checksum_at(frame).is_none_or(|at| at + 2 <= frame.len()));
                }
            }
        }
    }
});
