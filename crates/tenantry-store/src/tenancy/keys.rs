//! The keys of the embedded backend: `[tenant u64][family u8][fields…]`, big-endian.
//!
//! One table below is the whole law: each family is a type whose `encode` needs a [`Prefix`], and
//! a [`Prefix`] is only had from an opened tenant, which is only had with a scope (or, for the
//! installation's own catalog, from the store itself). Family numbers are on disk: never renumber,
//! never reuse. The property tests at the end run over every family.

use tenantry_auth::TenantId;

/// Bytes of the tenant and the family at the start of every key.
pub(crate) const PREFIX_BYTES: usize = 9;

/// The right to build keys of one tenant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Prefix(TenantId);

impl Prefix {
    /// The keys of this tenant. Called where a tenant is opened, and nowhere else.
    pub(crate) const fn of(tenant: TenantId) -> Self {
        Self(tenant)
    }

    /// Whose keys.
    pub(crate) fn tenant(self) -> TenantId {
        self.0
    }

    /// The start of every key of this tenant.
    pub(crate) fn everything(self) -> Vec<u8> {
        self.0.get().to_be_bytes().to_vec()
    }

    /// The start of every key of this tenant and family.
    pub(crate) fn family(self, family: Family) -> Vec<u8> {
        self.start(family as u8, 24)
    }

    fn start(self, family: u8, capacity: usize) -> Vec<u8> {
        let mut key = Vec::with_capacity(PREFIX_BYTES + capacity);
        key.extend_from_slice(&self.0.get().to_be_bytes());
        key.push(family);
        key
    }
}

/// A field of a key. Encodings keep order: comparing bytes compares values.
trait Field<'a>: Sized {
    fn put(&self, key: &mut Vec<u8>);
    /// Takes the field off the front; `last` fields take all that is left.
    fn take(bytes: &mut &'a [u8]) -> Option<Self>;
}

macro_rules! number_field {
    ($($type:ty),*) => {$(
        impl Field<'_> for $type {
            fn put(&self, key: &mut Vec<u8>) {
                key.extend_from_slice(&self.to_be_bytes());
            }
            fn take(bytes: &mut &[u8]) -> Option<Self> {
                let (head, rest) = bytes.split_first_chunk()?;
                *bytes = rest;
                Some(Self::from_be_bytes(*head))
            }
        }
    )*};
}
number_field!(u8, u16, u32, u64);

impl<const N: usize> Field<'_> for [u8; N] {
    fn put(&self, key: &mut Vec<u8>) {
        key.extend_from_slice(self);
    }
    fn take(bytes: &mut &[u8]) -> Option<Self> {
        let (head, rest) = bytes.split_first_chunk()?;
        *bytes = rest;
        Some(*head)
    }
}

/// Bytes of any length at the end of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Tail<'a>(pub(crate) &'a [u8]);

impl<'a> Field<'a> for Tail<'a> {
    fn put(&self, key: &mut Vec<u8>) {
        key.extend_from_slice(self.0);
    }
    fn take(bytes: &mut &'a [u8]) -> Option<Self> {
        Some(Self(std::mem::take(bytes)))
    }
}

/// Bytes of any length in the middle of a key: `00` is written as `00 ff`, the end as `00 00`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Middle(pub(crate) Vec<u8>);

impl Field<'_> for Middle {
    fn put(&self, key: &mut Vec<u8>) {
        for &byte in &self.0 {
            key.push(byte);
            if byte == 0 {
                key.push(0xff);
            }
        }
        key.extend_from_slice(&[0, 0]);
    }
    fn take(bytes: &mut &[u8]) -> Option<Self> {
        let mut value = Vec::new();
        loop {
            let (&byte, rest) = bytes.split_first()?;
            *bytes = rest;
            if byte == 0 {
                let (&next, rest) = bytes.split_first()?;
                *bytes = rest;
                match next {
                    0 => return Some(Self(value)),
                    0xff => {}
                    _ => return None,
                }
            }
            value.push(byte);
        }
    }
}

fn with<'a>(mut key: Vec<u8>, field: &impl Field<'a>) -> Vec<u8> {
    field.put(&mut key);
    key
}

fn without<'a, F: Field<'a>>(mut bytes: &'a [u8]) -> Option<(F, &'a [u8])> {
    let field = F::take(&mut bytes)?;
    Some((field, bytes))
}

macro_rules! families {
    ($($(#[$doc:meta])* $name:ident $(<$life:lifetime>)? = $number:literal
        { $($field:ident : $type:ty),* $(,)? };)*) => {
        $(
            $(#[$doc])*
            #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
            pub(crate) struct $name $(<$life>)? { $(pub(crate) $field: $type),* }

            #[cfg_attr(not(test), allow(dead_code, reason = "families exist before their users"))]
            impl $(<$life>)? $name $(<$life>)? {
                /// The family's number on disk.
                pub(crate) const FAMILY: u8 = $number;

                /// The whole key.
                pub(crate) fn encode(&self, prefix: Prefix) -> Vec<u8> {
                    let key = prefix.start($number, 40);
                    $(let key = with(key, &self.$field);)*
                    key
                }

                /// The start of every key of this family.
                pub(crate) fn all(prefix: Prefix) -> Vec<u8> {
                    prefix.start($number, 24)
                }
            }

            impl<'k $(, $life)?> Decode<'k> for $name $(<$life>)? where $('k: $life)? {
                fn decode(prefix: Prefix, key: &'k [u8]) -> Option<Self> {
                    let rest = key.strip_prefix(prefix.start($number, 0).as_slice())?;
                    $(let ($field, rest) = without::<$type>(rest)?;)*
                    rest.is_empty().then_some(Self { $($field),* })
                }
            }
        )*

        /// A family of keys.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        #[repr(u8)]
        pub(crate) enum Family { $($name = $number),* }

        impl Family {
            pub(crate) const ALL: &[Self] = &[$(Self::$name),*];
        }

        /// Every family number with its name, for the check that none is used twice and for
        /// `docs/formats/embedded.md`.
        #[cfg(test)]
        pub(crate) const FAMILIES: &[(u8, &str)] = &[$(($number, stringify!($name))),*];
    };
}

/// Reads a key back.
pub(crate) trait Decode<'k>: Sized {
    /// The fields of a key of this tenant and family; `None` if it is not one.
    fn decode(prefix: Prefix, key: &'k [u8]) -> Option<Self>;
}

families! {
    // The installation's own catalog: only under tenant 0.

    /// Name of a living tenant → its id (u64, big-endian, clear).
    TenantName<'a> = 0x01 { name: Tail<'a> };
    /// API key id → key row, sealed with the installation's key.
    Key = 0x02 { id: [u8; 10] };
    /// What is left to purge: a whole tenant (`collection` = 0) or one collection. Under the
    /// tenant itself if it lives apart. Value empty.
    Purge = 0x03 { tenant: u64, collection: u32 };
    /// The lowest tenant id that was never assigned (u64, big-endian, clear).
    NextTenant = 0x04 { };
    /// Where a tenant lives that does not live among others (clear).
    Place = 0x05 { tenant: u64 };
    /// What was changed in the root and the tenant's log is still to be told, sealed with the
    /// tenant's key.
    Told = 0x06 { tenant: u64, number: u64 };
    /// The lowest space of `schema` that was never given (u32, big-endian, clear).
    NextSpace = 0x07 { };
    /// A space of `schema` that was given and is empty again. Value empty.
    FreeSpace = 0x09 { space: u32 };
    /// A bucket of spaces that was made whole. Value empty.
    Bucket = 0x0a { bucket: u32 };
    /// The way to the database that a tenant carries, sealed with the installation's key: it is
    /// needed when the tenant's is gone. Only on PostgreSQL.
    OwnDatabase = 0x0b { tenant: u64 };
    /// Whose a database is that tenants of an installation are in, but the installation not
    /// (clear): a keyed hash (32 bytes), of a location behind its nonce (16 bytes). In that
    /// database. Only on PostgreSQL.
    Claim = 0x0c { };
    /// How a tenant is being moved, or was moved last, sealed with the installation's key: it is
    /// needed when the tenant's is gone.
    Move = 0x0d { tenant: u64 };
    /// The nonce of the database that a location is (16 bytes, clear). Only on PostgreSQL.
    Claimed<'a> = 0x0e { location: Tail<'a> };
    /// Which database the installation's was when it claimed others: the server's identity and
    /// the database's number there (two u64, big-endian, clear). Only on PostgreSQL.
    Home = 0x0f { };
    /// A tenant is being filled by an import or as a copy: a mark of whoever does so (16 bytes),
    /// and a count that it raises while it works (u64, big-endian). Clear.
    Arriving = 0x1c { tenant: u64 };
    /// Name of a plan → what it says, sealed with the installation's key.
    Plan<'a> = 0x1d { name: Tail<'a> };
    /// A tenant that has a plan. Value empty; what counts is the tenant's row. One whose tenant is
    /// gone says nothing.
    TenantOfPlan = 0x1e { plan: Middle, tenant: u64 };
    /// What of a tenant's counters is in its sums of usage, sealed with the installation's key: it is
    /// needed when the tenant's is gone.
    Seen = 0x1f { tenant: u64 };
    /// What a tenant has used in an hour (span 0) or month (span 1), counted from 1970, sealed with
    /// the installation's key.
    Usage = 0x40 { tenant: u64, span: u8, at: u32 };
    /// What a node has counted in memory and nobody has added to sums yet, sealed with the
    /// installation's key.
    Journal = 0x41 { node: [u8; 16], number: u64 };
    /// The last number of a node's journal, and when it was written (two u64, big-endian, clear).
    Written = 0x42 { node: [u8; 16] };
    /// What a plan costs from a month on (months since 1970), sealed with the installation's key.
    Tariff = 0x43 { plan: Middle, from: u32 };
    /// Name of an endpoint that is told what happens → what it is, sealed with the installation's
    /// key.
    Webhook<'a> = 0x44 { name: Tail<'a> };
    /// An event on its way to an endpoint, under when it is told next (milliseconds since 1970),
    /// sealed with the installation's key.
    Delivery = 0x45 { webhook: u64, at: u64, id: [u8; 16] };
    /// An event that did not arrive at an endpoint, sealed with the installation's key.
    DeadLetter = 0x46 { webhook: u64, id: [u8; 16] };
    /// A member of a tenant, under a keyed hash of its name → row, sealed with the installation's key.
    Member = 0x50 { tenant: u64, id: [u8; 32] };
    /// A group of a tenant's members → row, sealed with the installation's key.
    Group = 0x51 { tenant: u64, group: u32 };
    /// How many members a tenant has, sealed with the installation's key.
    MemberCounts = 0x52 { tenant: u64 };
    /// Of which parts of a tenant's budgets endpoints were told, sealed with the installation's key.
    Thresholds = 0x53 { tenant: u64 };
    /// What an application has reported of a tenant's usage, in the week of receipt (weeks since
    /// 1970, from Thursday on) under a keyed hash of its id, sealed with the installation's key.
    Event = 0x54 { tenant: u64, week: u32, id: [u8; 16] };
    /// How many events were reported of a tenant in its last day of them, sealed with the
    /// installation's key.
    EventDay = 0x55 { tenant: u64 };
    /// What a tenant keeps, as it was when its usage was added up last, sealed with the installation's
    /// key.
    Kept = 0x56 { tenant: u64 };
    /// A tenant that is deleted, and when it is erased (milliseconds since 1970). Value empty; what
    /// counts is the tenant's row.
    Erase = 0x1a { at: u64, tenant: u64 };
    /// A tenant's data key, wrapped with the master key (128 bytes, as in the slot file). Only on
    /// PostgreSQL: files have the slot file.
    Slot = 0x08 { tenant: u64 };

    // The tenant's catalog.

    /// The tenant's row: name, state, isolation, weight, limits, settings, schema version.
    Tenant = 0x10 { };
    /// The tenant's counters: commit sequence, next numbers, quotas' counts, audit chain head.
    Head = 0x11 { };
    /// Database number → row.
    Database = 0x12 { database: u32 };
    /// Database name → number (u32, clear).
    DatabaseName<'a> = 0x13 { name: Tail<'a> };
    /// Collection number → row.
    Collection = 0x14 { collection: u32 };
    /// Collection name within a database → number (u32, clear).
    CollectionName<'a> = 0x15 { database: u32, name: Tail<'a> };
    /// Public collection id → number (u32, clear).
    CollectionId = 0x16 { id: [u8; 16] };
    /// Partition number → row.
    Partition = 0x17 { collection: u32, partition: u32 };
    /// Partition name → number (u32, clear).
    PartitionName<'a> = 0x18 { collection: u32, name: Tail<'a> };
    /// A key of this tenant. Value empty; the row is under the installation.
    KeyOfTenant = 0x19 { id: [u8; 10] };
    /// The version of the tables of a tenant's place (u32, big-endian, clear). Only on PostgreSQL.
    PlaceVersion = 0x1b { };

    // Records.

    /// Record id → ordinal (u64, big-endian, clear; the body repeats the id, sealed).
    Id<'a> = 0x20 { collection: u32, partition: u32, id: Tail<'a> };
    /// Ordinal → body: id, text, uri, metadata, version, expiry.
    Body = 0x21 { collection: u32, partition: u32, ordinal: u64 };
    /// Ordinal → dense vector of the vector name with this number (0 is the unnamed one).
    Vector = 0x22 { collection: u32, partition: u32, vector: u16, ordinal: u64 };
    /// Ordinal → sparse vector of the vector name with this number.
    SparseVector = 0x23 { collection: u32, partition: u32, vector: u16, ordinal: u64 };
    /// Counts of a partition: records, next ordinal.
    Statistics = 0x24 { collection: u32, partition: u32 };
    /// What expires when (milliseconds since 1970). Value empty.
    Expiry = 0x25 { at: u64, collection: u32, partition: u32, ordinal: u64 };
    /// Secondary index: order-preserving value → nothing. Value empty.
    Secondary = 0x26 { collection: u32, partition: u32, index: u16, value: Middle, ordinal: u64 };

    // Logs.

    /// Commit sequence → what the commit touched.
    Change = 0x30 { sequence: u64 };
    /// Audit sequence → entry.
    Audit = 0x31 { sequence: u64 };
    /// Ledger: day (days since 1970) and sequence → entry.
    Ledger = 0x32 { day: u32, sequence: u64 };
    /// Idempotency key (hash) → outcome.
    Idempotency = 0x33 { key: [u8; 32] };
}

/// The start of every key of one partition's records of one vector name.
pub(crate) fn vectors_of(prefix: Prefix, collection: u32, partition: u32, vector: u16) -> Vec<u8> {
    let mut key = bodies_like(Vector::all(prefix), collection, partition);
    vector.put(&mut key);
    key
}

/// The start of all tenants of a plan.
pub(crate) fn tenants_of_plan(installation: Prefix, plan: &[u8]) -> Vec<u8> {
    let mut key = TenantOfPlan::all(installation);
    Middle(plan.to_vec()).put(&mut key);
    key
}

/// The start of all that a tenant's log is still to be told.
pub(crate) fn told_of(installation: Prefix, tenant: TenantId) -> Vec<u8> {
    let mut key = Told::all(installation);
    tenant.get().put(&mut key);
    key
}

/// The start of all members of a tenant.
pub(crate) fn members_of(installation: Prefix, tenant: TenantId) -> Vec<u8> {
    let mut key = Member::all(installation);
    tenant.get().put(&mut key);
    key
}

/// The start of all events that were reported of a tenant.
pub(crate) fn events_of(installation: Prefix, tenant: TenantId) -> Vec<u8> {
    let mut key = Event::all(installation);
    tenant.get().put(&mut key);
    key
}

/// The start of all groups of a tenant's members.
pub(crate) fn groups_of(installation: Prefix, tenant: TenantId) -> Vec<u8> {
    let mut key = Group::all(installation);
    tenant.get().put(&mut key);
    key
}

/// The start of all tariffs of a plan.
pub(crate) fn tariffs_of(installation: Prefix, plan: &[u8]) -> Vec<u8> {
    let mut key = Tariff::all(installation);
    Middle(plan.to_vec()).put(&mut key);
    key
}

/// The start of all events on their way to an endpoint.
pub(crate) fn deliveries_of(installation: Prefix, webhook: u64) -> Vec<u8> {
    let mut key = Delivery::all(installation);
    webhook.put(&mut key);
    key
}

/// The start of all events that did not arrive at an endpoint.
pub(crate) fn dead_of(installation: Prefix, webhook: u64) -> Vec<u8> {
    let mut key = DeadLetter::all(installation);
    webhook.put(&mut key);
    key
}

/// The start of all sums of a tenant's usage over one span.
pub(crate) fn usage_of(installation: Prefix, tenant: TenantId, span: u8) -> Vec<u8> {
    let mut key = Usage::all(installation);
    tenant.get().put(&mut key);
    span.put(&mut key);
    key
}

/// The start of every key of one partition's bodies.
pub(crate) fn bodies_of(prefix: Prefix, collection: u32, partition: u32) -> Vec<u8> {
    bodies_like(Body::all(prefix), collection, partition)
}

/// The start of every collection name of one database.
pub(crate) fn collection_names_of(prefix: Prefix, database: u32) -> Vec<u8> {
    let mut key = CollectionName::all(prefix);
    database.put(&mut key);
    key
}

/// The starts of all keys that belong to one collection's records.
pub(crate) fn records_of(prefix: Prefix, collection: u32) -> Vec<Vec<u8>> {
    [
        Id::all(prefix),
        Body::all(prefix),
        Vector::all(prefix),
        SparseVector::all(prefix),
        Statistics::all(prefix),
        Secondary::all(prefix),
        Partition::all(prefix),
        PartitionName::all(prefix),
    ]
    .into_iter()
    .map(|mut key| {
        collection.put(&mut key);
        key
    })
    .collect()
}

fn bodies_like(mut key: Vec<u8>, collection: u32, partition: u32) -> Vec<u8> {
    collection.put(&mut key);
    partition.put(&mut key);
    key
}

#[cfg(test)]
#[path = "keys_tests.rs"]
mod tests;
