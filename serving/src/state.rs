//! What the host keeps for one request, built new for each.

use hyper::Request;
use wasmtime::component::ResourceTable;
use wasmtime::{ResourceLimiter, Store};
use wasmtime_wasi::{WasiCtx, WasiCtxView, WasiView};
use wasmtime_wasi_http::{
    Error, RequestOptions, WasiBody, WasiHttpCtx, WasiHttpCtxView, WasiHttpHooks, WasiHttpView,
};

use crate::function::Function;
use crate::machine::Machine;
use crate::output::{GuestOutput, Source};

/// A request's host state.
pub(crate) struct State {
    wasi: WasiCtx,
    http: WasiHttpCtx,
    table: ResourceTable,
    hooks: NoOutbound,
    limits: Limits,
}

impl State {
    /// A store in its first state, with this much memory to reach.
    pub(crate) fn store(machine: &Machine, function: &Function, memory_bytes: u64) -> Store<State> {
        let output = |source| GuestOutput::new(function.name().clone(), source);
        let wasi = WasiCtx::builder()
            .env("MILLRACE_FUNCTION", &**function.name())
            .stdout(output(Source::Stdout))
            .stderr(output(Source::Stderr))
            .allow_tcp(false)
            .allow_udp(false)
            .build();
        let state = State {
            wasi,
            http: WasiHttpCtx::new(),
            table: ResourceTable::new(),
            hooks: NoOutbound,
            limits: Limits { memory_left: memory_bytes },
        };
        let mut store = Store::new(machine.engine(), state);
        store.limiter(|state| &mut state.limits);
        store.set_epoch_deadline(1);
        // A guest that computes gives way at each tick; how long it may take in all is the request's timer's affair,
        // which also covers a guest that waits in a host call.
        store.epoch_deadline_async_yield_and_update(1);
        store
    }
}

impl WasiView for State {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView { ctx: &mut self.wasi, table: &mut self.table }
    }
}

impl WasiHttpView for State {
    fn http(&mut self) -> WasiHttpCtxView<'_> {
        WasiHttpCtxView { hooks: &mut self.hooks, table: &mut self.table, ctx: &mut self.http }
    }
}

/// Calls to other servers are refused.
struct NoOutbound;

type Outcome<T> = Box<dyn Future<Output = Result<T, Error>> + Send>;

impl WasiHttpHooks for NoOutbound {
    fn send_request(
        &mut self,
        _request: Request<WasiBody>,
        _options: Option<RequestOptions>,
        _processed: Outcome<()>,
    ) -> Outcome<(hyper::Response<WasiBody>, Outcome<()>)> {
        Box::new(std::future::ready(Err(Error::HttpRequestDenied)))
    }
}

/// The memory of all of a component's parts together.
struct Limits {
    memory_left: u64,
}

impl ResourceLimiter for Limits {
    fn memory_growing(
        &mut self,
        current: usize,
        desired: usize,
        maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        let more = desired.saturating_sub(current) as u64;
        if more > self.memory_left || maximum.is_some_and(|maximum| desired > maximum) {
            return Ok(false);
        }
        self.memory_left -= more;
        Ok(true)
    }

    fn table_growing(
        &mut self,
        _current: usize,
        desired: usize,
        maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        Ok(desired <= maximum.unwrap_or(TABLE_ELEMENTS_MAX).min(TABLE_ELEMENTS_MAX))
    }
}

/// Elements of one table: the indirect calls of a very large program.
const TABLE_ELEMENTS_MAX: usize = 20_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memories_share_one_limit() {
        let mut limits = Limits { memory_left: 3 << 16 };
        assert!(limits.memory_growing(0, 2 << 16, None).unwrap());
        assert!(!limits.memory_growing(0, 2 << 16, None).unwrap());
        assert!(limits.memory_growing(0, 1 << 16, None).unwrap());
        assert!(!limits.memory_growing(1 << 16, 2 << 16, None).unwrap());
        let mut limits = Limits { memory_left: 3 << 16 };
        assert!(!limits.memory_growing(0, 2 << 16, Some(1 << 16)).unwrap());
    }
}
