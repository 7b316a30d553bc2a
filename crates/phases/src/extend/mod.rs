//! Applies the Dockerfiles of image extensions to the files that this process sees, as their root
//! (image extension specification; platform specification, "extender").
//!
//! Where those files are is the caller's affair: in a sandbox over an image's layers, or in a container of the image. What
//! was written becomes a layer by [`strata_layer::Delta`].

mod copy;
mod generated;
mod here;
mod kept;
mod programs;
mod users;

pub use generated::{Found, dockerfiles};
pub use here::{Extended, Here};
pub use kept::{Kept, Key};

use crate::event::{Event, Observer};
use crate::failure::Failure;
use std::fs;
use std::io;
use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};
use strata_decide::extend::{Action, Problem, Step};
use strata_layer::{Owner, Source, diff_id};
use strata_oci::Digest;
use strata_spec::exit::Exit;
use strata_spec::extend::Kind;

/// Where and for whom steps are done.
#[derive(Clone, Copy)]
pub struct Ground<'a> {
    /// `id@version` of the extension.
    pub extension: &'a str,
    /// Which image is extended.
    pub kind: Kind,
    /// The context, if there is one.
    pub context: Option<&'a Path>,
    /// Variables for programs that are not of the image, and not kept: those of proxies.
    pub variables: &'a [(String, String)],
    /// Why there is no user but root, if that is so.
    pub alone: Option<&'a str>,
    /// Ends what a program left running, and says how many there were.
    pub end_leftovers: &'a (dyn Fn() -> usize + Sync),
}

/// Why a step failed, and what can be done about it.
struct Fault {
    causes: Vec<String>,
    hint: Option<String>,
}

impl Fault {
    fn new(cause: impl Into<String>) -> Self {
        Self { causes: vec![cause.into()], hint: None }
    }

    fn hint(self, hint: impl Into<String>) -> Self {
        Self { hint: Some(hint.into()), ..self }
    }

    fn io<E: Into<io::Error>>(what: &str, path: &Path) -> impl FnOnce(E) -> Self {
        let text = format!("cannot {what} {}", path.display());
        move |error| Self { causes: vec![text, error.into().to_string()], hint: None }
    }
}

/// Does the steps of one Dockerfile, in order.
///
/// # Errors
/// [`Exit::Extend`], with extension, line and instruction, when a step fails. What was done until then stays.
pub fn apply(steps: &[Step], ground: &Ground<'_>, observer: &dyn Observer) -> Result<(), Failure> {
    observer.detail(format!("Applying {} of {}", ground.kind.dockerfile(), ground.extension));
    for step in steps {
        observer.event(Event::Output {
            buildpack: ground.extension.to_owned(),
            line: format!("{}:{} {}", ground.kind.dockerfile(), step.line, step.text),
        });
        do_step(step, ground, observer).map_err(|fault| failed(step, ground, fault))?;
    }
    Ok(())
}

fn failed(step: &Step, ground: &Ground<'_>, fault: Fault) -> Failure {
    let (file, line) = (ground.kind.dockerfile(), step.line);
    let message = format!(
        "failed to extend {} image: {file} of {}, line {line}: {}",
        ground.kind.as_str(),
        ground.extension,
        step.text
    );
    Failure { causes: fault.causes, hint: fault.hint, ..Failure::new(Exit::Extend, message) }
}

fn do_step(step: &Step, ground: &Ground<'_>, observer: &dyn Observer) -> Result<(), Fault> {
    match &step.action {
        Action::Run { .. } => programs::run(&step.action, ground, observer),
        Action::Copy { sources, to, owner, mode, unpacks } => {
            let owner = owner.as_deref().map(|owner| users::owner(owner, ground)).transpose()?;
            let how = copy::How { owner: owner.unwrap_or((0, 0)), mode: *mode, unpacks: *unpacks };
            sources.iter().try_for_each(|source| copy::copy(source, to, sources.len(), &how, ground))
        }
        Action::Directory { path, user } => {
            let user = users::find(user)?;
            ground.check(&user)?;
            make_dirs(Path::new(path), (user.uid, user.gid))
        }
    }
}

impl Ground<'_> {
    /// Makes sure that there is such a user where only one id may be had.
    fn check(&self, user: &users::User) -> Result<(), Fault> {
        self.check_ids((user.uid, user.gid))
    }

    fn check_ids(&self, (uid, gid): (u32, u32)) -> Result<(), Fault> {
        match self.alone {
            Some(why) if (uid, gid) != (0, 0) => {
                let text = format!("it is for user {uid}:{gid}, and there is nobody but root: {why}");
                Err(Fault::new(text).hint("give this user a range of ids in /etc/subuid and /etc/subgid"))
            }
            _ => Ok(()),
        }
    }
}

/// Why Dockerfiles cannot be applied.
pub fn refused(kind: Kind, problem: Problem) -> Failure {
    let what = format!("failed to extend {} image", kind.as_str());
    let failure = Failure::caused(Exit::Extend, what, &problem);
    problem.hint.into_iter().fold(failure, Failure::hint)
}

/// The checksum of the contents, names and modes in a context.
///
/// # Errors
/// When it cannot be read.
pub fn context_digest(dir: &Path) -> Result<Digest, Failure> {
    let (dir, as_path) = (dir.to_owned(), "context".to_owned());
    let source = Source::Dir { dir, as_path, parents: Vec::new(), owner: Owner::ROOT };
    let failed =
        |error| Failure::caused(Exit::Extend, "failed to extend an image: cannot read the context", &error);
    diff_id(&source).map(|(digest, _)| digest).map_err(failed)
}

/// What a build is called, at random.
///
/// # Errors
/// When the kernel does not say.
pub fn build_id() -> Result<String, Failure> {
    let path = "/proc/sys/kernel/random/uuid";
    let text = fs::read_to_string(path).map(|text| text.trim().to_owned());
    text.map_err(|error| {
        Failure::caused(Exit::Extend, format!("failed to extend an image: cannot read {path}"), &error)
    })
}

/// Makes a directory and those above it that are missing, all of one owner.
fn make_dirs(path: &Path, (uid, gid): (u32, u32)) -> Result<(), Fault> {
    let missing: Vec<PathBuf> =
        path.ancestors().take_while(|dir| !dir.exists()).map(Path::to_owned).collect();
    for dir in missing.into_iter().rev() {
        match fs::create_dir(&dir) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                return Err(Fault::new(format!("{} is there, and is no directory", dir.display())));
            }
            made => made.map_err(Fault::io("make the directory", &dir))?,
        }
        if (uid, gid) != (0, 0) {
            chown(&dir, Some(uid), Some(gid)).map_err(Fault::io("give away", &dir))?;
        }
    }
    if path.is_dir() { Ok(()) } else { Err(Fault::new(format!("{} is no directory", path.display()))) }
}
