//! The built program: what it prints, where, and the code that it ends with.

use std::ffi::OsStr;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;

struct Outcome {
    code: Option<i32>,
    out: String,
    err: String,
}

/// Runs it with an environment of its own, in `folder`.
fn holdfast<S: AsRef<OsStr>>(folder: &Path, args: impl IntoIterator<Item = S>) -> Outcome {
    let output = command(folder).args(args).output().expect("the program runs");
    let text = |octets: Vec<u8>| String::from_utf8(octets).expect("text");
    Outcome {
        code: output.status.code(),
        out: text(output.stdout),
        err: text(output.stderr),
    }
}

fn command(folder: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_holdfast"));
    command.current_dir(folder).env_clear().env("HOME", folder);
    command
}

fn folder() -> tempfile::TempDir {
    tempfile::tempdir().expect("a temporary folder")
}

/// Answers each connection with these lines, after its first request; gives back the requests.
fn answer(path: &Path, lines: Vec<String>) -> thread::JoinHandle<String> {
    let listener = UnixListener::bind(path).expect("bound");
    thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("a connection");
        let mut request = String::new();
        BufReader::new(&stream)
            .read_line(&mut request)
            .expect("a request");
        for line in lines {
            // The client may have seen enough.
            if writeln!(stream, "{line}").is_err() {
                break;
            }
        }
        request
    })
}

fn session(index: usize) -> String {
    format!(
        "{{\"session\":{{\"tunnel_id\":256,\"session_id\":{index},\"user\":\"user{index}\",\"address\":\"100.64.0.9\",\
         \"state\":\"open\",\"connected_seconds\":7500,\"rx_octets\":1536}}}}"
    )
}

#[test]
fn without_arguments_it_shows_the_way() {
    let folder = folder();
    let outcome = holdfast::<&str>(folder.path(), []);
    assert_eq!(outcome.code, Some(0));
    assert!(
        outcome.out.contains("holdfast run --dev") && outcome.out.contains("holdfast init"),
        "{}",
        outcome.out
    );
    let help = holdfast(folder.path(), ["--help"]);
    assert_eq!(help.code, Some(0));
    assert!(help.out.contains("holdfast run --dev"));
}

#[test]
fn init_writes_a_file_that_is_right_and_never_overwrites() {
    let folder = folder();
    let file = folder.path().join("h.toml");
    assert_eq!(holdfast(folder.path(), ["init", "h.toml"]).code, Some(0));
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    let text = fs::read_to_string(&file).unwrap();
    assert!(!text.contains('@'), "placeholders are filled in");
    let check = holdfast(folder.path(), ["check", "--config", "h.toml"]);
    assert_eq!((check.code, check.err.as_str()), (Some(0), ""));
    assert!(check.out.contains("no mistakes"));

    let again = holdfast(folder.path(), ["init", "h.toml"]);
    assert_eq!(again.code, Some(1));
    assert!(again.err.contains("h.toml exists"), "{}", again.err);
    assert_eq!(fs::read_to_string(&file).unwrap(), text);

    holdfast(folder.path(), ["init", "other.toml"]);
    assert_ne!(
        fs::read_to_string(folder.path().join("other.toml")).unwrap(),
        text,
        "secrets differ"
    );
}

#[test]
fn cluster_init_makes_what_check_accepts_and_never_overwrites() {
    let folder = folder();
    let dir = folder.path().join("c");
    let install = folder.path().join("c").display().to_string();
    let args = |more: &[&'static str]| {
        let members = ["--member", "1=10.0.0.1:1710", "--member", "2=10.0.0.2:1710"];
        let mut args: Vec<String> = ["cluster", "init", "c", "--install", &install]
            .map(str::to_owned)
            .into();
        args.extend(members.iter().chain(more).map(|arg| (*arg).to_owned()));
        args
    };
    for (more, complaint) in [
        (&["--witness", "3"][..], "there is no --member 3="),
        (&["--member", "1=10.0.0.3:1710"], "--member 1 is given twice"),
        (
            &["--member", "3=10.0.0.1:1710"],
            "two members cannot have one address",
        ),
        (&["--id", "a/b"], "--id must have"),
        (&["--member", "3"], "must be ID=ADDRESS:PORT"),
    ] {
        let outcome = holdfast(folder.path(), args(more));
        assert_eq!(outcome.code, Some(2), "{}", outcome.err);
        assert!(outcome.err.contains(complaint), "{}", outcome.err);
        assert!(!dir.exists());
    }
    let third = ["--member", "3=[2001:db8::3]:1710", "--witness", "3"];
    let outcome = holdfast(folder.path(), args(&third));
    assert_eq!(outcome.code, Some(0), "{}", outcome.err);
    assert!(
        outcome
            .out
            .contains("node 3 ([2001:db8::3]:1710): ca.pem node-3.pem node-3.key"),
        "{}",
        outcome.out
    );
    for key in ["ca.key", "node-1.key", "node-3.key"] {
        let mode = fs::metadata(dir.join(key)).expect("written").permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{key}");
    }
    let again = holdfast(folder.path(), args(&third));
    assert_eq!(again.code, Some(1));
    assert!(
        again.err.contains("ca.pem exists and is left as it is"),
        "{}",
        again.err
    );
    let config = |node: u8, sections: u8| {
        let base = "[[pool]]\nname = \"p\"\nprefixes = [\"100.64.0.0/24\"]\n[[lac]]\nname = \"any\"\nhost_name = \"*\"\n";
        let sections = fs::read_to_string(dir.join(format!("node-{sections}.toml"))).expect("written");
        let file = folder.path().join("h.toml");
        fs::write(&file, format!("{base}[node]\nid = {node}\n{sections}")).expect("written");
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).expect("set");
        holdfast(folder.path(), ["check", "--config", "h.toml"])
    };
    for node in 1..=3 {
        let outcome = config(node, node);
        assert_eq!((outcome.code, outcome.err.as_str()), (Some(0), ""));
        assert!(outcome.out.contains("3 members"), "{}", outcome.out);
    }
    let outcome = config(2, 1);
    assert_eq!(outcome.code, Some(2));
    assert!(
        outcome.err.contains("cluster.certificate: ")
            && outcome.err.contains("is for node 1, not for node 2"),
        "{}",
        outcome.err
    );
    fs::remove_file(dir.join("node-1.key")).expect("removed");
    let outcome = config(1, 1);
    assert!(
        outcome.err.contains("h.toml:15: cluster.key: cannot read"),
        "{}",
        outcome.err
    );
}

#[test]
fn check_names_every_mistake() {
    let folder = folder();
    fs::write(folder.path().join("h.toml"), "[ppp]\nmru = \"x\"\nmtv = 1\n").unwrap();
    let outcome = holdfast(folder.path(), ["check", "--config", "h.toml"]);
    assert_eq!((outcome.code, outcome.out.as_str()), (Some(2), ""));
    for expected in [
        "h.toml: pool: there must be one",
        "h.toml:2: ppp.mru: must be",
        "h.toml:3: ppp.mtv: unknown key",
    ] {
        assert!(outcome.err.contains(expected), "{}", outcome.err);
    }
    let json = holdfast(folder.path(), ["check", "--json", "--config", "h.toml"]);
    let value: serde_json::Value = serde_json::from_str(&json.out).expect("JSON");
    assert_eq!(value["mistakes"][1]["line"], 2);

    let run = holdfast(folder.path(), ["run", "--config", "h.toml"]);
    assert_eq!(run.code, Some(2));
    assert!(run.err.contains("h.toml:2: ppp.mru"), "{}", run.err);

    let missing = holdfast(folder.path(), ["run", "--config", "none.toml"]);
    assert_eq!(missing.code, Some(2));
    assert!(missing.err.contains("holdfast init none.toml"), "{}", missing.err);
}

#[test]
fn mistakes_of_the_environment_name_the_variable() {
    let folder = folder();
    holdfast(folder.path(), ["init", "h.toml"]);
    let args = ["check", "--config", "h.toml"];
    let output = command(folder.path())
        .args(args)
        .env("HOLDFAST_PPP__MRU", "9")
        .output()
        .expect("the program runs");
    assert_eq!(output.status.code(), Some(2));
    assert!(
        String::from_utf8_lossy(&output.stderr).contains("HOLDFAST_PPP__MRU: ppp.mru: 9 is out of range")
    );
}

#[test]
fn a_file_that_others_can_read_is_pointed_out() {
    let folder = folder();
    holdfast(folder.path(), ["init", "h.toml"]);
    fs::set_permissions(folder.path().join("h.toml"), fs::Permissions::from_mode(0o644)).unwrap();
    let outcome = holdfast(folder.path(), ["check", "--config", "h.toml"]);
    assert_eq!(outcome.code, Some(0));
    assert!(outcome.err.contains("chmod 0600"), "{}", outcome.err);
}

#[test]
fn mistakes_on_the_command_line() {
    let folder = folder();
    let cases: [(&[&str], &str); 7] = [
        (&["run"], "--dev"),
        (&["run", "--dev", "--config", "h.toml"], "cannot be used with"),
        (
            &["run", "--config", "h.toml", "--data", "/tmp"],
            "cannot be used with",
        ),
        (&["run", "--dev", "--listen", "nowhere"], "not an address"),
        (&["run", "--dev", "--port", "0"], "0 is not in"),
        (&["disconnect", "0/7"], "neither TUNNEL nor TUNNEL/SESSION"),
        (&["frobnicate"], "unrecognized subcommand"),
    ];
    for (args, expected) in cases {
        let outcome = holdfast(folder.path(), args);
        assert_eq!(outcome.code, Some(2), "{args:?}");
        assert!(outcome.err.contains(expected), "{args:?}: {}", outcome.err);
    }
}

#[test]
fn no_daemon() {
    let folder = folder();
    for args in [
        &["status", "--dev"][..],
        &["sessions", "--dev"],
        &["shutdown", "--socket", "none.sock"],
    ] {
        let outcome = holdfast(folder.path(), args);
        assert_eq!(outcome.code, Some(1), "{args:?}");
        assert!(
            outcome.err.contains(".sock") && outcome.err.contains("holdfast run"),
            "{}",
            outcome.err
        );
    }
}

#[test]
fn the_node_is_found() {
    let folder = folder();
    let data = folder.path().join(".local/share/holdfast-dev");
    fs::create_dir_all(&data).unwrap();
    let reply = || {
        vec![
            "{\"disconnected\":{\"sessions\":2}}".to_owned(),
            "{\"end\":{\"count\":1}}".to_owned(),
        ]
    };
    let ask = |args: &[&str], variable: Option<&str>| {
        let mut command = command(folder.path());
        command.args(["disconnect", "256"]).args(args);
        if let Some(socket) = variable {
            command.env("HOLDFAST_API__SOCKET", socket);
        }
        let output = command.output().expect("the program runs");
        (
            output.status.code(),
            String::from_utf8_lossy(&output.stdout).into_owned(),
        )
    };
    let cases: [(&str, &[&str], Option<&str>); 4] = [
        ("a.sock", &["--socket", "a.sock"], Some("b.sock")),
        ("b.sock", &[], Some("b.sock")),
        (
            ".local/share/holdfast-dev/holdfast.sock",
            &["--dev"],
            Some("b.sock"),
        ),
        ("holdfast.sock", &["--data", "."], None),
    ];
    for (socket, args, variable) in cases {
        let path = folder.path().join(socket);
        let _ = fs::remove_file(&path);
        let server = answer(&path, reply());
        let expected = (Some(0), "tunnel 256 is being ended, with 2 sessions\n".to_owned());
        assert_eq!(ask(args, variable), expected, "{socket}");
        server.join().unwrap();
    }
}

#[test]
fn sessions_as_a_table_and_as_json() {
    let folder = folder();
    let lines = || vec![session(1), session(2), "{\"end\":{\"count\":2}}".to_owned()];
    let path = folder.path().join("h.sock");
    let server = answer(&path, lines());
    let table = holdfast(folder.path(), ["sessions", "--user", "ada", "--socket", "h.sock"]);
    assert_eq!(
        server.join().unwrap(),
        "{\"version\":1,\"request\":\"sessions\",\"user\":\"ada\"}\n"
    );
    assert_eq!(table.code, Some(0), "{}", table.err);
    let row = table.out.lines().nth(1).expect("a row");
    assert!(
        row.starts_with("256/1    user1  100.64.0.9  open") && row.contains("2h 05m"),
        "{}",
        table.out
    );
    assert!(table.out.ends_with("2 sessions\n"), "{}", table.out);

    fs::remove_file(&path).unwrap();
    let server = answer(&path, lines());
    let json = holdfast(folder.path(), ["sessions", "--json", "--socket", "h.sock"]);
    server.join().unwrap();
    let value: serde_json::Value = serde_json::from_str(&json.out).expect("JSON");
    assert_eq!(
        (value[1]["user"].as_str(), value[1]["rx_octets"].as_u64()),
        (Some("user2"), Some(1536))
    );
}

#[test]
fn output_that_is_closed_early_is_no_failure() {
    let folder = folder();
    let mut lines: Vec<String> = (1..=20_000).map(session).collect();
    lines.push("{\"end\":{\"count\":20000}}".to_owned());
    let server = answer(&folder.path().join("h.sock"), lines);
    let mut child = command(folder.path())
        .args(["sessions", "--socket", "h.sock"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program runs");
    let mut first = String::new();
    BufReader::new(child.stdout.take().expect("piped"))
        .read_line(&mut first)
        .expect("a line");
    assert!(first.starts_with("SESSION"));
    let mut err = String::new();
    child
        .stderr
        .take()
        .expect("piped")
        .read_to_string(&mut err)
        .expect("text");
    assert_eq!((child.wait().expect("ended").code(), err.as_str()), (Some(0), ""));
    server.join().unwrap();
}

#[test]
fn what_the_node_refuses_fails() {
    let folder = folder();
    let error = "{\"error\":{\"code\":\"not_found\",\"message\":\"there is no session 256/9\"}}";
    let server = answer(&folder.path().join("h.sock"), vec![error.to_owned()]);
    let outcome = holdfast(folder.path(), ["disconnect", "256/9", "--socket", "h.sock"]);
    server.join().unwrap();
    assert_eq!(
        (outcome.code, outcome.err.as_str()),
        (Some(1), "holdfast: there is no session 256/9\n")
    );
}

#[test]
fn shutdown_waits_for_the_end() {
    let folder = folder();
    let lines = vec![
        "{\"shutting_down\":{\"sessions\":3}}".to_owned(),
        "{\"end\":{\"count\":1}}".to_owned(),
    ];
    let server = answer(&folder.path().join("h.sock"), lines);
    let outcome = holdfast(folder.path(), ["shutdown", "--socket", "h.sock"]);
    server.join().unwrap();
    assert_eq!(
        (outcome.code, outcome.out.as_str()),
        (Some(0), "stopped; 3 sessions kept for the next start\n")
    );
}
