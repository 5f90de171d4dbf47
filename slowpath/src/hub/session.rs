//! What the hub's loop knows of a site, whatever its profile is.

use std::io;
use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;

use millrace_fastpath::tables::Tables;
use millrace_hub_store::desk::{NodeProgress, SiteStatus};
use millrace_hub_store::{Manifest, NodeId, Root};

/// A content and version: what a distribution is of.
pub(super) type Version = (Root, u64);

/// A site, and what is being sent there.
pub(super) trait Session {
    /// What the operator calls it.
    fn name(&self) -> &str;

    /// Begins to send a content, as far as it is for somebody there who doesn't have it.
    fn announce(&mut self, now: Duration, manifest: &Manifest);

    /// Somebody there says something.
    fn hear(&mut self, now: Duration, from: IpAddr, datagram: &[u8]);

    /// Puts on the lane what is due, as far as it has room. Returns whether there was anything to do.
    fn turn(&mut self, now: Duration, tables: &Tables) -> bool;

    /// When [`Self::turn`] has something to do next; at once if the lane holds it up.
    fn next_due(&self) -> Option<Duration>;

    /// Whether something is being sent.
    fn is_under_way(&self) -> bool;

    /// Whether something has begun or ended since it was last asked.
    fn has_changed(&mut self) -> bool;

    /// Writes what a restart goes on with.
    fn save(&self, folder: &Path) -> io::Result<()>;

    /// Notes how far everything is now: rates are of the last few seconds in which that was done.
    fn measure(&mut self, now: Duration);

    /// How far each content is at each node that says so.
    fn progress(&self) -> Vec<(Version, NodeId, NodeProgress)>;

    /// What was sent, and heard.
    fn status(&self) -> SiteStatus;
}
