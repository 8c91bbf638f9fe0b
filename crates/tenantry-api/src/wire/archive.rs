//! Archives and copies.

use super::{own_database::location, tenant::TenantOut};
use serde::{Deserialize, Serialize};
use std::fmt::Write as _;
use tenantry_engine::{
    Error, Isolation, PublicKey, Result, TenantInfo, TenantName,
    archive::{NewTenant, Summary},
};
use utoipa::{IntoParams, ToSchema};

/// Where an imported tenant is to live, and whose archives are taken.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(crate) struct ImportSearch {
    /// `shared`, `schema` or `database`; the installation's default if absent.
    isolation: Option<String>,
    /// `home`, or the name of one of the servers' locations; the installation's default if absent.
    location: Option<String>,
    /// The public key of another installation, 64 hexadecimal digits: archives that it has signed
    /// are taken, too.
    trust: Option<String>,
}

fn new(name: TenantName, isolation: Option<&str>, place: Option<&str>) -> Result<NewTenant> {
    Ok(NewTenant {
        name,
        isolation: isolation.map(Isolation::parse).transpose()?,
        location: place.map(|text| location("location", text)).transpose()?,
    })
}

impl ImportSearch {
    pub(crate) fn tenant(&self, name: TenantName) -> Result<NewTenant> {
        new(name, self.isolation.as_deref(), self.location.as_deref())
    }

    pub(crate) fn trusted(&self) -> Result<Option<PublicKey>> {
        self.trust.as_deref().map(public_key).transpose()
    }
}

fn public_key(text: &str) -> Result<PublicKey> {
    let wrong = || Error::invalid("trust: a public key has 64 hexadecimal digits");
    let mut key = PublicKey::default();
    if text.len() != 2 * key.len() || !text.is_ascii() {
        return Err(wrong());
    }
    for (at, byte) in key.iter_mut().enumerate() {
        let digits = text.get(2 * at..2 * at + 2).ok_or_else(wrong)?;
        *byte = u8::from_str_radix(digits, 16).map_err(|_| wrong())?;
    }
    Ok(key)
}

/// The bytes of an archive, as the description of this protocol has them.
#[derive(ToSchema)]
#[schema(value_type = String, format = Binary)]
pub(crate) struct ArchiveBytes(#[expect(dead_code, reason = "it is only described")] Vec<u8>);

/// The copy of a tenant.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct CopyIn {
    /// The new tenant's name.
    name: String,
    /// `shared`, `schema` or `database`; the original's if absent.
    isolation: Option<String>,
    /// `home`, or the name of one of the servers' locations; the original's if absent.
    location: Option<String>,
}

impl CopyIn {
    pub(crate) fn tenant(self) -> Result<NewTenant> {
        let name = TenantName::parse(self.name)?;
        new(name, self.isolation.as_deref(), self.location.as_deref())
    }
}

/// A tenant that was made from an archive.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ImportedOut {
    tenant: TenantOut,
    archive: ArchiveOut,
}

/// What an archive says of itself.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ArchiveOut {
    /// BLAKE3 of the file, in hexadecimal digits.
    blake3: String,
    /// The public key of the installation that has signed it, in hexadecimal digits.
    signed_by: String,
    databases: u64,
    collections: u64,
    records: u64,
}

impl ImportedOut {
    pub(crate) fn new(made: TenantInfo, summary: &Summary) -> Self {
        let counts = summary.counts;
        let archive = ArchiveOut {
            blake3: hex(&summary.hash),
            signed_by: hex(&summary.signed_by),
            databases: counts.databases,
            collections: counts.collections,
            records: counts.records,
        };
        Self { tenant: made.into(), archive }
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_public_key_is_read_as_it_is_written() {
        let key: PublicKey = std::array::from_fn(|at| u8::try_from(at * 7).unwrap());
        assert_eq!(public_key(&hex(&key)).unwrap(), key);
        for bad in ["", "00", &"g".repeat(64), &"é".repeat(32), &"+1".repeat(32)[..63]] {
            assert!(public_key(bad).is_err(), "{bad}");
        }
    }
}
