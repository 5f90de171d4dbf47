//! Real components, built once per run, and a plain HTTP client.

#![allow(dead_code, reason = "each test file uses its own part")]

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// Far longer than anything here takes on a busy machine.
pub(crate) const LONG: Duration = Duration::from_secs(60);

/// The guests, by name.
pub(crate) fn functions() -> BTreeMap<String, PathBuf> {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    let built = BUILT.get_or_init(|| {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace holds this crate");
        let target = root.join("target/functions");
        let status = Command::new(env!("CARGO"))
            .current_dir(root)
            .args(["build", "--quiet", "--release", "--target", "wasm32-wasip2", "--target-dir"])
            .arg(&target)
            .args(["-p", "function-hello", "-p", "function-echo", "-p", "function-probe"])
            .status()
            .expect("cargo runs");
        assert!(status.success(), "the guests don't build; is the target wasm32-wasip2 installed?");
        target.join("wasm32-wasip2/release")
    });
    ["hello", "echo", "probe"]
        .map(|name| (name.to_owned(), built.join(format!("function_{name}.wasm"))))
        .into()
}

/// Sends a request on a connection of its own and reads all there is.
pub(crate) async fn send(address: SocketAddr, request: &str) -> String {
    let exchange = async {
        let mut stream = TcpStream::connect(address).await.expect("somebody listens");
        stream.write_all(request.as_bytes()).await.expect("the request goes out");
        let mut answer = Vec::new();
        // A reset at the end loses nothing that was read.
        let _ = stream.read_to_end(&mut answer).await;
        String::from_utf8_lossy(&answer).into_owned()
    };
    timeout(LONG, exchange).await.expect("an answer comes in time")
}

pub(crate) async fn get(address: SocketAddr, path: &str) -> String {
    send(address, &format!("GET {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n")).await
}

pub(crate) fn loopback(port: u16) -> SocketAddr {
    (Ipv4Addr::LOCALHOST, port).into()
}

/// The first line's number.
pub(crate) fn status(answer: &str) -> u16 {
    answer.split(' ').nth(1).and_then(|number| number.parse().ok()).unwrap_or_else(|| panic!("{answer:?}"))
}
