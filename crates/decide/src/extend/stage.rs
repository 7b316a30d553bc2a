//! One Dockerfile: variables, arguments and what each instruction does.

use super::{Action, BUILD_ID, Base, Content, Given, PATH, Part, Problem, SHELL, Step, user_of};
use std::cell::Cell;
use std::collections::BTreeMap;
use strata_oci::ImageConfig;
use strata_spec::dockerfile::expand::{self, ExpandError};
use strata_spec::dockerfile::{Argument, Command, CommandLine, Instruction, Source, Transfer};
use strata_spec::extend::{BASE_IMAGE, Kind};

const POSSIBLE: &str =
    "possible are ADD ARG CMD COPY ENTRYPOINT ENV EXPOSE LABEL RUN SHELL STOPSIGNAL USER VOLUME WORKDIR";
const NO_STAGES: &str = "have bin/generate write what is needed into the context, and copy it from there";
const NO_DOWNLOADS: &str = "use RUN with curl or wget, or have bin/generate download it into the context";

/// How many bytes the words of a Dockerfile, and the variables of its programs, may have together.
const MAX_SPENT: usize = 16 << 20;

/// Why an instruction is not possible, and what is.
struct Refusal {
    message: String,
    hint: Option<&'static str>,
}

impl From<ExpandError> for Refusal {
    fn from(error: ExpandError) -> Self {
        Self { message: error.to_string(), hint: None }
    }
}

fn refused<T>(message: impl Into<String>, hint: &'static str) -> Result<T, Refusal> {
    Err(Refusal { message: message.into(), hint: Some(hint) })
}

/// Plans a Dockerfile, and changes the configuration as it says.
pub(super) fn apply(
    kind: Kind,
    base: &Base<'_>,
    given: &Given<'_>,
    config: &mut ImageConfig,
) -> Result<Part, Problem> {
    let place = |line, Refusal { message, hint }: Refusal| Problem {
        extension: format!("{}@{}", given.id, given.version),
        file: kind.dockerfile(),
        line,
        message,
        hint,
    };
    let [only] = given.dockerfile.stages.as_slice() else {
        let line = given.dockerfile.stages.get(1).map_or(1, |stage| stage.line);
        let message = "there is more than one FROM, and an extension can have one stage only".to_owned();
        return Err(place(line, Refusal { message, hint: Some(NO_STAGES) }));
    };
    let mut stage = Stage::new(base, given, config);
    let (mut steps, mut done) = (Vec::new(), Vec::new());
    for instruction in &only.instructions {
        let action = stage.instruction(instruction).map_err(|refusal| place(instruction.line, refusal))?;
        let text = instruction.text.clone();
        if let Some(action) = action {
            done.push(text.clone());
            steps.push(Step { line: instruction.line, text, action });
        }
    }
    Ok(Part {
        id: given.id.to_owned(),
        version: given.version.to_owned(),
        steps,
        uses_build_id: stage.uses_build_id.get(),
        created_by: format!("Layer: '{}', Created by extension: {}", done.join("; "), given.id),
    })
}

/// A Dockerfile as far as it has been read.
struct Stage<'a> {
    config: &'a mut ImageConfig,
    escape: char,
    /// What is given to whoever asks for it.
    given: BTreeMap<String, String>,
    /// What was said before the first `FROM`.
    outer: &'a [Argument],
    /// What was asked for.
    args: BTreeMap<String, String>,
    uses_build_id: Cell<bool>,
    /// The bytes of all that variables were replaced in.
    spent: Cell<usize>,
}

impl<'a> Stage<'a> {
    fn new(base: &Base<'_>, given: &Given<'a>, config: &'a mut ImageConfig) -> Self {
        let (user, group) = user_of(config);
        let own = [(BUILD_ID, base.build_id), ("user_id", user), ("group_id", group)];
        let wanted = given.args.iter().map(|arg| (arg.name.as_str(), arg.value.as_str()));
        let all = own.into_iter().chain(wanted).chain([(BASE_IMAGE, base.name)]);
        let all = all.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        Self {
            config,
            escape: given.dockerfile.escape,
            given: all,
            outer: &given.dockerfile.arguments,
            args: BTreeMap::new(),
            uses_build_id: Cell::new(false),
            spent: Cell::new(0),
        }
    }

    /// The value of a variable: what the image has comes before arguments.
    fn lookup(&self, name: &str) -> Option<String> {
        if let Some(value) = self.config.env_var(name) {
            return Some(value.to_owned());
        }
        let value = self.args.get(name)?;
        if name == BUILD_ID {
            self.uses_build_id.set(true);
        }
        Some(value.clone())
    }

    fn word(&self, text: &str) -> Result<String, Refusal> {
        let word = expand::word(text, self.escape, &|name| self.lookup(name))?;
        self.spend(word.len())?;
        Ok(word)
    }

    /// Notes that so many bytes are kept: values of values grow beyond all memory in a few lines.
    fn spend(&self, bytes: usize) -> Result<(), ExpandError> {
        self.spent.set(self.spent.get().saturating_add(bytes));
        if self.spent.get() > MAX_SPENT { Err(ExpandError::Long(MAX_SPENT)) } else { Ok(()) }
    }

    fn words(&self, texts: &[String]) -> Result<Vec<String>, Refusal> {
        texts.iter().map(|text| self.word(text)).collect()
    }

    fn instruction(&mut self, instruction: &Instruction) -> Result<Option<Action>, Refusal> {
        match &instruction.command {
            Command::Run(line) => return self.run(instruction, line).map(Some),
            Command::Copy(transfer) => return self.transfer(instruction, transfer, false).map(Some),
            Command::Add(transfer) => return self.transfer(instruction, transfer, true).map(Some),
            Command::Workdir(path) => {
                let path = self.absolute(&self.word(path)?);
                let path = if path == "/" { path } else { path.trim_end_matches('/').to_owned() };
                self.config.set_working_dir(&path);
                return Ok(Some(Action::Directory { path, user: self.config.user().to_owned() }));
            }
            Command::Arg(arguments) => arguments.iter().try_for_each(|argument| self.argument(argument))?,
            Command::Env(pairs) => {
                // All of one instruction see what was before it.
                for (name, value) in self.pairs(pairs)? {
                    self.config.set_env(&name, &value);
                }
            }
            Command::Label(pairs) => {
                for (name, value) in self.pairs(pairs)? {
                    self.config.set_label(&name, &value);
                }
            }
            Command::User(user) => {
                let user = self.word(user)?;
                self.config.set_user(user.trim());
            }
            Command::Shell(words) => self.config.set_shell(words.clone()),
            Command::Cmd(line) => {
                let words = self.command_line(line)?;
                self.config.set_cmd(words);
            }
            Command::Entrypoint(line) => {
                let words = self.command_line(line)?;
                self.config.set_entrypoint(words);
            }
            Command::Expose(ports) => {
                for port in self.words(ports)? {
                    let port = if port.contains('/') { port } else { format!("{port}/tcp") };
                    self.config.add_exposed_port(&port);
                }
            }
            Command::Volume(dirs) => {
                self.words(dirs)?.iter().for_each(|dir| self.config.add_volume(dir));
            }
            Command::StopSignal(signal) => {
                let signal = self.word(signal)?;
                self.config.set_stop_signal(&signal);
            }
            other @ (Command::Healthcheck(_) | Command::Maintainer(_) | Command::Onbuild(_)) => {
                return refused(format!("{} is not possible for an extension", other.name()), POSSIBLE);
            }
        }
        Ok(None)
    }

    fn pairs(&self, pairs: &[(String, String)]) -> Result<Vec<(String, String)>, Refusal> {
        pairs.iter().map(|(name, value)| Ok((self.word(name)?, self.word(value)?))).collect()
    }

    fn argument(&mut self, argument: &Argument) -> Result<(), Refusal> {
        let name = self.word(&argument.name)?;
        let outer = || {
            let outer = self.outer.iter().rev().find(|outer| outer.name == name)?;
            Some(outer.default.clone().unwrap_or_default())
        };
        let value = match (self.given.get(&name), &argument.default) {
            (Some(given), _) => given.clone(),
            (None, Some(default)) => self.word(default)?,
            (None, None) => match outer() {
                Some(default) => self.word(&default)?,
                // It is known, and has no value.
                None => return Ok(()),
            },
        };
        self.args.insert(name, value);
        Ok(())
    }

    fn shell(&self) -> Vec<String> {
        let shell = self.config.shell();
        let words = if shell.is_empty() { SHELL.to_vec() } else { shell };
        words.into_iter().map(str::to_owned).collect()
    }

    /// As the configuration has it: text is for a shell.
    fn command_line(&self, line: &CommandLine) -> Result<Vec<String>, Refusal> {
        match line {
            CommandLine::Exec(words) => Ok(words.clone()),
            CommandLine::Shell(text) => Ok(self.shell().into_iter().chain([text.clone()]).collect()),
            CommandLine::Script { .. } => refused("a here-document is for RUN only", POSSIBLE),
        }
    }

    fn run(&self, instruction: &Instruction, line: &CommandLine) -> Result<Action, Refusal> {
        if let Some(flag) = instruction.flags.first() {
            let name = &flag.name;
            return refused(
                format!("RUN --{name} is not possible for an extension"),
                "RUN has no flags here; files can be copied from the context",
            );
        }
        let (argv, script) = match line {
            CommandLine::Script { content, .. } => (Vec::new(), Some(content.clone())),
            other => (self.command_line(other)?, None),
        };
        let mut env: BTreeMap<String, String> = BTreeMap::from([("PATH".to_owned(), PATH.to_owned())]);
        env.extend(self.args.clone());
        env.extend(self.config.env().map(|(name, value)| (name.to_owned(), value.to_owned())));
        // Whatever runs may read it, a script of the context too.
        if self.args.contains_key(BUILD_ID) && self.config.env_var(BUILD_ID).is_none() {
            self.uses_build_id.set(true);
        }
        self.spend(env.iter().map(|(name, value)| name.len() + value.len()).sum())?;
        Ok(Action::Run {
            argv,
            script,
            env: env.into_iter().collect(),
            user: self.config.user().to_owned(),
            dir: self.working_dir(),
        })
    }

    fn transfer(
        &self,
        instruction: &Instruction,
        transfer: &Transfer,
        is_add: bool,
    ) -> Result<Action, Refusal> {
        let name = instruction.command.name();
        let allowed = ["chown", "chmod", "link"];
        if let Some(flag) = instruction.flags.iter().find(|flag| !allowed.contains(&flag.name.as_str())) {
            let hint =
                if flag.name == "from" { NO_STAGES } else { "possible are --chown, --chmod and --link" };
            return refused(format!("{name} --{} is not possible for an extension", flag.name), hint);
        }
        let mut sources = Vec::new();
        for source in &transfer.sources {
            sources.push(match source {
                Source::Path(path) => Content::Path(self.path(path, is_add)?),
                Source::Inline { name, content, expands } => {
                    let content = if *expands {
                        let content = expand::here_document(content, &|name| self.lookup(name))?;
                        self.spend(content.len())?;
                        content
                    } else {
                        content.clone()
                    };
                    Content::Text { name: name.clone(), content }
                }
            });
        }
        let destination = self.word(&transfer.destination)?;
        if sources.len() > 1 && !destination.ends_with('/') {
            return refused(
                format!("{name} has several sources, and its destination '{destination}' is no directory"),
                "end the destination with a slash",
            );
        }
        Ok(Action::Copy {
            sources,
            to: self.absolute(&destination),
            owner: instruction.flag("chown").map(|owner| self.word(owner)).transpose()?,
            mode: instruction.flag("chmod").map(|mode| self.mode(mode)).transpose()?,
            unpacks: is_add,
        })
    }

    fn path(&self, path: &str, is_add: bool) -> Result<String, Refusal> {
        let path = self.word(path)?;
        let is_address = path.contains("://") || path.starts_with("git@");
        if is_add && is_address {
            return refused(
                format!("ADD of an address, '{path}', is not possible for an extension"),
                NO_DOWNLOADS,
            );
        }
        Ok(path)
    }

    fn mode(&self, text: &str) -> Result<u32, Refusal> {
        let text = self.word(text)?;
        let mode = u32::from_str_radix(&text, 8).ok().filter(|mode| *mode <= 0o7777);
        match mode.filter(|_| text.bytes().all(|byte| byte.is_ascii_digit())) {
            Some(mode) => Ok(mode),
            None => refused(
                format!("--chmod={text} is not understood"),
                "write the mode as a number, as in --chmod=755",
            ),
        }
    }

    fn working_dir(&self) -> String {
        let dir = self.config.working_dir();
        if dir.is_empty() { "/".to_owned() } else { dir.to_owned() }
    }

    /// A path seen from the working directory; a slash at its end stays.
    fn absolute(&self, path: &str) -> String {
        let joined =
            if path.starts_with('/') { path.to_owned() } else { format!("{}/{path}", self.working_dir()) };
        let mut parts: Vec<&str> = Vec::new();
        for part in joined.split('/') {
            match part {
                "" | "." => {}
                ".." => drop(parts.pop()),
                part => parts.push(part),
            }
        }
        let is_dir = path.ends_with(['/']) || path == "." || path.ends_with("/.");
        let end = if is_dir && !parts.is_empty() { "/" } else { "" };
        format!("/{}{end}", parts.join("/"))
    }
}
