//! The order of a wake: as long as the orchestrator's link hasn't taken the notification, nothing of a handshake leaves,
//! whatever wakes the service and whatever becomes of its first packets.

use crate::common::frames::*;
use crate::common::*;
use millrace_fastpath::driver::PortId;
use millrace_fastpath::slots::{Phase, WakeId};
use millrace_fastpath::tables::services::*;
use smoltcp::wire::TcpControl;

const CLIENT: End = ("10.9.9.9", 40_000);
const CLIENT6: End = ("2001:db8:9::9", 40_000);
const VIP: End = ("203.0.113.10", 80);
const VIP6: End = ("2001:db8:f::10", 80);
const HOLD_MS: u64 = 900;

#[derive(Clone, Copy, Debug, PartialEq)]
enum By {
    Dns,
    Syn,
    Flow,
}

const HANDLINGS: [Handling; 3] = [Handling::Hold, Handling::Forward, Handling::Splice];

/// A service that nothing but `by` wakes, with its names.
fn bench(by: By, handling: Handling, workers: usize) -> Bench {
    let mut bench = Bench::new(workers);
    bench.tables.names = zone::names([203, 0, 113, 10]);
    let (trigger_dns, trigger_syn, trigger_flow) = (by == By::Dns, by == By::Syn, by == By::Flow);
    bench.set_service(0, Service { handling, trigger_dns, trigger_syn, trigger_flow, ..cold_service() });
    bench
}

/// Wakes it, without opening a connection where that can be done.
fn wake(bench: &mut Bench, by: By) {
    let question = b"\0\x01\x01\0\0\x01\0\0\0\0\0\0\x05hello\x02fn\x07example\0\0\x01\0\x01";
    match by {
        By::Dns => bench.deliver_and_run(WAN, &client_udp(CLIENT, ("192.0.2.53", 53), question)),
        By::Syn => bench.deliver_and_run(WAN, &syn(CLIENT, VIP, 100)),
        By::Flow => bench.deliver_and_run(WAN, &client_ip(CLIENT.0, VIP.0, 99, b"rubbish")),
    }
    assert_eq!(bench.wakes(), 1, "{by:?}");
}

/// TCP segments that left by a port.
fn segments(bench: &Bench, port: PortId) -> Vec<Seen> {
    bench.sent(port).iter().map(|frame| read(frame)).filter(|seen| seen.tcp.is_some()).collect()
}

/// An instance is bound, and even serves, as far as the tables say.
fn publish_instance(bench: &mut Bench) {
    let mut service = (**bench.tables.services.get(ServiceId(0)).unwrap()).clone();
    service.instances.push(instance(1, InstanceState::Ready));
    bench.set_service(0, service);
}

#[test]
fn nothing_of_a_handshake_leaves_before_the_notification_has_been_handed_over() {
    for by in [By::Dns, By::Syn, By::Flow] {
        for handling in HANDLINGS {
            for workers in [1, 4] {
                let what = format!("{by:?}, {handling:?}, {workers} workers");
                let mut bench = bench(by, handling, workers);
                wake(&mut bench, by);
                publish_instance(&mut bench);
                // Clients come by every queue, repeat themselves, and guess what we might have said.
                for ms in 0..HOLD_MS {
                    if ms % 100 == 0 {
                        for queue in 0..workers as u16 {
                            for (client, vip) in [(CLIENT, VIP), (CLIENT6, VIP6)] {
                                let client = (client.0, client.1 + queue);
                                assert!(bench.net.deliver(WAN, queue, &syn(client, vip, 100)));
                                assert!(bench.net.deliver(WAN, queue, &segment(client, vip, b"GET /")));
                            }
                        }
                    }
                    bench.run();
                    let early = (segments(&bench, WAN), segments(&bench, LAN));
                    assert_eq!(early, (Vec::new(), Vec::new()), "{what}");
                    bench.advance_ms(1);
                }
                assert_eq!(bench.shared.slots.get(ServiceId(0)).load(), (Phase::Waking, WakeId(1)), "{what}");
                assert_eq!(bench.wakes(), 0, "{what}");
                bench.check_laws();
            }
        }
    }
}

#[test]
fn once_it_has_been_handed_over_each_goes_its_way() {
    for by in [By::Dns, By::Syn, By::Flow] {
        for handling in HANDLINGS {
            let what = format!("{by:?}, {handling:?}");
            let mut bench = bench(by, handling, 4);
            wake(&mut bench, by);
            bench.deliver_and_run(WAN, &syn(CLIENT, VIP, 100));
            publish_instance(&mut bench);
            bench.sent(WAN);
            bench.shared.slots.get(ServiceId(0)).set_handed(WakeId(1));
            bench.run();
            let (wan, lan) = (segments(&bench, WAN), segments(&bench, LAN));
            let tcp = |seen: &[Seen]| seen.iter().filter_map(|seen| seen.tcp).collect::<Vec<_>>();
            match handling {
                Handling::Hold => assert_eq!((wan.len(), lan.len()), (0, 0), "{what}: until it is ready"),
                Handling::Forward => {
                    assert_eq!(
                        (tcp(&wan), tcp(&lan)),
                        (vec![], vec![(TcpControl::Syn, 100, None)]),
                        "{what}"
                    );
                }
                Handling::Splice => {
                    assert!(matches!(tcp(&wan)[..], [(TcpControl::Syn, _, Some(101))]), "{what}: {wan:?}");
                    assert!(lan.is_empty(), "{what}");
                }
            }
            bench.set_phase(0, Phase::Ready);
            bench.run();
            let opened = usize::from(handling == Handling::Hold);
            assert_eq!(segments(&bench, LAN).len(), opened, "{what}");
            bench.check_laws();
        }
    }
}
