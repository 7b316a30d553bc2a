//! A bill and a comparison, for people.

use crate::bill::Bill;
use crate::component::{Component, Origin};
use crate::diff::Change;

/// What stands where nothing is known.
const NONE: &str = "-";

/// One line for each component: name, version, type, and where it was found. Ends with a line feed.
#[must_use]
pub fn table(bill: &Bill) -> String {
    let mut rows = vec![["NAME", "VERSION", "TYPE", "FOUND IN"].map(str::to_owned)];
    let mut all: Vec<&Component> = bill.components().map(|(_, component)| component).collect();
    all.sort_by(|a, b| (a.full_name(), &a.version, a.key()).cmp(&(b.full_name(), &b.version, b.key())));
    rows.extend(all.into_iter().map(|of| {
        let kind = of.purl.as_ref().map_or(of.kind.word(), |purl| purl.kind());
        [of.full_name(), of.version.clone(), kind.to_owned(), places(of.found_in.iter())]
    }));
    lines(&rows)
}

/// One line for each change. Ends with a line feed, unless there is none.
#[must_use]
pub fn changes(changes: &[Change]) -> String {
    let rows: Vec<[String; 4]> = changes
        .iter()
        .map(|change| {
            let versions = match (change.before.join(", "), change.after.join(", ")) {
                (before, after) if before.is_empty() => after,
                (before, after) if after.is_empty() => before,
                (before, after) => format!("{before} -> {after}"),
            };
            let places: Vec<String> = change.found_in.iter().map(place).collect();
            [change.what.word().to_owned(), change.name.clone(), versions, places.join(", ")]
        })
        .collect();
    lines(&rows)
}

/// The layer that made a difference; one of the run image has no other name than its digest.
fn place(origin: &Origin) -> String {
    let digits = origin.diff_id.as_deref().and_then(|id| id.split(':').nth(1)).and_then(|hex| hex.get(..12));
    match digits.filter(|_| origin.is_run_image()) {
        Some(digits) => format!("{} {digits}", origin.short()),
        None => origin.short(),
    }
}

fn places<'a>(origins: impl Iterator<Item = &'a Origin>) -> String {
    let mut places: Vec<String> = origins.map(Origin::short).collect();
    places.dedup();
    places.join(", ")
}

/// Columns as wide as what is in them, the last one as it is.
fn lines(rows: &[[String; 4]]) -> String {
    // Names come from buildpacks: nothing in them may move the cursor.
    let clean = |cell: &String| match cell.as_str() {
        "" => NONE.to_owned(),
        text => text.replace(char::is_control, " "),
    };
    let rows: Vec<[String; 4]> = rows.iter().map(|row| std::array::from_fn(|i| clean(&row[i]))).collect();
    let width = |i: usize| rows.iter().map(|row| row[i].chars().count()).max().unwrap_or(0);
    let widths: [usize; 3] = std::array::from_fn(width);
    let mut out = String::new();
    for [first, second, third, last] in &rows {
        let [a, b, c] = widths;
        out.push_str(&format!("{first:a$}  {second:b$}  {third:c$}  {last}\n"));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned_and_names_are_harmless() {
        let mut bill = Bill::default();
        let found_in = [Origin::layer("a/b", "1", "x", None), Origin::run_image(None)].into();
        bill.push(Component { name: "long\u{1b}[2J name".into(), found_in, ..Component::default() });
        let purl = "pkg:npm/s@10".parse().ok();
        bill.push(Component { name: "s".into(), version: "10".into(), purl, ..Component::default() });
        let expected = "NAME           VERSION  TYPE     FOUND IN\n\
            long [2J name  -        library  run image, a/b:x\n\
            s              10       npm      -\n";
        assert_eq!(table(&bill), expected);
    }
}
