//! Which files of an app are built, by the patterns of its `project.toml`. Pure: paths come in, answers go out.
//!
//! Patterns are those of `.gitignore`, with one liberty that pack takes, too: a pattern speaks for all that is below what
//! it matches, and the last pattern that speaks of a path decides. So `!dir/keep` brings a file back although `dir/` was
//! left out, where Git would not look into the folder again.

use ignore::gitignore::{Gitignore, GitignoreBuilder};
use std::collections::HashMap;
use std::ffi::OsString;
use std::iter;
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
    patterns: Patterns,
    is_negated: bool,
}

/// Patterns of one kind. Most have a part between slashes that is a plain name: a path matches only if it has that name,
/// too, so that few patterns have to be looked at for one path.
#[derive(Debug, Default)]
struct Patterns {
    by_name: HashMap<OsString, Gitignore>,
    others: Option<Gitignore>,
}

impl Patterns {
    fn new(lines: &[String]) -> Result<Self, String> {
        let mut counts: HashMap<&str, usize> = HashMap::new();
        lines.iter().flat_map(|line| names(line)).for_each(|name| *counts.entry(name).or_default() += 1);
        // The name that the fewest patterns have tells the most.
        let rarest = |line| names(line).min_by_key(|name| (counts.get(name), *name));
        let mut sorted: HashMap<Option<&str>, GitignoreBuilder> = HashMap::new();
        for line in lines {
            let builder = sorted.entry(rarest(line)).or_insert_with(|| GitignoreBuilder::new(""));
            builder.add_line(None, line).map_err(|error| format!("the pattern '{line}': {error}"))?;
        }
        let mut patterns = Self::default();
        for (name, builder) in sorted {
            let some = builder.build().map_err(|error| error.to_string())?;
            match name {
                Some(name) => drop(patterns.by_name.insert(name.into(), some)),
                None => patterns.others = Some(some),
            }
        }
        Ok(patterns)
    }

    /// Whether one of them matches the path or a folder that it is in.
    fn speak_of(&self, path: &Path, is_dir: bool) -> bool {
        // Up to the app's own, the empty path.
        let folders = path.ancestors().skip(1).map(|folder| (folder, true));
        iter::once((path, is_dir)).chain(folders).any(|(path, is_dir)| {
            let named = path.iter().filter_map(|name| self.by_name.get(name));
            named.chain(&self.others).any(|some| !some.matched(path, is_dir).is_none())
        })
    }
}

/// The parts of a pattern that are plain names. None where a part need not be one: with a backslash before it, a slash
/// or an asterisk is something else, and brackets and braces may have slashes in them.
fn names(line: &str) -> impl Iterator<Item = &str> {
    let line = line.trim_end();
    let pattern = if line.starts_with('#') || line.contains(['\\', '[', ']', '{', '}']) { "" } else { line };
    let parts = pattern.strip_prefix('!').unwrap_or(pattern).split('/');
    parts.filter(|part| !part.is_empty() && !part.contains(['*', '?']))
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
            let patterns = Patterns::new(lines)?;
            runs.push(Run { patterns, is_negated: lines.first().is_some_and(is_negated) });
        }
        runs.reverse();
        Ok(Self { runs, mode })
    }

    /// Whether this path below the app's folder is built. Of a folder this says nothing about what is in it.
    pub(crate) fn takes(&self, path: &Path, is_dir: bool) -> bool {
        let speaks = |run: &&Run| run.patterns.speak_of(path, is_dir);
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

    /// Numbers that look like chance, and are the same each time.
    struct Chance(u64);

    impl Chance {
        fn below(&mut self, limit: usize) -> usize {
            self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            usize::try_from(self.0 >> 33).unwrap() % limit
        }

        fn path<'a>(&mut self, names: &[&'a str]) -> Vec<&'a str> {
            (0..=self.below(4)).map(|_| names[self.below(names.len())]).collect()
        }
    }

    #[test]
    fn patterns_mean_what_they_mean_to_the_library() {
        const PARTS: [&str; 22] = [
            "a", "b", "ab", "a.x", "b.x", "*", "**", "*.x", "a*", "?", "[ab]", "{a,b}", "{a,b/a}", "a\\*",
            "**b", "", " ", "c", "a**", "\\a", "#a", "!a",
        ];
        const NAMES: [&str; 10] = ["a", "b", "ab", "a.x", "b.x", "c", "a*", " ", "#a", "!a"];
        let mut chance = Chance(1);
        let mut matched = 0;
        for _ in 0..1500 {
            let mut lines = Vec::new();
            for _ in 0..=chance.below(5) {
                let start = ["", "", "", "/", "**/", "#"][chance.below(6)];
                let end = ["", "", "", "/", "/**", " ", "\\ "][chance.below(7)];
                lines.push(format!("{start}{}{end}", chance.path(&PARTS).join("/")));
            }
            let all: Vec<String> = lines.iter().map(|line| line.trim_start_matches('!').to_owned()).collect();
            let mut builder = GitignoreBuilder::new("");
            let is_good = all.iter().all(|line| builder.add_line(None, line).is_ok());
            let patterns = Patterns::new(&all);
            assert_eq!(patterns.is_ok(), is_good, "{all:?}");
            let Ok(patterns) = patterns else { continue };
            let library = builder.build().unwrap();
            for _ in 0..20 {
                let (path, is_dir) = (chance.path(&NAMES).join("/"), chance.below(2) == 0);
                let expected = !library.matched_path_or_any_parents(&path, is_dir).is_none();
                matched += usize::from(expected);
                assert_eq!(patterns.speak_of(Path::new(&path), is_dir), expected, "{all:?} {path} {is_dir}");
            }
        }
        assert!((5000..25_000).contains(&matched), "{matched} of 30000 tell little");
    }

    #[test]
    fn of_many_patterns_few_are_looked_at() {
        let lines: Vec<String> =
            (0..5000).flat_map(|n| [format!("**/f{n}/**"), format!("lib/**/x{n}*/f{n}")]).collect();
        let patterns = Patterns::new(&lines).unwrap();
        assert!(patterns.others.is_none() && patterns.by_name.len() == 5000);
        assert!(patterns.by_name.values().all(|some| some.len() == 2));
        assert!(patterns.speak_of(Path::new("a/f7/b"), false) && !patterns.speak_of(Path::new("a/f7"), true));
        let common: Vec<String> = (0..9).map(|n| format!("**/all/**/f{n}*")).collect();
        assert_eq!(Patterns::new(&common).unwrap().by_name["all".as_ref() as &std::ffi::OsStr].len(), 9);
    }
}
