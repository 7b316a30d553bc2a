//! Packages of Alpine and its relatives (<https://wiki.alpinelinux.org/wiki/Apk_spec>, "Installed database").

use super::{MAX_PACKAGES, Package};

pub(super) fn read(bytes: &[u8]) -> Result<Vec<Package>, String> {
    let text = String::from_utf8_lossy(bytes);
    let mut packages = Vec::new();
    let mut package = Package::default();
    for line in text.lines().chain([""]) {
        let Some((field, value)) = line.split_once(':') else {
            if !package.name.is_empty() {
                if packages.len() == MAX_PACKAGES {
                    return Err(format!("it has more than {MAX_PACKAGES} packages"));
                }
                if package.source == package.name {
                    package.source.clear();
                }
                packages.push(std::mem::take(&mut package));
            }
            package = Package::default();
            continue;
        };
        let names = || value.split_whitespace().map(bare).filter(|name| !name.is_empty());
        match field {
            "P" => value.clone_into(&mut package.name),
            "V" => value.clone_into(&mut package.version),
            "A" => value.clone_into(&mut package.arch),
            "L" => value.clone_into(&mut package.license),
            "T" => value.clone_into(&mut package.description),
            "o" => value.clone_into(&mut package.source),
            "m" => value.clone_into(&mut package.supplier),
            "p" => package.provides.extend(names().map(str::to_owned)),
            "D" => package.needs.extend(names().map(|name| vec![name.to_owned()])),
            _ => {}
        }
    }
    Ok(packages)
}

/// A name without version; nothing for what must not be there.
fn bare(text: &str) -> &str {
    if text.starts_with('!') { "" } else { text.split(['<', '>', '=', '~']).next().unwrap_or_default() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packages_are_separated_by_empty_lines() {
        let text = "C:Q1x=\nP:musl\nV:1.2.5-r0\nA:x86_64\nT:the musl\nL:MIT\no:musl\nm:T <t@x>\np:so:libc.musl=1\n\
            F:lib\nR:ld.so\na:0:0:755\n\nP:musl-utils\nV:1.2.5-r0\nA:x86_64\no:musl\nD:musl=1.2.5-r0 !uclibc\n";
        let found = read(text.as_bytes()).unwrap();
        assert_eq!(found.len(), 2);
        assert_eq!((found[0].license.as_str(), found[0].source.as_str()), ("MIT", ""));
        assert!(found[0].provides.contains("so:libc.musl"));
        assert_eq!(found[1].source, "musl");
        assert_eq!(found[1].needs.iter().flatten().collect::<Vec<_>>(), ["musl"]);
        assert_eq!(read(b"").unwrap(), []);
    }
}
