//! DNS over TCP with clients that are slow, rude or many, and with streams cut anywhere.

use proptest::prelude::*;

use super::*;

const SECOND: u64 = 1_000_000_000;

/// Lets time pass in steps in which a client may act.
fn pass(bench: &mut Bench, client: &mut Client, seconds: u64, mut each: impl FnMut(&mut Client)) {
    for _ in 0..seconds {
        bench.now = bench.now.plus(SECOND);
        each(client);
        client.talk(bench);
    }
}

/// Lets both talk until nothing comes any more: the stack sends some segments in a turn, and the next a millisecond later.
fn settle(bench: &mut Bench, client: &mut Client) {
    for _ in 0..50 {
        bench.now = bench.now.plus(1_000_000);
        client.talk(bench);
    }
}

/// Whether somebody else is served.
fn serves(bench: &mut Bench) -> bool {
    let mut other = far_client(250);
    let handle = other.connect("192.0.2.53", 50_000);
    other.talk(bench);
    other.send(handle, &query(77, "ns1.fn.example", 1));
    other.talk(bench);
    let served = answers(&other.received(handle)) == [(77, 0, 1)];
    other.socket(handle).close();
    other.talk(bench);
    served
}

#[test]
fn who_has_said_all_still_hears_all() {
    let (mut bench, mut client) = (Bench::new("immediate"), Client::new("192.0.2.200"));
    let handle = client.connect("192.0.2.53", 40_000);
    client.talk(&mut bench);
    let queries: Vec<u8> = (1..=40).flat_map(|id| query(id, "ns1.fn.example", 1)).collect();
    client.send(handle, &queries);
    client.socket(handle).close();
    settle(&mut bench, &mut client);
    let expected: Vec<_> = (1..=40).map(|id| (id, 0, 1)).collect();
    assert_eq!(answers(&client.received(handle)), expected);
    assert_eq!(client.socket(handle).state(), tcp::State::TimeWait, "then the server ends, too");
    assert_eq!(bench.stack.counters().tcp_aborted, 0);
}

#[test]
fn who_has_said_all_is_waited_with_for_a_function() {
    let (mut bench, mut client) = (Bench::new("when-ready"), Client::new("192.0.2.200"));
    let handle = client.connect("192.0.2.53", 40_000);
    client.talk(&mut bench);
    client.send(handle, &[query(1, "hello.fn.example", 1), query(2, "ns1.fn.example", 1)].concat());
    client.socket(handle).close();
    client.talk(&mut bench);
    assert_eq!(answers(&client.received(handle)), [(2, 0, 1)]);
    bench.slots.get(HELLO).set_phase(Phase::Ready);
    bench.now = bench.now.plus(1_000_000);
    client.talk(&mut bench);
    assert_eq!(answers(&client.received(handle)), [(1, 0, 1)]);
    assert_eq!(client.socket(handle).state(), tcp::State::TimeWait);
}

#[test]
fn half_a_query_and_the_end_is_the_end() {
    let (mut bench, mut client) = (Bench::new("immediate"), Client::new("192.0.2.200"));
    let handle = client.connect("192.0.2.53", 40_000);
    client.talk(&mut bench);
    client.send(handle, &query(1, "ns1.fn.example", 1)[..20]);
    client.socket(handle).close();
    client.talk(&mut bench);
    assert!(client.received(handle).is_empty());
    assert_eq!(client.socket(handle).state(), tcp::State::TimeWait);
}

#[test]
fn who_never_reads_is_ended_and_costs_no_socket() {
    let (mut bench, mut client) = (Bench::new("immediate"), Client::new("192.0.2.200"));
    let handle = client.connect_with_room("192.0.2.53", 40_000, 64);
    client.talk(&mut bench);
    // More answers than fit into all buffers on the way.
    let queries: Vec<u8> = (0..700).flat_map(|id| query(id, "ns1.fn.example", 1)).collect();
    client.send(handle, &queries);
    client.talk(&mut bench);
    assert!(bench.stack.counters().tcp_queries < 700, "nobody answers into the blue");
    assert!(serves(&mut bench));
    pass(&mut bench, &mut client, 12, |_| ());
    assert_eq!(client.socket(handle).state(), tcp::State::Closed);
    assert_eq!(bench.stack.counters().tcp_aborted, 1);
    assert!(serves(&mut bench));
}

/// That a query of its waits for a function is no reason to wait for who doesn't read.
#[test]
fn who_never_reads_is_ended_though_something_waits_for_it() {
    let (mut bench, mut client) = (Bench::new("when-ready"), Client::new("192.0.2.200"));
    let handle = client.connect_with_room("192.0.2.53", 40_000, 64);
    client.talk(&mut bench);
    let more = (1..700).flat_map(|id| query(id, "ns1.fn.example", 1));
    client.send(handle, &query(0, "hello.fn.example", 1).into_iter().chain(more).collect::<Vec<_>>());
    settle(&mut bench, &mut client);
    assert!((1..699).contains(&bench.stack.counters().tcp_queries), "the rest waits for the reader");
    // The function is waited for no longer, and its query isn't answered, for there is no room for an answer.
    pass(&mut bench, &mut client, 4, |_| ());
    assert_eq!(
        (client.socket(handle).state(), bench.stack.counters().tcp_aborted),
        (tcp::State::Established, 0)
    );
    pass(&mut bench, &mut client, 5, |_| ());
    assert_eq!((client.socket(handle).state(), bench.stack.counters().tcp_aborted), (tcp::State::Closed, 1));
    assert!(serves(&mut bench));
}

#[test]
fn who_reads_drop_by_drop_is_ended() {
    let (mut bench, mut client) = (Bench::new("immediate"), Client::new("192.0.2.200"));
    let handle = client.connect_with_room("192.0.2.53", 40_000, 16);
    client.talk(&mut bench);
    let queries: Vec<u8> = (0..700).flat_map(|id| query(id, "ns1.fn.example", 1)).collect();
    client.send(handle, &queries);
    client.talk(&mut bench);
    let mut heard = 0;
    pass(&mut bench, &mut client, 12, |client| {
        let mut byte = [0; 1];
        heard += client.socket(handle).recv_slice(&mut byte).unwrap_or(0);
    });
    assert!((4..=12).contains(&heard));
    assert_eq!(client.socket(handle).state(), tcp::State::Closed);
}

/// The server ends a silent connection; its client takes no leave, and begins to talk.
#[test]
fn who_takes_no_leave_loses_his_place() {
    let (mut bench, mut client) = (Bench::new("immediate"), Client::new("192.0.2.200"));
    let handle = client.connect("192.0.2.53", 40_000);
    client.talk(&mut bench);
    pass(&mut bench, &mut client, 5, |_| ());
    assert_eq!(client.socket(handle).state(), tcp::State::CloseWait);
    pass(&mut bench, &mut client, 2, |client| client.send(handle, b"x"));
    assert_eq!(client.socket(handle).state(), tcp::State::CloseWait);
    pass(&mut bench, &mut client, 2, |client| {
        let _ = client.socket(handle).send_slice(b"x");
    });
    assert_eq!(client.socket(handle).state(), tcp::State::Closed);
    assert_eq!(bench.stack.counters().tcp_aborted, 1);
}

#[test]
fn who_takes_no_leave_keeps_nobody_out() {
    let mut bench = Bench::new("immediate");
    let mut rude: Vec<(Client, SocketHandle)> = Vec::new();
    for n in 0..CONNECTIONS_MAX as u8 {
        let mut client = far_client(n);
        let handle = client.connect("192.0.2.53", 40_000);
        client.talk(&mut bench);
        rude.push((client, handle));
    }
    for second in 1..8 {
        bench.now = bench.now.plus(SECOND);
        for (client, handle) in &mut rude {
            if client.socket(*handle).state() == tcp::State::CloseWait {
                let _ = client.socket(*handle).send_slice(b"x");
            }
            client.talk(&mut bench);
        }
        // From here on nobody is left who could make room but those that have been ended.
        assert!(second < 6 || serves(&mut bench));
    }
}

#[test]
fn the_oldest_quiet_connection_goes_first_and_one_that_waits_does_not() {
    let mut bench = Bench::new("when-ready");
    let mut clients: Vec<(Client, SocketHandle)> = Vec::new();
    // The first waits for a function, the others say nothing.
    for n in 0..80 {
        let mut client = far_client(n);
        let handle = client.connect("192.0.2.53", 40_000);
        client.talk(&mut bench);
        if n == 0 {
            client.send(handle, &query(1, "hello.fn.example", 1));
            client.talk(&mut bench);
        }
        clients.push((client, handle));
        bench.now = bench.now.plus(1_000_000);
    }
    // Nobody else's frames come to a client here, so each has to ask to learn whether it is still connected.
    let mut open = Vec::new();
    for (client, handle) in &mut clients[1..] {
        client.send(*handle, &query(2, "ns1.fn.example", 1));
        client.talk(&mut bench);
        open.push(answers(&client.received(*handle)) == [(2, 0, 1)]);
    }
    let ended = open.iter().position(|open| *open).unwrap();
    assert!(ended >= 80 - CONNECTIONS_MAX && open[ended..].iter().all(|open| *open), "{open:?}");
    assert_eq!(bench.stack.counters().tcp_aborted, ended as u64);
    let (client, handle) = &mut clients[0];
    bench.slots.get(HELLO).set_phase(Phase::Ready);
    bench.now = bench.now.plus(1_000_000);
    client.talk(&mut bench);
    assert_eq!(answers(&client.received(*handle)), [(1, 0, 1)]);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    /// Queries in one stream, cut anywhere: each is answered once, in order where nobody waits.
    #[test]
    fn a_stream_may_be_cut_anywhere(
        count in 1u16..60,
        cuts in prop::collection::vec(1usize..90, 1..60),
    ) {
        let (mut bench, mut client) = (Bench::new("immediate"), Client::new("192.0.2.200"));
        let handle = client.connect("192.0.2.53", 40_000);
        client.talk(&mut bench);
        let stream: Vec<u8> = (0..count).flat_map(|id| query(id, "ns1.fn.example", 1)).collect();
        let mut heard = Vec::new();
        let mut rest = &stream[..];
        for cut in cuts.iter().cycle() {
            let (part, after) = rest.split_at((*cut).min(rest.len()));
            client.send(handle, part);
            client.talk(&mut bench);
            heard.extend(client.received(handle));
            rest = after;
            if rest.is_empty() {
                break;
            }
        }
        let expected: Vec<_> = (0..count).map(|id| (id, 0, 1)).collect();
        prop_assert_eq!(answers(&heard), expected);
    }

    /// Any bytes behind any length: answered as messages are, or the connection ends; and only that.
    #[test]
    fn garbage_ends_at_most_its_own_connection(
        messages in prop::collection::vec((any::<Option<u16>>(), prop::collection::vec(any::<u8>(), 0..80)), 1..8),
    ) {
        let (mut bench, mut client) = (Bench::new("immediate"), Client::new("192.0.2.200"));
        let handle = client.connect("192.0.2.53", 40_000);
        client.talk(&mut bench);
        for (len, bytes) in messages {
            let len = len.unwrap_or(bytes.len() as u16);
            if client.socket(handle).can_send() {
                client.send(handle, &[&len.to_be_bytes()[..], &bytes].concat());
            }
            client.talk(&mut bench);
        }
        answers(&client.received(handle));
        prop_assert!(serves(&mut bench));
        pass(&mut bench, &mut client, 11, |_| ());
        let counters = bench.stack.counters();
        prop_assert_eq!(counters.tcp_connections, 2);
        prop_assert!(client.socket(handle).state() != tcp::State::Established);
    }
}
