//! Programs that are killed at any moment of a write, and what must be there then. The tests of the programs use it, too.
#![allow(clippy::print_stdout, reason = "a test says what repeats it")]

use std::fs;
use std::hash::{BuildHasher, RandomState};
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use strata_oci::Digest;
use strata_store::layout::Pruned;
use strata_store::{Layout, Store, validate};

/// Moments at random. `STRATA_TEST_KILLS` is how many (30), `STRATA_TEST_SEED` brings those of an earlier run back.
pub(crate) struct Killer {
    state: u64,
    rounds: u64,
    killed: u64,
    /// How long a whole run takes, as far as is known: a machine is not equally fast all the time.
    whole: Duration,
}

impl Killer {
    /// Runs the command once, to its end, to find out how long it takes.
    pub(crate) fn new(command: Command) -> Self {
        let number = |name: &str| {
            #[expect(clippy::disallowed_methods, reason = "how a test is run is not asked by the program")]
            let text = std::env::var(name).ok()?;
            Some(text.parse().unwrap_or_else(|error| panic!("{name}={text}: {error}")))
        };
        let seed = number("STRATA_TEST_SEED").unwrap_or_else(|| RandomState::new().hash_one(()));
        println!("STRATA_TEST_SEED={seed}");
        let rounds = number("STRATA_TEST_KILLS").unwrap_or(30);
        let start = Instant::now();
        ends_well(command);
        Self { state: seed, rounds, killed: 0, whole: start.elapsed() }
    }

    /// How many times a program is to be killed.
    pub(crate) fn rounds(&self) -> u64 {
        self.rounds
    }

    /// Starts a program and kills it, or not if it is quick.
    #[track_caller]
    pub(crate) fn kill(&mut self, mut command: Command) {
        let moment = self.whole.mul_f64(self.chance());
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        sleep(moment);
        child.kill().unwrap();
        let ended = child.wait_with_output().unwrap();
        match ended.status.code() {
            None => {
                self.killed += 1;
                self.whole = self.whole.mul_f64(1.05);
            }
            Some(code) => {
                assert_eq!(code, 0, "{command:?}: {}", String::from_utf8_lossy(&ended.stderr));
                self.whole = moment.max(self.whole / 2);
            }
        }
    }

    /// Makes sure that most were killed: else nothing was tested.
    pub(crate) fn has_killed(&self) {
        println!("killed {} times of {}, within {:?}", self.killed, self.rounds, self.whole);
        assert!(self.killed * 2 >= self.rounds, "killed {} times of {} only", self.killed, self.rounds);
    }

    /// From 0 to 1: SplitMix64.
    fn chance(&mut self) -> f64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) as f64 / u64::MAX as f64
    }
}

/// Runs a program to its end, which must be a good one.
#[track_caller]
pub(crate) fn ends_well(mut command: Command) {
    let output = command.output().unwrap();
    let said =
        || String::from_utf8_lossy(&output.stderr).into_owned() + &String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{command:?}: {}", said());
}

/// The image of a layout, with nothing wrong; `None` when there is none.
#[track_caller]
pub(crate) fn proven(dir: &Path) -> Option<Digest> {
    let report = validate::prove(&Layout::open(dir)).unwrap()?;
    assert_eq!(report.findings, [], "{}", dir.display());
    Layout::open(dir).read_image().unwrap().map(|image| image.manifest_digest)
}

/// Makes sure that a layout has what belongs to its images, and nothing else.
#[track_caller]
pub(crate) fn is_tidy(dir: &Path) {
    assert_eq!(names(dir), ["blobs", "index.json", "oci-layout"]);
    let strange = |name: &String| Digest::from_hex(name).is_err();
    let blobs = names(&dir.join("blobs/sha256"));
    assert!(!blobs.iter().any(strange), "{blobs:?}");
    assert_eq!(Layout::open(dir).prune().unwrap(), Pruned::Removed(Vec::new()));
}

/// What is in a folder, sorted.
#[track_caller]
pub(crate) fn names(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).unwrap_or_else(|error| panic!("{}: {error}", dir.display()));
    let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}
