//! TCP headers as `smoltcp` writes and reads them, against ours.

use millrace_fastpath::addr::Addr;
use millrace_fastpath::splice::options::{Options, Timestamps};
use millrace_fastpath::splice::segment::Head;
use proptest::prelude::*;
use smoltcp::phy::ChecksumCapabilities;
use smoltcp::wire::*;

pub(crate) const CLIENT: [u8; 4] = [10, 9, 9, 9];
pub(crate) const SERVICE: [u8; 4] = [203, 0, 113, 10];

pub(crate) fn ips() -> (IpAddress, IpAddress) {
    (Ipv4Address::from(CLIENT).into(), Ipv4Address::from(SERVICE).into())
}

/// A segment as `smoltcp` writes it.
pub(crate) fn emit(repr: &TcpRepr<'_>) -> Vec<u8> {
    let mut bytes = vec![0; repr.buffer_len()];
    let (source, destination) = ips();
    repr.emit(
        &mut TcpPacket::new_unchecked(&mut bytes[..]),
        &source,
        &destination,
        &ChecksumCapabilities::default(),
    );
    bytes
}

/// A segment as `smoltcp` reads it, its checksum verified.
pub(crate) fn parse(bytes: &[u8]) -> TcpRepr<'_> {
    let (source, destination) = ips();
    let packet = TcpPacket::new_checked(bytes).expect("whole");
    assert!(packet.verify_checksum(&source, &destination), "checksum");
    TcpRepr::parse(&TcpPacket::new_unchecked(bytes), &source, &destination, &ChecksumCapabilities::default())
        .expect("a segment that makes sense")
}

/// One option of any kind; known kinds have their right length, for readers differ about others.
fn any_option() -> impl Strategy<Value = Vec<u8>> {
    let len = |kind: u8| match kind {
        2 => Just(2usize..3),
        3 => Just(1..2),
        4 => Just(0..1),
        8 => Just(8..9),
        _ => Just(0..12),
    };
    (0u8..12).prop_flat_map(move |kind| {
        len(kind).prop_flat_map(|len| prop::collection::vec(any::<u8>(), len)).prop_map(
            move |data| match kind {
                0 | 1 => vec![kind],
                // Blocks are pairs of four bytes.
                5 => [&[5, 10], &[data, vec![0; 8]].concat()[..8]].concat(),
                _ => [&[kind, data.len() as u8 + 2], &data[..]].concat(),
            },
        )
    })
}

prop_compose! {
    pub(crate) fn any_repr()(
        src_port in 1u16.., dst_port in 1u16.., window_len in any::<u16>(),
        control in prop::sample::select(vec![
            TcpControl::None, TcpControl::Psh, TcpControl::Syn, TcpControl::Fin, TcpControl::Rst,
        ]),
        seq in any::<i32>(), ack in prop::option::of(any::<i32>()),
        mss in prop::option::of(1u16..), window_scale in prop::option::of(0u8..=14), sack_permitted in any::<bool>(),
        stamps in prop::option::of(any::<(u32, u32)>()),
        first_sack in prop::option::of(any::<(u32, u32)>()), second_sack in prop::option::of(any::<(u32, u32)>()),
    ) -> TcpRepr<'static> {
        let syn = control == TcpControl::Syn;
        let sacks = !syn && ack.is_some();
        TcpRepr {
            src_port,
            dst_port,
            control,
            seq_number: TcpSeqNumber(seq),
            ack_number: ack.map(TcpSeqNumber),
            window_len,
            window_scale: window_scale.filter(|_| syn),
            max_seg_size: mss.filter(|_| syn),
            sack_permitted: sack_permitted && syn,
            sack_ranges: [first_sack.filter(|_| sacks), second_sack.filter(|_| sacks && first_sack.is_some()), None],
            timestamp: stamps.map(|(value, echo)| TcpTimestampRepr::new(value, echo)),
            payload: b"",
        }
    }
}

/// The same header in the other's terms.
pub(crate) fn head_of(repr: &TcpRepr<'_>) -> Head {
    let flag = |control: TcpControl| match control {
        TcpControl::None => 0,
        TcpControl::Psh => 0x08,
        TcpControl::Syn => 0x02,
        TcpControl::Fin => 0x01,
        TcpControl::Rst => 0x04,
    };
    Head {
        source_port: repr.src_port,
        destination_port: repr.dst_port,
        sequence: repr.seq_number.0 as u32,
        acknowledgement: repr.ack_number.map_or(0, |number| number.0 as u32),
        flags: flag(repr.control) | if repr.ack_number.is_some() { 0x10 } else { 0 },
        window: repr.window_len,
        options: Options {
            mss: repr.max_seg_size,
            scale: repr.window_scale,
            sack_permitted: repr.sack_permitted,
            timestamps: repr.timestamp.map(|stamps| Timestamps { value: stamps.tsval, echo: stamps.tsecr }),
        },
    }
}

proptest! {
    #[test]
    fn we_read_what_they_write(repr in any_repr()) {
        prop_assert_eq!(Head::read(&emit(&repr)), Some(head_of(&repr)));
    }

    #[test]
    fn they_read_what_we_write(repr in any_repr()) {
        let repr = TcpRepr { sack_ranges: [None; 3], ..repr };
        let head = head_of(&repr);
        let mut bytes = vec![0xff; head.written_len()];
        head.write(&mut bytes, Addr::v4(CLIENT), Addr::v4(SERVICE));
        prop_assert_eq!(parse(&bytes), repr);
    }

    #[test]
    fn we_agree_on_options_in_any_order_cut_anywhere(
        pieces in prop::collection::vec(any_option(), 0..6), cut in 0usize..=40,
    ) {
        let mut options = pieces.concat();
        options.truncate(cut);
        let mut left = &options[..];
        let mut theirs = Options::default();
        while !left.is_empty() {
            let Ok((next, option)) = TcpOption::parse(left) else { break };
            match option {
                TcpOption::EndOfList => break,
                TcpOption::MaxSegmentSize(mss) => theirs.mss = Some(mss).filter(|mss| *mss != 0),
                TcpOption::WindowScale(scale) => theirs.scale = Some(scale.min(14)),
                TcpOption::SackPermitted => theirs.sack_permitted = true,
                TcpOption::TimeStamp { tsval, tsecr } => {
                    theirs.timestamps = Some(Timestamps { value: tsval, echo: tsecr });
                }
                _ => {}
            }
            left = next;
        }
        prop_assert_eq!(Options::read(&options), theirs);
    }
}
