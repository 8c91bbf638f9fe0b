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
    /// Which of the tenant's places it is: counted up by each attempt to move, and part of the names
    /// of what is made for it, so that no name is used twice.
    pub(crate) stay: u32,
}

impl Placement {
    /// Among others, in the root database.
    pub(crate) const fn shared(tenant: TenantId) -> Self {
        Self { tenant, isolation: Isolation::Shared, space: 0, location: Location::Home, stay: 0 }
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

/// Parts that follow the counts in a row, those that are needed, in this order: each is its tag,
/// its length (u8) and so many bytes.
const NAMED: u8 = 1;
const OWN: u8 = 2;
const STAY: u8 = 3;

/// The clear row of a tenant that lives apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PlaceRow {
    pub(crate) placement: Placement,
    pub(crate) fresh: Fresh,
    /// The number of the last note for the tenant's log.
    pub(crate) told: u64,
}

impl PlaceRow {
    /// Isolation, space (u32), fresh, told (u64); big-endian. Then parts: 1 with the name of the
    /// location, or 2 with nothing if the tenant carries its own, and neither at home; 3 with the
    /// number of the stay (u32) if it was moved.
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
            Location::Named(name) => put_part(&mut bytes, NAMED, name.as_str().as_bytes()),
            Location::Own => put_part(&mut bytes, OWN, &[]),
        }
        if self.placement.stay > 0 {
            put_part(&mut bytes, STAY, &self.placement.stay.to_be_bytes());
        }
        bytes
    }

    pub(crate) fn decode(tenant: TenantId, bytes: &[u8]) -> Result<Self> {
        let unreadable = || Error::corrupt(format!("the place of tenant {tenant} is unreadable"));
        let (isolation, rest) = bytes.split_first().ok_or_else(unreadable)?;
        let (space, rest) = rest.split_first_chunk().ok_or_else(unreadable)?;
        let (fresh, rest) = rest.split_first().ok_or_else(unreadable)?;
        let (told, parts) = rest.split_first_chunk().ok_or_else(unreadable)?;
        let (location, stay) = parts_of(parts).ok_or_else(unreadable)?;
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
            Placement { tenant, isolation, space: u32::from_be_bytes(*space), location, stay };
        Ok(Self { placement, fresh, told: u64::from_be_bytes(*told) })
    }
}

fn put_part(bytes: &mut Vec<u8>, tag: u8, part: &[u8]) {
    bytes.extend_from_slice(&[tag, u8::try_from(part.len()).unwrap_or(u8::MAX)]);
    bytes.extend_from_slice(part);
}

/// Location and stay. A part that is not known, or not in its place, says something about where the
/// data are that must not be left out.
fn parts_of(mut bytes: &[u8]) -> Option<(Location, u32)> {
    let (mut location, mut stay, mut last) = (Location::Home, 0, 0);
    while let Some(([tag, length], rest)) = bytes.split_first_chunk() {
        let (part, rest) = rest.split_at_checked(usize::from(*length))?;
        match (*tag, part) {
            (NAMED, name) if last == 0 => {
                location = Location::Named(LocationName::parse(str::from_utf8(name).ok()?).ok()?);
            }
            (OWN, []) if last == 0 => location = Location::Own,
            (STAY, number) if last < STAY => {
                stay = u32::from_be_bytes(number.try_into().ok()?);
                (stay > 0).then_some(())?;
            }
            _ => return None,
        }
        last = *tag;
        bytes = rest;
    }
    bytes.is_empty().then_some((location, stay))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_comes_back_and_damage_is_refused() {
        let tenant = TenantId::new(7);
        let eu = Location::Named(LocationName::parse("eu-1").unwrap());
        for (isolation, space, location, stay, fresh, told) in [
            (Isolation::Schema, 70_000, Location::Home, 0, Fresh::Made, 1),
            (Isolation::Database, 0, Location::Home, 1, Fresh::WithDatabase, u64::MAX),
            (Isolation::Shared, 0, eu, 0, Fresh::Empty, 0),
            (Isolation::Schema, 0, eu, u32::MAX, Fresh::Made, 2),
            (Isolation::Database, 0, Location::Own, 2, Fresh::Made, 3),
        ] {
            let placement = Placement { tenant, isolation, space, location, stay };
            assert!(placement.is_apart());
            let row = PlaceRow { placement, fresh, told };
            let bytes = row.encode();
            assert_eq!(PlaceRow::decode(tenant, &bytes).unwrap(), row);
            assert!(PlaceRow::decode(tenant, &bytes[1..]).is_err());
            assert!(PlaceRow::decode(tenant, &[&[9], &bytes[1..]].concat()).is_err());
            let more: [&[u8]; 4] = [b"!", &[3, 4, 0, 0, 0, 0], &[3, 3, 0, 0, 1], &[4, 0]];
            for more in more {
                assert!(PlaceRow::decode(tenant, &[&bytes[..], more].concat()).is_err());
            }
            let twice = [&bytes[..], &[3, 4, 0, 0, 0, 1], &[3, 4, 0, 0, 0, 1]].concat();
            assert!(PlaceRow::decode(tenant, &twice).is_err());
        }
    }

    #[test]
    fn a_row_from_before_there_were_locations_is_at_home() {
        let tenant = TenantId::new(7);
        let old = [1, 0, 1, 0x11, 0x70, 0, 0, 0, 0, 0, 0, 0, 0, 1];
        let row = PlaceRow::decode(tenant, &old).unwrap();
        let (isolation, location) = (Isolation::Schema, Location::Home);
        assert_eq!(
            row.placement,
            Placement { tenant, isolation, space: 70_000, location, stay: 0 }
        );
        assert_eq!(row.encode(), old);
        // Among others at home nobody has such a row.
        assert!(PlaceRow::decode(tenant, &[&[0], &old[1..]].concat()).is_err());
    }
}
