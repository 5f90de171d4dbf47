//! A worker that splices, one frame at a time.
