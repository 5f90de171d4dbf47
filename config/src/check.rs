//! From the raw form to checked types: what one key can't show alone.
//!
//! Every check runs, whatever the others found. A part that is wrong gives `None`, and its errors have been noted by
//! then; a check whose ground is unsound (a next hop, say, when an address of a port couldn't be read) stays silent
//! instead of blaming the wrong key.

mod bier;
mod dns;
mod health;
mod hub;
mod network;
mod quic;
mod service;
mod system;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Display;
use std::ops::Range;

use crate::model::Config;
use crate::raw;
use crate::read::At;
use crate::report::{Code, Diagnostic};

/// Notes what is wrong.
pub(crate) struct Checker {
    pub(crate) diagnostics: Vec<Diagnostic>,
    unsound: BTreeSet<String>,
}

impl Checker {
    /// `unsound` has the keys of the whole file that something unreadable lay under.
    pub(crate) fn new(unsound: BTreeSet<String>) -> Self {
        Self { diagnostics: Vec::new(), unsound }
    }

    pub(crate) fn file(&mut self, raw: &raw::File) -> Option<Config> {
        let ports = self.ports(raw);
        let routes = self.routes(raw);
        let neighbours = self.neighbours(raw);
        let cores = self.cores(raw);
        let memory = self.memory(raw);
        let dns = self.dns(raw);
        let roles = self.roles(raw);
        let functions = self.functions(raw);
        let services = self.services(raw);
        let nat = self.nat(raw);
        let limits = self.limits(raw);
        let bier = self.bier(raw);
        let hub = self.hub(raw, bier.as_ref());
        let orchestrator = self.orchestrator(raw);
        let telemetry = self.telemetry(raw);
        raw.schema_version.as_ref()?;
        Some(Config {
            site: self.site(raw)?,
            cores: cores?,
            memory: memory?,
            ports: ports?,
            routes: routes?,
            neighbours: neighbours?,
            roles: roles?,
            dns: dns?,
            functions: functions?,
            services: services?,
            nat: nat?,
            limits: limits?,
            bier: bier?,
            hub: hub?,
            orchestrator: orchestrator?,
            telemetry: telemetry?,
        })
    }

    /// Whether everything under a key of the whole file could be read.
    fn sound(&self, key: &str) -> bool {
        !self.unsound.contains(key)
    }

    fn note(&mut self, diagnostic: Diagnostic) {
        self.diagnostics.push(diagnostic);
    }

    /// Notes each value that has been seen before. `what` names its kind, as in "port".
    fn unique<T: Ord + Display + Clone>(
        &mut self,
        what: &str,
        values: impl IntoIterator<Item = (T, Range<usize>)>,
    ) {
        let mut seen = BTreeMap::new();
        for (value, span) in values {
            match seen.get(&value) {
                Some(first) => {
                    self.duplicate(format!("{what} `{value}` is given twice"), span, Clone::clone(first))
                }
                None => {
                    seen.insert(value, span);
                }
            }
        }
    }

    fn duplicate(&mut self, message: String, again: Range<usize>, first: Range<usize>) {
        self.note(
            Diagnostic::new(Code::Duplicate, again, message).label("again here").related(first, "first here"),
        );
    }
}

/// The entries of a list that may be absent.
fn items<T, const MIN: usize, const MAX: usize>(
    list: &Option<At<crate::leaf::List<T, MIN, MAX>>>,
) -> &[At<T>] {
    list.as_ref().map_or(&[], |list| &list.value)
}

/// All of them, if none is missing.
fn all<T>(parts: impl IntoIterator<Item = Option<T>>) -> Option<Vec<T>> {
    // Collected first: every part is checked, even after one that is wrong.
    let parts: Vec<_> = parts.into_iter().collect();
    parts.into_iter().collect()
}
