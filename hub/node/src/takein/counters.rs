//! What is counted of what is taken in, with names and texts for metrics.

use millrace_hub::flute;
use millrace_hub::session::Heard;
use millrace_hub_store::{Error, Manifest};

use super::NotTaken;
use crate::error::Refusal;
use crate::oneway::OneWayRefusal;

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
    /// Contents refused, or put off until there is room, because they don't fit into the budget.
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
    /// Senders that made room for others: they had brought nothing, or nothing for longest.
    crowded,
    /// Datagrams of senders that nobody knows, when more of those came than there was room for.
    turned_away,
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
    pub(super) fn refuse(&mut self, why: &NotTaken) {
        let counter = match why {
            NotTaken::Norm(Refusal::Manifest(_)) | NotTaken::Flute(OneWayRefusal::Unsigned) => {
                &mut self.refused_manifest
            }
            NotTaken::Norm(Refusal::Size { .. }) | NotTaken::Flute(OneWayRefusal::Size { .. }) => {
                &mut self.refused_size
            }
            NotTaken::Norm(Refusal::Nameless) | NotTaken::Flute(OneWayRefusal::Name(_)) => {
                &mut self.refused_nameless
            }
            NotTaken::Norm(Refusal::WrongRoot(_)) | NotTaken::Flute(OneWayRefusal::Wrong) => {
                &mut self.refused_wrong
            }
            NotTaken::Flute(OneWayRefusal::Encoded(_)) => &mut self.refused_encoded,
            NotTaken::Flute(OneWayRefusal::Crowded) => &mut self.gone,
            NotTaken::Norm(Refusal::Superseded { .. }) => &mut self.refused_superseded,
            NotTaken::Norm(Refusal::Store(error)) | NotTaken::Flute(OneWayRefusal::Store(error)) => {
                match error {
                    Error::Superseded { .. } => &mut self.refused_superseded,
                    Error::Conflict => &mut self.refused_conflict,
                    Error::NoRoom { .. } => &mut self.refused_room,
                    _ => &mut self.refused_disk,
                }
            }
            NotTaken::Norm(Refusal::Disk(_)) | NotTaken::Flute(OneWayRefusal::Disk(_)) => {
                &mut self.refused_disk
            }
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

    /// The same of a session of FLUTE.
    pub(super) fn add_counted(&mut self, counted: &flute::Counters) {
        self.segments += counted.source;
        self.parity_segments += counted.repair;
        self.decoded_segments += counted.decoded;
        self.duplicate_segments += counted.duplicate;
        self.unstored_segments += counted.unstored;
        self.contradictory_segments += counted.contradictory;
        self.foreign += counted.foreign;
        self.malformed += counted.malformed;
    }
}
