//! What Mercurial's files say.

/// How a newer list of files begins.
const V2: &[u8] = b"dirstate-v2\n";
/// Bytes of a commit's id.
const ID: usize = 20;

/// The commit that is checked out, from `.hg/dirstate`; `None` when there is none yet.
pub fn parent(dirstate: &[u8]) -> Option<String> {
    let id = dirstate.strip_prefix(V2).unwrap_or(dirstate).get(..ID)?;
    let hex = id.iter().map(|byte| format!("{byte:02x}")).collect();
    id.iter().any(|byte| *byte != 0).then_some(hex)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parent_comes_first() {
        let state = [&[0xab; 20][..], &[0; 20], b"rest"].concat();
        let expected = Some("ab".repeat(20));
        assert_eq!(parent(&state), expected);
        assert_eq!(parent(&[V2, &state].concat()), expected);
        assert_eq!(parent(&[0; 40]), None);
        assert_eq!(parent(b"short"), None);
    }
}
