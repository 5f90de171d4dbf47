//! What workers hand over and take back: frames, parcels, snapshots.

use super::*;

#[test]
fn a_packet_to_an_unknown_neighbour_leaves_by_its_worker_when_it_is_found() {
    let mut bench = Bench::new();
    bench.sent();
    let mut packet = vec![0; 60];
    packet[14] = 0x45;
    bench.punt(1, LAN, Punt::NeighbourUnknown, addr("198.51.100.9"), &packet);
    bench.turn();
    let sent = bench.sent();
    let [(LAN, request)] = &sent[..] else { panic!("{sent:?}") };
    assert_eq!(request[..6], [0xff; 6]);
    bench.punt(0, LAN, Punt::Host, Addr::default(), &arp_reply("198.51.100.9", PEER_MAC));
    bench.turn();
    let sent = bench.sent();
    let [(LAN, packet)] = &sent[..] else { panic!("{sent:?}") };
    assert_eq!(packet[..14], [&PEER_MAC[..], &LAN_MAC, &[0x08, 0x00]].concat());
    assert_eq!(bench.shared.tables().neighbours.get(LAN, addr("198.51.100.9")), Some(PEER_MAC));
    for worker in &bench.shared.workers {
        let total = millrace_fastpath::queue::PARCELS_MAX;
        assert_eq!((worker.queues.punts_empty.len(), worker.queues.injects_empty.len()), (total, total));
    }
}

#[test]
fn a_flood_of_punts_is_limited_and_every_parcel_comes_back() {
    let mut bench = Bench::new();
    bench.sent();
    for round in 0..200 {
        for _ in 0..50 {
            bench.punt(0, WAN, Punt::Host, Addr::default(), &[round; 60]);
        }
        while !bench.shared.workers[0].queues.punts.is_empty() {
            bench.turn();
        }
    }
    assert_eq!(bench.shared.workers[0].queues.punts_empty.len(), millrace_fastpath::queue::PARCELS_MAX);
    assert!(bench.control.counters().punts_limited > 5000);
}

#[test]
fn snapshots_are_kept_until_every_worker_has_left_them() {
    let mut bench = Bench::new();
    bench.follow = false;
    let old = Arc::downgrade(&bench.shared.tables());
    for id in 1..5 {
        bench.delta(vec![instance(id, InstanceState::Starting)], None);
        bench.turn_at(200);
    }
    assert!(old.upgrade().is_some());
    bench.take_up();
    bench.turn_at(200);
    assert!(old.upgrade().is_none());
}

/// An echo request that a worker shows is answered through a worker's BIER node, and its parcel comes back.
#[test]
fn an_echo_request_is_answered_through_the_bier_node() {
    let bier = "\n[bier]\nbfr_prefix = \"192.0.2.1\"\n[[bier.subdomain]]\nid = 0\nbfr_id = 5\nbitstring_bits = 64\n\
        table = [{ neighbour = \"p\", address = \"198.51.100.7\", bfr_ids = \"1\" }]\n";
    let text = format!("{}{bier}", crate::testing::EDGE);
    let mut bench = Bench::of(&Config::parse("edge.toml", &text).unwrap(), 16);
    bench.turn();
    bench.sent();
    let (sender, replies) = std::sync::mpsc::sync_channel(1);
    let question = crate::oam::Question {
        sub_domain: millrace_bier::id::SubDomain(0),
        ids: vec![millrace_bier::id::BfrId::new(5).unwrap()],
        target: None,
        entropy: 0,
        ttl: 255,
        reply_mode: millrace_bier::oam::ReplyMode::Bier,
        sequence: 1,
        mappings: None,
        patience: std::time::Duration::from_secs(1),
        replies: sender,
    };
    bench.control.ask_echo(question, bench.now).unwrap();
    assert!(bench.control.is_waited_for(), "an operator waits");
    // To ourselves, and back to ourselves.
    for _ in 0..2 {
        let queues = &bench.shared.workers;
        let mut taken = queues.iter().filter_map(|worker| Some((worker, worker.queues.injects.pop()?)));
        let (worker, parcel) = taken.next().expect("something was sent");
        assert_eq!(parcel.injected, millrace_fastpath::queue::Injected::Bier);
        let frame = parcel.bytes().to_vec();
        worker.queues.injects_empty.push(parcel).unwrap();
        drop(taken);
        bench.punt(0, WAN, Punt::BierOam, Addr::default(), &frame);
        bench.turn();
    }
    assert_eq!(replies.try_recv().unwrap().code, millrace_bier::oam::ReturnCode::OnlyBfer);
    for worker in &bench.shared.workers {
        let total = millrace_fastpath::queue::PARCELS_MAX;
        assert_eq!((worker.queues.punts_empty.len(), worker.queues.injects_empty.len()), (total, total));
    }
}
