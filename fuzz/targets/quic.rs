//! Any bytes as a datagram to a service that reads QUIC connection ids, by any layout: what is read lies within, and what
//! is made is read again.
//!
//! An input is a layout and the server's id (five bytes) and a datagram.

#![no_main]

use libfuzzer_sys::fuzz_target;
use millrace_fastpath::wire::quic::Header;
use millrace_fastpath::wire::quic_lb::{Codec, ID_MAX, Key, Layout, ServerId, rotation};

fuzz_target!(|input: &[u8]| {
    let Some(([lengths, turn, key, a, b], datagram)) = input.split_first_chunk::<5>() else { return };
    let header = Header::parse(datagram);
    match header {
        Some(Header::Long { version, destination, source }) => {
            assert!(datagram[0] & 0x80 != 0 && datagram.len() >= 7 + destination.len() + source.len());
            let again = [
                &datagram[..1],
                &version.to_be_bytes(),
                &[destination.len() as u8],
                destination,
                &[source.len() as u8],
                source,
            ]
            .concat();
            assert_eq!(again, datagram[..again.len()], "the header is what was read of it");
        }
        Some(Header::Short { rest }) => assert_eq!((datagram[0] & 0x80, rest), (0, &datagram[1..])),
        None => assert!(datagram.is_empty() || datagram[0] & 0x80 != 0, "a short header is always there"),
    }
    let (server_len, nonce_len) = (usize::from(lengths & 15), usize::from(lengths >> 4) + 3);
    let key = (*key != 0).then_some(Key([*key; 16]));
    let Some(layout) = Layout::new(*turn, server_len, nonce_len, key) else {
        assert!(*turn > 6 || server_len == 0 || nonce_len < 4 || server_len + nonce_len > 19);
        return;
    };
    let codec = Codec::new(layout);
    if let Some(header) = header {
        let id = header.destination();
        let whole = id.len() > server_len + nonce_len && rotation(id[0]) == layout.rotation();
        assert_eq!(codec.read(id).is_some(), whole);
        if let Some(server) = codec.read(id) {
            // What follows the id, and the bits beside its rotation, say nothing.
            let mut other = id[..=server_len + nonce_len].to_vec();
            other[0] ^= a & 0x1f;
            assert_eq!(codec.read(&other), Some(server));
        }
    }
    let mut server = [*a, *b].repeat(8);
    server.truncate(server_len);
    let server = ServerId::new(&server).expect("no longer than the longest");
    let mut nonce = datagram.to_vec();
    nonce.resize(nonce_len, *b);
    let made = codec.make(server, &nonce).expect("of the layout's lengths");
    assert!(made.len() == 1 + server_len + nonce_len && made.len() <= ID_MAX);
    assert_eq!(codec.read(&made), Some(server));
});
