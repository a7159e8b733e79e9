//! The table `testbed/scenarios.md`: which test proves which numbered case.
//!
//! A test function that proves cases 31 and 32 is called `s_31_s_32_...`, one that proves 1 to 4 `s_1_to_s_4_...`. The table is made from those names
//! (`holdfast-testbed scenarios --write`); the suite checks that it is up to date, that no case that is due lacks a test,
//! and that each test named in it ran and passed.

mod catalogue;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use catalogue::SCENARIOS;

use super::cargo::TestRun;
use super::purity::{relative, sources};
use super::{Context, Outcome, workspace};

const HEAD: &str = "# Which test proves which case\n\n\
    Made by `cargo run --release -p holdfast-testbed -- scenarios --write` from the names of the test functions;\n\
    `holdfast-testbed test` checks it against them, and that each of them ran.\n\n\
    | # | case | tests |\n|---|---|---|\n";

#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Write the table instead of checking it.
    #[arg(long)]
    write: bool,
}

/// A test function that carries numbers.
#[derive(Debug, Clone, PartialEq, Eq)]
struct NumberedTest {
    name: String,
    file: String,
    numbers: Vec<u16>,
}

pub fn run(context: &Context) -> Outcome {
    let tests = numbered_tests(&context.workspace);
    let mut outcome = Outcome::default();
    outcome.add("the table is up to date", check_table(&context.workspace, &tests));
    outcome.add("every number exists", check_numbers(&tests));
    for scenario in SCENARIOS.iter().filter(|scenario| scenario.not_due.is_none()) {
        let result = check_scenario(scenario.number, &tests, context.test_run());
        outcome.add(&format!("S-{}", scenario.number), result);
    }
    outcome
}

/// `holdfast-testbed scenarios`.
pub fn command(arguments: &Arguments) -> ExitCode {
    let workspace = workspace();
    let tests = numbered_tests(&workspace);
    let result = match arguments.write {
        true => fs::write(table_path(&workspace), table(&tests)).map_err(|error| error.to_string()),
        false => check_table(&workspace, &tests),
    };
    let lacking = |number: &u16| !tests.iter().any(|test| test.numbers.contains(number));
    let due = SCENARIOS
        .iter()
        .filter(|scenario| scenario.not_due.is_none())
        .map(|scenario| scenario.number);
    let missing: Vec<_> = due.filter(lacking).map(|number| format!("S-{number}")).collect();
    println!(
        "{} numbered tests; no test for: {}",
        tests.len(),
        missing.join(" ")
    );
    match result.and(check_numbers(&tests)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("{message}");
            ExitCode::FAILURE
        }
    }
}

fn table_path(workspace: &Path) -> PathBuf {
    workspace.join("testbed/scenarios.md")
}

fn check_table(workspace: &Path, tests: &[NumberedTest]) -> Result<(), String> {
    let path = table_path(workspace);
    let written = fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))?;
    let expected = table(tests);
    if written == expected {
        return Ok(());
    }
    let differing = written
        .lines()
        .zip(expected.lines())
        .find(|(written, expected)| written != expected);
    let (written, expected) = differing.unwrap_or(("", "(the lengths differ)"));
    Err(format!(
        "{} is not what the tests give; first difference:\n- {written}\n+ {expected}",
        path.display()
    ))
}

fn check_numbers(tests: &[NumberedTest]) -> Result<(), String> {
    let unknown = |number: &&u16| SCENARIOS.iter().all(|scenario| scenario.number != **number);
    let strange = tests
        .iter()
        .filter(|test| test.numbers.iter().any(|number| unknown(&number)));
    let strange: Vec<_> = strange
        .map(|test| format!("{}: {} names no known case", test.file, test.name))
        .collect();
    if strange.is_empty() {
        Ok(())
    } else {
        Err(strange.join("\n"))
    }
}

fn check_scenario(number: u16, tests: &[NumberedTest], run: &TestRun) -> Result<(), String> {
    let mut found = tests
        .iter()
        .filter(|test| test.numbers.contains(&number))
        .peekable();
    if found.peek().is_none() {
        return Err("no test carries this number".to_owned());
    }
    let verdict = |test: &NumberedTest| {
        let mut verdicts = run
            .verdicts
            .iter()
            .filter(|(path, _)| path.rsplit("::").next() == Some(&test.name));
        match verdicts.next() {
            None => Some(format!("{} in {} did not run", test.name, test.file)),
            Some((path, verdict)) if verdict != "ok" => Some(format!("{path} in {}: {verdict}", test.file)),
            Some(_) => None,
        }
    };
    let faults: Vec<_> = found.filter_map(verdict).collect();
    if faults.is_empty() {
        Ok(())
    } else {
        Err(faults.join("\n"))
    }
}

/// The whole table as text.
fn table(tests: &[NumberedTest]) -> String {
    let mut by_number: BTreeMap<u16, Vec<String>> = BTreeMap::new();
    for test in tests {
        for number in &test.numbers {
            by_number
                .entry(*number)
                .or_default()
                .push(format!("`{}` ({})", test.name, test.file));
        }
    }
    let rows = SCENARIOS.iter().map(|scenario| {
        let tests = by_number.get(&scenario.number).map(|tests| tests.join("<br>"));
        let proof = tests.unwrap_or_else(|| scenario.not_due.unwrap_or("**none**").to_owned());
        format!("| S-{} | {} | {proof} |\n", scenario.number, scenario.case)
    });
    HEAD.to_owned() + &rows.collect::<String>()
}

/// All numbered tests of the workspace, by file and then by their order there.
fn numbered_tests(workspace: &Path) -> Vec<NumberedTest> {
    let members = ["cluster", "node", "ppp", "protocol", "testbed"];
    let files = members.iter().flat_map(|member| sources(&workspace.join(member)));
    let in_file = |path: PathBuf| {
        let file = relative(workspace, &path);
        let text = fs::read_to_string(&path).unwrap_or_default();
        text.lines()
            .filter_map(|line| numbered_test(line, &file))
            .collect::<Vec<_>>()
    };
    files.flat_map(in_file).collect()
}

/// The numbered test that a line of source begins, if it does.
fn numbered_test(line: &str, file: &str) -> Option<NumberedTest> {
    let code = line.trim_start();
    let code = code.strip_prefix("pub ").unwrap_or(code);
    let code = code.strip_prefix("async ").unwrap_or(code);
    let name = code.strip_prefix("fn ")?.split(['(', '<']).next()?;
    let (mut numbers, mut rest) = (Vec::new(), name);
    loop {
        let (range, tail) = rest
            .strip_prefix("to_")
            .map_or((false, rest), |tail| (true, tail));
        let Some((number, tail)) = tail.strip_prefix("s_").and_then(|tail| tail.split_once('_')) else {
            break;
        };
        let Ok(number) = number.parse() else { break };
        let first = numbers.last().filter(|_| range).map_or(number, |last| last + 1);
        numbers.extend(first..=number);
        rest = tail;
    }
    (!numbers.is_empty()).then(|| NumberedTest {
        name: name.to_owned(),
        file: file.to_owned(),
        numbers,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_read_from_names() {
        let numbers = |line: &str| numbered_test(line, "x.rs").map(|test| test.numbers);
        assert_eq!(numbers("    fn s_30_old_ns() {"), Some(vec![30]));
        assert_eq!(numbers("async fn s_31_s_32_ahead() {"), Some(vec![31, 32]));
        assert_eq!(
            numbers("fn s_1_to_s_4_s_7_malformed() {"),
            Some(vec![1, 2, 3, 4, 7])
        );
        assert_eq!(numbers("fn session() {"), None);
        assert_eq!(numbers("fn s_x_y() {"), None);
        assert_eq!(numbers("    s_30_old_ns();"), None);
    }

    #[test]
    fn a_test_that_did_not_run_is_a_fault() {
        let test = numbered_test("fn s_30_old_ns() {", "x.rs").expect("a numbered test");
        let mut run = TestRun::default();
        assert!(check_scenario(30, std::slice::from_ref(&test), &run).is_err());
        run.verdicts
            .insert("channel::tests::s_30_old_ns".into(), "ok".into());
        assert_eq!(check_scenario(30, std::slice::from_ref(&test), &run), Ok(()));
        assert!(check_scenario(31, &[test], &run).is_err());
    }
}
