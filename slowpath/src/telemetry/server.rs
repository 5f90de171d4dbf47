//! The two listeners for operators: the control socket, and HTTP for metrics. Threads of their own with blocking reads and
//! deadlines, so that a slow reader holds up nobody: the control loop is asked, never waited on.

use std::fs;
use std::io::{self, BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use rustix::net::{Shutdown, shutdown};
use tracing::{debug, warn};

use super::collect::Sources;
use super::{http, protocol};

/// Why operators can't be served.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// Another process listens at the socket.
    #[error("the control socket {} is in use: another appliance runs with it", .0.display())]
    InUse(PathBuf),
    /// The path is something else.
    #[error("the control socket {} can't be made: something else is there", .0.display())]
    NotASocket(PathBuf),
    /// The system refused the socket.
    #[error("the control socket {} can't be made: {error}", path.display())]
    Socket {
        /// Its path.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// The system refused the address for metrics.
    #[error("metrics can't be served at {address}: {error}")]
    Metrics {
        /// The address.
        address: SocketAddr,
        /// Why.
        error: io::Error,
    },
    /// The system has no room for a thread.
    #[error("no thread for operators: {0}")]
    Thread(io::Error),
}

/// The running listeners. Dropping it ends them and removes the socket.
#[derive(Debug)]
pub struct Telemetry {
    stop: Arc<AtomicBool>,
    socket: PathBuf,
    metrics: Option<SocketAddr>,
    /// The listeners once more, to end their threads' waiting.
    listeners: Vec<OwnedFd>,
    threads: Vec<JoinHandle<()>>,
}

impl Telemetry {
    /// Listens at the control socket, and for metrics if there is an address. Port 0 chooses one.
    ///
    /// # Errors
    /// [`TelemetryError`]
    pub fn start(
        sources: Sources,
        socket: &Path,
        metrics: Option<SocketAddr>,
    ) -> Result<Self, TelemetryError> {
        let listener = bind(socket)?;
        let mut telemetry = Self {
            stop: Arc::new(AtomicBool::new(false)),
            socket: socket.to_owned(),
            metrics: None,
            listeners: Vec::new(),
            threads: Vec::new(),
        };
        let failed = |error| TelemetryError::Socket { path: socket.to_owned(), error };
        telemetry.listeners.push(listener.try_clone().map_err(failed)?.into());
        let shown = sources.clone();
        telemetry.listen(
            "control-socket",
            move || Ok(listener.accept()?.0),
            move |stream| serve_lines(stream, &shown),
        )?;
        if let Some(address) = metrics {
            let failed = |error| TelemetryError::Metrics { address, error };
            let listener = TcpListener::bind(address).map_err(failed)?;
            telemetry.metrics = Some(listener.local_addr().map_err(failed)?);
            telemetry.listeners.push(listener.try_clone().map_err(failed)?.into());
            telemetry.listen(
                "metrics",
                move || Ok(listener.accept()?.0),
                move |stream| serve_http(stream, &sources),
            )?;
        }
        Ok(telemetry)
    }

    /// Where metrics are served.
    pub fn metrics_address(&self) -> Option<SocketAddr> {
        self.metrics
    }

    /// Accepts connections on a thread, and serves each on one of its own, up to [`CONNECTIONS_MAX`].
    fn listen<S: Send + 'static>(
        &mut self,
        name: &str,
        accept: impl Fn() -> io::Result<S> + Send + 'static,
        serve: impl Fn(S) -> io::Result<()> + Send + Sync + 'static,
    ) -> Result<(), TelemetryError> {
        let stop = Arc::clone(&self.stop);
        let (serve, open) = (Arc::new(serve), Arc::new(AtomicUsize::new(0)));
        let accepting = move || {
            loop {
                let stream = accept();
                if stop.load(Ordering::Acquire) {
                    return;
                }
                let stream = match stream {
                    Ok(stream) => stream,
                    Err(error) => {
                        // Out of descriptors, as a rule: it gets better when somebody leaves.
                        warn!(%error, "an operator couldn't be let in");
                        thread::park_timeout(ACCEPT_PAUSE);
                        continue;
                    }
                };
                if open.load(Ordering::Acquire) >= CONNECTIONS_MAX {
                    continue;
                }
                open.fetch_add(1, Ordering::AcqRel);
                let (serve, counted) = (Arc::clone(&serve), Counted(Arc::clone(&open)));
                let serving = move || {
                    let _counted = counted;
                    if let Err(error) = serve(stream) {
                        debug!(%error, "an operator left");
                    }
                };
                if let Err(error) = thread::Builder::new().name("operator".to_owned()).spawn(serving) {
                    warn!(%error, "no thread to serve an operator");
                }
            }
        };
        let thread = thread::Builder::new().name(name.to_owned()).spawn(accepting);
        self.threads.push(thread.map_err(TelemetryError::Thread)?);
        Ok(())
    }
}

impl Drop for Telemetry {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        for listener in &self.listeners {
            // On Linux this ends an accept that waits (others need a connection), whatever became of the path.
            if let Err(error) = shutdown(listener, Shutdown::Both) {
                warn!(%error, "a listener can't be ended");
            }
        }
        if let Err(error) = fs::remove_file(&self.socket) {
            warn!(%error, path = %self.socket.display(), "the control socket stays behind");
        }
        for thread in self.threads.drain(..) {
            if thread.join().is_err() {
                warn!("a thread for operators had panicked");
            }
        }
    }
}

/// Counts a connection until it is dropped.
struct Counted(Arc<AtomicUsize>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

/// Takes the path over from a process that has died, never from one that lives.
fn bind(path: &Path) -> Result<UnixListener, TelemetryError> {
    let failed = |error| TelemetryError::Socket { path: path.to_owned(), error };
    match fs::symlink_metadata(path) {
        Ok(found) if !found.file_type().is_socket() => {
            return Err(TelemetryError::NotASocket(path.to_owned()));
        }
        Ok(_) => match UnixStream::connect(path) {
            Err(error) if error.kind() == ErrorKind::ConnectionRefused => {
                fs::remove_file(path).map_err(failed)?;
            }
            Err(error) => return Err(failed(error)),
            Ok(_) => return Err(TelemetryError::InUse(path.to_owned())),
        },
        Err(error) if error.kind() == ErrorKind::NotFound => {
            if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
                fs::create_dir_all(folder).map_err(failed)?;
            }
        }
        Err(error) => return Err(failed(error)),
    }
    let listener = UnixListener::bind(path).map_err(failed)?;
    fs::set_permissions(path, fs::Permissions::from_mode(SOCKET_MODE)).map_err(failed)?;
    Ok(listener)
}

fn serve_lines(stream: UnixStream, sources: &Sources) -> io::Result<()> {
    stream.set_read_timeout(Some(READ_MAX))?;
    stream.set_write_timeout(Some(READ_MAX))?;
    let mut lines = BufReader::new(stream.try_clone()?);
    let mut writer = stream;
    loop {
        let mut line = String::new();
        if (&mut lines).take(LINE_MAX).read_line(&mut line)? == 0 {
            return Ok(());
        }
        let response = protocol::answer(line.trim_end(), sources);
        let mut text = serde_json::to_string(&response)?;
        text.push('\n');
        writer.write_all(text.as_bytes())?;
        if line.len() as u64 >= LINE_MAX && !line.ends_with('\n') {
            return Ok(());
        }
    }
}

fn serve_http(mut stream: TcpStream, sources: &Sources) -> io::Result<()> {
    stream.set_read_timeout(Some(READ_MAX))?;
    stream.set_write_timeout(Some(READ_MAX))?;
    let mut head = Vec::new();
    let mut reader = BufReader::new((&stream).take(HEAD_MAX));
    while !head.ends_with(b"\r\n\r\n") && reader.read_until(b'\n', &mut head)? > 0 {}
    let response = http::respond(&String::from_utf8_lossy(&head), sources);
    stream.write_all(&response)?;
    stream.shutdown(std::net::Shutdown::Write)
}

/// Operators served at a time by each listener; more are turned away.
pub const CONNECTIONS_MAX: usize = 8;
/// The owner and the group may ask.
const SOCKET_MODE: u32 = 0o660;
/// How long an operator may say nothing.
const READ_MAX: Duration = Duration::from_secs(10);
/// The longest request on the control socket, in bytes: an echo request for every other router of the longest bit string, with
/// what is known of the ways to them.
const LINE_MAX: u64 = 65_536;
/// The longest head of an HTTP request, in bytes.
const HEAD_MAX: u64 = 16_384;
/// After an accept that failed.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
