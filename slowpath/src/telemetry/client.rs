//! The other end of the control socket.

use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::Value;

use super::protocol::{Request, Response};
use super::rows::{EchoReport, EchoRequest};
use crate::reload::ReloadReport;

/// Why a question has no answer.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nobody listens there.
    #[error("no appliance answers at {}: {error}", path.display())]
    NotThere {
        /// The socket's path.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
    /// The appliance went away in the middle.
    #[error("the appliance hung up: {0}")]
    Broken(io::Error),
    /// The appliance couldn't answer.
    #[error("the appliance says: {0}")]
    Refused(String),
    /// The answer isn't one; another version, perhaps.
    #[error("the appliance's answer can't be read: {0}")]
    Unreadable(serde_json::Error),
}

/// Asks the appliance at `socket`.
///
/// # Errors
/// [`ClientError`]
pub fn ask(socket: &Path, request: &Request) -> Result<Value, ClientError> {
    let mut stream = UnixStream::connect(socket)
        .map_err(|error| ClientError::NotThere { path: socket.to_owned(), error })?;
    let mut line = serde_json::to_string(request).map_err(ClientError::Unreadable)?;
    line.push('\n');
    stream.write_all(line.as_bytes()).map_err(ClientError::Broken)?;
    let mut answer = String::new();
    if BufReader::new(stream).read_line(&mut answer).map_err(ClientError::Broken)? == 0 {
        return Err(ClientError::Broken(io::ErrorKind::UnexpectedEof.into()));
    }
    match serde_json::from_str(&answer).map_err(ClientError::Unreadable)? {
        Response::Ok(value) => Ok(value),
        Response::Error(reason) => Err(ClientError::Refused(reason)),
    }
}

/// Has the appliance at `socket` ask routers for echo replies.
///
/// # Errors
/// [`ClientError`]; that nobody replies is none.
pub fn echo(socket: &Path, request: EchoRequest) -> Result<EchoReport, ClientError> {
    EchoReport::deserialize(ask(socket, &Request::Echo(request))?).map_err(ClientError::Unreadable)
}

/// Has the appliance at `socket` read its configuration again. Gives the report, and the same as it came.
///
/// # Errors
/// [`ClientError`]; that the configuration was refused is none, but stands in the report.
pub fn reload(socket: &Path, dry_run: bool) -> Result<(ReloadReport, Value), ClientError> {
    let value = ask(socket, &Request::Reload { dry_run })?;
    let report = ReloadReport::deserialize(&value).map_err(ClientError::Unreadable)?;
    Ok((report, value))
}
