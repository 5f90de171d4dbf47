//! Any bytes as TCP segments of a spliced connection: headers and options are read as another implementation reads them,
//! what is written can be read back, cookies are recognised, and a translated segment keeps its length and a right checksum.

#![no_main]

use libfuzzer_sys::fuzz_target;
use millrace_fastpath::addr::Addr;
use millrace_fastpath::clock::Nanos;
use millrace_fastpath::splice::connect::{Accepted, Answer, Connect, acknowledge};
use millrace_fastpath::splice::cookie::{AGE_TICKS, Cookies, Handshake};
use millrace_fastpath::splice::early::Early;
use millrace_fastpath::splice::options::Timestamps;
use millrace_fastpath::splice::segment::Head;
use millrace_fastpath::splice::translate::Translation;
use smoltcp::wire::{IpAddress, Ipv4Address, TcpPacket};

const CLIENT: [u8; 4] = [10, 9, 9, 9];
const SERVICE: [u8; 4] = [203, 0, 113, 10];
const NOW: Nanos = Nanos(1_000_000_000_000);

fn ips() -> (IpAddress, IpAddress) {
    (Ipv4Address::from(CLIENT).into(), Ipv4Address::from(SERVICE).into())
}

// Two bytes say where the first of two segments ends.
fuzz_target!(|input: &[u8]| {
    let Some((split, segments)) = input.split_first_chunk::<2>() else { return };
    let split = usize::from(u16::from_be_bytes(*split)).min(segments.len());
    let (one, other) = segments.split_at(split);
    let (Some(one_head), other_head) = (read(one), read(other)) else { return };
    let cookies = Cookies::new([7, 11]);
    let handshake = Handshake {
        client: (Addr::v4(CLIENT), one_head.source_port),
        service: (Addr::v4(SERVICE), one_head.destination_port),
        client_isn: one_head.sequence,
    };
    let isn = cookies.issue(&handshake, &one_head.options, NOW);
    let syn_ack = Accepted::syn_ack(&one_head, isn, cookies.stamp(&handshake, NOW), 1460, 1000);
    write(&syn_ack);
    // The client's answer: the numbers that it must say, and its clock.
    let echo = syn_ack.options.timestamps.map(|ours| Timestamps { value: 5, echo: ours.value });
    let later = NOW.plus(30_000_000_000);
    let options = cookies.check(&handshake, isn, echo, later, AGE_TICKS).expect("our own cookie is known");
    let offered = one_head.options;
    assert_eq!((options.scale, options.sack_permitted), (offered.scale, offered.sack_permitted));
    assert!(options.mss <= Some(offered.mss.unwrap_or(536).max(88)), "nobody is sent more than it takes");
    let Some(other_head) = other_head else { return };
    let held = Early { head: one_head, data: one.len() as u32 };
    held.judge(&Early { head: other_head, data: other.len() as u32 });
    let Some(accepted) = Accepted::new(&one_head, options) else { return };
    write(&accepted.syn(one_head.source_port, 80));
    write(&acknowledge(&other_head, accepted.window));
    let connect = Connect::new(accepted, NOW);
    // An acknowledgement of our SYN is hard to guess.
    let answer = Head { acknowledgement: one_head.sequence, ..other_head };
    let Answer::Opened(mut translation) = connect.answer(&answer, syn_ack.acknowledgement) else { return };
    for segment in [one, other] {
        translate(segment, |bytes| Translation::to_client(&translation, bytes).is_ok());
        translate(segment, |bytes| translation.to_instance(bytes).is_ok());
    }
});

/// Reads a header, and has it read by others; then what they and we write.
fn read(bytes: &[u8]) -> Option<Head> {
    let head = Head::read(bytes);
    let theirs = TcpPacket::new_checked(bytes);
    assert_eq!(head.is_some(), theirs.is_ok(), "we agree on what is whole");
    let (head, theirs) = (head?, theirs.ok()?);
    assert_eq!((head.source_port, head.destination_port), (theirs.src_port(), theirs.dst_port()));
    assert_eq!(head.sequence, theirs.seq_number().0 as u32);
    assert_eq!(head.acknowledgement, theirs.ack_number().0 as u32);
    assert_eq!(head.window, theirs.window_len());
    assert!(
        head.written_len() <= usize::from(theirs.header_len()),
        "never longer than what it was read from"
    );
    write(&head);
    write(&head.reset(bytes.len() as u32));
    Some(head)
}

fn write(head: &Head) {
    let mut bytes = [0xff; 60];
    let bytes = &mut bytes[..head.written_len()];
    head.write(bytes, Addr::v4(CLIENT), Addr::v4(SERVICE));
    assert_eq!(Head::read(bytes).as_ref(), Some(head));
    let (source, destination) = ips();
    assert!(TcpPacket::new_checked(&*bytes).expect("it is whole").verify_checksum(&source, &destination));
}

fn translate(segment: &[u8], mut rewrite: impl FnMut(&mut [u8]) -> bool) {
    let (source, destination) = ips();
    let mut bytes = segment.to_vec();
    let whole = TcpPacket::new_checked(&bytes).is_ok();
    if whole {
        TcpPacket::new_unchecked(&mut bytes[..]).fill_checksum(&source, &destination);
    }
    let before = bytes.clone();
    assert_eq!(rewrite(&mut bytes), whole, "whole headers are translated, and no others");
    if !whole {
        return assert_eq!(bytes, before, "what is cut stays as it is");
    }
    let packet = TcpPacket::new_checked(&bytes).expect("it stays whole");
    assert!(packet.verify_checksum(&source, &destination), "{before:02x?} became {bytes:02x?}");
    let header_len = usize::from(packet.header_len());
    assert_eq!(
        (bytes.len(), &bytes[header_len..]),
        (before.len(), &before[header_len..]),
        "data is not touched"
    );
    assert_eq!(
        (&bytes[..4], &bytes[12..14]),
        (&before[..4], &before[12..14]),
        "nor are ports, length and flags"
    );
}
