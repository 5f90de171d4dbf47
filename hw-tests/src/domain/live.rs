//! Streams that go on while something happens to the domain: `socat` sends and hears them, a datagram for each line.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use super::stream::{PORT, Stream};
use super::{Domain, EDGES};
use crate::lab::{LabError, Look, Process, file, unreadable, wait_until};

/// How long a stream may take to get to where it is waited for.
const LIVE_MAX: Duration = Duration::from_secs(60);
/// From one datagram to the next.
const PACE_SECONDS: f64 = 0.004;

/// A stream on its way, and `socat` on the hosts behind all edges, which have all joined its group.
#[derive(Debug)]
pub struct Live {
    stream: Stream,
    source: Process,
    /// Where a file has it end.
    stop: PathBuf,
    /// By router.
    ears: Vec<(usize, Process)>,
}

impl Domain {
    /// Has the hosts behind all edges join, and sends numbered datagrams until the end; the first ones have been heard by
    /// all that they are for when this returns.
    ///
    /// # Errors
    /// [`LabError`] where `socat` can't do that, or the stream doesn't arrive.
    pub fn stream(&self, stream: Stream) -> Result<Live, LabError> {
        let group = stream.group();
        let (hear, send) = match stream {
            Stream::V4 => (
                format!("UDP4-RECV:{PORT},bind={group},reuseaddr,ip-add-membership={group}:eth0"),
                format!("UDP4-DATAGRAM:{group}:{PORT},ip-multicast-ttl=16"),
            ),
            Stream::V6 => (
                format!("UDP6-RECV:{PORT},bind=[{group}],reuseaddr,ipv6-join-group=[{group}]:eth0"),
                format!("UDP6-DATAGRAM:[{group}]:{PORT},setsockopt-int=41:18:16"),
            ),
        };
        let name = |what: &str| format!("{what}-{stream:?}");
        let mut ears = Vec::new();
        for router in EDGES {
            let host = self.host(router);
            let mut socat = host.command("socat");
            socat.args(["-u", &hear, "STDOUT"]);
            ears.push((router, host.spawn(&name("hears"), &mut socat)?));
        }
        // What isn't in its error output by some time wasn't sent before. Each line is one write, and so one datagram.
        let pacer = format!(
            "import sys, time, os\n\
             n = 0\n\
             while not os.path.exists(sys.argv[1]):\n\
             \x20   line = f'{{n}}\\n'.encode()\n\
             \x20   os.write(2, line)\n\
             \x20   os.write(1, line)\n\
             \x20   n += 1\n\
             \x20   time.sleep({PACE_SECONDS})\n"
        );
        let file = self.lab().write("pacer.py", &pacer)?;
        let stop = self.lab().folder().join(name("stop"));
        let mut socat = self.host(1).command("socat");
        socat.args(["-u", &format!("EXEC:python3 -u {} {}", file.display(), stop.display()), &send]);
        let live = Live { stream, source: self.host(1).spawn(&name("sends"), &mut socat)?, stop, ears };
        live.wait_past(0)?;
        Ok(live)
    }
}

impl Live {
    /// Which it is.
    #[must_use]
    pub fn stream(&self) -> Stream {
        self.stream
    }

    /// All datagrams from this number on are still to be sent.
    #[must_use]
    pub fn sent(&self) -> u32 {
        self.source
            .stderr()
            .lines()
            .filter_map(|line| line.parse().ok())
            .max()
            .map_or(0, |last: u32| last + 1)
    }

    /// What each router's host has heard so far, in the order of arrival.
    ///
    /// # Errors
    /// [`LabError`] where it has heard something else.
    pub fn heard(&self) -> Result<BTreeMap<usize, Vec<u32>>, LabError> {
        let of = |(router, process): &(usize, Process)| {
            let text = process.stdout();
            // The last line may be half there.
            let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole).lines();
            let numbers =
                whole.map(|line| line.parse().map_err(|error| unreadable(format!("{line:?}"), error)));
            Ok((*router, numbers.collect::<Result<_, _>>()?))
        };
        self.ears.iter().map(of).collect()
    }

    /// The latest that each of the receivers has heard.
    ///
    /// # Errors
    /// As [`Live::heard`].
    pub fn latest(&self) -> Result<BTreeMap<usize, u32>, LabError> {
        let mut heard = self.heard()?;
        heard.retain(|router, _| self.stream.receivers().contains(router));
        Ok(heard.into_iter().map(|(router, all)| (router, all.into_iter().max().unwrap_or(0))).collect())
    }

    /// Waits until all receivers have heard this one or a later one.
    ///
    /// # Errors
    /// [`LabError::Deadline`] with the latest that they have.
    pub fn wait_past(&self, number: u32) -> Result<(), LabError> {
        wait_until("a stream to go on", LIVE_MAX, || {
            let text = |latest: &BTreeMap<usize, u32>| format!("{:?} is at {latest:?}", self.stream);
            let is_past = |latest: &BTreeMap<usize, u32>| latest.values().all(|one| *one > number);
            match self.latest() {
                Ok(latest) if is_past(&latest) => Look::Done(()),
                Ok(latest) => Look::NotYet(format!("{}, not past {number}", text(&latest))),
                Err(error) => Look::NotYet(error.to_string()),
            }
        })
    }

    /// Sends no more, and waits until the last ones have been heard by all receivers; what all have heard.
    ///
    /// # Errors
    /// [`LabError`] where the source doesn't end, or the last one doesn't arrive.
    pub fn end(self) -> Result<BTreeMap<usize, Vec<u32>>, LabError> {
        std::fs::write(&self.stop, "").map_err(file(&self.stop))?;
        self.source.wait(LIVE_MAX)?;
        self.wait_past(self.sent().saturating_sub(2))?;
        self.heard()
    }
}
