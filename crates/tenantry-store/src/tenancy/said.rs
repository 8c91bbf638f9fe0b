//! What logs say of members, groups and plans. Every name is quoted, so that none can pass for what
//! stands around it, and nothing is left out without saying how much.

use crate::{Granted, ObjectNames};
use std::{
    collections::BTreeSet,
    fmt::{Debug, Write as _},
};
use tenantry_auth::{Allowed, Grant, UserName};
use tenantry_types::{
    Allowance, Amount, Exception, Exceptions, GroupName, Isolation, TenantPlan, Term,
};

/// Bytes of one list; its first item is there, however long it is.
const LIST_BYTES_MAX: usize = 1_024;

/// The groups of a member.
pub(super) fn groups(names: &[GroupName]) -> String {
    let names: BTreeSet<_> = names.iter().map(|name| format!("{name:?}")).collect();
    let names = Vec::from_iter(names);
    if names.is_empty() { "groups none".to_owned() } else { format!("groups {}", listed(&names)) }
}

/// Who is in a group, if that is known; empty if nobody is.
pub(super) fn members(names: Option<&[UserName]>) -> String {
    let Some(names) = names else { return "members not listed".to_owned() };
    let names: BTreeSet<_> = names.iter().map(|name| format!("{:?}", name.as_str())).collect();
    let names = Vec::from_iter(names);
    if names.is_empty() { String::new() } else { format!("members {}", listed(&names)) }
}

/// Those of these parts that say something.
pub(super) fn joined<const N: usize>(parts: [String; N]) -> String {
    let parts: Vec<_> = parts.into_iter().filter(|part| !part.is_empty()).collect();
    parts.join("; ")
}

/// What a group gives that it did not, and what it gives no more: writing before reading, and each in a
/// list of its own, so that many of one kind hide none of another. Empty if nothing changes.
pub(super) fn grants(before: &[Grant], granted: &Granted) -> String {
    let after = &granted.grants;
    let mut parts = Vec::new();
    for (word, these, others) in [("given", after.as_slice(), before), ("taken", before, after)] {
        for (writes, level) in [(true, "write"), (false, "read")] {
            let all: Vec<_> = these
                .iter()
                .filter(|one| one.writes == writes && !others.contains(one))
                .map(|one| object(one.on, &granted.names))
                .collect();
            if !all.is_empty() {
                parts.push(format!("{word} {level} {}", listed(&all)));
            }
        }
    }
    parts.join("; ")
}

/// Whom or what is changed, and how.
pub(super) fn of(name: &(impl Debug + ?Sized), what: &str) -> String {
    if what.is_empty() { format!("{name:?}") } else { format!("{name:?}: {what}") }
}

/// What a plan says from now on that it did not say before; of one that is new, what is not said of all
/// tenants. Its words and numbers are bounded, so that all of it is there.
pub(super) fn plan(before: Option<&TenantPlan>, after: &TenantPlan) -> String {
    let usual = TenantPlan::new(after.name.clone(), Allowance::default());
    let old = terms(before.unwrap_or(&usual));
    let changed = old.into_iter().zip(terms(after)).filter(|(old, new)| old != new);
    let one = |((word, old), (_, new)): ((&str, String), (&str, String))| match before {
        Some(_) => format!("{word} {old} → {new}"),
        None => format!("{word} {new}"),
    };
    changed.map(one).collect::<Vec<_>>().join("; ")
}

/// What is said of a tenant from now on that was not said of it before: `plan` where its plan says it.
pub(super) fn exceptions(before: &Exceptions, after: &Exceptions) -> String {
    let one = |term: Term| {
        let (old, new) = (before.get(term), after.get(term));
        (old != new).then(|| format!("{term} {} → {}", exception(old), exception(new)))
    };
    Term::ALL.into_iter().filter_map(one).collect::<Vec<_>>().join("; ")
}

fn exception(one: Option<Exception<Amount>>) -> String {
    match one {
        None => "plan".to_owned(),
        Some(Exception { value, expires_at: None }) => value.to_string(),
        Some(Exception { value, expires_at: Some(end) }) => {
            format!("{value} until {}", end.rfc3339())
        }
    }
}

/// All that a plan says, as it would be typed.
fn terms(plan: &TenantPlan) -> Vec<(&'static str, String)> {
    let TenantPlan { name: _, allowance, places } = plan;
    let term = |term: Term| (term.word(), allowance.amount(term).to_string());
    let mut all: Vec<_> = Term::ALL.into_iter().map(term).collect();
    all.push(("on_shared_failure", allowance.on_shared_failure.word().to_owned()));
    let isolations: Vec<_> = places.isolations().map(Isolation::word).collect();
    all.push(("isolations", isolations.join(",")));
    let locations = places.locations().map(|some| {
        let words: Vec<_> = some.iter().map(ToString::to_string).collect();
        words.join(",")
    });
    all.push(("locations", locations.unwrap_or_else(|| "any".to_owned())));
    all
}

/// What is gone has numbers only, which are no name: those are quoted.
fn object(on: Allowed, names: &ObjectNames) -> String {
    match (names.get(&on), on) {
        (Some((database, None)), _) => format!("{database:?}"),
        (Some((database, Some(collection))), _) => format!("{database:?}/{collection:?}"),
        (None, Allowed::Database(database)) => format!("database {}", database.0),
        (None, Allowed::Collection(database, collection)) => {
            format!("collection {} of database {}", collection.0, database.0)
        }
    }
}

/// As many of these as fit, and how many there are beside.
fn listed(all: &[String]) -> String {
    let mut text = String::new();
    for (at, one) in all.iter().enumerate() {
        if at > 0 && text.len() + one.len() > LIST_BYTES_MAX {
            let _ = write!(text, " and {} more", all.len() - at);
            break;
        }
        let _ = write!(text, "{}{one}", if at > 0 { ", " } else { "" });
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use tenantry_types::{
        CollectionName, CollectionNumber, DatabaseName, DatabaseNumber, Limits, Location, Places,
        PlanName, Rate, Rates, SharedFailure, Timestamp,
    };

    const D: DatabaseNumber = DatabaseNumber(1);

    fn on(number: u32, writes: bool) -> Grant {
        Grant { on: Allowed::Collection(D, CollectionNumber(number)), writes }
    }

    fn granted(grants: Vec<Grant>, name: impl Fn(u32) -> String) -> Granted {
        let database = DatabaseName::parse("d").unwrap();
        let names = (1..=64).map(|number| {
            let name = CollectionName::parse(name(number)).unwrap();
            (on(number, false).on, (database.clone(), Some(name)))
        });
        Granted { names: names.collect(), grants }
    }

    #[test]
    fn a_name_passes_for_nothing_else() {
        let evil = |_| r#"x", write "finance"#.to_owned();
        let said = grants(&[], &granted(vec![on(1, false)], evil));
        assert_eq!(said, r#"given read "d"/"x\", write \"finance""#);
        assert_eq!(of(r#"a": given write "b"#, ""), r#""a\": given write \"b""#);
        let name = GroupName::parse(r#"a", "b"#).unwrap();
        assert_eq!(groups(&[name]), r#"groups "a\", \"b""#);
    }

    #[test]
    fn nothing_is_left_out_without_a_word_and_writing_comes_first() {
        let long = |number| format!("{number}{}", "x".repeat(300));
        let mut all: Vec<_> = (1..=63).map(|number| on(number, false)).collect();
        all.push(on(64, true));
        let said = grants(&[], &granted(all, long));
        assert!(said.starts_with(r#"given write "d"/"64xxx"#), "{said}");
        assert!(said.contains("; given read ") && said.ends_with(" and 60 more"), "{said}");
        let short = |number| format!("c{number}");
        let all: Vec<_> = (1..=64).map(|number| on(number, true)).collect();
        assert!(grants(&[], &granted(all, short)).contains(r#""d"/"c64""#));
        let names: Vec<_> =
            (0..16).map(|n| GroupName::parse(format!("{n:02}{}", long(n))).unwrap()).collect();
        assert!(groups(&names).ends_with(" and 13 more"), "{}", groups(&names));
        assert_eq!(groups(&[]), "groups none");
        let many: Vec<_> =
            (0..1_000).map(|n| UserName::parse(&format!("login/{n:03}")).unwrap()).collect();
        let said = members(Some(&many));
        assert!(said.starts_with(r#"members "login/000", "login/001", "#), "{said}");
        assert!(said.len() < 2 * LIST_BYTES_MAX && said.ends_with(" more"), "{said}");
        assert_eq!(joined(["a".into(), members(Some(&[])), "b".into()]), "a; b");
        assert_eq!(members(None), "members not listed");
    }

    #[test]
    fn the_difference_is_said() {
        let name = |number| format!("c{number}");
        let before = [on(1, true), on(2, false), on(3, false), on(99, false)];
        let said = grants(&before, &granted(vec![on(2, false), on(3, true)], name));
        let expected = r#"given write "d"/"c3"; taken write "d"/"c1"; taken read "d"/"c3", collection 99 of database 1"#;
        assert_eq!(said, expected);
        assert_eq!(grants(&before, &granted(before.to_vec(), name)), "");
    }

    #[test]
    fn of_exceptions_what_changes_is_said_with_its_end() {
        let none = Exceptions::default();
        let end = Some(Timestamp(1_800_000_000_000));
        let some = Exceptions {
            keys: Some(Exception { value: 7, expires_at: end }),
            second: Some(Exception::lasting(None)),
            weight: Some(Exception::lasting(200)),
            ..none
        };
        let made = "keys plan → 7 until 2027-01-15T08:00:00.000Z; requests_per_second plan → none; \
                    weight plan → 200";
        assert_eq!(exceptions(&none, &some), made);
        let longer = Exceptions { keys: Some(Exception::lasting(7)), weight: None, ..some };
        let changed = "keys 7 until 2027-01-15T08:00:00.000Z → 7; weight 200 → plan";
        assert_eq!(exceptions(&some, &longer), changed);
        assert_eq!(exceptions(&some, &some), "");
    }

    #[test]
    fn of_a_plan_what_changes_is_said_and_all_of_it() {
        let usual = TenantPlan::new(PlanName::parse("p").unwrap(), Allowance::default());
        assert_eq!([plan(None, &usual), plan(Some(&usual), &usual)], ["", ""]);
        let second = std::num::NonZeroU32::new(5).map(Rate::new);
        let some = Allowance {
            limits: Limits { keys: 7, ..Limits::default() },
            rates: Rates { second, ..Rates::default() },
            on_shared_failure: SharedFailure::Refuse,
            ..Allowance::default()
        };
        let eu = Location::parse("eu").unwrap();
        let places = Places::new(Some(&[Isolation::Shared]), Some(vec![Location::Home, eu]));
        let places = places.unwrap();
        let other = TenantPlan { allowance: some, places, ..usual.clone() };
        let made = "keys 7; requests_per_second 5; on_shared_failure refuse; isolations shared; \
                    locations home,eu";
        assert_eq!(plan(None, &other), made);
        let changed = "keys 7 → 1000; requests_per_second 5 → none; on_shared_failure refuse → \
                       local; isolations shared → shared,schema,database; locations home,eu → any";
        assert_eq!(plan(Some(&other), &usual), changed);
        let many = |of: char| {
            let name = |n| Location::parse(&format!("{of}{n:02}{}", of.to_string().repeat(21)));
            let all = (0..Places::LOCATIONS_MAX).map(|n| name(n).unwrap()).collect();
            TenantPlan { places: Places::new(None, Some(all)).unwrap(), ..usual.clone() }
        };
        assert!(plan(Some(&many('a')), &many('b')).len() < 4_096);
    }
}
