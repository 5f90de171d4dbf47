//! Translated segments, read by `smoltcp`, against the plain arithmetic of what they should say.

use millrace_fastpath::splice::translate::{Rescale, Stamps, Translation};
use proptest::prelude::*;
use smoltcp::wire::*;

use super::wire::{any_repr, emit, parse};

/// Numbers, and often those at which something wraps.
fn number() -> impl Strategy<Value = u32> {
    let edges = [0, 1, 2, 0x7fff_ffff, 0x8000_0000, 0x8000_0001, 0xffff_fffe, 0xffff_ffff];
    prop_oneof![any::<u32>(), prop::sample::select(edges.to_vec())]
}

prop_compose! {
    fn any_translation()(
        sequence in number(), clock in number(), client in 0u8..=14, instance in 0u8..=14, own in 0u8..=14,
        sack in any::<bool>(), stamps in prop::sample::select(vec![Stamps::None, Stamps::Refused, Stamps::Instance]),
    ) -> Translation {
        Translation {
            sequence,
            clock,
            to_instance: Rescale { from: client, to: if sack { client } else { 0 } },
            to_client: Rescale { from: instance, to: own },
            sack,
            stamps,
        }
    }
}

/// The window that a receiver believes in, in bytes, never leaves the sender's by more than one unit.
fn check_window(rescale: Rescale, before: u16, after: u16) {
    let (meant, said) = (u64::from(before) << rescale.from, u64::from(after) << rescale.to);
    let unit = 1u64 << rescale.to;
    assert_eq!(meant == 0, said == 0, "closed is closed, open is open");
    if after < u16::MAX {
        assert!(said + unit > meant, "no more than a unit is lost: {meant} {said} {rescale:?}");
    }
    if after > 1 {
        assert!(said <= meant, "never more than was meant: {meant} {said} {rescale:?}");
    }
}

/// Moves the options to an odd offset, as some stacks send them.
fn unaligned(bytes: &[u8], fillers: usize) -> Vec<u8> {
    let header = usize::from(bytes[12] >> 4) * 4;
    let options = &bytes[20..header];
    let mut moved = bytes[..20].to_vec();
    moved.extend(std::iter::repeat_n(1, fillers));
    moved.extend_from_slice(options);
    moved.resize(moved.len().next_multiple_of(4), 0);
    if moved.len() > 60 {
        return bytes.to_vec();
    }
    moved[12] = (moved.len() as u8 / 4) << 4;
    moved.extend_from_slice(&bytes[header..]);
    let (source, destination) = super::wire::ips();
    TcpPacket::new_unchecked(&mut moved[..]).fill_checksum(&source, &destination);
    moved
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

    #[test]
    fn towards_the_instance(repr in any_repr(), translation in any_translation(), fillers in 0usize..4, data in any::<[u8; 7]>()) {
        let repr = TcpRepr { payload: &data, ..repr };
        let mut bytes = unaligned(&emit(&repr), fillers);
        let mut working = translation;
        working.to_instance(&mut bytes).unwrap();
        prop_assert_eq!(working, translation, "nothing is learned from a settled connection");
        let seen = parse(&bytes);
        let number = |number: TcpSeqNumber| (number.0 as u32).wrapping_sub(translation.sequence) as i32;
        let edges = |(left, right): (u32, u32)| {
            (left.wrapping_sub(translation.sequence), right.wrapping_sub(translation.sequence))
        };
        let echo = |stamps: TcpTimestampRepr| match (translation.stamps, repr.ack_number) {
            (Stamps::Refused, _) => None,
            (Stamps::Instance, Some(_)) => {
                Some(TcpTimestampRepr::new(stamps.tsval, stamps.tsecr.wrapping_sub(translation.clock)))
            }
            _ => Some(stamps),
        };
        let expected = TcpRepr {
            ack_number: repr.ack_number.map(|ack| TcpSeqNumber(number(ack))),
            sack_ranges: repr.sack_ranges.map(|range| range.filter(|_| translation.sack).map(edges)),
            timestamp: repr.timestamp.and_then(echo),
            window_len: seen.window_len,
            ..repr
        };
        prop_assert_eq!(seen, expected);
        if repr.control == TcpControl::Syn {
            prop_assert_eq!(seen.window_len, repr.window_len, "a SYN's window is not shifted");
        } else {
            check_window(translation.to_instance, repr.window_len, seen.window_len);
        }
    }

    #[test]
    fn towards_the_client(repr in any_repr(), translation in any_translation(), fillers in 0usize..4, data in any::<[u8; 7]>()) {
        let repr = TcpRepr { payload: &data, ..repr };
        let mut bytes = unaligned(&emit(&repr), fillers);
        translation.to_client(&mut bytes).unwrap();
        let seen = parse(&bytes);
        let clock = if translation.stamps == Stamps::Instance { translation.clock } else { 0 };
        let expected = TcpRepr {
            seq_number: TcpSeqNumber((repr.seq_number.0 as u32).wrapping_add(translation.sequence) as i32),
            timestamp: repr.timestamp.map(|stamps| TcpTimestampRepr::new(stamps.tsval.wrapping_add(clock), stamps.tsecr)),
            window_len: seen.window_len,
            ..repr
        };
        prop_assert_eq!(seen, expected);
        if repr.control == TcpControl::Syn {
            prop_assert_eq!(seen.window_len, repr.window_len);
        } else {
            check_window(translation.to_client, repr.window_len, seen.window_len);
        }
    }

    /// What the client says of the instance's bytes and clock comes back in the instance's own numbers.
    #[test]
    fn there_and_back(translation in any_translation(), sequence in number(), value in number(), taken in number()) {
        let translation = Translation { sack: true, stamps: Stamps::Instance, ..translation };
        let sent = TcpRepr { timestamp: Some(TcpTimestampRepr::new(value, 0)), ..plain(sequence) };
        let mut bytes = emit(&sent);
        translation.to_client(&mut bytes).unwrap();
        let heard = parse(&bytes);
        let (heard_at, heard_value) = (heard.seq_number.0 as u32, heard.timestamp.unwrap().tsval);
        let said = TcpRepr {
            ack_number: Some(TcpSeqNumber(heard_at.wrapping_add(taken) as i32)),
            sack_ranges: [Some((heard_at, heard_at.wrapping_add(taken))), None, None],
            timestamp: Some(TcpTimestampRepr::new(0, heard_value)),
            ..plain(0)
        };
        let mut bytes = emit(&said);
        { translation }.to_instance(&mut bytes).unwrap();
        let back = parse(&bytes);
        prop_assert_eq!(back.ack_number.unwrap().0 as u32, sequence.wrapping_add(taken));
        prop_assert_eq!(back.sack_ranges[0], Some((sequence, sequence.wrapping_add(taken))));
        prop_assert_eq!(back.timestamp.unwrap().tsecr, value);
    }

    /// The client echoes our clock until it has heard the instance's; the instance only ever sees times of its own.
    #[test]
    fn our_own_clock_is_never_echoed_to_the_instance(first in number(), value in number(), ago in 0u32..1 << 31, on in prop_oneof![0u32..1 << 25, 0u32..1 << 31]) {
        let clock = first.wrapping_sub(value);
        let mut translation = Translation { clock, stamps: Stamps::Own { first }, ..Translation::default() };
        let mut echoed = |echo: u32| {
            let said = TcpRepr {
                ack_number: Some(TcpSeqNumber(1)),
                timestamp: Some(TcpTimestampRepr::new(5, echo)),
                ..plain(0)
            };
            let mut bytes = emit(&said);
            translation.to_instance(&mut bytes).unwrap();
            parse(&bytes).timestamp.unwrap().tsecr
        };
        prop_assert_eq!(echoed(first.wrapping_sub(ago)), value);
        prop_assert_eq!(echoed(first.wrapping_add(on)), value.wrapping_add(on));
        // A late one is still ours, until the instance's clock has gone far: then it may wrap.
        prop_assert_eq!(echoed(first.wrapping_sub(1)), if on < 1 << 24 { value } else { value.wrapping_sub(1) });
    }

    #[test]
    fn nothing_panics_on_any_bytes(mut bytes in prop::collection::vec(any::<u8>(), 0..80), translation in any_translation()) {
        let before = bytes.clone();
        let mut working = translation;
        if working.to_instance(&mut bytes).is_err() {
            prop_assert_eq!(&bytes, &before, "what is cut stays as it is");
        }
        let _ = translation.to_client(&mut bytes);
    }
}

fn plain(sequence: u32) -> TcpRepr<'static> {
    TcpRepr {
        src_port: 40_000,
        dst_port: 80,
        control: TcpControl::None,
        seq_number: TcpSeqNumber(sequence as i32),
        ack_number: Some(TcpSeqNumber(0)),
        window_len: 1000,
        window_scale: None,
        max_seg_size: None,
        sack_permitted: false,
        sack_ranges: [None; 3],
        timestamp: None,
        payload: b"",
    }
}
