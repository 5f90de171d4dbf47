//! Generates the message types and the client and server stubs from `proto/`.

fn main() -> std::io::Result<()> {
    println!("cargo::rerun-if-changed=proto");
    // The stubs need a transport, and the messages none.
    let grpc = std::env::var_os("CARGO_FEATURE_GRPC").is_some();
    tonic_prost_build::configure()
        .build_client(grpc)
        .build_server(grpc)
        .compile_protos(&["proto/millrace/orchestrator/v1/orchestrator.proto"], &["proto"])
}
