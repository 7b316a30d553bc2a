//! Which files of an app are built, by the patterns of its `project.toml`. Pure: paths come in, answers go out.
//!
//! Patterns are those of `.gitignore`, with one liberty that pack takes, too: a pattern speaks for all that is below what
//! it matches, and the last pattern that speaks of a path decides. So `!dir/keep` brings a file back although `dir/` was
//! left out, where Git would not look into the folder again.

use ignore::gitignore::{Gitignore, GitignoreBuilder};
use std::path::Path;

/// What is built of an app.
#[derive(Debug, Default)]
pub(crate) struct Selection {
    /// Patterns, last ones first. Of those of one kind side by side, it does not matter which one matches.
    runs: Vec<Run>,
    mode: Mode,
}

/// What it means that a pattern matches.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Mode {
    Include,
    #[default]
    Exclude,
}

#[derive(Debug)]
struct Run {
    patterns: Gitignore,
    is_negated: bool,
}

impl Selection {
    /// Understands the patterns; at most one of the two lists has any.
    ///
    /// # Errors
    /// When a pattern is none.
    pub(crate) fn new(include: &[String], exclude: &[String]) -> Result<Self, String> {
        let (mode, lines) =
            if include.is_empty() { (Mode::Exclude, exclude) } else { (Mode::Include, include) };
        let mut runs = Vec::new();
        let is_negated = |line: &String| line.starts_with('!');
        for lines in lines.chunk_by(|a, b| is_negated(a) == is_negated(b)) {
            let mut builder = GitignoreBuilder::new("");
            for line in lines {
                builder.add_line(None, line).map_err(|error| format!("the pattern '{line}': {error}"))?;
            }
            let patterns = builder.build().map_err(|error| error.to_string())?;
            runs.push(Run { patterns, is_negated: lines.first().is_some_and(is_negated) });
        }
        runs.reverse();
        Ok(Self { runs, mode })
    }

    /// Whether this path below the app's folder is built. Of a folder this says nothing about what is in it.
    pub(crate) fn takes(&self, path: &Path, is_dir: bool) -> bool {
        let speaks = |run: &&Run| !run.patterns.matched_path_or_any_parents(path, is_dir).is_none();
        let is_matched = self.runs.iter().find(speaks).is_some_and(|run| !run.is_negated);
        is_matched == (self.mode == Mode::Include) || self.runs.is_empty()
    }

    /// Whether anything below a folder can be built that is not built itself.
    pub(crate) fn may_take_below(&self) -> bool {
        self.mode == Mode::Include || self.runs.iter().any(|run| run.is_negated)
    }

    /// Whether only what is named is built.
    pub(crate) fn is_of_named(&self) -> bool {
        self.mode == Mode::Include
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What of these is taken; folders end with a slash.
    fn taken(include: &[&str], exclude: &[&str]) -> Vec<&'static str> {
        let all = [
            "README.md",
            "a.go",
            "cmd/",
            "cmd/main.go",
            "cmd/deep/",
            "cmd/deep/x.md",
            "spec/",
            "spec/keep",
            "spec/x.go",
        ];
        let owned = |lines: &[&str]| -> Vec<String> { lines.iter().map(ToString::to_string).collect() };
        let selection = Selection::new(&owned(include), &owned(exclude)).unwrap();
        let takes = |path: &&str| selection.takes(Path::new(path.trim_end_matches('/')), path.ends_with('/'));
        all.into_iter().filter(takes).collect()
    }

    #[test]
    fn patterns_choose_files_and_all_that_is_below_folders() {
        let (none, all): (&[&str], usize) = (&[], 9);
        assert_eq!(taken(none, none).len(), all);
        for (include, exclude, expected) in [
            (
                none,
                &["spec/"][..],
                &["README.md", "a.go", "cmd/", "cmd/main.go", "cmd/deep/", "cmd/deep/x.md"][..],
            ),
            (none, &["*", "!cmd/"], &["cmd/", "cmd/main.go", "cmd/deep/", "cmd/deep/x.md"]),
            (
                none,
                &["*.md", "!README.md", "spec"],
                &["README.md", "a.go", "cmd/", "cmd/main.go", "cmd/deep/"],
            ),
            (none, &["*", "!spec/keep"], &["spec/keep"]),
            (none, &["spec/", "!*.go", "/cmd", "# no.md", "", "*.md"], &["a.go", "spec/x.go"]),
            (&["*.go"], none, &["a.go", "cmd/main.go", "spec/x.go"]),
            (&["cmd/", "!*.md"], none, &["cmd/", "cmd/main.go", "cmd/deep/"]),
            (&["/*.go", "cmd/**/x.md"], none, &["a.go", "cmd/deep/x.md"]),
            (&["none"], none, &[]),
        ] {
            assert_eq!(taken(include, exclude), expected, "{include:?} {exclude:?}");
        }
        assert!(Selection::new(&["a[z-a]".to_owned()], &[]).is_err());
    }
}
