//! Splices: their wire formats and translation against `smoltcp`, which shares no code with ours; a worker that
//! splices, step by step; and `smoltcp`'s own TCP on both sides of one, over links that lose, repeat and reorder.

mod simulation;
mod steps;
mod translation;
mod wire;
mod world;
