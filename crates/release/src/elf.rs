//! Looks at programs before they are shipped: they must run in any image, on the machine they are for.

use crate::args::Arch;

const PT_INTERP: u32 = 3;
const EM_X86_64: u16 = 62;
const EM_AARCH64: u16 = 183;
/// Size of an entry in the table of segments of a 64-bit file.
const SEGMENT: usize = 56;

/// Why `bytes` are not a program for `arch` that needs no other file; `None` if they are.
pub(crate) fn problem(bytes: &[u8], arch: Arch) -> Option<String> {
    let wanted = match arch {
        Arch::Amd64 => EM_X86_64,
        Arch::Arm64 => EM_AARCH64,
    };
    match machine_and_loader(bytes) {
        None => Some("it is no 64-bit ELF program".to_owned()),
        Some((found, _)) if found != wanted => {
            Some(format!("it is for machine {found} of the ELF list, not for {} ({wanted})", arch.name()))
        }
        Some((_, true)) => {
            Some("it is not linked statically, so it needs a loader that images may not have".to_owned())
        }
        Some((_, false)) => None,
    }
}

/// Which machine it is for, and whether the kernel must load another program to start it.
fn machine_and_loader(bytes: &[u8]) -> Option<(u16, bool)> {
    if !bytes.starts_with(b"\x7fELF\x02\x01") {
        return None;
    }
    let machine = u16::from_le_bytes(take(bytes, 18)?);
    let start = usize::try_from(u64::from_le_bytes(take(bytes, 32)?)).ok()?;
    let mut needs_loader = false;
    for index in 0..usize::from(u16::from_le_bytes(take(bytes, 56)?)) {
        let kind = u32::from_le_bytes(take(bytes, start.checked_add(index * SEGMENT)?)?);
        needs_loader |= kind == PT_INTERP;
    }
    Some((machine, needs_loader))
}

fn take<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..at.checked_add(N)?)?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn program(machine: u16, segments: &[u32]) -> Vec<u8> {
        let mut bytes = vec![0; 64];
        bytes[..6].copy_from_slice(b"\x7fELF\x02\x01");
        bytes[18..20].copy_from_slice(&machine.to_le_bytes());
        bytes[32] = 64;
        bytes[56] = u8::try_from(segments.len()).unwrap();
        for kind in segments {
            bytes.extend_from_slice(&kind.to_le_bytes());
            bytes.resize(bytes.len() + SEGMENT - 4, 0);
        }
        bytes
    }

    #[test]
    fn only_static_programs_for_the_right_machine_pass() {
        let (amd64, arm64) = (program(EM_X86_64, &[1, 2]), program(EM_AARCH64, &[1]));
        assert_eq!(problem(&amd64, Arch::Amd64), None);
        assert_eq!(problem(&arm64, Arch::Arm64), None);
        for (bytes, expected) in [
            (arm64, "machine 183"),
            (program(EM_X86_64, &[1, PT_INTERP]), "not linked statically"),
            (amd64[..70].to_vec(), "no 64-bit ELF"),
            (b"#!/bin/sh\n".to_vec(), "no 64-bit ELF"),
        ] {
            let found = problem(&bytes, Arch::Amd64).unwrap();
            assert!(found.contains(expected), "{found}");
        }
    }
}
