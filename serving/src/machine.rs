//! The Wasm engine: its pool, its limits, and the clock that interrupts guests.

use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use thiserror::Error;
use tokio::sync::Semaphore;
use tracing::info;
use wasmtime::component::Linker;
use wasmtime::{
    Cache, CacheConfig, Config, Enabled, Engine, InstanceAllocationStrategy, PoolingAllocationConfig,
};

use crate::state::State;

/// An engine with its linker and pool. Cheap to clone; the interrupting thread ends with the last clone.
#[derive(Clone)]
pub struct Machine {
    engine: Engine,
    linker: Arc<Linker<State>>,
    slots: Arc<Semaphore>,
}

/// Why there is no engine.
#[derive(Debug, Error)]
pub enum MachineError {
    /// The engine refuses its settings, or the system refuses the memory.
    #[error("the Wasm engine cannot start: {0:#}")]
    Engine(wasmtime::Error),
    /// The directory for compiled code can't be used.
    #[error("cannot use {path} for compiled code: {error}")]
    Cache {
        /// The directory.
        path: PathBuf,
        /// What the system said.
        error: std::io::Error,
    },
    /// Somebody else could put code there.
    #[error("{0} for compiled code can be written by others; it must be this user's alone (mode 0700)")]
    SharedCache(PathBuf),
    /// No thread.
    #[error("cannot start the interrupting thread: {0}")]
    Thread(std::io::Error),
}

impl Machine {
    /// An engine that keeps compiled code in `cache`, if given: what is there already isn't compiled again.
    ///
    /// # Errors
    /// See [`MachineError`].
    pub fn new(cache: Option<&Path>) -> Result<Self, MachineError> {
        let mut config = Config::new();
        config
            .allocation_strategy(InstanceAllocationStrategy::Pooling(pool()))
            .epoch_interruption(true)
            .async_stack_zeroing(true)
            .max_wasm_stack(WASM_STACK_BYTES)
            .async_stack_size(ASYNC_STACK_BYTES)
            .wasm_component_model(true)
            .cache(cache.map(open_cache).transpose()?);
        let engine = Engine::new(&config).map_err(MachineError::Engine)?;
        let mut linker = Linker::new(&engine);
        wasmtime_wasi::p2::add_to_linker_async(&mut linker)
            .and_then(|()| wasmtime_wasi_http::p2::add_only_http_to_linker_async(&mut linker))
            .map_err(MachineError::Engine)?;
        let weak = engine.weak();
        std::thread::Builder::new()
            .name("epoch".to_owned())
            .spawn(move || {
                while let Some(engine) = weak.upgrade() {
                    engine.increment_epoch();
                    drop(engine);
                    std::thread::sleep(EPOCH);
                }
            })
            .map_err(MachineError::Thread)?;
        Ok(Machine { engine, linker: Arc::new(linker), slots: Arc::new(Semaphore::new(SLOTS_MAX as usize)) })
    }

    pub(crate) fn engine(&self) -> &Engine {
        &self.engine
    }

    pub(crate) fn linker(&self) -> &Linker<State> {
        &self.linker
    }

    /// One permit per place in the pool: who has one can be sure that there is room.
    pub(crate) fn slots(&self) -> &Arc<Semaphore> {
        &self.slots
    }
}

fn pool() -> PoolingAllocationConfig {
    let mut pool = PoolingAllocationConfig::new();
    let scan = memory_never_swaps();
    info!(
        scan,
        "{}",
        if scan {
            "used memory is found by scanning page tables"
        } else {
            "used memory is cleared without scanning: this control group may swap (memory.swap.max is not 0)"
        }
    );
    pool.total_component_instances(SLOTS_MAX)
        .max_core_instances_per_component(CORE_INSTANCES_MAX)
        .total_core_instances(SLOTS_MAX * CORE_INSTANCES_MAX)
        .max_memories_per_component(MEMORIES_MAX)
        .total_memories(SLOTS_MAX * MEMORIES_MAX)
        .max_tables_per_component(TABLES_MAX)
        .total_tables(SLOTS_MAX * TABLES_MAX)
        .total_stacks(SLOTS_MAX)
        .max_memory_size(MEMORY_BYTES_MAX)
        .decommit_batch_size(1)
        .table_keep_resident(TABLE_KEEP_BYTES)
        .linear_memory_keep_resident(if scan { SCANNED_KEEP_BYTES } else { COPIED_KEEP_BYTES })
        .pagemap_scan(if scan { Enabled::Yes } else { Enabled::No });
    pool
}

/// Whether this process's control group forbids swapping. The scan doesn't see a page that was written and then
/// swapped out, and the next request would read it; that nothing is swapped now would be no promise.
fn memory_never_swaps() -> bool {
    let Ok(groups) = std::fs::read_to_string("/proc/self/cgroup") else { return false };
    groups.lines().find_map(|line| line.strip_prefix("0::/")).is_some_and(|group| {
        let file = Path::new("/sys/fs/cgroup").join(group).join("memory.swap.max");
        std::fs::read_to_string(file).is_ok_and(|max| max.trim() == "0")
    })
}

/// Compiled code is loaded as it is, so that nobody else may write there.
fn open_cache(path: &Path) -> Result<Cache, MachineError> {
    use std::os::unix::fs::MetadataExt;

    let failed = |error| MachineError::Cache { path: path.to_owned(), error };
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(failed)?;
    let path = path.canonicalize().map_err(failed)?;
    if std::fs::metadata(&path).map_err(failed)?.mode() & 0o022 != 0 {
        return Err(MachineError::SharedCache(path));
    }
    let mut config = CacheConfig::new();
    config.with_directory(path);
    Cache::new(config).map_err(MachineError::Engine)
}

/// Instances that exist at a time, over all functions; each takes address space, not memory, until used.
pub const SLOTS_MAX: u32 = 256;

/// Core modules in one component: a Rust or C component has up to five with its adapters.
const CORE_INSTANCES_MAX: u32 = 8;

/// Memories in one component.
const MEMORIES_MAX: u32 = 2;

/// Tables in one component.
const TABLES_MAX: u32 = 6;

/// Largest memory that a function may be given, bytes.
pub const MEMORY_BYTES_MAX: usize = 1 << 30;

/// Kept resident when only used pages are touched: 11 times faster than faults at 16 used pages.
const SCANNED_KEEP_BYTES: usize = 1 << 20;

/// Kept resident when all of it is written at each reset: what a small function uses.
const COPIED_KEEP_BYTES: usize = 128 << 10;

/// Kept resident of each table.
const TABLE_KEEP_BYTES: usize = 16 << 10;

/// Stack for guest code.
const WASM_STACK_BYTES: usize = 512 << 10;

/// Stack for guest code and the host calls it makes.
const ASYNC_STACK_BYTES: usize = 2 << 20;

/// How often a guest that computes gives others their turn.
pub(crate) const EPOCH: Duration = Duration::from_millis(5);

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_directory_that_others_can_write_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("code");
        assert!(open_cache(&path).is_ok());
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o777)).unwrap();
        assert!(matches!(open_cache(&path), Err(MachineError::SharedCache(_))));
    }
}
