//! Compiles the records and commands with protox, so that no protoc is needed.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo::rerun-if-changed=proto");
    let sources = [
        "records.proto",
        "commands.proto",
        "snapshot.proto",
        "log.proto",
        "probes.proto",
        "peer.proto",
    ];
    let files = protox::compile(sources, ["proto"])?;
    prost_build::Config::new().compile_fds(files)?;
    Ok(())
}
