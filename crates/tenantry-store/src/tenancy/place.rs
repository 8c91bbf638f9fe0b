//! Where a tenant's data are: among others', in a space of its own, or in a database of its own.
//!
//! A tenant that does not live among others has one clear row in the root that says so. Its place
//! is made from that row, whenever it is opened and still marked as fresh: there is nothing to
//! undo.

use std::fmt;
use tenantry_auth::TenantId;
use tenantry_types::{Error, Isolation, Location, LocationName, Result};

/// Where a tenant's data are.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Placement {
    pub(crate) tenant: TenantId,
    pub(crate) isolation: Isolation,
    /// Which space of its own, for [`Isolation::Schema`] on files.
    pub(crate) space: u32,
    /// Which database has them.
    pub(crate) location: Location,
}

impl Placement {
    /// Among others, in the root database.
    pub(crate) const fn shared(tenant: TenantId) -> Self {
        Self { tenant, isolation: Isolation::Shared, space: 0, location: Location::Home }
    }

    /// True if the tenant's data are apart from what the root knows of it, so that no commit has
    /// both.
    pub(crate) fn is_apart(self) -> bool {
        self.isolation != Isolation::Shared || self.location != Location::Home
    }
}

impl fmt::Debug for Placement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} of tenant {} at {}", self.isolation, self.tenant, self.location)
    }
}

/// Whether a place was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fresh {
    /// It is there and holds what it held.
    Made,
    /// It is to be made, without a database or with the first one. Nothing was ever answered
    /// from it.
    Empty,
    WithDatabase,
}

/// What follows the counts in a row, if the tenant is not at home.
const NAMED: u8 = 1;
const OWN: u8 = 2;

/// The clear row of a tenant that lives apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PlaceRow {
    pub(crate) placement: Placement,
    pub(crate) fresh: Fresh,
    /// The number of the last note for the tenant's log.
    pub(crate) told: u64,
}

impl PlaceRow {
    /// Isolation, space (u32), fresh, told (u64); big-endian. Then nothing for a tenant at home,
    /// or a part that says where: 1, the length of the location's name (u8) and the name, or 2 and 0
    /// if the tenant carries its own.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut bytes = vec![match self.placement.isolation {
            Isolation::Shared => 0,
            Isolation::Schema => 1,
            Isolation::Database => 2,
        }];
        bytes.extend_from_slice(&self.placement.space.to_be_bytes());
        bytes.push(match self.fresh {
            Fresh::Made => 0,
            Fresh::Empty => 1,
            Fresh::WithDatabase => 2,
        });
        bytes.extend_from_slice(&self.told.to_be_bytes());
        match self.placement.location {
            Location::Home => {}
            Location::Named(name) => {
                let name = name.as_str().as_bytes();
                bytes.extend_from_slice(&[NAMED, u8::try_from(name.len()).unwrap_or(u8::MAX)]);
                bytes.extend_from_slice(name);
            }
            Location::Own => bytes.extend_from_slice(&[OWN, 0]),
        }
        bytes
    }

    pub(crate) fn decode(tenant: TenantId, bytes: &[u8]) -> Result<Self> {
        let unreadable = || Error::corrupt(format!("the place of tenant {tenant} is unreadable"));
        let (isolation, rest) = bytes.split_first().ok_or_else(unreadable)?;
        let (space, rest) = rest.split_first_chunk().ok_or_else(unreadable)?;
        let (fresh, rest) = rest.split_first().ok_or_else(unreadable)?;
        let (told, location) = rest.split_first_chunk().ok_or_else(unreadable)?;
        let location = location_of(location).ok_or_else(unreadable)?;
        let isolation = match isolation {
            // Among others at home there is no such row.
            0 if location != Location::Home => Isolation::Shared,
            1 => Isolation::Schema,
            2 => Isolation::Database,
            _ => return Err(unreadable()),
        };
        let fresh = match fresh {
            0 => Fresh::Made,
            1 => Fresh::Empty,
            2 => Fresh::WithDatabase,
            _ => return Err(unreadable()),
        };
        let placement =
            Placement { tenant, isolation, space: u32::from_be_bytes(*space), location };
        Ok(Self { placement, fresh, told: u64::from_be_bytes(*told) })
    }
}

fn location_of(bytes: &[u8]) -> Option<Location> {
    match bytes {
        [] => Some(Location::Home),
        [OWN, 0] => Some(Location::Own),
        [NAMED, length, name @ ..] if usize::from(*length) == name.len() => {
            let name = LocationName::parse(str::from_utf8(name).ok()?).ok()?;
            Some(Location::Named(name))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_comes_back_and_damage_is_refused() {
        let tenant = TenantId::new(7);
        let eu = Location::Named(LocationName::parse("eu-1").unwrap());
        for (isolation, space, location, fresh, told) in [
            (Isolation::Schema, 70_000, Location::Home, Fresh::Made, 1),
            (Isolation::Database, 0, Location::Home, Fresh::WithDatabase, u64::MAX),
            (Isolation::Shared, 0, eu, Fresh::Empty, 0),
            (Isolation::Schema, 0, eu, Fresh::Made, 2),
            (Isolation::Database, 0, Location::Own, Fresh::Made, 3),
        ] {
            let placement = Placement { tenant, isolation, space, location };
            assert!(placement.is_apart());
            let row = PlaceRow { placement, fresh, told };
            let bytes = row.encode();
            assert_eq!(PlaceRow::decode(tenant, &bytes).unwrap(), row);
            assert!(PlaceRow::decode(tenant, &bytes[1..]).is_err());
            assert!(PlaceRow::decode(tenant, &[&[9], &bytes[1..]].concat()).is_err());
            assert!(PlaceRow::decode(tenant, &[&bytes[..], b"!"].concat()).is_err());
        }
    }

    #[test]
    fn a_row_from_before_there_were_locations_is_at_home() {
        let tenant = TenantId::new(7);
        let old = [1, 0, 1, 0x11, 0x70, 0, 0, 0, 0, 0, 0, 0, 0, 1];
        let row = PlaceRow::decode(tenant, &old).unwrap();
        let (isolation, location) = (Isolation::Schema, Location::Home);
        assert_eq!(row.placement, Placement { tenant, isolation, space: 70_000, location });
        assert_eq!(row.encode(), old);
        // Among others at home nobody has such a row.
        assert!(PlaceRow::decode(tenant, &[&[0], &old[1..]].concat()).is_err());
    }
}
