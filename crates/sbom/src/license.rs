//! Licenses in documents that take expressions of SPDX only.

use spdx::expression::ExprNode;
use spdx::{Expression, LicenseItem, ParseMode};

/// The list still has names that are not to be used any more, and buildpacks use them.
const MODE: ParseMode =
    ParseMode { allow_deprecated: true, allow_postfix_plus_on_gpl: true, ..ParseMode::STRICT };

/// Whether the text is an expression whose licenses are all on the list of SPDX. One that refers to a license text of its
/// own document says nothing in another.
pub(crate) fn is_expression(text: &str) -> bool {
    Expression::parse_mode(text, MODE).is_ok_and(|expression| {
        expression.iter().all(|node| match node {
            ExprNode::Req(wanted) => {
                let is_listed = matches!(wanted.req.license, LicenseItem::Spdx { .. });
                let has_own_addition =
                    wanted.req.addition.as_ref().is_some_and(|addition| addition.id().is_none());
                is_listed && !has_own_addition
            }
            ExprNode::Op(_) => true,
        })
    })
}

/// The expression that says all of these hold.
pub(crate) fn all_of<'a>(expressions: impl IntoIterator<Item = &'a str>) -> String {
    let all: Vec<&str> = expressions.into_iter().collect();
    match all.as_slice() {
        [one] => (*one).to_owned(),
        all => {
            let bracketed = all.iter().map(|text| match text.contains(char::is_whitespace) {
                true => format!("({text})"),
                false => (*text).to_owned(),
            });
            bracketed.collect::<Vec<_>>().join(" AND ")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_license_of_the_list_is_no_expression() {
        for (text, expected) in [
            ("MIT", true),
            ("MIT OR Apache-2.0", true),
            ("GPL-2.0-only WITH Classpath-exception-2.0", true),
            ("GPL-2.0 WITH Classpath-exception-2.0", true),
            ("GPL-2.0+", true),
            ("LicenseRef-own", false),
            ("The MIT License", false),
            ("", false),
            ("MIT AND", false),
        ] {
            assert_eq!(is_expression(text), expected, "{text}");
        }
    }

    #[test]
    fn several_hold_at_once() {
        assert_eq!(all_of(["MIT"]), "MIT");
        assert_eq!(all_of(["MIT", "A OR B"]), "MIT AND (A OR B)");
    }
}
