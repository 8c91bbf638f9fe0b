//! Groups of a tenant's members, and what they give a guest.

use crate::{Allowed, Restriction, Role};
use std::{collections::BTreeMap, sync::Arc};
use tenantry_types::{CollectionNumber, DatabaseNumber, GroupName, Timestamp};

/// A group's tenant-local number: assigned in order, never reused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GroupNumber(pub u32);

/// A right on one object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Grant {
    /// On what.
    pub on: Allowed,
    /// Whether it may be written, too. Whoever may write all of a database makes collections in it.
    pub writes: bool,
}

/// A group as the directory keeps it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    /// By what members name it.
    pub number: GroupNumber,
    /// What people call it.
    pub name: GroupName,
    /// What it gives its guests, each object once; objects that are gone mean nothing.
    pub grants: Vec<Grant>,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it was changed last.
    pub changed_at: Timestamp,
}

/// All that a guest's groups give it, for as long as it is remembered: nothing is looked up to ask it.
#[derive(Debug, Clone, PartialEq)]
pub struct Grants {
    /// What may be seen, in order.
    seen: Arc<Restriction>,
    /// Of each of those, whether it may be written.
    writes: Vec<bool>,
}

impl Grants {
    /// Of these rights together.
    pub(crate) fn of(given: impl IntoIterator<Item = Grant>) -> Self {
        let mut by_object: BTreeMap<Allowed, bool> = BTreeMap::new();
        for Grant { on, writes } in given {
            *by_object.entry(on).or_default() |= writes;
        }
        let (objects, writes): (Vec<_>, Vec<_>) = by_object.into_iter().unzip();
        let seen = Restriction { objects: Some(objects.into()), filter: None };
        Self { seen: Arc::new(seen), writes }
    }

    /// Each object, and whether it may be written.
    fn all(&self) -> impl Iterator<Item = (Allowed, bool)> {
        self.objects().iter().copied().zip(self.writes.iter().copied())
    }

    fn objects(&self) -> &[Allowed] {
        self.seen.objects.as_deref().unwrap_or_default()
    }

    /// Whether just this is given, and whether for writing.
    fn find(&self, on: Allowed) -> Option<bool> {
        let at = self.objects().binary_search(&on).ok()?;
        self.writes.get(at).copied()
    }

    /// The highest level that any of it reaches: never administration.
    pub(crate) fn level(&self) -> Role {
        if self.writes.contains(&true) { Role::Write } else { Role::Read }
    }

    /// True if every collection of the database may be written, also those to come.
    pub(crate) fn writes_database(&self, database: DatabaseNumber) -> bool {
        self.find(Allowed::Database(database)) == Some(true)
    }

    /// True if the collection may be written.
    pub(crate) fn writes_collection(
        &self,
        database: DatabaseNumber,
        collection: CollectionNumber,
    ) -> bool {
        self.writes_database(database)
            || self.find(Allowed::Collection(database, collection)) == Some(true)
    }

    /// What is seen of it by a token that narrows it further.
    pub(crate) fn narrow(&self, claimed: &Restriction) -> Arc<Restriction> {
        let Restriction { objects, filter } = claimed;
        if objects.is_none() && filter.is_none() {
            return Arc::clone(&self.seen);
        }
        // Tokens name no objects so far. If they do, what is not in all of theirs is left out.
        let both = |one: &Allowed| match one {
            Allowed::Database(database) => claimed.owns_database(*database),
            Allowed::Collection(database, one) => claimed.sees_collection(*database, *one),
        };
        let objects = self.objects().iter().copied().filter(both).collect();
        Arc::new(Restriction { objects: Some(objects), filter: filter.clone() })
    }

    /// True if whoever has this has all that the other gives.
    pub(crate) fn covers(&self, other: &Self) -> bool {
        let sees = |one| match one {
            Allowed::Database(_) => self.find(one).is_some(),
            Allowed::Collection(database, collection) => {
                self.seen.sees_collection(database, collection)
            }
        };
        let writes = |one| match one {
            Allowed::Database(database) => self.writes_database(database),
            Allowed::Collection(database, collection) => {
                self.writes_collection(database, collection)
            }
        };
        other.all().all(|(one, written)| if written { writes(one) } else { sees(one) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::AllowedSet;

    const D: [DatabaseNumber; 2] = [DatabaseNumber(1), DatabaseNumber(2)];
    const C: [CollectionNumber; 2] = [CollectionNumber(1), CollectionNumber(2)];

    fn read(on: Allowed) -> Grant {
        Grant { on, writes: false }
    }

    fn write(on: Allowed) -> Grant {
        Grant { on, writes: true }
    }

    #[test]
    fn the_highest_right_on_an_object_counts() {
        let one = Allowed::Collection(D[0], C[0]);
        let other = Allowed::Collection(D[1], C[1]);
        let all = Grants::of([read(Allowed::Database(D[0])), write(one), read(one), read(other)]);
        assert_eq!(all.level(), Role::Write);
        assert!(all.seen.sees_collection(D[0], C[1]) && all.seen.sees_collection(D[1], C[1]));
        assert!(!all.seen.sees_collection(D[1], C[0]));
        assert!(all.writes_collection(D[0], C[0]) && !all.writes_collection(D[0], C[1]));
        assert!(!all.writes_database(D[0]) && !all.writes_collection(D[1], C[1]));
        let nothing = Grants::of([]);
        assert_eq!(nothing.level(), Role::Read);
        assert!(!nothing.seen.sees_database(D[0]) && !nothing.seen.is_none());
    }

    #[test]
    fn what_is_added_covers_what_was_and_less_does_not() {
        let (d, c) = (Allowed::Database(D[0]), Allowed::Collection(D[0], C[0]));
        let of = |all: &[Grant]| Grants::of(all.iter().copied());
        for (has, had) in [
            (vec![read(d)], vec![read(c)]),
            (vec![write(d)], vec![write(c), read(d)]),
            (vec![write(c), read(d)], vec![read(d), read(c)]),
            (vec![write(c)], vec![]),
        ] {
            assert!(of(&has).covers(&of(&had)), "{has:?} {had:?}");
        }
        for (has, had) in [
            (vec![read(d)], vec![write(c)]),
            (vec![read(c)], vec![read(d)]),
            (vec![write(c), read(d)], vec![write(d)]),
            (vec![], vec![read(c)]),
        ] {
            assert!(!of(&has).covers(&of(&had)), "{has:?} {had:?}");
        }
    }

    #[test]
    fn a_token_narrows_and_never_widens() {
        let c = Allowed::Collection(D[0], C[0]);
        let all = Grants::of([write(c)]);
        let filter = Some(tenantry_types::Filter::And(Vec::new()));
        let bound = all.narrow(&Restriction { objects: None, filter: filter.clone() });
        assert_eq!((&bound.objects, &bound.filter), (&Some(vec![c].into()), &filter));
        let elsewhere = Some(vec![Allowed::Database(D[1])].into());
        let none = all.narrow(&Restriction { objects: elsewhere, filter: None });
        assert_eq!(none.objects, Some(AllowedSet::default()));
    }
}
