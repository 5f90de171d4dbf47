//! Streams through a domain whose links fail one after the other: see [`millrace_hw_tests::domain`].

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::path::Path;

use millrace_hw_tests::domain::{Domain, Live, Stream};
use millrace_hw_tests::edge::Driver;

use crate::world::BINARY;

/// Links on the ways of the streams, each of which can fail without anybody being cut off.
const FAILING: [(usize, usize); 4] = [(1, 2), (3, 5), (2, 4), (1, 3)];
/// Datagrams that go on to arrive before something else happens.
const GOES_ON: u32 = 100;

/// What may be lost of a stream, by receiver: what it hadn't heard yet when a link failed, of what was sent until the routers
/// beside the link had seen that.
type InFlight = BTreeMap<usize, Vec<Range<u32>>>;

/// Takes a link down and up again. All receivers hear what is sent while it is down.
fn fail(domain: &Domain, lives: &[Live], in_flight: &mut [InFlight], (near, far): (usize, usize)) {
    let before: Vec<_> = lives.iter().map(|live| live.latest().unwrap()).collect();
    domain.set_link(near, far, false).unwrap();
    let seen: Vec<_> = lives.iter().map(Live::sent).collect();
    for (((live, windows), before), seen) in lives.iter().zip(in_flight).zip(before).zip(&seen) {
        for (router, latest) in before {
            windows.entry(router).or_default().push(latest + 1..*seen);
        }
        live.wait_past(seen + GOES_ON).unwrap();
    }
    domain.set_link(near, far, true).unwrap();
    for live in lives {
        live.wait_past(live.sent() + GOES_ON).unwrap();
    }
}

/// Nobody hears anything twice, receivers all but what was in flight, and others nothing.
fn check(stream: Stream, heard: BTreeMap<usize, Vec<u32>>, in_flight: &InFlight) {
    for (router, numbers) in heard {
        let once: BTreeSet<u32> = numbers.iter().copied().collect();
        assert_eq!(once.len(), numbers.len(), "{stream:?}: something twice behind router {router}");
        let Some(windows) = in_flight.get(&router).filter(|_| stream.receivers().contains(&router)) else {
            assert!(numbers.is_empty(), "{stream:?} isn't for router {router}: {numbers:?}");
            continue;
        };
        let last = once.last().copied().unwrap_or(0);
        let lost: Vec<u32> = (0..=last).filter(|number| !once.contains(number)).collect();
        let beyond = lost.iter().find(|number| !windows.iter().any(|window| window.contains(number)));
        assert_eq!(beyond, None, "{stream:?} to {router}: lost {lost:?}, in flight were {windows:?}");
        println!("{stream:?} to router {router}: {} of {last} lost, in flight were {windows:?}", lost.len());
    }
}

fn streams_outlive_links(driver: Driver) {
    let domain = Domain::new(Path::new(BINARY), driver).unwrap();
    let lives = [Stream::V4, Stream::V6].map(|stream| domain.stream(stream).unwrap());
    let mut in_flight = [InFlight::new(), InFlight::new()];
    for link in FAILING {
        fail(&domain, &lives, &mut in_flight, link);
    }
    for (live, windows) in lives.into_iter().zip(&in_flight) {
        check(live.stream(), live.end().unwrap(), windows);
    }
    domain.conclude().unwrap();
}

#[test]
fn streams_outlive_links_on_their_way_by_af_xdp() {
    streams_outlive_links(Driver::AfXdp);
}

#[test]
fn streams_outlive_links_on_their_way_by_af_packet() {
    streams_outlive_links(Driver::AfPacket);
}
