//! Splices: their wire formats and translation against `smoltcp`, which shares no code with ours.

mod translation;
mod wire;
