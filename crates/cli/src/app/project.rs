//! The app's `project.toml`, and what is asked for when it and the command line are put together.

use super::{App, Selection};
use crate::args;
use crate::places::Places;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use strata_phases::{Failure, Observer, files};
use strata_spec::exit::Exit;
use strata_spec::project::{Buildpack, Declared, Project};

/// The file in which an app says what it is, and how it wants to be built.
const FILE: &str = "project.toml";

/// What is asked for: on the command line, or else by the app.
#[derive(Debug, Default)]
pub(crate) struct Wanted {
    /// A builder, by its place.
    pub(crate) builder: Option<String>,
    /// In the place of the builder's order.
    pub(crate) group: Vec<Named>,
    /// Before each group.
    pub(crate) before: Vec<Named>,
    /// After each group.
    pub(crate) after: Vec<Named>,
    /// For the buildpacks.
    pub(crate) variables: BTreeMap<String, String>,
    /// What of the app is built.
    pub(crate) selection: Selection,
    /// What the app says of itself.
    pub(crate) declared: Declared,
    /// The file, if there is one.
    file: Option<PathBuf>,
    /// Whether the builder is the app's choice.
    is_builder_own: bool,
    /// Whether the app, which came from elsewhere, chooses what it is built with.
    is_strangers_choice: bool,
}

/// A buildpack, and the folder that its place is relative to.
#[derive(Debug)]
pub(crate) struct Named {
    pub(crate) buildpack: Buildpack,
    pub(crate) base: PathBuf,
}

impl Wanted {
    /// Reads the app's file and puts the command line above it.
    ///
    /// # Errors
    /// When there is no app, the file cannot be understood, or a variable is none.
    pub(crate) fn find(
        args: &args::Build,
        app: &App,
        exec_env: &str,
        places: &Places,
        observer: &dyn Observer,
    ) -> Result<Self, Failure> {
        let found = read(args, app, exec_env)?;
        let asked = places
            .assignments(&args.env_file, &args.env)
            .map_err(|error| Failure::new(Exit::InvalidArguments, error))?;
        let (file, project) = found.map_or_else(Default::default, |(file, project)| (Some(file), project));
        if let Some(file) = &file {
            observer.detail(format!("Using {}", file.display()));
            let warn = |warning| observer.warn(format!("{}: {warning}", file.display()));
            project.warnings.iter().for_each(warn);
        }
        let base = file.as_deref().and_then(Path::parent).unwrap_or(Path::new("")).to_owned();
        let Project { declared, build, .. } = project;
        let selection = Selection::new(&build.include, &build.exclude).map_err(|problem| {
            let file = file.as_deref().unwrap_or(Path::new(FILE));
            Failure::new(Exit::InvalidArguments, format!("{} is not valid: {problem}", file.display()))
        })?;
        let own = |all: Vec<Buildpack>| -> Vec<Named> {
            all.into_iter().map(|buildpack| Named { buildpack, base: base.clone() }).collect()
        };
        let or_own = |asked: &[String], all| if asked.is_empty() { own(all) } else { named(asked) };
        let is_chosen = args.builder.is_some() || !args.buildpack.is_empty() || args.descriptor.is_some();
        let chooses = build.builder.is_some()
            || !build.group.is_empty()
            || !build.pre.is_empty() && args.pre_buildpack.is_empty()
            || !build.post.is_empty() && args.post_buildpack.is_empty();
        let mut variables: BTreeMap<String, String> =
            build.env.into_iter().map(|variable| (variable.name, variable.value)).collect();
        variables.extend(asked);
        Ok(Self {
            is_builder_own: args.builder.is_none() && build.builder.is_some(),
            is_strangers_choice: app.given.is_some() && !is_chosen && chooses,
            builder: args.builder.clone().or_else(|| build.builder.map(|builder| below(&base, builder))),
            group: or_own(&args.buildpack, build.group),
            before: or_own(&args.pre_buildpack, build.pre),
            after: or_own(&args.post_buildpack, build.post),
            variables,
            selection,
            declared,
            file,
        })
    }

    /// Whether there is anything to build with.
    pub(crate) fn has_buildpacks(&self) -> bool {
        self.builder.is_some()
            || [&self.group, &self.before, &self.after].into_iter().any(|all| !all.is_empty())
    }

    /// Refuses that an app from elsewhere has its own choice run on the files of this machine.
    ///
    /// # Errors
    /// When it would be so.
    pub(crate) fn check_place(&self, is_image: bool) -> Result<(), Failure> {
        if is_image || !self.is_strangers_choice {
            return Ok(());
        }
        let message = format!(
            "the app came in an archive or an image, and its {FILE} chooses buildpacks that would run on this machine's files"
        );
        Err(Failure::new(Exit::InvalidArguments, message)
            .hint("name a builder image with --builder, or buildpacks that you trust with --buildpack"))
    }

    /// A failure to use the builder, for people who may not know who chose it.
    pub(crate) fn of_builder(&self, failure: Failure) -> Failure {
        let (Some(file), true) = (&self.file, self.is_builder_own) else { return failure };
        let own = format!("{} names this builder. --builder names another", file.display());
        let hint = match &failure.hint {
            Some(hint) if hint.ends_with(['.', '?', '!']) => format!("{hint} {own}"),
            Some(hint) => format!("{hint}. {own}"),
            None => own,
        };
        failure.hint(hint)
    }
}

/// Buildpacks of the command line, relative to the current folder.
fn named(all: &[String]) -> Vec<Named> {
    let one = |text: &String| Named { buildpack: Buildpack::Named(text.clone()), base: PathBuf::new() };
    all.iter().map(one).collect()
}

/// A builder as the command line would have it, where the app names it relative to its file. What is a path stays one for
/// whoever reads it: another place would be a stranger's image.
fn below(base: &Path, builder: String) -> String {
    let path: PathBuf = base.join(&builder).components().collect();
    let is_path = builder.starts_with('.') || builder.ends_with(".toml") || path.exists();
    let is_marked = path.to_str().is_some_and(|path| path.starts_with(['/', '.']));
    let marked = if is_marked { path } else { Path::new(".").join(path) };
    marked.to_str().filter(|_| is_path).map_or(builder, str::to_owned)
}

/// The file, if there is one. Of an app that was extracted, no link leads out of it.
fn read(args: &args::Build, app: &App, exec_env: &str) -> Result<Option<(PathBuf, Project)>, Failure> {
    let what = "cannot use the project descriptor";
    let refused = |problem: String| Failure::new(Exit::InvalidArguments, format!("{what}: {problem}"));
    let path = args.descriptor.clone().unwrap_or_else(|| app.dir.join(FILE));
    if args.descriptor.is_none() && path.symlink_metadata().is_err() {
        return Ok(None);
    }
    let real = path.canonicalize().map_err(|error| {
        Failure::caused(Exit::InvalidArguments, format!("{what} {}", path.display()), &error)
    })?;
    let is_inside = || app.dir.canonicalize().is_ok_and(|dir| real.starts_with(dir));
    if args.descriptor.is_none() && app.given.is_some() && !is_inside() {
        return Err(refused(format!("{FILE} is a link that leads out of the app")));
    }
    let project = files::read(&real, |text| Project::parse(text, exec_env))
        .map_err(|error| Failure::caused(Exit::InvalidArguments, what, &error))?;
    Ok(project.map(|project| (path, project)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hints_are_sentences() {
        let wanted =
            Wanted { file: Some("app/project.toml".into()), is_builder_own: true, ..Wanted::default() };
        let failure = || Failure::new(Exit::Other, "x");
        let hint = |failure| wanted.of_builder(failure).hint.unwrap();
        assert_eq!(hint(failure()), "app/project.toml names this builder. --builder names another");
        assert_eq!(
            hint(failure().hint("log in")),
            "log in. app/project.toml names this builder. --builder names another"
        );
        assert_eq!(
            hint(failure().hint("who are you?")),
            "who are you? app/project.toml names this builder. --builder names another"
        );
    }

    #[test]
    fn a_builder_that_is_a_path_stays_one() {
        for (base, builder, expected) in [
            ("pt", "./none", "./pt/none"),
            ("", "./none", "./none"),
            ("", ".", "."),
            ("pt", "../none", "./pt/../none"),
            ("..", "./none", "../none"),
            (".", "./none", "./none"),
            ("/pt", ".none", "/pt/.none"),
            ("pt", "none.toml", "./pt/none.toml"),
            ("pt", "/none", "/none"),
            ("pt", "heroku/builder:24", "heroku/builder:24"),
            ("pt", "oci:./none", "oci:./none"),
        ] {
            assert_eq!(below(Path::new(base), builder.to_owned()), expected, "{base} {builder}");
        }
    }
}
