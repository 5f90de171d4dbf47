//! Multicast by BIER: one stream through a domain of five routers, to listeners behind three of them.

use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use super::Promises;
use crate::domain::{Domain, LinkFrames, Listeners, Stream};
use crate::edge::Driver;
use crate::lab::{LabError, command};

/// Datagrams of each stream.
const COUNT: u32 = 300;
/// Listeners behind each of the routers.
const LISTENERS: usize = 4;

/// Shows the tree, sends both streams, and counts; the figures for scripts.
pub(super) fn show(binary: &Path, driver: Driver, promises: &mut Promises) -> Result<Value, LabError> {
    println!(
        "multicast by BIER: five routers, {LISTENERS} listeners behind each of three, two streams of {COUNT}"
    );
    let domain = Domain::new(binary, driver)?;
    for stream in [Stream::V4, Stream::V6] {
        let bits: Vec<_> = stream.receivers().iter().map(ToString::to_string).collect();
        let mut compute = Command::new(binary);
        compute.args(["bier", "compute"]).arg(domain.topology());
        compute.args(["--from", "r1", "--bits", &bits.join(",")]);
        println!("  {} is for routers {}", stream.group(), bits.join(" and "));
        command::succeed(&mut compute)?.lines().for_each(|line| println!("    {line}"));
    }
    let streams = [(Stream::V4, COUNT), (Stream::V6, COUNT)];
    let listeners = domain.listen(LISTENERS)?;
    for (stream, count) in streams {
        domain.send(stream, 0, count)?;
    }
    let once = heard_once(&listeners, &streams, promises);
    let links: Vec<LinkFrames> = domain.link_frames()?.into_iter().filter(|link| link.frames > 0).collect();
    println!("  frames by link");
    for link in &links {
        println!("    {} ─► {}  {:>6}", link.from, link.to, link.frames);
    }
    let total: u64 = links.iter().map(|link| link.frames).sum();
    let receivers: usize = streams.iter().map(|(stream, _)| stream.receivers().len() * LISTENERS).sum();
    let alone = |(stream, count): &(Stream, u32)| {
        Domain::unicast_links(stream.receivers()) as u64 * LISTENERS as u64 * u64::from(*count)
    };
    let unicast: u64 = streams.iter().map(alone).sum();
    println!("  frames on links {total:>8}, one for each branch of the trees");
    println!("  by unicast      {unicast:>8}, one for each of {receivers} listeners\n");
    promises.expect(total < unicast, format!("BIER took {total} frames, unicast takes {unicast}"));
    promises.expect(domain.conclude().is_ok(), "a router of the domain lost a frame, or didn't end cleanly");
    Ok(json!({
        "receivers": receivers,
        "delivered_once": once,
        "link_frames": total,
        "unicast_link_frames": unicast,
        "packets": streams.iter().map(|(_, count)| count).sum::<u32>(),
        "links": links.iter().map(|link| json!({ "from": link.from, "to": link.to, "frames": link.frames })).collect::<Value>(),
    }))
}

/// Whether each listener heard all that was for it once and in order, and nobody else anything.
fn heard_once(listeners: &Listeners, streams: &[(Stream, u32)], promises: &mut Promises) -> bool {
    let expected = listeners.expected(streams);
    let heard = match listeners.wait_for(&expected) {
        Ok(heard) => heard,
        Err(error) => {
            promises.expect(false, format!("the streams didn't arrive: {error}"));
            return false;
        }
    };
    let once = heard == expected;
    promises.expect(once, "a listener heard something twice, out of order, or that wasn't for it");
    println!(
        "  heard           {} datagrams by {} listeners, each once",
        heard.values().map(Vec::len).sum::<usize>(),
        heard.len()
    );
    once
}
