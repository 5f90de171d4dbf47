//! Serving node: Wasm components
