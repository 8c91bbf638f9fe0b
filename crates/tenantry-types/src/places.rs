//! Where the tenants of a plan may live.

use crate::{Error, Isolation, Location, Result};

/// Isolations and locations that a plan allows. Asked when a tenant comes to a place or to a plan;
/// whoever lives somewhere already stays.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Places {
    /// A bit for each of [`Isolation::ALL`]; never none.
    isolations: u8,
    /// Ascending, each once, never none; `None` is any, also those that are not known yet.
    locations: Option<Vec<Location>>,
}

const ALL: u8 = (1 << Isolation::ALL.len()) - 1;

const fn bit(isolation: Isolation) -> u8 {
    1 << isolation as u8
}

impl Places {
    /// Locations that a plan may name.
    pub const LOCATIONS_MAX: usize = 64;

    /// Places with one of these isolations, at one of these locations; `None` is any.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`](crate::ErrorKind::Invalid) for a list of nothing, or of more than there
    /// can be: [`Places::LOCATIONS_MAX`] locations.
    pub fn new(isolations: Option<&[Isolation]>, locations: Option<Vec<Location>>) -> Result<Self> {
        let isolations = match isolations {
            None => ALL,
            Some(some) => {
                check_length("isolations", some.len(), Isolation::ALL.len())?;
                some.iter().fold(0, |all, one| all | bit(*one))
            }
        };
        let Some(mut some) = locations else { return Ok(Self { isolations, locations: None }) };
        check_length("locations", some.len(), Self::LOCATIONS_MAX)?;
        some.sort_unstable();
        some.dedup();
        Ok(Self { isolations, locations: Some(some) })
    }

    /// The isolations, from the weakest.
    pub fn isolations(&self) -> impl Iterator<Item = Isolation> {
        Isolation::ALL.into_iter().filter(|one| self.has_isolation(*one))
    }

    /// The locations, if not all are allowed.
    pub fn locations(&self) -> Option<&[Location]> {
        self.locations.as_deref()
    }

    /// True if a tenant may live so.
    pub fn has_isolation(&self, isolation: Isolation) -> bool {
        self.isolations & bit(isolation) != 0
    }

    /// True if a tenant may live there.
    pub fn has_location(&self, location: Location) -> bool {
        self.locations.as_ref().is_none_or(|some| some.contains(&location))
    }
}

fn check_length(what: &str, many: usize, most: usize) -> Result<()> {
    match many {
        0 => Err(Error::invalid(format!("{what}: say at least one, or nothing"))),
        _ if many > most => {
            Err(Error::invalid(format!("{what}: {many}, at most {most} are allowed")))
        }
        _ => Ok(()),
    }
}

impl Default for Places {
    /// Anywhere.
    fn default() -> Self {
        Self { isolations: ALL, locations: None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Allowance, PlanName, TenantPlan};

    fn at(name: &str) -> Location {
        Location::parse(name).unwrap()
    }

    #[test]
    fn who_says_nothing_allows_everything() {
        assert_eq!(Places::new(None, None).unwrap(), Places::default());
        assert_eq!(Places::new(Some(&Isolation::ALL), None).unwrap(), Places::default());
        assert!(Places::default().isolations().eq(Isolation::ALL));
        assert!(Places::default().has_location(at("later")));
    }

    #[test]
    fn lists_are_sets_of_at_least_one() {
        let twice = [Isolation::Database, Isolation::Shared, Isolation::Database];
        let some = vec![Location::Own, at("us"), at("eu"), Location::Home, at("eu")];
        let places = Places::new(Some(&twice), Some(some)).unwrap();
        assert!(places.isolations().eq([Isolation::Shared, Isolation::Database]));
        let all = [Location::Home, at("eu"), at("us"), Location::Own];
        assert_eq!(places.locations().unwrap(), all);
        assert!(places.has_location(at("eu")) && !places.has_location(at("e")));
        assert!(!places.has_isolation(Isolation::Schema));
        assert!(Places::new(Some(&[]), None).is_err());
        assert!(Places::new(Some(&[Isolation::Shared; 4]), None).is_err());
        assert!(Places::new(None, Some(Vec::new())).is_err());
        let many = |n| Some((0..n).map(|n| at(&format!("l{n}"))).collect());
        assert!(Places::new(None, many(64)).is_ok());
        let why = Places::new(None, many(65)).unwrap_err();
        assert_eq!(why.public_message(), "locations: 65, at most 64 are allowed");
    }

    #[test]
    fn what_a_plan_forbids_is_told() {
        let name = PlanName::parse("p").unwrap();
        let any = TenantPlan::new(name, Allowance::default());
        assert_eq!(any.forbids(Isolation::Database, Location::Own), None);
        let places = Places::new(Some(&[Isolation::Schema]), Some(vec![at("eu"), at("us")]));
        let plan = TenantPlan { places: places.unwrap(), ..any };
        assert_eq!(plan.forbids(Isolation::Schema, at("us")), None);
        let why = plan.forbids(Isolation::Shared, Location::Home).unwrap();
        assert_eq!(why, "the plan p does not allow the isolation shared; it allows schema");
        let why = plan.check_place(Isolation::Schema, Location::Home).unwrap_err();
        assert_eq!(why.kind(), crate::ErrorKind::Conflict);
        let says = "the plan p does not allow the location home; it allows eu, us: choose another \
                    plan, or change `locations` of this one";
        assert_eq!(why.public_message(), says);
        let why = plan.check_place(Isolation::Database, at("us")).unwrap_err();
        let way = "it allows schema: choose another plan, or change `isolations` of this one";
        assert!(why.public_message().ends_with(way), "{why}");
    }
}
