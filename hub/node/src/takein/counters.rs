//! What is counted of what is taken in, with names and texts for metrics.

use millrace_hub::session::Heard;
use millrace_hub_store::{Error, Manifest};

use crate::error::Refusal;

macro_rules! counters {
    ($($(#[doc = $text:literal])+ $name:ident,)+) => {
        /// What was counted of what was taken in by a rule. They only grow.
        #[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
        pub struct TakeInCounters {
            $($(#[doc = $text])+ pub $name: u64,)+
        }

        impl TakeInCounters {
            /// Name, help text and value of each.
            pub fn rows(&self) -> impl Iterator<Item = (&'static str, &'static str, u64)> {
                [$((stringify!($name), concat!($($text),+).trim_ascii(), self.$name),)+].into_iter()
            }
        }
    };
}

counters! {
    /// Contents taken into the store.
    taken,
    /// Bytes of the contents taken.
    taken_bytes,
    /// Contents offered that were in the store as a whole before.
    known,
    /// Contents refused because their manifest isn't one, or isn't signed by a trusted key.
    refused_manifest,
    /// Contents refused because they aren't as long as their manifest says.
    refused_size,
    /// Contents refused because they have no name.
    refused_nameless,
    /// Contents refused because a newer version of their name is here.
    refused_superseded,
    /// Contents refused because something else is here by their name and version.
    refused_conflict,
    /// Contents refused because they don't fit into the budget.
    refused_room,
    /// Times that a whole content wasn't what was named; it comes anew, but if that is its source's mistake.
    refused_wrong,
    /// Contents refused or put off because the disk is full or failed.
    refused_disk,
    /// Contents refused because they are encoded, with gzip for instance.
    refused_encoded,
    /// Contents that the sender gave up, or that found no place among those arriving at once.
    gone,
    /// Times that a sender began anew.
    restarts,
    /// Source segments that were new.
    segments,
    /// Parity segments that were new and of use.
    parity_segments,
    /// Source segments that parity gave.
    decoded_segments,
    /// Segments that were there already.
    duplicate_segments,
    /// Segments that found no room or couldn't be stored.
    unstored_segments,
    /// Segments that contradict how their content is cut.
    contradictory_segments,
    /// NACKs sent.
    nacks,
    /// ACKs sent.
    acks,
    /// Bytes of NACKs and ACKs sent.
    feedback_bytes,
    /// Datagrams of senders that aren't listened to, and other receivers' feedback.
    foreign,
    /// Datagrams that aren't what the rule says.
    malformed,
    /// Datagrams of one sender more than is listened to at once.
    crowded,
    /// Datagrams of senders whose folder can't be had.
    unopened,
    /// Events that nobody asked for in time.
    untold,
}

impl TakeInCounters {
    /// A content is in the store.
    pub(super) fn note(&mut self, manifest: &Manifest, known: bool) {
        match known {
            true => self.known += 1,
            false => {
                self.taken += 1;
                self.taken_bytes += manifest.description().size;
            }
        }
    }

    /// A content was refused.
    pub(super) fn refuse(&mut self, why: &Refusal) {
        let counter = match why {
            Refusal::Manifest(_) => &mut self.refused_manifest,
            Refusal::Size { .. } => &mut self.refused_size,
            Refusal::Nameless => &mut self.refused_nameless,
            Refusal::Superseded { .. } | Refusal::Store(Error::Superseded { .. }) => {
                &mut self.refused_superseded
            }
            Refusal::Store(Error::Conflict) => &mut self.refused_conflict,
            Refusal::Store(Error::NoRoom { .. }) => &mut self.refused_room,
            Refusal::WrongRoot(_) => &mut self.refused_wrong,
            Refusal::Disk(_) | Refusal::Store(_) => &mut self.refused_disk,
        };
        *counter += 1;
    }

    /// Adds what a session counted.
    pub(super) fn add_heard(&mut self, heard: &Heard) {
        self.segments += heard.source;
        self.parity_segments += heard.parity;
        self.decoded_segments += heard.decoded;
        self.duplicate_segments += heard.duplicate;
        self.unstored_segments += heard.unstored;
        self.contradictory_segments += heard.contradictory;
        self.nacks += heard.nacks;
        self.acks += heard.acks;
        self.feedback_bytes += heard.feedback_bytes;
        self.foreign += heard.foreign;
        self.malformed += heard.malformed;
    }
}
