//! A web server at addresses that no serving node has: what fixed backends lead to.

use std::time::Duration;

use crate::lab::{Host, LabError, Process};

use super::Edge;

/// How long the interpreter gets to start.
const START_MAX: Duration = Duration::from_secs(20);

/// What the page says.
pub const PAGE: &str = "the far end\n";

/// Python's own server: a page to whoever asks for one, and to a POST its own body.
const SCRIPT: &str = r#"
import http.server, socket, sys

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

class Server(http.server.ThreadingHTTPServer):
    address_family = socket.AF_INET6
    request_queue_size = 256
    daemon_threads = True

server = Server(("::", 80), Handler)
print("listening", file=sys.stderr, flush=True)
server.serve_forever()
"#;

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
        let mut command = edge.function.command("python3");
        let process = edge.function.spawn("web", command.args(["-c", SCRIPT]))?;
        process
            .wait_until("the web server to listen", START_MAX, || process.stderr().contains("listening"))?;
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
