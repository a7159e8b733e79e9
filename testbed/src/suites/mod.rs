//! Everything that is tested, in the order in which it runs.

pub mod bench;
pub mod cargo;
pub mod commands;
pub mod fuzz;
pub mod lab;
pub mod parallel;
pub mod protoc;
pub mod purity;
pub mod radius;
pub mod realclient;
pub mod scenarios;

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use cargo::TestRun;

/// One kind of test.
#[derive(Debug)]
pub struct Suite {
    pub name: &'static str,
    pub about: &'static str,
    pub run: fn(&Context) -> Outcome,
}

/// All suites.
pub const ALL: &[Suite] = &[
    Suite {
        name: "fmt",
        about: "the sources are formatted",
        run: cargo::fmt,
    },
    Suite {
        name: "purity",
        about: "pure crates are pure, unsafe code is where it may be",
        run: purity::run,
    },
    Suite {
        name: "clippy",
        about: "no warning",
        run: cargo::clippy,
    },
    Suite {
        name: "unit",
        about: "the tests of all crates",
        run: cargo::unit,
    },
    Suite {
        name: "scenarios",
        about: "the table of scenarios agrees with the tests",
        run: scenarios::run,
    },
    Suite {
        name: "no-protoc",
        about: "the build needs no protoc",
        run: protoc::run,
    },
    Suite {
        name: "lab",
        about: "the lab with a known LNS in place of Holdfast",
        run: lab::run,
    },
    Suite {
        name: "realclient",
        about: "xl2tpd and pppd against Holdfast",
        run: realclient::run,
    },
    Suite {
        name: "radius",
        about: "FreeRADIUS, and a server that does what no good one does",
        run: radius::run,
    },
    Suite {
        name: "demo",
        about: "the demonstration",
        run: commands::demo,
    },
    Suite {
        name: "sim",
        about: "a few hundred new seeds of the simulated cluster",
        run: commands::sim,
    },
    Suite {
        name: "restart",
        about: "killed again and again under 1,000 simulated sessions",
        run: commands::restart,
    },
    Suite {
        name: "faults",
        about: "panics, hostile peers, broken disks, wrong starts",
        run: commands::faults,
    },
    Suite {
        name: "chaos",
        about: "three nodes behind real routers: killed, cut off, without power",
        run: commands::chaos,
    },
    Suite {
        name: "bench",
        about: "the data path beside l2tpns, six cells, without a threshold",
        run: bench::run,
    },
    Suite {
        name: "fuzz",
        about: "every family of decoders",
        run: fuzz::run,
    },
];

/// What suites share.
#[derive(Debug)]
pub struct Context {
    /// The folder of the workspace's `Cargo.toml`.
    pub workspace: PathBuf,
    /// What the name of a laboratory test has to contain.
    pub filter: String,
    test_run: OnceLock<TestRun>,
}

impl Context {
    pub fn new(filter: String) -> Self {
        Self {
            workspace: workspace(),
            filter,
            test_run: OnceLock::new(),
        }
    }

    /// The result of `cargo test`, which runs once for all who ask.
    pub fn test_run(&self) -> &TestRun {
        self.test_run.get_or_init(|| cargo::run_tests(&self.workspace))
    }
}

/// Where the sources are from which this program was built.
pub fn workspace() -> PathBuf {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    package
        .parent()
        .expect("the package lies in the workspace")
        .to_path_buf()
}

/// What a suite found.
#[derive(Debug, Default)]
pub struct Outcome {
    pub passed: usize,
    pub failures: Vec<Failure>,
}

/// A test that failed, with all that helps to see why.
#[derive(Debug)]
pub struct Failure {
    pub name: String,
    pub output: String,
}

impl Outcome {
    /// The outcome of a suite that is one test.
    pub fn single(name: &str, result: Result<(), String>) -> Self {
        let mut outcome = Self::default();
        outcome.add(name, result);
        outcome
    }

    /// Adds what another part of the suite found.
    pub fn merge(&mut self, other: Outcome) {
        self.passed += other.passed;
        self.failures.extend(other.failures);
    }

    /// Counts one more test.
    pub fn add(&mut self, name: &str, result: Result<(), String>) {
        match result {
            Ok(()) => self.passed += 1,
            Err(output) => self.failures.push(Failure {
                name: name.to_owned(),
                output,
            }),
        }
    }
}
