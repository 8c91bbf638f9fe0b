//! Where a tenant's data are: among others', in a space of its own, or in a database of its own.
//!
//! A tenant that does not live among others has one clear row in the root that says so. Its place
//! is made from that row, whenever it is opened and still marked as fresh: there is nothing to
//! undo.

use std::fmt;
use tenantry_auth::TenantId;
use tenantry_types::{Error, Isolation, Result};

/// Where a tenant's data are.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Placement {
    pub(crate) tenant: TenantId,
    pub(crate) isolation: Isolation,
    /// Which space of its own, for [`Isolation::Schema`] on files.
    pub(crate) space: u32,
}

impl Placement {
    /// Among others, in the root database.
    pub(crate) const fn shared(tenant: TenantId) -> Self {
        Self { tenant, isolation: Isolation::Shared, space: 0 }
    }

    /// True if the tenant's data are apart from what the root knows of it, so that no commit has
    /// both.
    pub(crate) fn is_apart(self) -> bool {
        self.isolation != Isolation::Shared
    }
}

impl fmt::Debug for Placement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} of tenant {}", self.isolation, self.tenant)
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

/// The clear row of a tenant that lives apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PlaceRow {
    pub(crate) placement: Placement,
    pub(crate) fresh: Fresh,
    /// The number of the last note for the tenant's log.
    pub(crate) told: u64,
}

impl PlaceRow {
    /// Isolation, space (u32), fresh, told (u64); big-endian.
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
        bytes
    }

    pub(crate) fn decode(tenant: TenantId, bytes: &[u8]) -> Result<Self> {
        let unreadable = || Error::corrupt(format!("the place of tenant {tenant} is unreadable"));
        let (isolation, rest) = bytes.split_first().ok_or_else(unreadable)?;
        let (space, rest) = rest.split_first_chunk().ok_or_else(unreadable)?;
        let (fresh, told) = rest.split_first().ok_or_else(unreadable)?;
        let isolation = match isolation {
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
        let told = u64::from_be_bytes(told.try_into().map_err(|_| unreadable())?);
        let placement = Placement { tenant, isolation, space: u32::from_be_bytes(*space) };
        Ok(Self { placement, fresh, told })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_comes_back_and_damage_is_refused() {
        let tenant = TenantId::new(7);
        let place = |isolation, space| Placement { tenant, isolation, space };
        for row in [
            PlaceRow { placement: place(Isolation::Schema, 70_000), fresh: Fresh::Made, told: 1 },
            PlaceRow {
                placement: place(Isolation::Database, 0),
                fresh: Fresh::WithDatabase,
                told: u64::MAX,
            },
        ] {
            let bytes = row.encode();
            assert_eq!(PlaceRow::decode(tenant, &bytes).unwrap(), row);
            assert!(PlaceRow::decode(tenant, &bytes[1..]).is_err());
            assert!(PlaceRow::decode(tenant, &[&[9], &bytes[1..]].concat()).is_err());
        }
    }
}
