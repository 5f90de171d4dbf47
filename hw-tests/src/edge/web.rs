//! Web servers at addresses that no serving node has: what fixed backends lead to.

use std::path::Path;
use std::time::Duration;

use crate::lab::{Host, LabError, Process};

use super::Edge;

/// How long the interpreter gets to start.
const START_MAX: Duration = Duration::from_secs(20);

/// What the page says.
pub const PAGE: &str = "the far end\n";

/// Python's own server, without the name of its address: it would ask a resolver for that, and wait for seconds, for there is none.
const SERVER: &str = r#"
import functools, http.server, socket, socketserver, sys

class Server(http.server.ThreadingHTTPServer):
    request_queue_size = 256
    daemon_threads = True

    def server_bind(self):
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = self.server_address[:2]

    def serve(self):
        print("listening", file=sys.stderr, flush=True)
        self.serve_forever()
"#;

/// A page to whoever asks for one, and to a POST its own body.
const PAGES: &str = r#"
class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1

    def answer(self, body):
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self):
        self.answer(b"the far end\n")

    def do_POST(self):
        self.answer(self.rfile.read(int(self.headers["Content-Length"])))

    def log_message(self, *args):
        pass

Server.address_family = socket.AF_INET6
Server(("::", 80), Handler).serve()
"#;

/// The files of a folder.
const FILES: &str = r#"
address, folder = sys.argv[1:]
handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=folder)
Server((address, 80), handler).serve()
"#;

/// Starts a server in this host, and waits until it listens.
fn start(host: &Host, script: &str, arguments: &[&str]) -> Result<Process, LabError> {
    let mut command = host.command("python3");
    command.arg("-c").arg([SERVER, script].concat()).args(arguments);
    let process = host.spawn("web", &mut command)?;
    process.wait_until("the web server to listen", START_MAX, || process.stderr().contains("listening"))?;
    Ok(process)
}

/// Starts a web server of a folder's files on port 80 of an IPv4 address of the function host.
///
/// # Errors
/// [`LabError`] with its last words.
pub fn serve_files(edge: &Edge, address: &str, folder: &Path) -> Result<Process, LabError> {
    start(&edge.function, FILES, &[address, &folder.to_string_lossy()])
}

/// A running web server on port 80 of all addresses of the function host, IPv4 and IPv6.
#[derive(Debug)]
pub struct WebServer {
    process: Process,
}

impl WebServer {
    /// Starts it and waits until it listens.
    ///
    /// # Errors
    /// [`LabError`] with its last words.
    pub fn start(edge: &Edge) -> Result<Self, LabError> {
        let process = start(&edge.function, PAGES, &[])?;
        Ok(WebServer { process })
    }

    /// The process.
    #[must_use]
    pub fn process(&self) -> &Process {
        &self.process
    }
}

/// Gives a host addresses that it takes packets for and that it tells nobody of: neither does it answer ARP for them, nor
/// does it speak of them in its own requests.
///
/// # Errors
/// [`LabError`] with what was refused.
pub fn own_quietly(host: &Host, addresses: &[&str]) -> Result<(), LabError> {
    host.sysctl("net.ipv4.conf.all.arp_ignore=1")?;
    host.sysctl("net.ipv4.conf.all.arp_announce=2")?;
    addresses.iter().try_for_each(|address| {
        let length = if address.contains(':') { 128 } else { 32 };
        host.address("lo", &format!("{address}/{length}"))
    })
}
