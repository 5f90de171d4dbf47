//! What guests print goes to the log, line by line.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::io::AsyncWrite;
use tracing::info;
use wasmtime_wasi::cli::{IsTerminal, StdoutStream};

/// Which of a guest's two outputs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Source {
    Stdout,
    Stderr,
}

/// One output of one request.
#[derive(Debug, Clone)]
pub(crate) struct GuestOutput {
    function: Arc<str>,
    source: Source,
}

impl GuestOutput {
    pub(crate) fn new(function: Arc<str>, source: Source) -> Self {
        GuestOutput { function, source }
    }
}

impl IsTerminal for GuestOutput {
    fn is_terminal(&self) -> bool {
        false
    }
}

impl StdoutStream for GuestOutput {
    fn async_stream(&self) -> Box<dyn AsyncWrite + Send + Sync> {
        Box::new(Lines { output: self.clone(), line: Vec::new() })
    }
}

/// Collects bytes into lines.
struct Lines {
    output: GuestOutput,
    line: Vec<u8>,
}

impl Lines {
    fn take(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            if byte == b'\n' || self.line.len() == LINE_BYTES_MAX {
                self.tell();
            }
            if byte != b'\n' {
                self.line.push(byte);
            }
        }
    }

    fn tell(&mut self) {
        let line = String::from_utf8_lossy(&self.line);
        info!(target: "guest", function = &*self.output.function, source = ?self.output.source, "{line}");
        self.line.clear();
    }
}

impl AsyncWrite for Lines {
    fn poll_write(mut self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.take(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

impl Drop for Lines {
    fn drop(&mut self) {
        if !self.line.is_empty() {
            self.tell();
        }
    }
}

/// A guest's longer line is told in parts.
const LINE_BYTES_MAX: usize = 4096;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_bounded() {
        let output = GuestOutput::new("f".into(), Source::Stdout);
        let mut lines = Lines { output, line: Vec::new() };
        lines.take(b"one\ntw");
        assert_eq!(lines.line, b"tw");
        lines.take(&vec![b'x'; 3 * LINE_BYTES_MAX]);
        assert!(lines.line.len() <= LINE_BYTES_MAX);
    }
}
