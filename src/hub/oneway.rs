//! `millrace hub receive --tsi`: files that come by FLUTE.

use std::process::ExitCode;

use millrace_hub_node::{OneWay, OneWayNews, OneWaySummary, Stop, receive_one_way};
use serde_json::{Value, json};

use super::{LiveLine, exit_code, progress_text};
use crate::check::say;
use crate::serve::fail;

/// Receives until it is told to stop.
pub(super) fn run(settings: OneWay, stop: &Stop, json: bool) -> ExitCode {
    let mut line = LiveLine::default();
    let received = receive_one_way(settings, stop, |news| match json {
        true => say(&format!("{}\n", news_json(&news))),
        false => say(&news_text(&news, &mut line)),
    });
    match received {
        Ok(summary) => {
            say(&if json {
                format!("{}\n", summary_json(&summary))
            } else {
                line.lasting(&summary_text(&summary))
            });
            if summary.refused > 0 { ExitCode::from(1) } else { ExitCode::SUCCESS }
        }
        Err(error) => fail(&error.to_string(), exit_code(&error)),
    }
}

fn news_json(news: &OneWayNews) -> Value {
    match news {
        OneWayNews::Listening => json!({ "event": "listening" }),
        OneWayNews::Begun { object, size } => json!({ "event": "begun", "object": object, "size": size }),
        OneWayNews::Progress { object, name, held, size, per_second, left } => json!({
            "event": "progress",
            "object": object,
            "name": name,
            "held": held,
            "size": size,
            "bytes_per_second": per_second,
            "seconds_left": left.map(|left| left.as_secs_f64()),
        }),
        OneWayNews::Received { object, path, size, verified } => {
            json!({ "event": "received", "object": object, "path": path, "size": size, "verified": verified })
        }
        OneWayNews::Refused { object, why } => {
            json!({ "event": "refused", "object": object, "why": why.to_string() })
        }
        OneWayNews::Ended => json!({ "event": "ended" }),
    }
}

fn news_text(news: &OneWayNews, line: &mut LiveLine) -> String {
    match news {
        OneWayNews::Listening => line.lasting("listening"),
        OneWayNews::Begun { object, size } => line.lasting(&format!("file {object} begins: {size} bytes")),
        OneWayNews::Progress { object, name, held, size, per_second, left } => {
            let name = name.clone().unwrap_or_else(|| format!("file {object}"));
            line.passing(&progress_text(&name, *held, *size, *per_second, *left))
        }
        OneWayNews::Received { path, size, verified, .. } => {
            let verified = if *verified { "verified" } else { "without a hash" };
            line.lasting(&format!("{}: {size} bytes, {verified}", path.display()))
        }
        OneWayNews::Refused { object, why } => line.lasting(&format!("file {object} is refused: {why}")),
        OneWayNews::Ended => line.lasting("the sender has ended"),
    }
}

fn summary_json(summary: &OneWaySummary) -> Value {
    let counters = &summary.counters;
    json!({
        "event": "summary",
        "received": summary.received,
        "refused": summary.refused,
        "source": counters.source,
        "parity": counters.repair,
        "decoded": counters.decoded,
        "duplicate": counters.duplicate,
        "foreign": counters.foreign + summary.foreign,
        "malformed": counters.malformed + counters.contradictory,
        "overrun": summary.overrun,
    })
}

fn summary_text(summary: &OneWaySummary) -> String {
    let (counters, refused) = (&summary.counters, summary.refused);
    format!(
        "{} received, {refused} refused; symbols: {} as sent, {} decoded, {} twice; {} lost here",
        summary.received, counters.source, counters.decoded, counters.duplicate, summary.overrun
    )
}
