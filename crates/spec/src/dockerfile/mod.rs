//! Dockerfiles (<https://docs.docker.com/reference/dockerfile/>), as image extensions generate them.
//!
//! Own code, since the parsers that there are as crates take here-documents only where a command begins with one, or no
//! escape directive, and none splits `ENV`, knows the text that a shell is to run, or replaces variables.
//! Rules are those of BuildKit's parser. What an image cannot be extended with is for others to refuse.

pub mod expand;
mod instruction;
mod lines;
mod words;

#[cfg(test)]
mod tests;

use crate::doc::DocError;
use lines::Lines;

/// A Dockerfile.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dockerfile {
    /// What escapes a character: `\`, or `` ` `` if a directive says so.
    pub escape: char,
    /// The arguments before the first `FROM`.
    pub arguments: Vec<Argument>,
    /// The stages, at least one.
    pub stages: Vec<Stage>,
}

/// What is built upon one image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stage {
    /// The line of its `FROM`, from 1.
    pub line: usize,
    /// The image, variables as they are written.
    pub image: String,
    /// The name behind `AS`, in small letters.
    pub name: Option<String>,
    /// `--platform`.
    pub platform: Option<String>,
    /// What is done, in order.
    pub instructions: Vec<Instruction>,
}

/// One instruction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Instruction {
    /// The line on which it begins, from 1.
    pub line: usize,
    /// What it says, without comments and on one line; here-documents are not in it.
    pub text: String,
    /// Its flags, in order; known to its command, and with a value where they need one.
    pub flags: Vec<Flag>,
    /// What is to be done.
    pub command: Command,
}

/// A flag, for example `--chown=1000:1000`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Flag {
    /// Without dashes.
    pub name: String,
    /// What is behind `=`, variables as they are written.
    pub value: Option<String>,
}

/// What an instruction does. Words still have their quotes and variables, which [`expand`] takes off and replaces.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// `ADD`
    Add(Transfer),
    /// `ARG`
    Arg(Vec<Argument>),
    /// `CMD`
    Cmd(CommandLine),
    /// `COPY`
    Copy(Transfer),
    /// `ENTRYPOINT`
    Entrypoint(CommandLine),
    /// `ENV`: names and values.
    Env(Vec<(String, String)>),
    /// `EXPOSE`: ports.
    Expose(Vec<String>),
    /// `HEALTHCHECK`; `None` for `NONE`.
    Healthcheck(Option<CommandLine>),
    /// `LABEL`: names and values.
    Label(Vec<(String, String)>),
    /// `MAINTAINER`
    Maintainer(String),
    /// `ONBUILD`: an instruction, as the image's configuration has it.
    Onbuild(String),
    /// `RUN`
    Run(CommandLine),
    /// `SHELL`: what runs commands in shell form, at least one word.
    Shell(Vec<String>),
    /// `STOPSIGNAL`
    StopSignal(String),
    /// `USER`
    User(String),
    /// `VOLUME`
    Volume(Vec<String>),
    /// `WORKDIR`
    Workdir(String),
}

/// An argument that a Dockerfile takes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Argument {
    /// Its name.
    pub name: String,
    /// The value that it has when none is given.
    pub default: Option<String>,
}

/// What a process is started with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CommandLine {
    /// Text for the shell. Variables in it are the shell's to replace, and here-documents are in it.
    Shell(String),
    /// A program and its arguments, as they are. May be empty, except of `RUN`.
    Exec(Vec<String>),
    /// A program in a language of its own: a here-document that begins with `#!`.
    Script {
        /// What the file is called.
        name: String,
        /// What is in it.
        content: String,
    },
}

/// What `COPY` and `ADD` transfer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transfer {
    /// What, at least one.
    pub sources: Vec<Source>,
    /// Whereto.
    pub destination: String,
}

/// A source of `COPY` or `ADD`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// A path, a pattern, or an address.
    Path(String),
    /// A here-document, as a file of that name.
    Inline {
        /// The file's name.
        name: String,
        /// What is in it.
        content: String,
        /// Whether variables in it are replaced ([`expand::here_document`]).
        expands: bool,
    },
}

impl Dockerfile {
    /// Parses a Dockerfile.
    ///
    /// # Errors
    /// When an instruction is unknown, lacks arguments, has flags that it cannot have or comes before the first `FROM`, a
    /// here-document does not end, or there is no `FROM`.
    pub fn parse(text: &str) -> Result<Self, DocError> {
        let mut lines = Lines::new(text);
        let mut arguments = Vec::new();
        let mut stages: Vec<Stage> = Vec::new();
        while let Some(logical) = lines.logical()? {
            let line = logical.line;
            let place = |message: String| DocError::at_line(line, message);
            match instruction::parse(&logical, &mut lines)? {
                instruction::Parsed::From(stage) => stages.push(stage),
                instruction::Parsed::Other(found) => match (stages.last_mut(), found) {
                    (Some(stage), found) => stage.instructions.push(found),
                    (None, Instruction { command: Command::Arg(more), .. }) => arguments.extend(more),
                    (None, found) => {
                        let name = found.command.name();
                        return Err(place(format!("{name} before the first FROM; only ARG can be")));
                    }
                },
            }
        }
        if stages.is_empty() {
            return Err(DocError::whole("there is no FROM"));
        }
        Ok(Self { escape: lines.escape, arguments, stages })
    }
}

impl Instruction {
    /// The value of a flag that has one; the last, if there are several.
    pub fn flag(&self, name: &str) -> Option<&str> {
        self.flags.iter().rev().find(|flag| flag.name == name).and_then(|flag| flag.value.as_deref())
    }

    /// Whether a flag is given that says yes or no, and says yes.
    pub fn is_set(&self, name: &str) -> bool {
        let given = self.flags.iter().find(|flag| flag.name == name);
        given.is_some_and(|flag| !flag.value.as_deref().is_some_and(|v| v.eq_ignore_ascii_case("false")))
    }
}

impl Command {
    /// The instruction's name.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Add(_) => "ADD",
            Self::Arg(_) => "ARG",
            Self::Cmd(_) => "CMD",
            Self::Copy(_) => "COPY",
            Self::Entrypoint(_) => "ENTRYPOINT",
            Self::Env(_) => "ENV",
            Self::Expose(_) => "EXPOSE",
            Self::Healthcheck(_) => "HEALTHCHECK",
            Self::Label(_) => "LABEL",
            Self::Maintainer(_) => "MAINTAINER",
            Self::Onbuild(_) => "ONBUILD",
            Self::Run(_) => "RUN",
            Self::Shell(_) => "SHELL",
            Self::StopSignal(_) => "STOPSIGNAL",
            Self::User(_) => "USER",
            Self::Volume(_) => "VOLUME",
            Self::Workdir(_) => "WORKDIR",
        }
    }
}
