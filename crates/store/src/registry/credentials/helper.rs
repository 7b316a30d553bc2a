//! Credential helpers: programs that keep credentials elsewhere
//! (<https://github.com/docker/docker-credential-helpers>).

use std::io::{self, Read, Write as _};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::time::Duration;

use serde_json::Value;
use strata_layer::threads::refused;

use super::Credentials;
use crate::wire::Stop;

/// How often one looks whether somebody wants out.
const MOMENT: Duration = Duration::from_millis(50);
/// Longer answers are refused.
const MAX_ANSWER: u64 = 1024 * 1024;
/// How helpers say that they do not know a registry; part of their protocol.
const NOT_FOUND: &str = "credentials not found in native keychain";
/// The user that stands for "the password is an identity token".
const TOKEN_USER: &str = "<token>";

/// Why a credential helper gave no answer.
#[derive(Debug, thiserror::Error)]
pub enum HelperError {
    /// The name could lead to a program of another kind.
    #[error("cannot run credential helper {0:?}: expected letters, digits, '.', '_' and '-'")]
    Name(String),
    /// It cannot be run.
    #[error("cannot run {program}")]
    Run {
        /// The program.
        program: String,
        /// Why not.
        source: io::Error,
    },
    /// It ended with a failure.
    #[error("cannot get credentials from {program}: {message}")]
    Failed {
        /// The program.
        program: String,
        /// The start of what it said, or how it ended.
        message: String,
    },
    /// Its answer is not understood.
    #[error("cannot parse the answer of {program}")]
    Answer {
        /// The program.
        program: String,
        /// Why not.
        source: serde_json::Error,
    },
}

/// Asks `docker-credential-<name>` for the credentials of a registry.
pub(super) fn get(name: &str, registry: &str, stop: &Stop) -> Result<Option<Credentials>, HelperError> {
    let program = program(name)?;
    let (is_success, answer, complaint) = run(Command::new(&program).arg("get"), registry, stop)
        .map_err(|source| HelperError::Run { program: program.clone(), source })?;
    if is_success {
        return parse(&answer).map_err(|source| HelperError::Answer { program, source });
    }
    let said = if answer.trim().is_empty() { complaint } else { answer };
    if said.trim() == NOT_FOUND {
        return Ok(None);
    }
    let message = said.trim().chars().take(500).collect();
    Err(HelperError::Failed { program, message })
}

fn program(name: &str) -> Result<String, HelperError> {
    let is_good = name.starts_with(|c: char| c.is_ascii_alphanumeric())
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'));
    if is_good { Ok(format!("docker-credential-{name}")) } else { Err(HelperError::Name(name.to_owned())) }
}

/// Whether it ended well, what it answered, what it complained of.
fn run(command: &mut Command, registry: &str, stop: &Stop) -> io::Result<(bool, String, String)> {
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    let talk = talk(&mut child, registry, stop);
    if talk.is_err() {
        child.kill()?;
    }
    let status = child.wait()?;
    let (answer, complaint) = talk?;
    Ok((status.success(), answer, if complaint.trim().is_empty() { status.to_string() } else { complaint }))
}

fn talk(child: &mut Child, registry: &str, stop: &Stop) -> io::Result<(String, String)> {
    let gone = || io::Error::from(io::ErrorKind::BrokenPipe);
    let mut input = child.stdin.take().ok_or_else(gone)?;
    match input.write_all(registry.as_bytes()) {
        // A helper need not read what it does not care for.
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => return Err(error),
        _ => drop(input),
    }
    let complaint = listen(child.stderr.take().ok_or_else(gone)?)?;
    let answer = listen(child.stdout.take().ok_or_else(gone)?)?;
    Ok((heard(&answer, stop)?, heard(&complaint, stop)?))
}

/// Reads in a thread of its own, which ends when all have closed the pipe: who wants out does not wait for it.
fn listen(from: impl Read + Send + 'static) -> io::Result<Receiver<io::Result<String>>> {
    let (sender, heard) = sync_channel(1);
    // Whoever wanted to know may be gone.
    let reading = std::thread::Builder::new().spawn(move || sender.send(read(from)).unwrap_or_default());
    reading.map(|_| heard).map_err(|error| refused(&error))
}

fn heard(all: &Receiver<io::Result<String>>, stop: &Stop) -> io::Result<String> {
    loop {
        match all.recv_timeout(MOMENT) {
            Ok(heard) => return heard,
            Err(RecvTimeoutError::Timeout) => stop.check()?,
            Err(RecvTimeoutError::Disconnected) => {
                return Err(io::Error::other("the thread that reads has ended; please report this"));
            }
        }
    }
}

fn read(from: impl Read) -> io::Result<String> {
    let mut bytes = Vec::new();
    let count = from.take(MAX_ANSWER + 1).read_to_end(&mut bytes)? as u64;
    if count > MAX_ANSWER {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "it said too much"));
    }
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

fn parse(answer: &str) -> Result<Option<Credentials>, serde_json::Error> {
    let answer: Value = serde_json::from_str(answer)?;
    let text = |member: &str| answer.get(member).and_then(Value::as_str).unwrap_or_default().to_owned();
    let (user, password) = (text("Username"), text("Secret"));
    Ok(match user.as_str() {
        TOKEN_USER => Some(Credentials::IdentityToken(password)),
        "" => None,
        _ => Some(Credentials::Password { user, password }),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::sync::atomic::AtomicBool;

    #[test]
    fn only_a_plain_name_becomes_a_program() {
        assert_eq!(program("ecr-login").unwrap(), "docker-credential-ecr-login");
        for bad in ["", "../x", "a/b", "-x", ".x", "a b", "a;b", "a\0", "é"] {
            assert!(matches!(program(bad), Err(HelperError::Name(_))), "{bad:?}");
        }
    }

    #[test]
    fn answers_are_users_tokens_or_nothing() {
        let password = Credentials::Password { user: "u".to_owned(), password: "p".to_owned() };
        for (answer, expected) in [
            (r#"{"ServerURL":"r.io","Username":"u","Secret":"p"}"#, Some(password)),
            (r#"{"Username":"<token>","Secret":"id"}"#, Some(Credentials::IdentityToken("id".to_owned()))),
            (r#"{"Username":"","Secret":""}"#, None),
            ("{}", None),
        ] {
            assert_eq!(parse(answer).unwrap(), expected, "{answer}");
        }
        assert!(parse("hello").is_err());
    }

    #[test]
    fn a_helper_that_is_not_installed_is_an_error_that_names_it() {
        let error = get("strata-test-absent", "r.io", &Stop::default()).unwrap_err();
        assert!(error.to_string().contains("docker-credential-strata-test-absent"), "{error}");
    }

    #[test]
    fn a_program_is_heard_to_its_end_and_its_failure_is_told() {
        let sh = |script: &str| run(Command::new("sh").args(["-c", script]), "r.io", &Stop::default());
        for (script, is_success, answer, complaint) in [
            ("cat", true, "r.io", "exit status: 0"),
            ("echo no >&2; exit 3", false, "", "no\n"),
            ("exit 4", false, "", "exit status: 4"),
        ] {
            assert_eq!(
                sh(script).unwrap(),
                (is_success, answer.to_owned(), complaint.to_owned()),
                "{script}"
            );
        }
        assert!(sh("cat /dev/zero").is_err());
    }

    #[test]
    fn who_wants_out_does_not_wait_for_a_program() {
        let stop = Stop::when(Arc::new(AtomicBool::new(true)));
        // What it has started may hold the pipes open.
        let error = run(Command::new("sh").args(["-c", "sleep 20 & exec sleep 1000"]), "r.io", &stop);
        assert_eq!(error.unwrap_err().to_string(), "interrupted");
    }
}
