//! Compiles the records and commands with protox, so that no protoc is needed.

use std::path::PathBuf;
use std::{env, fs};

/// The field that rows have in a build with `--cfg holdfast_next`: the stand-in for a later release, to test upgrades with.
const NEXT_FIELD: &str =
    "// Version of the table in which an owner last wrote the row.\n  uint32 written_in = 1000;\n";

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
    let mut folders = vec![PathBuf::from("proto")];
    if env::var_os("CARGO_CFG_HOLDFAST_NEXT").is_some() {
        folders.insert(0, next_records()?);
    }
    let files = protox::compile(sources, folders)?;
    prost_build::Config::new().compile_fds(files)?;
    Ok(())
}

/// A folder with the records of the stand-in.
fn next_records() -> Result<PathBuf, Box<dyn std::error::Error>> {
    let folder = PathBuf::from(env::var("OUT_DIR")?).join("next");
    let mut records = fs::read_to_string("proto/records.proto")?;
    for row in ["message TunnelRow {\n", "message SessionRow {\n"] {
        if !records.contains(row) {
            return Err(format!("records.proto has no {row:?}").into());
        }
        records = records.replace(row, &format!("{row}  {NEXT_FIELD}"));
    }
    fs::create_dir_all(&folder)?;
    fs::write(folder.join("records.proto"), records)?;
    Ok(folder)
}
