//! Names that are not ours: the query passes the appliance on its way to the upstream name server, and must arrive as it
//! left, from the IP payload on.

use std::time::Duration;

use crate::edge::{Edge, RESOLVER, client};
use crate::lab::{Capture, Frame, LabError};

/// How long captures get to catch up with what has already been answered.
const CAPTURE_MAX: Duration = Duration::from_secs(5);

/// What was asked and how it went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Transit {
    /// Queries sent.
    pub queries: usize,
    /// Queries answered with the upstream's address.
    pub answered: usize,
    /// Whether every query and every answer arrived as it had been sent.
    pub payload_identical: bool,
}

/// Asks the upstream for `queries` names (at most 256), and compares the captures of both sides.
///
/// # Errors
/// [`LabError`] where a capture fails. A query without answer is counted, not an error.
pub fn ask(edge: &Edge, queries: usize) -> Result<Transit, LabError> {
    let [v4, v6] = RESOLVER;
    let filter = format!("udp port 53 and (host {v4} or host {v6})");
    let near = Capture::start(edge.lab(), &edge.client, "eth0", &filter)?;
    let far = Capture::start(edge.lab(), &edge.resolver, "eth0", &filter)?;
    let mut answered = 0;
    for number in 0..queries {
        let server = RESOLVER[number % 2];
        let asked = client::dig(&edge.client, &format!("@{server} host{number:03}.example. A"));
        answered += usize::from(asked.is_ok_and(|it| it.answers == [format!("198.51.100.{number}")]));
    }
    // Each answered query is two frames on both sides.
    near.wait_for("queries and answers at the client", 2 * answered, CAPTURE_MAX, |_| true)?;
    far.wait_for("queries and answers at the upstream", 2 * answered, CAPTURE_MAX, |_| true)?;
    let (near, far) = (payloads(&near.finish()?), payloads(&far.finish()?));
    Ok(Transit { queries, answered, payload_identical: near == far && near.len() >= 2 * queries })
}

/// IP payloads in an order that both sides share: answers may overtake queries between two captures.
fn payloads(frames: &[Frame]) -> Vec<Vec<u8>> {
    let mut payloads: Vec<_> =
        frames.iter().filter_map(|frame| frame.ip_payload().map(<[u8]>::to_vec)).collect();
    payloads.sort();
    payloads
}
