//! What other routers say that is listened to behind them: shown to the slowpath where it wants to hear it, within limits.

use millrace_fastpath::queue::Punt;

use super::oam::shown;
use super::*;

fn igmp() -> Vec<u8> {
    let mut ip =
        vec![0x46, 0xc0, 0, 32, 0, 0, 0x40, 0, 1, 2, 0, 0, 192, 0, 2, 9, 224, 0, 0, 22, 0x94, 4, 0, 0];
    millrace_fastpath::wire::ipv4::fill_checksum(&mut ip, 24);
    ip.extend([0x22, 0, 0xdd, 0xff, 0, 0, 0, 0]);
    ip
}

fn mld(kind: u8) -> Vec<u8> {
    let mut ip = vec![0x60, 0, 0, 0, 0, 16, 0, 1];
    ip.extend([addr("fe80::1"), addr("ff02::16")].map(|one| one.0.to_be_bytes()).concat());
    ip.extend([58, 0, 5, 2, 0, 0, 1, 0]);
    ip.extend([kind, 0, 0, 0, 0, 0, 0, 0]);
    ip
}

fn hearing(rows: &[&[u16]]) -> Bench {
    let mut bench = bench(Bsl::B64, rows);
    let mut bier = (**bench.tables.bier.as_ref().unwrap()).clone();
    bier.signalled = true;
    bench.tables.bier = Some(Arc::new(bier));
    bench.publish();
    bench
}

#[test]
fn the_slowpath_sees_reports_for_us_with_the_number_of_who_says_so() {
    for payload in [igmp(), mld(130), mld(131), mld(132), mld(143)] {
        // TTL in, routers that it is for, copies out, whether it is shown.
        for (ttl, ids, out, told) in [
            (9, &[OURS][..], 0, true),
            (1, &[OURS], 0, true),
            (9, &[OURS, 1], 1, true),
            (1, &[OURS, 1], 0, true),
            (0, &[OURS], 0, false),
            (9, &[1], 1, false),
        ] {
            let mut bench = hearing(&[&[1]]);
            let frame = packet(Bsl::B64, ids, ttl, &payload);
            bench.deliver_and_run(WAN, &frame);
            let expected: Vec<_> =
                told.then_some((Punt::BierMembership, InterfaceId(0), frame)).into_iter().collect();
            let shown: Vec<_> =
                shown(&bench).into_iter().filter(|(why, ..)| *why != Punt::BierExpired).collect();
            assert_eq!((shown, bench.sent(LAN).len()), (expected, out), "TTL {ttl} to {ids:?}");
            assert_eq!(bench.fates().punted, u64::from(told && out == 0));
            bench.check_laws();
        }
    }
}

/// Whoever is elsewhere could say anything for anybody: by no interface of the sub-domain, and not before a limit is spent.
#[test]
fn who_is_on_no_link_of_the_sub_domain_is_not_believed() {
    let mut bench = hearing(&[&[1]]);
    let mut bier = (**bench.tables.bier.as_ref().unwrap()).clone();
    bier.within = vec![(SubDomain(0), vec![LAN_IF])];
    bench.tables.bier = Some(Arc::new(bier));
    bench.publish();
    for payload in [igmp(), mld(130), mld(143)] {
        bench.deliver_and_run(WAN, &packet(Bsl::B64, &[OURS], 9, &payload));
    }
    bench.deliver_and_run(WAN, &packet(Bsl::B64, &[OURS, 1], 9, &igmp()));
    assert_eq!((shown(&bench), bench.drops(NodeId::Bier, "membership-stranger")), (vec![], 3));
    assert_eq!((bench.sent(LAN).len(), lost(&bench, Loss::MembershipStranger)), (1, 1), "others are served");
    let mut near = packet(Bsl::B64, &[OURS], 9, &igmp());
    near[..6].copy_from_slice(&LAN_MAC);
    bench.deliver_and_run(LAN, &near);
    assert_eq!(shown(&bench).len(), 1);
    bench.check_laws();
}

#[test]
fn other_packets_and_those_that_nobody_wants_to_hear_are_payloads() {
    let mut silent = bench(Bsl::B64, &[&[1]]);
    silent.deliver_and_run(WAN, &packet(Bsl::B64, &[OURS], 9, &igmp()));
    assert_eq!((shown(&silent), lost(&silent, Loss::BadPayload)), (vec![], 1));
    silent.check_laws();
    let mut bench = hearing(&[&[1]]);
    for payload in [mld(135), mld(143)[..47].to_vec(), ipv4("232.1.1.1", 9)] {
        bench.deliver_and_run(WAN, &packet(Bsl::B64, &[OURS], 9, &payload));
    }
    assert_eq!((shown(&bench), bench.sent(LAN).len(), lost(&bench, Loss::BadPayload)), (vec![], 2, 2));
    bench.check_laws();
}

#[test]
fn a_flood_of_reports_is_limited_by_name() {
    let mut bench = hearing(&[&[1]]);
    let frame = packet(Bsl::B64, &[OURS], 9, &igmp());
    for _ in 0..300 {
        bench.deliver_and_run(WAN, &frame);
    }
    let limited = bench.drops(NodeId::Bier, "membership-limited");
    assert_eq!((shown(&bench).len() as u64 + limited, limited > 0), (300, true));
    let copied = packet(Bsl::B64, &[OURS, 1], 9, &igmp());
    bench.deliver_and_run(WAN, &copied);
    assert_eq!((bench.sent(LAN).len(), lost(&bench, Loss::MembershipLimited)), (1, 1));
    bench.check_laws();
}
