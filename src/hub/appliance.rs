//! The hub of a running appliance: its store, its sessions, who answers for it, and its HTTP server.

use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use millrace_config::model::{self, SecretRef};
use millrace_fastpath::shared::Shared;
use millrace_hub_store::desk::{Desk, Sessions};
use millrace_hub_store::{Error, HttpOptions, KeyError, Limits, Millis, SigningKey, Store, serve};
use millrace_slowpath::hub::{HubThread, Prepared};
use thiserror::Error;
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tracing::{info, warn};

/// Why there is no hub.
#[derive(Debug, Error)]
pub(crate) enum HubError {
    /// The store can't be opened.
    #[error("the hub's store {0}: {1}")]
    Store(String, #[source] Error),
    /// A key's file isn't one.
    #[error("the hub's key: {0}")]
    Key(#[from] KeyError),
    /// Contents can't be served there.
    #[error("contents can't be served at {0}: {1}")]
    Http(SocketAddr, #[source] io::Error),
    /// There is no thread for it.
    #[error("no thread for the hub: {0}")]
    Thread(#[source] io::Error),
}

/// A hub's store, and its threads. Dropping it ends the transfers that have begun, and writes the ledger.
pub(crate) struct Hub {
    store: Arc<Store>,
    key: Option<Arc<SigningKey>>,
    /// Until they start.
    prepared: Option<Prepared>,
    sessions: Arc<dyn Sessions>,
    sending: Option<HubThread>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Hub {
    /// Opens the store, and serves it over HTTP if there is an address. Relative paths begin at `folder`. Nothing is sent yet.
    pub(crate) fn open(
        whole: &model::Config,
        config: &model::Hub,
        folder: &Path,
        workers: usize,
    ) -> Result<Self, HubError> {
        let path = folder.join(&config.store_path);
        let limits = Limits { budget_bytes: config.budget_bytes, reserve_bytes: config.reserve_bytes };
        let store = Store::open(&path, limits, Millis::now());
        let store = store.map_err(|error| HubError::Store(path.display().to_string(), error))?;
        let key =
            config.signing_key.as_ref().map(|SecretRef::File(file)| SigningKey::load(&folder.join(file)));
        let key = key.transpose()?.map(Arc::new);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(HubError::Thread)?;
        let listener = match config.http_listen {
            None => None,
            Some(address) => {
                let listener = runtime.block_on(TcpListener::bind(address));
                let listener = listener.map_err(|error| HubError::Http(address, error))?;
                info!(%address, "contents are served over HTTP");
                Some(listener)
            }
        };
        if !config.accept.is_empty() {
            warn!("`hub.accept` has no effect yet: nothing is taken in from networks");
        }
        let prepared = Prepared::new(whole, config, Arc::clone(&store), &path, workers);
        let sessions = prepared.sessions();
        let (stop, mut stopped) = oneshot::channel();
        let served = Arc::clone(&store);
        let body = move || {
            runtime.block_on(async move {
                let (ended, end) = oneshot::channel::<()>();
                let ticked = Arc::clone(&served);
                let serving = async move {
                    if let Some(listener) = listener {
                        let end = async { drop(end.await) };
                        serve(listener, served, HttpOptions::default(), end).await;
                    }
                };
                let serving = tokio::spawn(serving);
                let mut ticks = tokio::time::interval(TICK);
                loop {
                    tokio::select! {
                        _ = &mut stopped => break,
                        _ = ticks.tick() => tick(&ticked).await,
                    }
                }
                drop(ended);
                // It doesn't panic; if it did, that was printed.
                let _ = serving.await;
            });
        };
        let thread = thread::Builder::new().name("hub-store".to_owned()).spawn(body);
        let thread = Some(thread.map_err(HubError::Thread)?);
        let (prepared, stop) = (Some(prepared), Some(stop));
        Ok(Self { store, key, prepared, sessions, sending: None, stop, thread })
    }

    /// What workers are told of it.
    pub(crate) fn tables(&self) -> Option<Arc<millrace_fastpath::tables::Hub>> {
        self.prepared.as_ref().map(Prepared::tables)
    }

    /// Begins to send. `random` numbers sessions that begin anew.
    pub(crate) fn send(&mut self, shared: Arc<Shared>, random: u64) -> Result<(), HubError> {
        if let Some(prepared) = self.prepared.take() {
            self.sending = Some(prepared.start(shared, random).map_err(HubError::Thread)?);
        }
        Ok(())
    }

    /// Who answers operators.
    pub(crate) fn desk(&self) -> Desk {
        Desk::new(Arc::clone(&self.store), self.key.clone()).with_sessions(Arc::clone(&self.sessions))
    }
}

/// Makes durable what has come since the last time.
async fn tick(store: &Arc<Store>) {
    let store = Arc::clone(store);
    let written = tokio::task::spawn_blocking(move || store.tick(Millis::now())).await;
    if let Ok(Err(error)) = written {
        // It is counted, kept, and written when that works again.
        warn!(%error, "the hub's ledger can't be written");
    }
}

impl Drop for Hub {
    fn drop(&mut self) {
        drop(self.sending.take());
        drop(self.stop.take());
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            warn!("the hub's thread had panicked");
        }
        if let Err(error) = self.store.checkpoint(Millis::now()) {
            warn!(%error, "the hub's ledger can't be written at the end");
        }
    }
}

/// Between two looks whether the ledger has something to write: as often as a batch may wait.
const TICK: Duration = Duration::from_millis(millrace_hub_store::BATCH_MS);
