//! What the crates may not contain: the invariants of ARCHITECTURE.md that a scan of the sources can check.
//!
//! The scan sees the code as the compiler does, without comments and literals, and leaves out tests: those may use a
//! clock or a file to do their work.

use std::fs;
use std::path::{Path, PathBuf};

use super::{Context, Outcome};

/// Names that stand for a socket, a clock, a task, entropy or the world outside.
const IMPURE: &[&str] = &[
    "UdpSocket",
    "TcpStream",
    "TcpListener",
    "UnixStream",
    "UnixDatagram",
    "UnixListener",
    "socket2",
    "Instant",
    "SystemTime",
    "UNIX_EPOCH",
    "tokio",
    "actix",
    "async",
    "await",
    "thread",
    "spawn",
    "sleep",
    "rand",
    "getrandom",
    "RandomState",
    "OsRng",
    "process",
    "nix",
    "libc",
    "println",
    "eprintln",
];
/// The same for files, which the cluster's log alone may use.
const FILES: &[&str] = &["File", "OpenOptions", "std::fs", "std::env"];

/// A part of the tree that must be pure.
struct Pure {
    folder: &'static str,
    /// Files and folders inside that are the part's door to the world.
    except: &'static [&'static str],
}

const PURE: &[Pure] = &[
    Pure {
        folder: "protocol/src",
        except: &[],
    },
    Pure {
        folder: "ppp/src",
        except: &[],
    },
    Pure {
        folder: "node/src/lns",
        except: &[],
    },
    Pure {
        folder: "node/src/aaa",
        except: &[],
    },
    Pure {
        folder: "cluster/src",
        except: &["cluster/src/log", "cluster/src/disk", "cluster/src/store"],
    },
];

/// Where `unsafe` may stand.
const UNSAFE_ALLOWED: &[&str] = &["node/src/io", "node/src/dataplane"];
const MEMBERS: &[&str] = &["protocol", "ppp", "cluster", "node", "testbed"];
/// Which packages of ours each may depend on.
const MAY_IMPORT: &[(&str, &[&str])] = &[
    ("protocol", &[]),
    ("ppp", &[]),
    ("cluster", &["holdfast-protocol"]),
    ("node", &["holdfast-protocol", "holdfast-ppp", "holdfast-cluster"]),
];

pub fn run(context: &Context) -> Outcome {
    let mut outcome = Outcome::default();
    for part in PURE {
        outcome.add(part.folder, verdict(impurities(&context.workspace, part)));
    }
    outcome.add("unsafe code", verdict(unsafe_code(&context.workspace)));
    outcome.add("who imports whom", verdict(imports(&context.workspace)));
    outcome
}

fn verdict(findings: Vec<String>) -> Result<(), String> {
    if findings.is_empty() {
        Ok(())
    } else {
        Err(findings.join("\n"))
    }
}

fn impurities(workspace: &Path, part: &Pure) -> Vec<String> {
    let mut findings = Vec::new();
    let files = sources(&workspace.join(part.folder));
    if files.is_empty() {
        findings.push(format!("{}: no source there", part.folder));
    }
    for path in files {
        let place = relative(workspace, &path);
        if part.except.iter().any(|door| place.starts_with(door)) {
            continue;
        }
        let code = without_tests(&code_of(&path));
        findings.extend(find_words(&code, IMPURE, &place));
        findings.extend(find_words(&code, FILES, &place));
    }
    findings
}

fn unsafe_code(workspace: &Path) -> Vec<String> {
    let all = MEMBERS.iter().flat_map(|member| sources(&workspace.join(member)));
    let judged = all.map(|path| (relative(workspace, &path), path));
    let outside = judged.filter(|(place, _)| !UNSAFE_ALLOWED.iter().any(|folder| place.starts_with(folder)));
    outside
        .flat_map(|(place, path)| find_words(&code_of(&path), &["unsafe"], &place))
        .collect()
}

fn imports(workspace: &Path) -> Vec<String> {
    let mut findings = Vec::new();
    for (member, allowed) in MAY_IMPORT {
        let manifest = fs::read_to_string(workspace.join(member).join("Cargo.toml")).unwrap_or_default();
        let names = manifest
            .lines()
            .filter_map(|line| line.split(['.', ' ', '=']).next());
        let ours = names.filter(|name| name.starts_with("holdfast-") && !allowed.contains(name));
        findings.extend(ours.map(|name| format!("{member}/Cargo.toml: {name}")));
    }
    findings
}

/// All Rust sources under a folder, in order.
pub fn sources(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let Ok(entries) = fs::read_dir(folder) else {
        return found;
    };
    let mut paths: Vec<_> = entries.flatten().map(|entry| entry.path()).collect();
    paths.sort();
    for path in paths {
        if path.is_dir() && path.file_name().is_some_and(|name| name != "target") {
            found.extend(sources(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
    found
}

pub fn relative(workspace: &Path, path: &Path) -> String {
    path.strip_prefix(workspace).unwrap_or(path).display().to_string()
}

fn code_of(path: &Path) -> String {
    // A module of tests in a file of its own counts as tests.
    let is_tests = path
        .components()
        .any(|part| part.as_os_str() == "tests" || part.as_os_str() == "tests.rs");
    if is_tests {
        String::new()
    } else {
        strip(&fs::read_to_string(path).unwrap_or_default())
    }
}

/// The lines before the module of tests, which stands last in a file.
fn without_tests(code: &str) -> String {
    let lines: Vec<_> = code.lines().collect();
    let tests = lines.windows(2).position(|pair| {
        pair[0].trim() == "#[cfg(test)]" && pair[1].trim_start().starts_with("mod ") && pair[1].ends_with('{')
    });
    lines[..tests.unwrap_or(lines.len())].join("\n")
}

/// Every whole-word occurrence of the words, as `file:line: word`.
fn find_words(code: &str, words: &[&str], place: &str) -> Vec<String> {
    let part_of_name = |character: char| character.is_alphanumeric() || character == '_';
    let stands_alone = |line: &str, start: usize, word: &str| {
        !line[..start].ends_with(part_of_name) && !line[start + word.len()..].starts_with(part_of_name)
    };
    let mut found = Vec::new();
    for (number, line) in code.lines().enumerate() {
        for word in words {
            if line
                .match_indices(word)
                .any(|(start, _)| stands_alone(line, start, word))
            {
                found.push(format!("{place}:{}: {word}", number + 1));
            }
        }
    }
    found
}

/// Replaces comments and the content of string and character literals by nothing; lines stay where they are.
fn strip(source: &str) -> String {
    let mut code = String::with_capacity(source.len());
    let mut rest = source;
    while let Some(character) = rest.chars().next() {
        let skipped = skipped_length(rest, code.chars().last());
        if skipped > 0 {
            code.extend(rest[..skipped].chars().filter(|character| *character == '\n'));
            code.push(' ');
            rest = &rest[skipped..];
        } else {
            code.push(character);
            rest = &rest[character.len_utf8()..];
        }
    }
    code
}

/// The length of the comment or literal at the start of `rest`; 0 if there is none.
fn skipped_length(rest: &str, before: Option<char>) -> usize {
    let to_end_of = |mark: &str, from: usize| {
        rest.get(from..)
            .and_then(|tail| tail.find(mark))
            .map_or(rest.len(), |at| from + at + mark.len())
    };
    if rest.starts_with("//") {
        return rest.find('\n').unwrap_or(rest.len());
    }
    if rest.starts_with("/*") {
        return to_end_of("*/", 2);
    }
    let after_name = before.is_some_and(|character| character.is_alphanumeric() || character == '_');
    if let Some(raw) = rest
        .strip_prefix('r')
        .filter(|_| !after_name || before == Some('b'))
    {
        let hashes = raw.len() - raw.trim_start_matches('#').len();
        if raw[hashes..].starts_with('"') {
            return to_end_of(&format!("\"{}", "#".repeat(hashes)), hashes + 2);
        }
    }
    if rest.starts_with('"') {
        return quoted_length(rest, '"');
    }
    // 'a' and '\n' are literals, 'a without a second quote is a lifetime.
    let mut characters = rest.chars();
    match (characters.next(), characters.next(), characters.next()) {
        (Some('\''), Some('\\'), _) => quoted_length(rest, '\''),
        (Some('\''), Some(character), Some('\'')) => 2 + character.len_utf8(),
        _ => 0,
    }
}

/// The length of a literal with backslash escapes, both quotes included.
fn quoted_length(rest: &str, quote: char) -> usize {
    let mut escaped = false;
    for (at, character) in rest.char_indices().skip(1) {
        if !escaped && character == quote {
            return at + 1;
        }
        escaped = !escaped && character == '\\';
    }
    rest.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_and_literals_are_no_code() {
        let source = "let a = \"Instant \\\" Instant\"; // Instant\nlet b = r#\"Instant\"#; /* Instant */ let c: &'a Instant;";
        assert_eq!(
            find_words(&strip(source), &["Instant"], "x.rs"),
            ["x.rs:2: Instant"]
        );
    }

    #[test]
    fn words_are_whole() {
        let code = "let operand = random();\nuse rand::rng;";
        assert_eq!(find_words(code, &["rand"], "x.rs"), ["x.rs:2: rand"]);
    }

    #[test]
    fn tests_are_left_out() {
        let code = "fn a() {}\n#[cfg(test)]\nmod tests {\n use std::time::Instant;\n}";
        assert_eq!(without_tests(code), "fn a() {}");
    }
}
