//! QUIC connection ids of a service, and the server ids of its backends.

use super::{Checker, items};
use crate::limits::{QUIC_INSTANCE_ID_BYTES, QUIC_PLAIN_BYTES_MAX};
use crate::model::{Protocol, Quic, QuicLayout, SecretRef};
use crate::raw;
use crate::read::At;
use crate::report::{Code, Diagnostic};

impl Checker {
    /// The `quic` of a service, if it has one; `None` where it is wrong.
    pub(super) fn quic(&mut self, at: &At<raw::Service>) -> Option<Option<Quic>> {
        let service = &at.value;
        let Some(quic) = &service.quic else {
            self.no_server_ids(service);
            return Some(None);
        };
        if !items(&service.ports).iter().any(|port| port.value.protocol == Protocol::Udp) && at.sound {
            self.note(
                Diagnostic::new(Code::Conflict, quic.span.clone(), "QUIC needs a UDP port")
                    .label("the service has none")
                    .help("add one to `ports`, as in \"udp/443\""),
            );
        }
        let raw = &quic.value;
        let server_id_bytes = raw.server_id_bytes.as_ref()?;
        let id_len = server_id_bytes.value.get();
        let current = self.layout(id_len, &raw.rotation, &raw.nonce_bytes, &raw.key);
        let previous = match &raw.previous {
            Some(previous) => {
                let before = &previous.value;
                self.follows(raw, previous);
                Some(self.layout(id_len, &before.rotation, &before.nonce_bytes, &before.key)?)
            }
            None => None,
        };
        if let Some(function) = service.function.as_ref().filter(|_| id_len != QUIC_INSTANCE_ID_BYTES) {
            self.note(
                Diagnostic::new(
                    Code::Conflict,
                    server_id_bytes.span.clone(),
                    "the ids of a function's instances have six bytes",
                )
                .label(format!("{id_len} here"))
                .related(function.span.clone(), "the function")
                .help("four bytes of its address and two of its port: write `server_id_bytes = 6`"),
            );
        }
        self.server_ids(service, id_len);
        Some(Some(Quic { server_id_bytes: id_len as u8, current: current?, previous }))
    }

    /// One way to make ids, whose lengths have to leave room for the first byte.
    fn layout<const R: i64, const N: i64, const M: i64>(
        &mut self,
        id_len: u32,
        rotation: &Option<At<crate::leaf::Int<0, R>>>,
        nonce_bytes: &Option<At<crate::leaf::Int<N, M>>>,
        key: &Option<At<SecretRef>>,
    ) -> Option<QuicLayout> {
        let (rotation, nonce) = (rotation.as_ref()?.value.get(), nonce_bytes.as_ref()?);
        let len = nonce.value.get();
        if id_len + len > QUIC_PLAIN_BYTES_MAX {
            self.note(
                Diagnostic::new(
                    Code::OutOfRange,
                    nonce.span.clone(),
                    format!("server id and nonce have {} bytes", id_len + len),
                )
                .label(format!("there is room for {}", QUIC_PLAIN_BYTES_MAX.saturating_sub(id_len)))
                .help(
                    "a connection id of QUIC version 1 has 20 bytes, the first of which says how to read it",
                ),
            );
        }
        Some(QuicLayout {
            rotation: rotation as u8,
            nonce_bytes: len as u8,
            key: key.as_ref().map(|key| key.value.clone()),
        })
    }

    /// What was before has to be told from what is, and to be as readable.
    fn follows(&mut self, now: &raw::Quic, previous: &At<raw::QuicPrevious>) {
        let before = &previous.value;
        if let (Some(one), Some(other)) = (&now.rotation, &before.rotation)
            && one.value.get() == other.value.get()
        {
            self.note(
                Diagnostic::new(
                    Code::Conflict,
                    other.span.clone(),
                    "ids of then and now can't be told apart",
                )
                .label("the same rotation")
                .related(one.span.clone(), "as now")
                .help("take another number for what is new"),
            );
        }
        if now.key.is_some() != before.key.is_some() {
            self.note(
                Diagnostic::new(
                    Code::Conflict,
                    previous.span.clone(),
                    "ids that can be read would tell what is in those that can't",
                )
                .label("one of the two has a `key`, and the server ids are the same")
                .help("give both a key, or begin with other server ids in a service of their own"),
            );
        }
    }

    /// Each backend has an id of its own, of the one length.
    fn server_ids(&mut self, service: &raw::Service, id_len: u32) {
        let ids = items(&service.backends).iter().filter_map(|backend| backend.value.server_id.as_ref());
        self.unique("the server id", ids.clone().map(|id| (id.value, id.span.clone())));
        for id in ids.filter(|id| id.value.as_bytes().len() != id_len as usize) {
            self.note(
                Diagnostic::new(
                    Code::Conflict,
                    id.span.clone(),
                    format!("the server id has {} bytes", id.value.as_bytes().len()),
                )
                .label(format!("`server_id_bytes` is {id_len}")),
            );
        }
        for backend in
            items(&service.backends).iter().filter(|one| one.value.server_id.is_none() && one.sound)
        {
            self.note(
                Diagnostic::new(Code::MissingKey, backend.span.clone(), "the backend has no `server_id`")
                    .label("its connection ids would lead nowhere")
                    .help(format!("give it {id_len} bytes of its own, as its server has them")),
            );
        }
    }

    fn no_server_ids(&mut self, service: &raw::Service) {
        for id in items(&service.backends).iter().filter_map(|backend| backend.value.server_id.as_ref()) {
            self.note(
                Diagnostic::new(Code::Conflict, id.span.clone(), "nobody would ask for this id")
                    .label("the service has no `quic`")
                    .help("add `quic = { server_id_bytes = ..., nonce_bytes = ... }`, or take it out"),
            );
        }
    }
}
