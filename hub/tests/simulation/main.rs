//! Whole sites, simulated: what repairs cost against what they must, and that everything ends well. A seed replays a run.

mod bound;
mod costs;
mod network;
mod plot;

use std::time::Duration;

use costs::Costs;
use millrace_hub::nodes::NodeIndex;
use millrace_hub::norm::{
    Acked, Feedback, Item, Level, Message, NodeId, ObjectId, Packet, PayloadId, RequestBuilder, Span,
};
use millrace_hub::session::{Config, Event, Ignored};
use network::{Deed, LIMIT, Loss, Network, Setting, Shares, transfer};

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// What holds whatever the loss: legs carry what they lost themselves, and feedback is little.
fn check_legs(network: &Network, shares: &Shares) {
    assert!(shares.over_own_loss <= 1.05, "{shares:?}");
    for leg in &network.legs {
        assert!(leg.repairs as f64 <= leg.lost as f64 * 1.05 + 2.0, "{leg:?}");
    }
    assert!(shares.feedback_leg_max <= 0.002, "{shares:?}");
}

/// Independent losses of a share, from 3 to 256 nodes: NORM sends E[max]/k - 1 to everybody, with its blocks of 64. Ours
/// is below that on the trunk as long as few nodes lose much; where most lose some repairs as well, a node doesn't profit by what others
/// get, and the trunk pays a little for clean legs.
fn independent(p: f64) {
    for (nodes, over_norm_max) in [(3, 1.0), (10, 1.1), (100, 1.3), (256, 1.4)] {
        let (network, shares) = transfer(&Setting::new(nodes, Loss::Random(p)));
        check_legs(&network, &shares);
        let norm = bound::trunk_coded(nodes, p, 64);
        assert!(
            shares.trunk <= norm * over_norm_max,
            "{nodes} nodes: trunk {:.4}, NORM's {norm:.4}",
            shares.trunk
        );
        if nodes == 3 && p <= 0.05 {
            assert!(shares.feedback <= 0.002, "{shares:?}");
        }
    }
}

#[test]
fn independent_losses_of_1_percent() {
    independent(0.01);
}

#[test]
fn independent_losses_of_5_percent() {
    independent(0.05);
}

#[test]
fn independent_losses_of_10_percent() {
    independent(0.10);
}

#[test]
fn bursts_are_repaired_as_exactly() {
    for p in [0.01, 0.05, 0.10] {
        for nodes in [3, 100] {
            let (network, shares) = transfer(&Setting::new(nodes, Loss::Bursts(p)));
            check_legs(&network, &shares);
            assert!(shares.trunk <= bound::trunk_exact(nodes, p) * 1.1, "{nodes} nodes: {shares:?}");
        }
    }
}

#[test]
fn lost_feedback_costs_time_and_no_more_on_the_legs() {
    for loss in [Loss::Random(0.1), Loss::Bursts(0.1), Loss::Random(0.4)] {
        let (network, shares) = transfer(&Setting { feedback_lost: true, ..Setting::new(10, loss) });
        assert!(shares.over_own_loss <= 1.05, "{shares:?}");
        drop(network);
    }
}

#[test]
fn a_clean_leg_carries_no_repair() {
    let mut setting = Setting::new(3, Loss::Random(0.0));
    setting.loss[1] = Loss::Random(0.05);
    let (network, shares) = transfer(&setting);
    assert_eq!((network.legs[0].repairs, network.legs[2].repairs), (0, 0));
    assert_eq!(network.legs[1].repairs, network.legs[1].lost);
    assert!((shares.trunk - network.legs[1].lost as f64 / setting.segments as f64).abs() < 1e-9);
}

/// What 100 MB cost at 100 Mb/s, on a LAN and with 20 ms each way.
#[test]
fn a_delay_of_20_ms_costs_neither_legs_nor_trunk_more() {
    let only_one = [Loss::Random(0.0), Loss::Random(0.05), Loss::Random(0.0)];
    for loss in [[Loss::Random(0.01); 3], [Loss::Random(0.05); 3], only_one] {
        let run = |delay| {
            let setting = Setting { segments: 71_429, loss: loss.into(), delay, ..Setting::new(3, loss[0]) };
            transfer(&setting)
        };
        let ((near_network, near), (network, far)) = (run(Duration::from_micros(100)), run(ms(20)));
        check_legs(&network, &far);
        for (leg, loss) in network.legs.iter().zip(loss) {
            assert!(loss != Loss::Random(0.0) || leg.repairs == 0, "{leg:?}");
        }
        // A hundredth of what is repaired, and a thousandth of what is sent, for those that lose some repairs as well.
        assert!(far.trunk <= near.trunk * 1.01 + 0.001, "{far:?}, {near:?} without");
        assert!(far.feedback <= 0.002, "{far:?}");
        let (near_end, far_end) = (near_network.finished().unwrap(), network.finished().unwrap());
        assert!(far_end <= near_end + ms(400), "{far_end:?}, {near_end:?} without");
    }
}

#[test]
fn a_late_joiner_is_filled_in_alone() {
    let setting = Setting::new(4, Loss::Random(0.01));
    let mut network = Network::new(setting.clone(), 3);
    network.at(Duration::ZERO, Deed::Announce);
    network.at(ms(300), Deed::Join(3));
    network.run(LIMIT);
    assert!(network.complete.iter().all(|objects| objects.len() == 1), "{:?}", network.complete);
    for (at, leg) in network.legs.iter().enumerate() {
        // Each segment once, and the info; the joiner asked for that, as it were.
        assert_eq!(leg.first + u64::from(at == 3), setting.segments + 1);
        assert!(leg.repairs <= leg.lost + u64::from(at == 3), "{leg:?}");
    }
    // One that comes when all is over gets it, too.
    let mut network = Network::new(setting, 3);
    network.at(Duration::ZERO, Deed::Announce);
    network.at(Duration::from_secs(10), Deed::Join(3));
    network.run(LIMIT);
    let finished = network.events.iter().filter(|(_, event)| matches!(event, Event::Finished { .. })).count();
    assert_eq!((network.complete[3].len(), finished), (1, 2));
}

/// What isn't for a node costs its leg nothing but a word that it is gone, asked for once it sees the gap.
#[test]
fn objects_for_some_nodes_go_to_those_alone() {
    let setting = Setting::new(4, Loss::Random(0.02));
    let mut network = Network::new(setting.clone(), 4);
    network.at(Duration::ZERO, Deed::AnnounceTo(&[0, 2]));
    network.at(Duration::ZERO, Deed::Announce);
    network.at(Duration::ZERO, Deed::AnnounceTo(&[3]));
    network.run(LIMIT);
    assert_eq!(network.complete.iter().map(Vec::len).collect::<Vec<_>>(), [2, 1, 2, 2]);
    for (at, objects) in [2, 1, 2, 2].into_iter().enumerate() {
        let leg = &network.legs[at];
        assert_eq!(leg.first, objects * (setting.segments + 1), "node {at}");
        assert!(leg.repairs <= leg.lost + objects, "{leg:?}");
    }
    let finished = network.events.iter().filter(|(_, event)| matches!(event, Event::Finished { .. })).count();
    assert_eq!(finished, 3);
}

#[test]
fn a_straggler_does_not_delay_the_others() {
    let time = |straggler: f64| {
        let mut setting = Setting::new(8, Loss::Random(0.01));
        setting.loss[5] = Loss::Random(straggler);
        setting.change = |config| config.straggler.owed_max = 64;
        let (network, _) = transfer(&setting);
        let done = |(at, event): &(Duration, Event)| match event {
            Event::Complete { node, .. } if node.0 != 5 => Some(*at),
            _ => None,
        };
        let apart = network.events.iter().any(|(_, event)| *event == Event::Apart(NodeIndex(5)));
        (network.events.iter().filter_map(done).max().unwrap(), apart)
    };
    let (without, not_apart) = time(0.01);
    let (with, apart) = time(0.6);
    assert!(apart && !not_apart);
    assert!(with <= without.mul_f64(1.1), "{with:?} rather than {without:?}");
}

/// The hub's way out takes hardly more than the group's rate, and the group always has something to send: the one that
/// joined late gets its share all the same, at once, and the others go on.
#[test]
fn those_served_apart_get_their_share_of_a_way_out_that_is_full() {
    let times = |change| {
        let setting = Setting {
            segments: 40_000,
            outlet: Some((ms(10), 8900.0 * 1.01)),
            change,
            ..Setting::new(4, Loss::Random(0.01))
        };
        let mut network = Network::new(setting, 3);
        network.at(Duration::ZERO, Deed::Announce);
        network.at(ms(500), Deed::Join(3));
        network.run(LIMIT);
        assert!(network.complete.iter().all(|objects| objects.len() == 1), "{:?}", network.complete);
        let done = |joined| {
            let of = move |(at, event): &(Duration, Event)| match event {
                Event::Complete { node, .. } if (node.0 == 3) == joined => Some(at.as_secs_f64()),
                _ => None,
            };
            network.events.iter().filter_map(of).fold(0.0, f64::max)
        };
        (done(false), done(true))
    };
    // Alone the group takes 4.5 seconds, and the other, at a tenth of the rate, 45 from when it has its turn.
    let (group, joined) =
        times(|config| config.straggler.rate.bits_per_second = config.rate.bits_per_second / 10);
    assert!((4.7..5.6).contains(&group) && joined < 47.0, "{group} s, {joined} s");
    // With the same rate for both, each has half of it.
    let (group, joined) = times(|config| config.straggler.rate = config.rate);
    assert!((7.5..9.5).contains(&group) && joined < 10.0, "{group} s, {joined} s");
}

#[test]
fn a_node_that_never_answers_is_given_up_and_the_rest_is_done() {
    let setting = Setting {
        change: |config| config.patience = Duration::from_secs(5),
        ..Setting::new(3, Loss::Random(0.05))
    };
    let mut network = Network::new(setting, 3);
    network.off[1] = true;
    network.at(Duration::ZERO, Deed::Announce);
    network.run(LIMIT);
    let failed = Event::Failed { object: ObjectId(0), node: NodeIndex(1), missing: vec![] };
    assert!(network.events.iter().any(|(_, event)| *event == failed));
    assert_eq!([0, 2].map(|at| network.complete[at].len()), [1, 1]);
    assert!(matches!(network.events.last(), Some((_, Event::Finished { .. }))));
}

/// Receivers that were switched on say nothing before they hear something.
#[test]
fn a_node_that_was_given_up_and_comes_back_in_silence_is_found_and_served_alone() {
    let run = |back: Option<Duration>| {
        let change = |config: &mut Config| config.patience = Duration::from_secs(5);
        let mut network = Network::new(Setting { change, ..Setting::new(3, Loss::Random(0.01)) }, 3);
        network.off[1] = true;
        network.at(Duration::ZERO, Deed::AnnounceUntil(Duration::from_secs(100)));
        if let Some(back) = back {
            network.at(back, Deed::Switch(1, true));
        }
        network.run(LIMIT);
        network
    };
    let is_returned = |event: &Event| *event == Event::Returned { object: ObjectId(0), node: NodeIndex(1) };
    let never = run(None);
    assert!(!never.events.iter().any(|(_, event)| is_returned(event)));
    // It has an end, and little is sent until then.
    assert!((90..=101).contains(&never.now.as_secs()), "{:?}", never.now);
    let given_up = never.finished().unwrap();
    assert!(given_up < Duration::from_secs(10), "{given_up:?}");

    let found = run(Some(Duration::from_secs(42)));
    let at = found.events.iter().find(|(_, event)| is_returned(event)).unwrap().0.as_secs_f64();
    assert!((42.0..53.0).contains(&at), "{at}");
    assert_eq!([0, 1, 2].map(|at| found.complete[at].len()), [1, 1, 1]);
    // The others are sent nothing because of it but probes, while it is served.
    for at in [0, 2] {
        let (leg, before) = (&found.legs[at], &never.legs[at]);
        assert_eq!((leg.first, leg.repairs), (before.first, before.repairs));
        assert!(leg.control_bytes - before.control_bytes < 1000, "{leg:?}, {before:?}");
    }
    // Until then it was probed every ten seconds.
    let probes = never.legs[1].control_bytes - never.legs[0].control_bytes;
    assert!(probes < 10_000, "{probes}");
    assert!(found.finished().unwrap() < Duration::from_secs(60), "{:?}", found.finished());
}

#[test]
fn a_cut_of_ten_seconds_is_got_over() {
    let mut network = Network::new(Setting { segments: 20_000, ..Setting::new(3, Loss::Random(0.01)) }, 3);
    network.at(Duration::ZERO, Deed::Announce);
    network.cut(ms(500), ms(10_500));
    network.run(LIMIT);
    assert!(network.complete.iter().all(|objects| objects.len() == 1));
    for leg in &network.legs {
        assert!(leg.repairs as f64 <= leg.lost as f64 * 1.05 + 2.0, "{leg:?}");
    }
    // Everything is lost in that time; then it is sent again, once.
    assert!(network.finished().unwrap() < Duration::from_secs(15), "{:?}", network.finished());
}

#[test]
fn losing_all_or_the_end_is_found_by_the_flush() {
    for (from, until) in [(0, 900), (700, 900)] {
        let mut network = Network::new(Setting::new(2, Loss::Random(0.0)), 2);
        network.at(Duration::ZERO, Deed::Announce);
        network.cut(ms(from), ms(until));
        network.run(LIMIT);
        assert!(network.complete.iter().all(|objects| objects.len() == 1));
    }
}

/// It can't name all of it in one datagram, and the hub doesn't look at more of one.
#[test]
fn losing_all_of_an_object_of_many_blocks_is_repaired_bit_by_bit() {
    let change = |config: &mut Config| (config.block, config.parity) = (2, 2);
    let mut network =
        Network::new(Setting { segments: 20_000, change, ..Setting::new(3, Loss::Random(0.0)) }, 3);
    network.at(Duration::ZERO, Deed::Announce);
    network.cut(Duration::ZERO, ms(2500));
    network.run(LIMIT);
    assert!(network.complete.iter().all(|objects| objects.len() == 1));
    assert!(network.sender.counters().ignored(Ignored::TooMuch) > 0);
    for leg in &network.legs {
        assert!(leg.repairs as f64 <= leg.lost as f64 * 1.05 + 2.0, "{leg:?}");
    }
    // At the rate, each segment twice takes four and a half seconds.
    assert!(network.finished().unwrap() < Duration::from_secs(7), "{:?}", network.finished());
}

#[test]
fn feedback_that_is_forged_stale_or_double_changes_nothing() {
    let mut network = Network::new(Setting::new(3, Loss::Random(0.0)), 3);
    network.at(Duration::ZERO, Deed::Announce);
    network.run(LIMIT);
    let events = network.events.len();
    let ours = [10, 0, 0, 1].into();
    let feedback = Feedback { sender: NodeId(1), instance: 7, echo: Duration::ZERO, cc: None };
    let ack = |source, feedback, object, block, segment| {
        let acked = Acked::Flush { object: ObjectId(object), id: PayloadId { block, segment } };
        Packet { sequence: 0, source: NodeId(source), message: Message::Ack { feedback, id: 0, acked } }
            .to_vec()
    };
    let nack = |source, object, block, segment| {
        let mut builder = RequestBuilder::new(100);
        let item = Item { object: ObjectId(object), id: PayloadId { block, segment } };
        assert!(builder.add(Level::Segment, false, Span { first: item, last: item }));
        let message = Message::Nack { feedback, requests: builder.requests() };
        Packet { sequence: 0, source: NodeId(source), message }.to_vec()
    };
    let (last_block, last_segment) = (49, 127);
    let cases = [
        (Ignored::UnknownNode, ours, nack(99, 0, 0, 0)),
        (Ignored::WrongAddress, [10, 0, 0, 9].into(), nack(3, 0, 0, 0)),
        (Ignored::OtherSender, ours, ack(3, Feedback { sender: NodeId(2), ..feedback }, 0, 0, 0)),
        (Ignored::OtherInstance, ours, ack(3, Feedback { instance: 6, ..feedback }, 0, 0, 0)),
        (Ignored::UnknownObject, ours, nack(3, 5, 0, 0)),
        (Ignored::UnknownObject, ours, ack(3, feedback, 5, 0, 0)),
        (Ignored::NoSuchSegment, ours, nack(3, 0, 50, 0)),
        (Ignored::NoSuchSegment, ours, nack(3, 0, 0, 255)),
        (Ignored::NotTheWatermark, ours, ack(3, feedback, 0, 3, 0)),
        (Ignored::Stale, ours, ack(3, feedback, 0, last_block, last_segment)),
        (Ignored::Stale, ours, nack(3, 0, 0, 0)),
    ];
    for (reason, from, datagram) in cases {
        let before = network.sender.counters().ignored(reason);
        let trunk = network.trunk;
        network.feedback(from, &datagram);
        assert_eq!(network.sender.counters().ignored(reason), before + 1, "{reason:?}");
        assert_eq!((network.trunk, network.events.len()), (trunk, events), "{reason:?}");
    }
}

/// The picture of costs, over the nodes: what legs and trunk carry, what they must, what others' repairs cost.
#[test]
fn costs_are_drawn() {
    let drawn = costs::svg(&costs::LOSSES.map(|loss| Costs::simulate(loss, 2560)));
    assert_eq!(drawn.matches("<polyline").count(), 21);
    let path = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join("hub-repair-costs.svg");
    std::fs::write(&path, drawn).unwrap();
    println!("drawn: {}", path.display());
}
