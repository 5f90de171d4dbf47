//! What isn't traffic: site, cores, memory, limits, orchestrator, telemetry.

use super::{Checker, all, items};
use crate::leaf::Count;
use crate::limits::SOCKET_PATH_BYTES_MAX;
use crate::model::{
    CoreRequest, CoreSet, Cores, Endpoint, Limits, Memory, Node, Orchestrator, OrchestratorKind, Security,
    Site, Telemetry, Tls,
};
use crate::raw::{self, OrchestratorWord};
use crate::read::At;
use crate::report::{Code, Diagnostic, Origin};

impl Checker {
    pub(super) fn site(&mut self, raw: &raw::File) -> Option<Site> {
        Some(Site { name: raw.site.as_ref()?.value.name.as_ref()?.value.clone() })
    }

    pub(super) fn cores(&mut self, raw: &raw::File) -> Option<Cores> {
        let at = raw.cores.as_ref()?;
        let controller = at.value.controller.as_ref().and_then(|set| self.core_set("cores.controller", set));
        let dataplane = at.value.dataplane.as_ref().and_then(|set| self.core_set("cores.dataplane", set));
        let (controller, dataplane) = (controller?, dataplane?);
        // Lists that overlap are the operator's own wish; the plan warns of it.
        if let (CoreSet::Rest, CoreSet::Rest) = (&controller.cores, &dataplane.cores) {
            self.note(
                Diagnostic::new(
                    Code::Conflict,
                    at.span.clone(),
                    "two roles can't both have the rest of the cores",
                )
                .label("`controller` and `dataplane` both do")
                .help("give `controller` a number, as in `controller = { count = 1 }`"),
            );
        }
        Some(Cores { controller, dataplane, sibling: at.value.sibling.as_ref()?.value })
    }

    fn core_set(&mut self, key: &str, at: &At<raw::CoreSet>) -> Option<CoreRequest> {
        match (&at.value.count, &at.value.cpus) {
            (Some(count), None) => {
                let cores = match count.value {
                    Count::Number(number) => CoreSet::Count(number),
                    Count::Rest => CoreSet::Rest,
                };
                Some(CoreRequest { cores, origin: Origin::new(count.span.clone()) })
            }
            (None, Some(cpus)) => Some(CoreRequest {
                cores: CoreSet::Cpus(cpus.value.clone()),
                origin: Origin::new(cpus.span.clone()),
            }),
            // Neither could be read, and that has been reported.
            (None, None) if !self.sound("cores") => None,
            (both, _) => {
                let label = if both.is_some() { "both are here" } else { "neither is here" };
                self.note(
                    Diagnostic::new(
                        Code::Conflict,
                        at.span.clone(),
                        format!("`{key}` takes either `count` or `cpus`"),
                    )
                    .label(label)
                    .help("write `{ count = 2 }`, `{ count = \"rest\" }` or `{ cpus = \"2-5\" }`"),
                );
                None
            }
        }
    }

    pub(super) fn memory(&mut self, raw: &raw::File) -> Option<Memory> {
        let raw = &raw.memory.as_ref()?.value;
        Some(Memory {
            hugepages: raw.hugepages.as_ref()?.value,
            frames_per_port: raw.frames_per_port.as_ref()?.value.get(),
        })
    }

    pub(super) fn limits(&mut self, raw: &raw::File) -> Option<Limits> {
        let raw = &raw.limits.as_ref()?.value;
        let (worker, prefix) = (raw.holds_per_worker.as_ref()?, raw.holds_per_prefix.as_ref()?);
        if prefix.value.get() > worker.value.get() {
            let at = if prefix.given { prefix } else { worker };
            let message = "one prefix can't hold more packets than a worker does";
            let label = format!("{} a prefix, but {} a worker", prefix.value.get(), worker.value.get());
            let help = "lower `holds_per_prefix`, or raise `holds_per_worker`";
            self.note(Diagnostic::new(Code::Conflict, at.span.clone(), message).label(label).help(help));
        }
        Some(Limits {
            flows_per_worker: raw.flows_per_worker.as_ref()?.value.get(),
            holds_per_worker: worker.value.get(),
            holds_per_prefix: prefix.value.get(),
            wakes_per_second: raw.wakes_per_second.as_ref()?.value.get(),
            wakes_burst: raw.wakes_burst.as_ref()?.value.get(),
            neighbours_max: raw.neighbours_max.as_ref()?.value.get(),
        })
    }

    pub(super) fn orchestrator(&mut self, raw: &raw::File) -> Option<Orchestrator> {
        let at = raw.orchestrator.as_ref()?;
        let raw = &at.value;
        let nodes = self.nodes(raw);
        let tls = match &raw.tls {
            Some(tls) => Some(Some((tls, tls_of(&tls.value)))),
            None => self.sound("orchestrator").then_some(None),
        };
        match raw.kind.as_ref()?.value {
            OrchestratorWord::Embedded => {
                if let Some(endpoint) = &raw.endpoint {
                    self.out_of_place("endpoint", "grpc", endpoint.span.clone());
                }
                let listen = raw.listen.as_ref()?;
                let security = match tls? {
                    Some((_, tls)) => Security::Tls(tls?),
                    None => {
                        let place = (listen.value.0.ip().is_loopback(), listen.span.clone());
                        self.plain_text(place, raw)?
                    }
                };
                Some(Orchestrator {
                    kind: OrchestratorKind::Embedded { listen: listen.value.0, nodes: nodes? },
                    security,
                })
            }
            OrchestratorWord::Grpc => {
                if let Some(listen) = raw.listen.as_ref().filter(|listen| listen.given) {
                    self.out_of_place("listen", "embedded", listen.span.clone());
                }
                if let Some(nodes) = &raw.nodes {
                    self.out_of_place("node", "embedded", nodes.span.clone());
                }
                let Some(endpoint) = &raw.endpoint else {
                    if self.sound("orchestrator") {
                        self.note(
                            Diagnostic::new(
                                Code::MissingKey,
                                at.span.clone(),
                                "`orchestrator.endpoint` is missing",
                            )
                            .label("should be in here")
                            .help("`kind = \"grpc\"` needs it: where the orchestrator listens"),
                        );
                    }
                    return None;
                };
                let security = self.security(endpoint, tls?, raw)?;
                Some(Orchestrator {
                    kind: OrchestratorKind::Grpc { endpoint: endpoint.value.clone() },
                    security,
                })
            }
        }
    }

    fn security(
        &mut self,
        endpoint: &At<Endpoint>,
        tls: Option<(&At<raw::Tls>, Option<Tls>)>,
        raw: &raw::Orchestrator,
    ) -> Option<Security> {
        match (endpoint.value.tls, tls) {
            (true, Some((_, tls))) => Some(Security::Tls(tls?)),
            (false, None) => self.plain_text((endpoint.value.is_loopback(), endpoint.span.clone()), raw),
            (true, None) => {
                self.note(
                    Diagnostic::new(Code::Conflict, endpoint.span.clone(), "`https` needs to know who we are and whom to trust")
                        .label("there is no `tls`")
                        .help("add `tls = { cert = \"file:site.pem\", key = \"file:site.key\", ca = \"file:ca.pem\" }`"),
                );
                None
            }
            (false, Some((at, _))) => {
                self.note(
                    Diagnostic::new(
                        Code::Conflict,
                        endpoint.span.clone(),
                        "`http` is plain text, but there is a `tls`",
                    )
                    .label("plain text")
                    .related(at.span.clone(), "never used")
                    .help("write `https://`, or take the `tls` out"),
                );
                None
            }
        }
    }

    /// Plain text is for one host, or for who says that it is meant.
    fn plain_text(
        &mut self,
        (loopback, span): (bool, std::ops::Range<usize>),
        raw: &raw::Orchestrator,
    ) -> Option<Security> {
        if !loopback && !raw.insecure.as_ref()?.value {
            self.note(
                Diagnostic::new(
                    Code::Insecure,
                    span,
                    "the orchestrator link would be plain text on the network",
                )
                .label("not on this host alone")
                .help("add a `tls`, or write `insecure = true` if the network is trusted"),
            );
            return None;
        }
        Some(Security::Plaintext)
    }

    fn out_of_place(&mut self, key: &str, kind: &str, span: std::ops::Range<usize>) {
        let message = format!("`orchestrator.{key}` belongs to another kind of orchestrator");
        let help = format!("write `kind = \"{kind}\"`, or take the key out");
        self.note(
            Diagnostic::new(Code::Conflict, span, message).label(format!("only with \"{kind}\"")).help(help),
        );
    }

    fn nodes(&mut self, raw: &raw::Orchestrator) -> Option<Vec<Node>> {
        let nodes = items(&raw.nodes);
        let names = nodes.iter().filter_map(|node| node.value.name.as_ref());
        self.unique("the node", names.map(|name| (name.value.clone(), name.span.clone())));
        let addresses = nodes.iter().filter_map(|node| node.value.address.as_ref());
        self.unique("the node's address", addresses.map(|at| (at.value.0, at.span.clone())));
        all(nodes.iter().map(|node| {
            Some(Node {
                name: node.value.name.as_ref()?.value.clone(),
                address: node.value.address.as_ref()?.value.0,
                kind: node.value.kind.as_ref()?.value,
            })
        }))
    }

    pub(super) fn telemetry(&mut self, raw: &raw::File) -> Option<Telemetry> {
        let raw = &raw.telemetry.as_ref()?.value;
        let socket = raw.control_socket.as_ref()?;
        let len = socket.value.0.as_os_str().len();
        if len > SOCKET_PATH_BYTES_MAX {
            self.note(
                Diagnostic::new(Code::BadValue, socket.span.clone(), "the control socket's path is too long")
                    .label(format!("{len} bytes"))
                    .help(format!("the system takes {SOCKET_PATH_BYTES_MAX} bytes for a Unix socket")),
            );
        }
        Some(Telemetry {
            metrics_listen: raw.metrics_listen.as_ref().map(|at| at.value.0),
            control_socket: socket.value.0.clone(),
            log: raw.log.as_ref()?.value,
        })
    }
}

fn tls_of(raw: &raw::Tls) -> Option<Tls> {
    Some(Tls {
        cert: raw.cert.as_ref()?.value.clone(),
        key: raw.key.as_ref()?.value.clone(),
        ca: raw.ca.as_ref()?.value.clone(),
    })
}
