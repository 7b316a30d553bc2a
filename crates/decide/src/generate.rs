//! What generated Dockerfiles are allowed to say, and what they say of the run image
//! (image extension specification, "Dockerfile Requirements").

use std::collections::BTreeMap;
use strata_oci::Reference;
use strata_spec::analyzed::RunImage;
use strata_spec::dockerfile::expand::{self, ExpandError};
use strata_spec::dockerfile::{Dockerfile, Stage};
use strata_spec::extend::{Arg, BASE_IMAGE, Kind};

/// Instructions that are not warned about; `FROM` aside.
const RECOMMENDED: [&str; 9] = ["ADD", "ARG", "COPY", "ENV", "LABEL", "RUN", "SHELL", "USER", "WORKDIR"];

/// What stands for no image at all.
const SCRATCH: &str = "scratch";

/// A Dockerfile that cannot extend an image.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// It has more than one `FROM`.
    #[error("{0} is not permitted to use multistage build; line {1} has a second FROM")]
    Multistage(&'static str, usize),
    /// A `build.Dockerfile` does not take the image to extend, or takes more.
    #[error(
        "build.Dockerfile did not start with required ARG command; its first line has to be: ARG base_image"
    )]
    Argument,
    /// A `build.Dockerfile` is for another image.
    #[error("build.Dockerfile did not contain required FROM ${{base_image}} command; line {0} has: FROM {1}")]
    Base(usize, String),
    /// The image of a `run.Dockerfile` is not known.
    #[error("line {0}: cannot find out the image of FROM {1}: {2}")]
    Image(usize, String, String),
}

/// What a Dockerfile extends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Base {
    /// The image that there is.
    Given,
    /// Another one, by a reference: it takes the place of the run image.
    Image(String),
}

/// What a Dockerfile does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Judged {
    /// Upon what.
    pub base: Base,
    /// Whether it does anything beyond naming an image.
    pub extends: bool,
    /// What its author should know.
    pub warnings: Vec<String>,
}

/// Judges a generated Dockerfile; `args` are those that the extension gives for it. `is_known` says which run images the
/// builder names, in whatever way; any other is the name of an image in a registry.
///
/// # Errors
/// When it cannot extend an image of that kind.
pub fn judge(
    kind: Kind,
    file: &Dockerfile,
    args: &[Arg],
    is_known: &dyn Fn(&str) -> bool,
) -> Result<Judged, Refused> {
    let (stage, more) = match file.stages.as_slice() {
        [stage, more @ ..] => (stage, more),
        // A Dockerfile has at least one.
        [] => return Err(Refused::Argument),
    };
    if let Some(second) = more.first() {
        return Err(Refused::Multistage(kind.dockerfile(), second.line));
    }
    let base = match kind {
        Kind::Build => build_base(file, stage)?,
        Kind::Run => run_base(file, stage, args, is_known)?,
    };
    let odd = stage.instructions.iter().filter(|i| !RECOMMENDED.contains(&i.command.name()));
    let warn = |i: &strata_spec::dockerfile::Instruction| {
        format!("{} command {} on line {} is not recommended", kind.dockerfile(), i.command.name(), i.line)
    };
    Ok(Judged { base, extends: !stage.instructions.is_empty(), warnings: odd.map(warn).collect() })
}

fn is_given(image: &str) -> bool {
    matches!(image, "${base_image}" | "$base_image")
}

fn build_base(file: &Dockerfile, stage: &Stage) -> Result<Base, Refused> {
    if file.arguments.len() != 1 || file.arguments.iter().any(|argument| argument.name != BASE_IMAGE) {
        return Err(Refused::Argument);
    }
    if !is_given(&stage.image) {
        return Err(Refused::Base(stage.line, stage.image.clone()));
    }
    Ok(Base::Given)
}

fn run_base(
    file: &Dockerfile,
    stage: &Stage,
    args: &[Arg],
    is_known: &dyn Fn(&str) -> bool,
) -> Result<Base, Refused> {
    if is_given(&stage.image) {
        return Ok(Base::Given);
    }
    let refused = |reason: String| Refused::Image(stage.line, stage.image.clone(), reason);
    let mut values: BTreeMap<&str, String> = BTreeMap::new();
    let mut spent = 0_usize;
    for argument in file.arguments.iter().filter(|argument| argument.name != BASE_IMAGE) {
        let given = args.iter().rev().find(|arg| arg.name == argument.name).map(|arg| arg.value.clone());
        let default = argument
            .default
            .as_deref()
            .map(|text| expand::word(text, file.escape, &|name| values.get(name).cloned()));
        if let Some(value) = given.map(Ok).or(default) {
            let value = value.map_err(|error| refused(error.to_string()))?;
            spent = spent.saturating_add(value.len());
            if spent > expand::MAX_LENGTH {
                return Err(refused(ExpandError::Long(expand::MAX_LENGTH).to_string()));
            }
            values.insert(&argument.name, value);
        }
    }
    let unknown = std::cell::RefCell::new(None);
    let lookup = |name: &str| {
        let value = values.get(name).cloned();
        if value.is_none() {
            unknown.borrow_mut().get_or_insert_with(|| name.to_owned());
        }
        value
    };
    let image =
        expand::word(&stage.image, file.escape, &lookup).map_err(|error| refused(error.to_string()))?;
    match unknown.into_inner() {
        Some(name) if name == BASE_IMAGE => Err(refused(format!("{name} can only be the whole of it"))),
        Some(name) => Err(refused(format!("the argument {name} has no value"))),
        None if image.is_empty() => Err(refused("it is empty".to_owned())),
        None if is_known(&image) => Ok(Base::Image(image)),
        None => is_name(&image).map(|()| Base::Image(image)).map_err(refused),
    }
}

/// Makes sure that a text is the name of an image that a registry can have.
fn is_name(image: &str) -> Result<(), String> {
    match image.parse::<Reference>() {
        Ok(_) if image == SCRATCH => Err("it is no image".to_owned()),
        Ok(_) => Ok(()),
        Err(error) => Err(error.to_string()),
    }
}

/// What becomes of the run image.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RunImageChoice {
    /// The image that takes its place.
    pub image: Option<String>,
    /// Whether it is to be extended.
    pub extend: bool,
    /// Which of the Dockerfiles have no effect, because a later one begins with another image.
    pub ignored: Vec<usize>,
}

/// What the `run.Dockerfile`s of a group, in its order, make of the run image.
pub fn run_image(dockerfiles: &[Judged]) -> RunImageChoice {
    let last = dockerfiles.iter().rposition(|file| matches!(file.base, Base::Image(_)));
    let counting = dockerfiles.iter().skip(last.unwrap_or_default());
    let image = last.and_then(|last| match &dockerfiles.get(last)?.base {
        Base::Image(image) => Some(image.clone()),
        Base::Given => None,
    });
    let extend = counting.into_iter().any(|file| file.extends);
    RunImageChoice { image, extend, ignored: (0..last.unwrap_or_default()).collect() }
}

/// The run image of `analyzed.toml` after a choice. Of one that is new, neither digest nor target is known yet.
/// The second value is that image's name, when it is new. `has_names` says whether `analyzed.toml` has the name of the
/// run image (Platform API 0.12).
pub fn chosen(
    current: Option<&RunImage>,
    choice: &RunImageChoice,
    has_names: bool,
) -> (Option<RunImage>, Option<String>) {
    let is_new = |image: &&String| !has_names || current.is_none_or(|current| current.image != **image);
    let new = choice.image.as_ref().filter(is_new);
    let run_image = match new {
        Some(image) => {
            Some(RunImage { reference: image.clone(), image: image.clone(), ..RunImage::default() })
        }
        None => current.cloned(),
    };
    let extend = |run_image: RunImage| RunImage { extend: run_image.extend || choice.extend, ..run_image };
    (run_image.map(extend), new.cloned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(kind: Kind, text: &str, args: &[(&str, &str)]) -> Result<Judged, String> {
        let args: Vec<Arg> =
            args.iter().map(|(name, value)| Arg { name: (*name).into(), value: (*value).into() }).collect();
        let file = Dockerfile::parse(text).map_err(|error| error.to_string())?;
        judge(kind, &file, &args, &|name| name == "oci:known").map_err(|error| error.to_string())
    }

    #[test]
    fn a_build_dockerfile_extends_the_image_that_there_is() {
        for (text, expected) in [
            ("ARG base_image\nFROM ${base_image}\nRUN a", Ok(true)),
            ("ARG base_image=x\nFROM $base_image", Ok(false)),
            ("FROM ${base_image}", Err("required ARG command")),
            ("ARG a\nFROM ${base_image}", Err("required ARG command")),
            ("ARG base_image\nARG a\nFROM ${base_image}", Err("required ARG command")),
            ("ARG base_image\nFROM x", Err("line 2 has: FROM x")),
            ("ARG base_image\nFROM ${base_image}\nFROM x", Err("multistage build; line 3")),
            ("ARG base_image", Err("there is no FROM")),
        ] {
            match (judged(Kind::Build, text, &[]), expected) {
                (Ok(found), Ok(extends)) => assert_eq!((found.base, found.extends), (Base::Given, extends)),
                (Err(found), Err(expected)) => assert!(found.contains(expected), "{text}: {found}"),
                (found, _) => panic!("{text}: {found:?}"),
            }
        }
    }

    #[test]
    fn a_run_dockerfile_may_begin_with_any_image() {
        let image = |name: &str| Ok(Base::Image(name.to_owned()));
        for (text, expected) in [
            ("ARG base_image\nFROM ${base_image}\nRUN a", Ok(Base::Given)),
            ("FROM example.com/run:1", image("example.com/run:1")),
            ("ARG tag=1\nARG full=run:${tag}\nFROM $full", image("run:1")),
            ("ARG given=1\nFROM run:${given}", image("run:2")),
            ("FROM oci:known", image("oci:known")),
            ("FROM oci:known2:/home", Err("cannot parse image name")),
            ("FROM oci:/home/ann/x", Err("cannot parse image name")),
            ("FROM oci-archive:/home/ann/x.tar", Err("cannot parse image name")),
            ("FROM docker-archive:/home/ann/x.tar", Err("cannot parse image name")),
            ("FROM docker-daemon:private:1", Err("cannot parse image name")),
            ("FROM docker:private:1", Err("cannot parse image name")),
            ("FROM docker://private", Err("cannot parse image name")),
            ("FROM registry:example.com/private", Err("cannot parse image name")),
            ("FROM /home/ann/x", Err("cannot parse image name")),
            ("FROM scratch", Err("it is no image")),
            ("FROM run:$tag", Err("the argument tag has no value")),
            ("ARG base_image=x\nFROM ${base_image}-y", Err("base_image can only be the whole of it")),
            ("ARG x=\nFROM $x", Err("it is empty")),
            ("FROM ${", Err("does not end")),
            ("FROM a\nFROM b", Err("run.Dockerfile is not permitted to use multistage build; line 2")),
        ] {
            match (judged(Kind::Run, text, &[("given", "2")]).map(|found| found.base), expected) {
                (Ok(found), Ok(expected)) => assert_eq!(found, expected, "{text}"),
                (Err(found), Err(expected)) => assert!(found.contains(expected), "{text}: {found}"),
                (found, _) => panic!("{text}: {found:?}"),
            }
        }
        let doubled = format!("ARG A=xxxxxxxx\n{}FROM run:$A", "ARG A=$A$A\n".repeat(31));
        let kept = format!("ARG A={}\nARG B=$A\nARG C=$A\nFROM run", "x".repeat(1 << 19));
        for text in [doubled, kept] {
            let error = judged(Kind::Run, &text, &[]).unwrap_err();
            assert!(error.contains("longer than"), "{error}");
        }
        let found = judged(Kind::Run, "FROM a\nRUN b\n\ncmd c\nVOLUME d", &[]).unwrap();
        assert_eq!(
            found.warnings,
            [
                "run.Dockerfile command CMD on line 4 is not recommended",
                "run.Dockerfile command VOLUME on line 5 is not recommended",
            ]
        );
    }

    #[test]
    fn the_last_image_counts_and_what_is_before_it_does_not() {
        let file = |image: &str, extends| Judged {
            base: if image.is_empty() { Base::Given } else { Base::Image(image.into()) },
            extends,
            warnings: Vec::new(),
        };
        for (files, image, extend, ignored) in [
            (vec![], None, false, vec![]),
            (vec![file("", true)], None, true, vec![]),
            (vec![file("", false)], None, false, vec![]),
            (vec![file("a", false)], Some("a"), false, vec![]),
            (vec![file("", true), file("a", false)], Some("a"), false, vec![0]),
            (vec![file("a", true), file("b", false), file("", true)], Some("b"), true, vec![0]),
            (vec![file("a", true), file("", true), file("b", true)], Some("b"), true, vec![0, 1]),
        ] {
            let expected = RunImageChoice { image: image.map(str::to_owned), extend, ignored };
            assert_eq!(run_image(&files), expected, "{files:?}");
        }
    }

    #[test]
    fn a_new_run_image_drops_what_is_known_of_the_old_one() {
        let old = RunImage {
            reference: "a@sha256:1".into(),
            image: "a".into(),
            target: Some(strata_spec::analyzed::Target::default()),
            extend: false,
        };
        let choice = |image: &str, extend| RunImageChoice {
            image: Some(image.to_owned()).filter(|image| !image.is_empty()),
            extend,
            ignored: Vec::new(),
        };
        let new = RunImage { reference: "b".into(), image: "b".into(), ..RunImage::default() };
        for (choice, has_names, expected, is_new) in [
            (choice("", false), true, Some(old.clone()), false),
            (choice("", true), true, Some(RunImage { extend: true, ..old.clone() }), false),
            (choice("a", false), true, Some(old.clone()), false),
            (choice("b", false), true, Some(new.clone()), true),
            (choice("b", true), true, Some(RunImage { extend: true, ..new.clone() }), true),
            (choice("b", false), false, Some(new.clone()), true),
        ] {
            let (found, name) = chosen(Some(&old), &choice, has_names);
            assert_eq!((found, name.is_some()), (expected, is_new), "{choice:?}");
        }
        assert_eq!(chosen(None, &choice("b", false), true).0, Some(new));
        assert_eq!(chosen(None, &choice("", true), true), (None, None));
    }
}
