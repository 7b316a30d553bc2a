//! The order of a build: the builder's, and what the person adds to it or puts in its place.

use strata_spec::order::{Order, OrderElement, OrderGroup};

/// What a person asks for, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Asked {
    /// All groups of the builder.
    Builder,
    /// One buildpack.
    Buildpack(OrderElement),
}

/// The order that is tried: what is asked for stands in the place of the builder's order, and what comes before and after
/// is added to every group.
pub fn combine(builder: &Order, asked: &[Asked], before: &[OrderElement], after: &[OrderElement]) -> Order {
    let one_empty = vec![OrderGroup::default()];
    let mut order = if asked.is_empty() && !builder.is_empty() { builder.clone() } else { one_empty };
    for asked in asked {
        order = match asked {
            Asked::Buildpack(element) => {
                order.iter().map(|group| join(&[&group.group, std::slice::from_ref(element)])).collect()
            }
            Asked::Builder => order
                .iter()
                .flat_map(|own| builder.iter().map(|group| join(&[&own.group, &group.group])))
                .collect(),
        };
    }
    let whole = order.iter().map(|group| join(&[before, &group.group, after]));
    whole.filter(|group| !group.group.is_empty()).collect()
}

fn join(parts: &[&[OrderElement]]) -> OrderGroup {
    OrderGroup { group: parts.concat() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn element(id: &str) -> OrderElement {
        OrderElement { id: id.to_owned(), version: "1".to_owned(), optional: false }
    }

    fn elements(ids: &str) -> Vec<OrderElement> {
        ids.split_whitespace().map(element).collect()
    }

    fn order(groups: &[&str]) -> Order {
        groups.iter().map(|ids| OrderGroup { group: elements(ids) }).collect()
    }

    #[test]
    fn buildpacks_stand_for_the_builders_order_or_beside_it() {
        let builder = order(&["a b", "c"]);
        for (asked, before, after, expected) in [
            ("", "", "", &["a b", "c"][..]),
            ("x y", "", "", &["x y"]),
            ("* x", "", "", &["a b x", "c x"]),
            ("x *", "", "", &["x a b", "x c"]),
            ("", "p q", "r", &["p q a b r", "p q c r"]),
            ("x", "p", "r", &["p x r"]),
        ] {
            let wanted: Vec<Asked> = asked
                .split_whitespace()
                .map(|id| if id == "*" { Asked::Builder } else { Asked::Buildpack(element(id)) })
                .collect();
            let found = combine(&builder, &wanted, &elements(before), &elements(after));
            assert_eq!(found, order(expected), "{asked}, {before}, {after}");
        }
        assert_eq!(combine(&Order::new(), &[], &[], &[]), Order::new());
        assert_eq!(combine(&Order::new(), &[], &elements("p"), &[]), order(&["p"]));
    }
}
