//! What buildpacks may use of this machine; named as container engines name it.

use clap::Args as ClapArgs;
use strata_sandbox::{Limits, Met};

/// Limits on a sandbox.
#[derive(Debug, Clone, Copy, ClapArgs)]
pub(crate) struct LimitArgs {
    /// How much memory buildpacks may use together: bytes, or as in 512m or 4g
    #[arg(long, value_name = "BYTES", value_parser = memory)]
    pub(crate) memory: Option<u64>,
    /// How many processors they may use together, as in 1.5
    #[arg(long, value_name = "NUMBER", value_parser = cpus)]
    pub(crate) cpus: Option<u64>,
    /// How many processes and threads they may have at a time
    #[arg(long, value_name = "COUNT", value_parser = pids)]
    pub(crate) pids_limit: Option<u64>,
    /// How much of the disk has to stay free while they run, as in 2g, or 0 for no limit [default: 1g, or half of what is free]
    #[arg(long, value_name = "BYTES", value_parser = size)]
    pub(crate) keep_free: Option<u64>,
}

impl LimitArgs {
    pub(crate) fn limits(self) -> Limits {
        Limits { memory: self.memory, cpus: self.cpus, pids: self.pids_limit }
    }

    /// Says of a limit that it was met.
    pub(crate) fn told(self, met: &Met) -> String {
        match met {
            Met::Memory(count) => {
                let limit = self.memory.unwrap_or_default() >> 20;
                let were = if *count == 1 { "1 process was" } else { &format!("{count} processes were") };
                format!("the buildpacks used more memory than the {limit} MiB of --memory, and {were} ended")
            }
            Met::Pids(count) => {
                let limit = self.pids_limit.unwrap_or_default();
                format!(
                    "the buildpacks wanted more processes than the {limit} of --pids-limit, {count} times"
                )
            }
        }
    }
}

/// Understands as much memory as something can run in.
fn memory(text: &str) -> Result<u64, String> {
    const LEAST: u64 = 6 << 20;
    let bytes = size(text)?;
    if bytes >= LEAST { Ok(bytes) } else { Err("nothing runs in less than 6m".to_owned()) }
}

/// Understands a number of bytes with a unit of container engines.
fn size(text: &str) -> Result<u64, String> {
    let lower = text.to_ascii_lowercase();
    let (number, unit) = lower.split_at(lower.find(|c: char| !c.is_ascii_digit()).unwrap_or(lower.len()));
    let shift = match unit {
        "" | "b" => 0,
        "k" | "kb" | "kib" => 10,
        "m" | "mb" | "mib" => 20,
        "g" | "gb" | "gib" => 30,
        "t" | "tb" | "tib" => 40,
        _ => return Err("expected a number of bytes, as in 512m or 4g".to_owned()),
    };
    let bytes = number.parse::<u64>().ok().and_then(|number| number.checked_mul(1 << shift));
    bytes.ok_or_else(|| "expected a number of bytes, as in 512m or 4g".to_owned())
}

/// Understands a number of processes, of which Strata's own part needs some, and two for each buildpack that detects.
fn pids(text: &str) -> Result<u64, String> {
    const LEAST: u64 = 64;
    match text.parse() {
        Ok(count) if count >= LEAST => Ok(count),
        Ok(_) => Err(format!("no build is sure to run with less than {LEAST} processes and threads")),
        Err(error) => Err(format!("expected a number of processes and threads: {error}")),
    }
}

/// Understands a number of processors; gives thousandths.
fn cpus(text: &str) -> Result<u64, String> {
    let refused = || "expected a number of processors from 0.01 to 10000, as in 1.5".to_owned();
    let (whole, part) = text.split_once('.').unwrap_or((text, ""));
    let is_number = text.len() > 1 - usize::from(part.is_empty())
        && [whole, part].iter().all(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()))
        && !(whole.is_empty() && part.is_empty());
    if !is_number || part.len() > 9 {
        return Err(refused());
    }
    let whole: u64 = if whole.is_empty() { 0 } else { whole.parse().map_err(|_malformed| refused())? };
    let part: u64 = format!("{part:0<3}")[..3].parse().map_err(|_malformed| refused())?;
    let thousandths =
        whole.checked_mul(1000).and_then(|whole| whole.checked_add(part)).ok_or_else(refused)?;
    if (10..=10_000_000).contains(&thousandths) { Ok(thousandths) } else { Err(refused()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_has_the_units_of_container_engines() {
        for (text, expected) in [
            ("6291456", Some(6 << 20)),
            ("512m", Some(512 << 20)),
            ("4G", Some(4 << 30)),
            ("100000k", Some(100_000 << 10)),
            ("1t", Some(1 << 40)),
            ("1", None),
            ("", None),
            ("g", None),
            ("4x", None),
            ("-4g", None),
            ("99999999999999999999", None),
            ("18446744073709551615g", None),
        ] {
            assert_eq!(memory(text).ok(), expected, "{text}");
        }
    }

    #[test]
    fn there_is_a_least_number_of_processes() {
        for (text, expected) in [("64", Some(64)), ("63", None), ("", None), ("-1", None), ("many", None)] {
            assert_eq!(pids(text).ok(), expected, "{text}");
        }
    }

    #[test]
    fn processors_are_thousandths() {
        for (text, expected) in [
            ("2", Some(2000)),
            ("1.5", Some(1500)),
            (".25", Some(250)),
            ("0.0125", Some(12)),
            ("0", None),
            ("0.001", None),
            (".", None),
            ("", None),
            ("1.x", None),
            ("-1", None),
            ("99999999999999999999", None),
        ] {
            assert_eq!(cpus(text).ok(), expected, "{text}");
        }
    }
}
