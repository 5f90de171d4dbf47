//! Traces: what single frames met on their way through the nodes.

use crate::node::NodeId;

/// Bytes of detail a node can leave about a frame.
pub const DETAIL_BYTES: usize = 40;

/// One frame at one node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TraceLine {
    /// Which of the traced frames, from 0.
    pub frame: u16,
    /// The node.
    pub node: NodeId,
    /// What the node decided: one of its ways out or its drops.
    pub decision: &'static str,
    /// The first bytes of the frame as they stood then, from the IP header on.
    pub detail: [u8; DETAIL_BYTES],
    /// How many of them count.
    pub detail_len: u8,
}

/// Lines a frame can leave at most: it passes no node twice, but for a release from a hold.
pub const LINES_PER_FRAME_MAX: usize = 8;

/// Room for a trace, taken by who asks for it.
#[derive(Debug)]
pub struct TraceBuffer {
    frames_left: u16,
    next: u16,
    lines: Vec<TraceLine>,
}

impl TraceBuffer {
    /// Room for `frames` frames.
    pub fn new(frames: u16) -> Self {
        Self {
            frames_left: frames,
            next: 0,
            lines: Vec::with_capacity(usize::from(frames) * LINES_PER_FRAME_MAX),
        }
    }

    /// The number for the next frame to trace; `None` when there are enough.
    #[inline]
    pub fn start_frame(&mut self) -> Option<u16> {
        self.frames_left = self.frames_left.checked_sub(1)?;
        self.next += 1;
        Some(self.next - 1)
    }

    /// Whether the wanted number of frames has been started.
    pub fn is_full(&self) -> bool {
        self.frames_left == 0
    }

    /// Adds a line; one too many is left out.
    pub fn push(&mut self, line: TraceLine) {
        if self.lines.len() < self.lines.capacity() {
            self.lines.push(line);
        }
    }

    /// The lines, in the order in which they happened.
    pub fn lines(&self) -> &[TraceLine] {
        &self.lines
    }
}
