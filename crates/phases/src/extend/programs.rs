//! Runs the programs of `RUN`.

use super::users::{self, User};
use super::{Fault, Ground, make_dirs};
use crate::event::{Event, Observer};
use crate::process::{self, Ended, Invocation, Lines, Run};
use std::collections::{BTreeMap, VecDeque};
use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use strata_decide::extend::Action;

/// How many of the last lines of a program that failed are told.
const LAST_LINES: usize = 10;
/// Where the text of a script is while it runs: never part of an image.
const SCRIPTS: &str = "/dev";

pub(super) fn run(action: &Action, ground: &Ground<'_>, observer: &dyn Observer) -> Result<(), Fault> {
    let Action::Run { argv, script, env, user, dir } = action else { return Ok(()) };
    let user = users::find(user)?;
    ground.check(&user)?;
    make_dirs(Path::new(dir), (user.uid, user.gid))?;
    let script = script.as_deref().map(written).transpose()?;
    let mut words = argv.iter().map(Into::into).chain(script.iter().map(|script| script.as_os_str().into()));
    let program = words.next().map(PathBuf::from).ok_or_else(|| Fault::new("there is no program"))?;
    let invocation =
        Invocation { program, args: words.collect(), env: environment(env, &user, ground), dir: dir.into() };
    let (mut lines, mut last) = (Lines::default(), VecDeque::new());
    let mut hear = |line: String| {
        if last.len() == LAST_LINES {
            last.pop_front();
        }
        last.push_back(process::without_colours(&line).into_owned());
        observer.event(Event::Output { buildpack: ground.extension.to_owned(), line });
    };
    let ran = process::run_as(&invocation, (user.uid, user.gid), &mut |bytes| lines.feed(bytes, &mut hear));
    lines.finish(&mut hear);
    let left = (ground.end_leftovers)();
    if left > 0 {
        observer.warn(format!("{}: {left} process(es) were left running, and were ended", ground.extension));
    }
    match ran {
        Ok(Run { ended: Ended::Code(0), .. }) => Ok(()),
        Ok(Run { ended, .. }) => Err(ended_badly(ended, last.into())),
        Err(error) => Err(not_started(&invocation.program, &error)),
    }
}

/// Variables of the image come before those of this machine, and home is the user's.
fn environment(
    env: &[(String, String)],
    user: &User,
    ground: &Ground<'_>,
) -> Vec<(std::ffi::OsString, std::ffi::OsString)> {
    let mut all: BTreeMap<&str, &str> = BTreeMap::from([("HOME", user.home.as_str())]);
    let pairs = ground.variables.iter().chain(env);
    all.extend(pairs.map(|(name, value)| (name.as_str(), value.as_str())));
    all.into_iter().map(|(name, value)| (name.into(), value.into())).collect()
}

/// Keeps a script in a file that others can run, as long as the value lives.
fn written(script: &str) -> Result<tempfile::TempPath, Fault> {
    let dir = Path::new(SCRIPTS);
    let file = tempfile::Builder::new().prefix(".strata-").tempfile_in(dir);
    let path = file.map_err(Fault::io("make a file in", dir))?.into_temp_path();
    fs::write(&path, script).map_err(Fault::io("write", &path))?;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755))
        .map_err(Fault::io("make executable", &path))?;
    Ok(path)
}

fn ended_badly(ended: Ended, last: Vec<String>) -> Fault {
    let said = last.into_iter().filter(|line| !line.trim().is_empty());
    let causes = [ended.to_string()].into_iter().chain(said.map(|line| format!("it said: {line}"))).collect();
    let hint = match ended {
        Ended::Code(126) => {
            Some("a program that it calls cannot be run; is it executable, and for this machine?")
        }
        Ended::Code(127) => Some("a program that it calls is not there; does the image have it?"),
        Ended::Signal(9) | Ended::Code(137) => ended.hint(),
        Ended::Code(_) | Ended::Signal(_) => None,
    };
    Fault { causes, hint: hint.map(str::to_owned) }
}

fn not_started(program: &Path, error: &io::Error) -> Fault {
    let fault = Fault::new(format!("cannot run {}", program.display()));
    let fault = Fault { causes: [fault.causes, vec![error.to_string()]].concat(), ..fault };
    match error.kind() {
        io::ErrorKind::NotFound => fault.hint("does the image have it? An image without a shell can run programs in exec form only, as in RUN [\"/prog\", \"arg\"]"),
        _ => fault,
    }
}
