//! Generates the message types and the client and server stubs from `proto/`.

fn main() -> std::io::Result<()> {
    println!("cargo::rerun-if-changed=proto");
    tonic_prost_build::configure()
        .compile_protos(&["proto/millrace/orchestrator/v1/orchestrator.proto"], &["proto"])
}
