//! What is said on the control socket: a request is one line of JSON, its answer is one line.
//!
//! ```text
//!  {"show":"ports"}                 {"ok":[{"name":"wan",...}]}
//!  {"trace":{"frames":5,"seconds":10}}   {"ok":[{"frame":0,...}]}
//!  {"echo":{"bfr_ids":"2,66",...}}       {"ok":{"replies":[...],...}}
//!  {"reload":{"dry_run":false}}        {"ok":{"outcome":"applied",...}}
//!  {"hub":"list"}                      {"ok":[{"name":"image.bin",...}]}
//!  nonsense                         {"error":"..."}
//! ```

use std::time::Duration;

use millrace_hub_store::desk::Ask;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::collect::{CollectError, Sources};
use super::rows::EchoRequest;

/// What can be asked.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Request {
    /// Rows of one kind.
    Show(Topic),
    /// The way of the next frames.
    Trace {
        /// How many frames.
        frames: u16,
        /// How long to wait for them.
        seconds: u16,
    },
    /// An echo request to routers of a BIER domain; answered by an [`super::rows::EchoReport`].
    Echo(EchoRequest),
    /// What a content hub is asked; answered as [`Ask`] says.
    Hub(Ask),
    /// Read the configuration again; answered by a [`crate::reload::ReloadReport`].
    Reload {
        /// Only tell what would come of it.
        dry_run: bool,
    },
}

/// What can be shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Topic {
    /// [`super::rows::PortRow`]s.
    Ports,
    /// A [`super::rows::WorkersReport`].
    Workers,
    /// [`super::rows::NodeRow`]s.
    Nodes,
    /// [`super::rows::ServiceRow`]s.
    Services,
    /// [`super::rows::FlowRow`]s.
    Flows,
    /// [`super::rows::NameRow`]s.
    Names,
    /// [`super::rows::NeighbourRow`]s.
    Neighbours,
    /// [`super::rows::HoldRow`]s.
    Holds,
    /// [`super::rows::WakeRow`]s.
    Wakes,
    /// A [`super::rows::LinkReport`].
    Link,
    /// A [`super::rows::ConfigReport`].
    Config,
    /// A [`super::rows::BierReport`].
    Bier,
}

/// What is answered.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Response {
    /// The rows.
    Ok(Value),
    /// Why there are none.
    Error(String),
}

/// What is answered to one line on the control socket.
pub fn answer(line: &str, sources: &Sources) -> Response {
    let request = match serde_json::from_str(line) {
        Ok(request) => request,
        Err(error) => return Response::Error(format!("not a request: {error}")),
    };
    match rows(request, sources) {
        Ok(Ok(value)) => Response::Ok(value),
        Ok(Err(error)) => Response::Error(error.to_string()),
        Err(error) => Response::Error(error.to_string()),
    }
}

fn rows(request: Request, sources: &Sources) -> Result<serde_json::Result<Value>, CollectError> {
    use serde_json::to_value;
    Ok(match request {
        Request::Show(Topic::Ports) => to_value(sources.ports()),
        Request::Show(Topic::Workers) => to_value(sources.workers()),
        Request::Show(Topic::Nodes) => to_value(sources.nodes()),
        Request::Show(Topic::Services) => to_value(sources.services()),
        Request::Show(Topic::Flows) => to_value(sources.flows()),
        Request::Show(Topic::Names) => to_value(sources.names()),
        Request::Show(Topic::Neighbours) => to_value(sources.neighbours()?),
        Request::Show(Topic::Holds) => to_value(sources.holds()),
        Request::Show(Topic::Wakes) => to_value(sources.wakes()?),
        Request::Show(Topic::Link) => to_value(sources.link()?),
        Request::Show(Topic::Config) => to_value(sources.config()?),
        Request::Show(Topic::Bier) => to_value(sources.bier()?),
        Request::Echo(request) => to_value(sources.echo(&request)?),
        Request::Hub(ask) => Ok(sources.hub(ask)?),
        Request::Reload { dry_run } => to_value(sources.reload(dry_run)?),
        Request::Trace { frames, seconds } => {
            let patience = Duration::from_secs(u64::from(seconds.min(TRACE_SECONDS_MAX)));
            to_value(sources.trace(frames.clamp(1, TRACE_FRAMES_MAX), patience))
        }
    })
}

/// Frames of one trace: what an operator can read, and a buffer of about half a megabyte for each worker.
pub const TRACE_FRAMES_MAX: u16 = 1000;
/// The longest wait for frames to trace.
pub const TRACE_SECONDS_MAX: u16 = 600;
