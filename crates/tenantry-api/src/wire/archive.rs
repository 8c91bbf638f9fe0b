//! Archives and copies.

use super::{
    described::{Digits, IsolationName, LocationText, Name},
    own_database::location,
    tenant::TenantOut,
};
use serde::{Deserialize, Serialize};
use std::fmt::Write as _;
use tenantry_engine::{
    Error, Isolation, PublicKey, Result, TenantInfo, TenantName,
    archive::{ListSignature, NewTenant, Summary, Terms},
};
use utoipa::{IntoParams, ToSchema};

/// Where an imported tenant is to live, and whose archives are taken.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(crate) struct ImportSearch {
    /// `shared`, `schema` or `database`; the installation's default if absent.
    #[param(value_type = Option<IsolationName>)]
    isolation: Option<String>,
    /// `home`, or the name of one of the servers' locations; the installation's default if absent.
    #[param(value_type = Option<LocationText>)]
    location: Option<String>,
    /// The public key of another installation, 64 hexadecimal digits: archives that it has signed
    /// are taken, too.
    #[param(value_type = Option<Digits>)]
    trust: Option<String>,
    /// BLAKE3 of the body, 64 hexadecimal digits: another one is refused.
    #[param(value_type = Option<Digits>)]
    blake3: Option<String>,
    /// Take the archive's limits and weight also where they are not less than the new tenant's plan
    /// says, or than the defaults if it has none.
    keep_limits: Option<bool>,
}

fn new(name: TenantName, isolation: Option<&str>, place: Option<&str>) -> Result<NewTenant> {
    Ok(NewTenant {
        name,
        isolation: isolation.map(Isolation::parse).transpose()?,
        location: place.map(|text| location("location", text)).transpose()?,
        keep_limits: false,
    })
}

impl ImportSearch {
    pub(crate) fn tenant(&self, name: TenantName) -> Result<NewTenant> {
        let to = new(name, self.isolation.as_deref(), self.location.as_deref())?;
        Ok(NewTenant { keep_limits: self.keep_limits.unwrap_or(false), ..to })
    }

    pub(crate) fn terms(&self) -> Result<Terms> {
        let trusted = self.trust.as_deref().map(|text| digits("trust", "a public key", text));
        let hash = self.blake3.as_deref().map(|text| digits("blake3", "a hash", text));
        Ok(Terms { trusted: trusted.transpose()?, hash: hash.transpose()? })
    }
}

/// 32 bytes that a member or parameter gives.
fn digits(field: &str, what: &str, text: &str) -> Result<[u8; 32]> {
    let wrong = || Error::invalid(format!("{field}: {what} has 64 hexadecimal digits"));
    let mut bytes = [0; 32];
    if text.len() != 2 * bytes.len() || !text.bytes().all(|digit| digit.is_ascii_hexdigit()) {
        return Err(wrong());
    }
    for (at, byte) in bytes.iter_mut().enumerate() {
        let digits = text.get(2 * at..2 * at + 2).ok_or_else(wrong)?;
        *byte = u8::from_str_radix(digits, 16).map_err(|_| wrong())?;
    }
    Ok(bytes)
}

/// A list of archives that is to be signed.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ListIn {
    /// BLAKE3 of its lines, 64 hexadecimal digits.
    #[schema(value_type = Digits)]
    blake3: String,
}

impl ListIn {
    pub(crate) fn hash(&self) -> Result<[u8; 32]> {
        digits("blake3", "a hash", &self.blake3)
    }
}

/// A signature over a list of archives: its last line.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ListSignatureOut {
    /// `ed25519`.
    algorithm: &'static str,
    /// Whose it is, in hexadecimal digits.
    public_key: String,
    /// In hexadecimal digits.
    signature: String,
}

impl From<ListSignature> for ListSignatureOut {
    fn from(signed: ListSignature) -> Self {
        let ListSignature { public_key, signature } = signed;
        let (public_key, signature) = (hex(&public_key), hex(&signature));
        Self { algorithm: "ed25519", public_key, signature }
    }
}

/// Whose signature the installation's archives have.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct SignerOut {
    /// In hexadecimal digits.
    public_key: String,
}

impl From<PublicKey> for SignerOut {
    fn from(key: PublicKey) -> Self {
        Self { public_key: hex(&key) }
    }
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
    #[schema(value_type = Name)]
    name: String,
    /// `shared`, `schema` or `database`; the original's if absent.
    #[schema(value_type = Option<IsolationName>)]
    isolation: Option<String>,
    /// `home`, or the name of one of the servers' locations; the original's if absent.
    #[schema(value_type = Option<LocationText>)]
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
        assert_eq!(digits("x", "y", &hex(&key)).unwrap(), key);
        for bad in ["", "00", &"g".repeat(64), &"é".repeat(32), &"+1".repeat(32)] {
            assert!(digits("x", "y", bad).is_err(), "{bad}");
        }
    }
}
