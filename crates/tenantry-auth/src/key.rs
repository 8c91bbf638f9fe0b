//! API keys: `tnt_<key id>_<secret>`.

use crate::TenantId;
use std::{fmt, ops::Deref, sync::Arc};
use subtle::ConstantTimeEq;
use tenantry_types::{
    CollectionNumber, DatabaseNumber, Error, ErrorKind, Filter, Result, Timestamp,
};
use zeroize::Zeroizing;

const PREFIX: &str = "tnt_";
const ID_BYTES: usize = 10;
const SECRET_BYTES: usize = 32;

/// What a key's holder may do in its tenant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// Read records and the catalog.
    Read,
    /// Read, and change records and collections.
    Write,
    /// Write, and change databases and keys.
    Admin,
}

impl Role {
    /// The word for messages and logs.
    pub fn word(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Write => "write",
            Self::Admin => "admin",
        }
    }
}

/// The public half of a key: finds the row, proves nothing. 16 lower-case base-32 characters.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyId([u8; ID_BYTES]);

impl KeyId {
    /// Parses the 16 characters.
    pub fn parse(text: &str) -> Option<Self> {
        let bytes = decode(text)?;
        Some(Self(bytes.as_slice().try_into().ok()?))
    }

    /// The id with these bytes.
    pub fn from_bytes(bytes: [u8; ID_BYTES]) -> Self {
        Self(bytes)
    }

    /// The bytes, for storage.
    pub fn bytes(&self) -> &[u8; ID_BYTES] {
        &self.0
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&encode(&self.0))
    }
}

impl fmt::Debug for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A whole key, secret included. Shown once at creation, never stored; `Debug` hides the secret.
#[derive(Clone)]
pub struct ApiKey {
    id: KeyId,
    secret: Zeroizing<[u8; SECRET_BYTES]>,
}

impl ApiKey {
    /// The number of random bytes that [`ApiKey::from_random`] takes.
    pub const RANDOM_BYTES: usize = ID_BYTES + SECRET_BYTES;

    /// Makes a key from cryptographically random bytes.
    pub fn from_random(random: &[u8; Self::RANDOM_BYTES]) -> Self {
        let mut id = [0; ID_BYTES];
        let mut secret = Zeroizing::new([0; SECRET_BYTES]);
        let (first, second) = random.split_at(ID_BYTES);
        id.copy_from_slice(first);
        secret.copy_from_slice(second);
        Self { id: KeyId(id), secret }
    }

    /// Parses `tnt_<key id>_<secret>`.
    pub fn parse(text: &str) -> Option<Self> {
        let (id, secret) = text.strip_prefix(PREFIX)?.split_once('_')?;
        let secret = Zeroizing::new(decode(secret)?);
        Some(Self {
            id: KeyId::parse(id)?,
            secret: Zeroizing::new(secret.as_slice().try_into().ok()?),
        })
    }

    /// The public half.
    pub fn id(&self) -> KeyId {
        self.id
    }

    /// The text to hand to the key's holder. The only place where a secret becomes readable.
    pub fn reveal(&self) -> String {
        let secret = Zeroizing::new(encode(&*self.secret));
        format!("{PREFIX}{}_{}", encode(&self.id.0), *secret)
    }

    /// The hash that is stored instead of the secret: BLAKE3 in key-derivation mode. A slow hash
    /// would add nothing, since the secret has 256 random bits.
    pub fn hash(&self) -> [u8; 32] {
        blake3::derive_key("tenantry 2026-11 api key secret", &*self.secret)
    }
}

impl fmt::Debug for ApiKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "tnt_{}_…", self.id)
    }
}

fn encode(bytes: &[u8]) -> String {
    let mut text = data_encoding::BASE32_NOPAD.encode(bytes);
    text.make_ascii_lowercase();
    text
}

fn decode(text: &str) -> Option<Vec<u8>> {
    if text.bytes().any(|b| b.is_ascii_uppercase()) {
        return None;
    }
    let upper = Zeroizing::new(text.to_ascii_uppercase());
    data_encoding::BASE32_NOPAD.decode(upper.as_bytes()).ok()
}

/// Whose key it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyOwner {
    /// The operator's: manages tenants; with `act_as` it may also open any tenant, which that
    /// tenant can see in its audit log.
    Operator {
        /// May open tenants.
        act_as: bool,
    },
    /// A tenant's.
    Tenant(TenantId),
}

/// One object that a limited key, or a group of members, may reach.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Allowed {
    /// A database with all its collections, also those to come.
    Database(DatabaseNumber),
    /// One collection. A later collection of the same name is another one.
    Collection(DatabaseNumber, CollectionNumber),
}

/// Objects in order and each once: whoever lists a thousand collections asks for each of them.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct AllowedSet(Vec<Allowed>);

impl AllowedSet {
    /// True if just this is in it.
    pub fn has(&self, one: Allowed) -> bool {
        self.0.binary_search(&one).is_ok()
    }

    /// True if the database is in it, or a collection of it.
    fn touches(&self, database: DatabaseNumber) -> bool {
        let first = Allowed::Collection(database, CollectionNumber(0));
        let at = self.0.partition_point(|one| *one < first);
        let next = self.0.get(at);
        self.has(Allowed::Database(database))
            || next.is_some_and(|one| matches!(one, Allowed::Collection(of, _) if *of == database))
    }
}

impl From<Vec<Allowed>> for AllowedSet {
    fn from(mut all: Vec<Allowed>) -> Self {
        all.sort_unstable();
        all.dedup();
        Self(all)
    }
}

impl FromIterator<Allowed> for AllowedSet {
    fn from_iter<T: IntoIterator<Item = Allowed>>(all: T) -> Self {
        Vec::from_iter(all).into()
    }
}

impl Deref for AllowedSet {
    type Target = [Allowed];

    fn deref(&self) -> &[Allowed] {
        &self.0
    }
}

impl<'a> IntoIterator for &'a AllowedSet {
    type Item = &'a Allowed;
    type IntoIter = std::slice::Iter<'a, Allowed>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.iter()
    }
}

/// What narrows a key beyond its role. The default narrows nothing.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Restriction {
    /// The only objects the key may reach; `None` is all. Anything else does not exist for it.
    pub objects: Option<AllowedSet>,
    /// The only records the key may reach or make, in any collection. The engine adds it to every
    /// read, and checks every write against it. Ids are one namespace: a key that adds an id
    /// learns whether a record out of its reach has it.
    pub filter: Option<Filter>,
}

impl Restriction {
    /// True if nothing is narrowed.
    pub fn is_none(&self) -> bool {
        self.objects.is_none() && self.filter.is_none()
    }

    /// True if the key may see that the database exists.
    pub fn sees_database(&self, database: DatabaseNumber) -> bool {
        self.objects.as_ref().is_none_or(|all| all.touches(database))
    }

    /// True if the key may reach every collection of the database, also those to come.
    pub(crate) fn owns_database(&self, database: DatabaseNumber) -> bool {
        self.objects.as_ref().is_none_or(|all| all.has(Allowed::Database(database)))
    }

    /// True if the key may reach the collection.
    pub fn sees_collection(&self, database: DatabaseNumber, collection: CollectionNumber) -> bool {
        self.objects.as_ref().is_none_or(|all| {
            all.has(Allowed::Database(database))
                || all.has(Allowed::Collection(database, collection))
        })
    }
}

/// A key as the directory keeps it. `Debug` hides the hash.
#[derive(Clone, PartialEq)]
pub struct KeyRow {
    /// The public half.
    pub id: KeyId,
    /// Whose it is.
    pub owner: KeyOwner,
    /// What it may do.
    pub role: Role,
    /// What narrows it.
    pub restriction: Arc<Restriction>,
    /// A name for people, at most 256 bytes.
    pub label: String,
    /// When it was made.
    pub created_at: Timestamp,
    /// From when it is refused.
    pub expires_at: Option<Timestamp>,
    /// [`ApiKey::hash`] of the secret.
    pub secret_hash: [u8; 32],
}

impl fmt::Debug for KeyRow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyRow")
            .field("id", &self.id)
            .field("owner", &self.owner)
            .field("role", &self.role)
            .field("restriction", &self.restriction)
            .field("label", &self.label)
            .field("created_at", &self.created_at)
            .field("expires_at", &self.expires_at)
            .finish_non_exhaustive()
    }
}

impl KeyRow {
    /// Checks a presented key against this row in constant time, then its expiry. Every failure
    /// has the same words, so that a caller learns nothing about which part was wrong.
    pub fn verify(&self, presented: &ApiKey, now: Timestamp) -> Result<()> {
        let same = self.secret_hash.ct_eq(&presented.hash());
        if bool::from(same) && self.expires_at.is_none_or(|end| now < end) {
            return Ok(());
        }
        Err(invalid_key())
    }
}

/// True for a text that begins as keys do: whatever follows, it is no token.
pub(crate) fn is_key_like(text: &str) -> bool {
    text.starts_with(PREFIX)
}

/// The one answer to every key that is wrong, unknown, revoked or expired.
pub(crate) fn invalid_key() -> Error {
    Error::new(ErrorKind::Unauthenticated, "the API key is not valid")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_round_trips_and_hides() {
        let key = ApiKey::from_random(&[7; ApiKey::RANDOM_BYTES]);
        let text = key.reveal();
        let back = ApiKey::parse(&text).unwrap();
        assert_eq!((back.id(), back.hash()), (key.id(), key.hash()));
        assert!(text.starts_with("tnt_") && text.len() == 4 + 16 + 1 + 52, "{text}");
        assert!(!format!("{key:?}").contains(&text[21..]));
    }

    #[test]
    fn malformed_keys_are_refused() {
        let good = ApiKey::from_random(&[7; ApiKey::RANDOM_BYTES]).reveal();
        let upper = good.to_uppercase();
        for bad in
            ["", "tnt_", "tnt__", "sk-123", &good[..good.len() - 1], &upper, &format!("{good}a")]
        {
            assert!(ApiKey::parse(bad).is_none(), "{bad}");
        }
    }

    fn row(key: &ApiKey, expires_at: Option<Timestamp>) -> KeyRow {
        KeyRow {
            id: key.id(),
            owner: KeyOwner::Operator { act_as: false },
            role: Role::Read,
            restriction: Arc::default(),
            label: "row".into(),
            created_at: Timestamp(0),
            expires_at,
            secret_hash: key.hash(),
        }
    }

    #[test]
    fn only_the_right_secret_passes_and_only_until_it_expires() {
        let key = ApiKey::from_random(&[7; ApiKey::RANDOM_BYTES]);
        let mut other = [7; ApiKey::RANDOM_BYTES];
        other[ApiKey::RANDOM_BYTES - 1] ^= 1;
        let other = ApiKey::from_random(&other);
        assert_eq!(other.id(), key.id());

        let forever = row(&key, None);
        assert!(forever.verify(&key, Timestamp(u64::MAX)).is_ok());
        let wrong = forever.verify(&other, Timestamp(0)).unwrap_err();
        let until = row(&key, Some(Timestamp(10)));
        assert!(until.verify(&key, Timestamp(9)).is_ok());
        let expired = until.verify(&key, Timestamp(10)).unwrap_err();
        assert_eq!(format!("{wrong:?}"), format!("{expired:?}"));
    }

    #[test]
    fn a_row_does_not_show_its_hash() {
        let key = ApiKey::from_random(&[7; ApiKey::RANDOM_BYTES]);
        let shown = format!("{:?}", row(&key, None));
        assert!(shown.contains("\"row\"") && !shown.contains("secret_hash"), "{shown}");
    }

    #[test]
    fn a_limited_key_sees_only_its_objects() {
        let (d1, d2, c1, c2) =
            (DatabaseNumber(1), DatabaseNumber(2), CollectionNumber(1), CollectionNumber(2));
        let limits = Restriction {
            objects: Some(vec![Allowed::Collection(d2, c1), Allowed::Database(d1)].into()),
            filter: None,
        };
        assert!(limits.owns_database(d1) && !limits.owns_database(d2));
        assert!(limits.sees_database(d2) && !limits.sees_database(DatabaseNumber(3)));
        assert!(limits.sees_collection(d1, c2) && limits.sees_collection(d2, c1));
        assert!(!limits.sees_collection(d2, c2));

        let filter = Some(Filter::And(Vec::new()));
        let bound = Restriction { objects: None, filter };
        assert!(bound.sees_collection(d1, c1));
        assert!(!bound.is_none() && Restriction::default().is_none());
        let nothing = Restriction { objects: Some(AllowedSet::default()), filter: None };
        assert!(!nothing.sees_database(d1) && !nothing.sees_collection(d1, c1));
    }

    #[test]
    fn what_is_found_in_order_is_what_is_found_one_by_one() {
        let all: Vec<_> = (0..5_u32)
            .flat_map(|d| {
                let of = move |c| Allowed::Collection(DatabaseNumber(d), CollectionNumber(c));
                (0..5).map(of).chain([Allowed::Database(DatabaseNumber(d))])
            })
            .collect();
        for seed in 0..200_usize {
            // Some of them in a mixed order, one of them twice.
            let mut some: Vec<_> = (0..seed % 9).map(|n| all[(seed * 7 + n * 11) % 30]).collect();
            some.extend(some.first().copied());
            let limits = Restriction { objects: Some(some.clone().into()), filter: None };
            for d in (0..6).map(DatabaseNumber) {
                let of = |one: &Allowed| match one {
                    Allowed::Database(of) | Allowed::Collection(of, _) => *of == d,
                };
                let owns = some.contains(&Allowed::Database(d));
                assert_eq!(limits.sees_database(d), some.iter().any(of), "{some:?} {d:?}");
                assert_eq!(limits.owns_database(d), owns);
                for c in (0..6).map(CollectionNumber) {
                    let sees = owns || some.contains(&Allowed::Collection(d, c));
                    assert_eq!(limits.sees_collection(d, c), sees, "{some:?} {d:?} {c:?}");
                }
            }
        }
    }
}
