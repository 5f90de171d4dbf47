//! What workers have to be asked for: their flows, and traces of frames.

use std::fmt::Write;
use std::sync::{MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use millrace_fastpath::queue::{Command, Reply};
use millrace_fastpath::trace::TraceBuffer;

use super::Sources;
use super::text::*;
use crate::telemetry::rows::*;

impl Sources {
    /// `show flows`: at most [`FLOWS_SHOWN_MAX`] of each worker.
    pub fn flows(&self) -> Vec<FlowRow> {
        let _asking = self.ask_workers(|| Command::Flows(Vec::with_capacity(FLOWS_SHOWN_MAX)));
        let tables = self.shared.tables();
        let mut rows = Vec::new();
        let everybody: Vec<usize> = (0..self.shared.workers.len()).collect();
        for (worker, reply) in self.replies(&everybody, REPLY_MAX) {
            let Reply::Flows(flows) = reply else { continue };
            rows.extend(flows.iter().map(|flow| FlowRow {
                worker,
                service:
                    tables.services.get(flow.service).map(|service| service.name.clone()).unwrap_or_default(),
                protocol: protocol_text(flow.protocol),
                client: socket_text(flow.client),
                address: socket_text(flow.vip),
                instance: socket_text(flow.instance),
                nat: flow.nat.map(socket_text),
                state: flow.state.to_owned(),
                idle_seconds: flow.idle_seconds,
            }));
        }
        rows
    }

    /// `trace`: the next `frames` frames, or as many as come within `patience`.
    pub fn trace(&self, frames: u16, patience: Duration) -> Vec<TraceRow> {
        let _asking = self.ask_workers(|| Command::Trace(Box::new(TraceBuffer::new(frames))));
        let everybody: Vec<usize> = (0..self.shared.workers.len()).collect();
        let mut replies = self.replies(&everybody, patience);
        let late: Vec<usize> =
            everybody.into_iter().filter(|at| replies.iter().all(|(worker, _)| worker != at)).collect();
        if !late.is_empty() {
            // A newer request ends the older one with what it has, and one for no frame ends at once: two replies.
            for worker in &late {
                let end = Command::Trace(Box::new(TraceBuffer::new(0)));
                let _ = self.shared.workers[*worker].queues.commands.push(end);
            }
            replies.extend(self.replies(&late, REPLY_MAX));
            self.replies(&late, REPLY_MAX);
        }
        let mut rows = Vec::new();
        let mut first = 0;
        for (worker, reply) in replies {
            let Reply::Trace(buffer) = reply else { continue };
            let lines = buffer.lines();
            rows.extend(lines.iter().map(|line| {
                let detail = &line.detail[..usize::from(line.detail_len).min(line.detail.len())];
                TraceRow {
                    frame: first + usize::from(line.frame),
                    worker,
                    node: line.node.name().to_owned(),
                    decision: line.decision.to_owned(),
                    summary: summary(detail),
                    bytes: detail.iter().fold(String::new(), |mut text, byte| {
                        // Writing to a string can't fail.
                        let _ = write!(text, "{byte:02x}");
                        text
                    }),
                }
            }));
            first = rows.last().map_or(first, |row| row.frame + 1);
        }
        rows.sort_by_key(|row| row.frame);
        rows.retain(|row| row.frame < usize::from(frames));
        rows
    }

    /// Sends a command to every worker. While the guard lives, no other question is asked.
    fn ask_workers(&self, command: impl Fn() -> Command) -> MutexGuard<'_, ()> {
        // Nothing is behind the lock that a panic could leave in disorder.
        let guard = self.asking.lock().unwrap_or_else(PoisonError::into_inner);
        for worker in &self.shared.workers {
            // What came too late for its question.
            while worker.queues.replies.pop().is_some() {}
            // A worker that doesn't take commands doesn't reply either.
            let _ = worker.queues.commands.push(command());
        }
        guard
    }

    /// One reply of each of these workers that gives one within `patience`.
    fn replies(&self, of: &[usize], patience: Duration) -> Vec<(usize, Reply)> {
        let until = Instant::now() + patience;
        let mut replies: Vec<(usize, Option<Reply>)> = of.iter().map(|worker| (*worker, None)).collect();
        loop {
            for (worker, reply) in replies.iter_mut().filter(|(_, reply)| reply.is_none()) {
                *reply = self.shared.workers[*worker].queues.replies.pop();
            }
            if replies.iter().all(|(_, reply)| reply.is_some()) || Instant::now() >= until {
                return replies.into_iter().filter_map(|(worker, reply)| Some((worker, reply?))).collect();
            }
            thread::park_timeout(REPLY_POLL);
        }
    }
}

/// Flows that are shown of each worker: what an operator can look through, and a copy that costs the worker some tens of
/// microseconds.
pub const FLOWS_SHOWN_MAX: usize = 2048;
/// How long a worker may take to reply: it looks at its commands between two bursts.
const REPLY_MAX: Duration = Duration::from_millis(500);
/// How often replies are looked for.
const REPLY_POLL: Duration = Duration::from_millis(1);
