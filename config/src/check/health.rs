//! How backends and instances are checked.

use std::num::NonZeroU16;
use std::ops::Range;
use std::time::Duration;

use super::{Checker, items};
use crate::limits::{HEALTH_TIMEOUT_MS_DEFAULT, PROBE_PORT_FIRST, PROBE_PORTS_MIN};
use crate::model::{Check, CheckKind, Forwarding, Health, HealthKind, Overflow, Passive, Protocol};
use crate::raw;
use crate::read::At;
use crate::report::{Code, Diagnostic};

impl Checker {
    /// The checks of a service, if it has any; `None` where they are wrong.
    pub(super) fn health(&mut self, file: &raw::File, at: &At<raw::Service>) -> Option<Option<Health>> {
        let Some(health) = &at.value.health else { return Some(None) };
        let before = self.diagnostics.len();
        let raw = &health.value;
        if raw.kind.is_none() && raw.passive.is_none() && health.sound {
            self.note(
                Diagnostic::new(Code::Conflict, health.span.clone(), "nothing is checked")
                    .label("neither `kind` nor `passive`")
                    .help("write `kind = \"tcp\"`, or take it out"),
            );
        }
        self.needs_kind(health);
        self.has_port(at, health);
        self.sees_handshakes(at, raw);
        let overflow = self.all_down(at, raw);
        if let Some(kind) = &raw.kind {
            self.has_source_ports(file, &kind.span);
        }
        let check = match &raw.kind {
            Some(kind) => Some(self.probe(kind.value, raw)?),
            None => None,
        };
        let passive = match &raw.passive {
            Some(passive) => {
                let raw = &passive.value;
                Some(Passive {
                    failures: raw.failures.as_ref()?.value.get(),
                    window: raw.window_ms.as_ref()?.value.millis(),
                    eject: raw.eject_ms.as_ref()?.value.millis(),
                    share_percent: raw.share_percent.as_ref()?.value.get(),
                })
            }
            None => None,
        };
        let sound = health.sound && self.diagnostics.len() == before;
        sound.then_some(Some(Health { check, passive, overflow }))
    }

    fn probe(&mut self, kind: HealthKind, raw: &raw::Health) -> Option<Check> {
        let interval = raw.interval_ms.as_ref()?.value.millis();
        let longest = Duration::from_millis(HEALTH_TIMEOUT_MS_DEFAULT);
        let timeout = raw.timeout_ms.as_ref().map(|at| at.value.millis());
        if let Some(at) = raw.timeout_ms.as_ref().filter(|at| at.value.millis() > interval) {
            self.note(
                Diagnostic::new(
                    Code::Conflict,
                    at.span.clone(),
                    "the next probe would begin before this one ends",
                )
                .label(format!("longer than `interval_ms`, which is {}", interval.as_millis())),
            );
        }
        Some(Check {
            kind: match kind {
                HealthKind::Tcp => CheckKind::Tcp,
                HealthKind::Http => CheckKind::Http {
                    path: raw.path.as_ref().map(|at| at.value.clone()).unwrap_or_default(),
                    status: raw.status.as_ref().map(|at| at.value).unwrap_or_default(),
                },
            },
            port: raw.port.as_ref().and_then(|at| NonZeroU16::new(at.value.get() as u16)),
            interval,
            timeout: timeout.unwrap_or(interval.min(longest)),
            down_after: raw.down_after.as_ref()?.value.get(),
            up_after: raw.up_after.as_ref()?.value.get(),
        })
    }

    /// Keys that mean something with a `kind` only, or with one kind.
    fn needs_kind(&mut self, at: &At<raw::Health>) {
        let raw = &at.value;
        let mut told = |key: &str, span: &Range<usize>, needs: &str, help: &str| {
            self.note(
                Diagnostic::new(Code::Conflict, span.clone(), format!("`{key}` needs {needs}"))
                    .label("nothing is asked for with it")
                    .help(help),
            );
        };
        let of_http = [
            raw.path.as_ref().map(|at| ("path", &at.span)),
            raw.status.as_ref().map(|at| ("status", &at.span)),
        ];
        let kind = raw.kind.as_ref().map(|at| at.value);
        if kind == Some(HealthKind::Tcp) {
            for (key, span) in of_http.into_iter().flatten() {
                told(key, span, "`kind = \"http\"`", "write `kind = \"http\"`, or take the key out");
            }
        }
        if kind.is_some() || raw.passive.is_none() {
            return;
        }
        let of_probes = [
            raw.port.as_ref().map(|at| ("port", &at.span, at.given)),
            raw.interval_ms.as_ref().map(|at| ("interval_ms", &at.span, at.given)),
            raw.timeout_ms.as_ref().map(|at| ("timeout_ms", &at.span, at.given)),
            raw.down_after.as_ref().map(|at| ("down_after", &at.span, at.given)),
            raw.up_after.as_ref().map(|at| ("up_after", &at.span, at.given)),
        ];
        let given = of_probes.into_iter().flatten().filter(|(.., given)| *given);
        for (key, span) in of_http.into_iter().flatten().chain(given.map(|(key, span, _)| (key, span))) {
            told(key, span, "a `kind`", "say how it is probed with `kind`, or take the key out");
        }
    }

    /// A probe needs a TCP port to go to, and so do handshakes.
    fn has_port(&mut self, at: &At<raw::Service>, health: &At<raw::Health>) {
        let raw = &health.value;
        let tcp = items(&at.value.ports).iter().any(|port| port.value.protocol == Protocol::Tcp);
        if tcp || !at.sound {
            return;
        }
        if let Some(kind) = raw.kind.as_ref().filter(|_| raw.port.is_none()) {
            self.note(
                Diagnostic::new(Code::Conflict, kind.span.clone(), "there is no port to probe")
                    .label("the service has no TCP port")
                    .help("name one with `port`"),
            );
        }
        if let Some(passive) = &raw.passive {
            self.note(
                Diagnostic::new(Code::Conflict, passive.span.clone(), "there are no handshakes to watch")
                    .label("the service has no TCP port"),
            );
        }
    }

    fn sees_handshakes(&mut self, at: &At<raw::Service>, raw: &raw::Health) {
        let forwarding = at.value.forwarding.as_ref().filter(|at| at.value != Forwarding::Nat);
        if let (Some(passive), Some(forwarding)) = (&raw.passive, forwarding) {
            self.note(
                Diagnostic::new(Code::Conflict, passive.span.clone(), "the answers don't come by here")
                    .label("watches handshakes")
                    .related(forwarding.span.clone(), "lets instances answer clients themselves")
                    .help("probe them with `kind` instead"),
            );
        }
    }

    /// What happens to new flows while nothing is up.
    fn all_down(&mut self, at: &At<raw::Service>, raw: &raw::Health) -> Overflow {
        let Some(overflow) = &raw.overflow else { return Overflow::Drop };
        let mut conflict = |message: &str, label: &str, related: Option<(Range<usize>, &str)>| {
            let mut diagnostic = Diagnostic::new(Code::Conflict, overflow.span.clone(), message).label(label);
            if let Some((span, what)) = related {
                diagnostic = diagnostic.related(span, what);
            }
            self.note(diagnostic);
        };
        let udp = items(&at.value.ports).iter().find(|port| port.value.protocol == Protocol::Udp);
        match (&at.value.function, overflow.value, udp) {
            (Some(function), ..) => conflict(
                "a service with a function has `hold.overflow` for this",
                "said twice",
                Some((function.span.clone(), "the function")),
            ),
            (None, Overflow::Fallback, _) => {
                conflict("there is nothing to fall back to", "these backends are all that there are", None);
            }
            (None, Overflow::Rst, Some(udp)) => conflict(
                "a RST can only answer TCP",
                "for every port of the service",
                Some((udp.span.clone(), "which has this one")),
            ),
            (None, Overflow::Rst | Overflow::Upstream | Overflow::Drop, _) => {}
        }
        overflow.value
    }

    /// Probes leave by ports that no translated flow has.
    fn has_source_ports(&mut self, file: &raw::File, kind: &Range<usize>) {
        let Some(range) = file.nat.as_ref().and_then(|nat| nat.value.port_range.as_ref()) else { return };
        let (first, last) = (range.value.first, range.value.last);
        let below = first.saturating_sub(PROBE_PORT_FIRST);
        let above = u16::MAX - last.max(PROBE_PORT_FIRST);
        if below.max(above) < PROBE_PORTS_MIN {
            self.note(
                Diagnostic::new(Code::Conflict, range.span.clone(), "no ports are left for probes")
                    .label("translated flows have all of them")
                    .related(kind.clone(), "probes backends")
                    .help(format!("leave {PROBE_PORTS_MIN} in a row from {PROBE_PORT_FIRST} on")),
            );
        }
    }
}
