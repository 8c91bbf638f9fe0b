//! API keys on disk, with the filters that bind them. The rules of [`super::disk`] hold.

use super::disk::{DiskValue, unreadable};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use tenantry_auth::{Allowed, KeyId, KeyOwner, KeyRow, Restriction, Role, TenantId};
use tenantry_types::{
    CollectionNumber, DatabaseNumber, Error, FieldTest, Filter, Result, TextTest, Timestamp, Value,
};

#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum DiskKey {
    V1 {
        /// `None` for an operator's key.
        tenant: Option<u64>,
        act_as: bool,
        role: u8,
        /// Pairs of database and, for a single collection, collection.
        objects: Option<Vec<(u32, Option<u32>)>>,
        filter: Option<DiskFilter>,
        label: String,
        created_at: u64,
        expires_at: Option<u64>,
        secret_hash: [u8; 32],
    },
}

impl DiskKey {
    pub(crate) fn from_row(row: &KeyRow) -> Self {
        let (tenant, act_as) = match row.owner {
            KeyOwner::Tenant(tenant) => (Some(tenant.get()), false),
            KeyOwner::Operator { act_as } => (None, act_as),
        };
        Self::V1 {
            tenant,
            act_as,
            role: match row.role {
                Role::Read => 0,
                Role::Write => 1,
                Role::Admin => 2,
            },
            objects: row.restriction.objects.as_ref().map(|all| {
                all.iter()
                    .map(|one| match one {
                        Allowed::Database(d) => (d.0, None),
                        Allowed::Collection(d, c) => (d.0, Some(c.0)),
                    })
                    .collect()
            }),
            filter: row.restriction.filter.as_ref().map(DiskFilter::from),
            label: row.label.clone(),
            created_at: row.created_at.0,
            expires_at: row.expires_at.map(|t| t.0),
            secret_hash: row.secret_hash,
        }
    }

    pub(crate) fn into_row(self, id: KeyId) -> Result<KeyRow> {
        let Self::V1 {
            tenant,
            act_as,
            role,
            objects,
            filter,
            label,
            created_at,
            expires_at,
            secret_hash,
        } = self;
        Ok(KeyRow {
            id,
            owner: tenant
                .map_or(KeyOwner::Operator { act_as }, |t| KeyOwner::Tenant(TenantId::new(t))),
            role: match role {
                0 => Role::Read,
                1 => Role::Write,
                2 => Role::Admin,
                _ => return Err(unreadable("a key")),
            },
            restriction: Arc::new(Restriction {
                objects: objects.map(|all| {
                    all.into_iter()
                        .map(|(d, c)| {
                            let d = DatabaseNumber(d);
                            c.map_or(Allowed::Database(d), |c| {
                                Allowed::Collection(d, CollectionNumber(c))
                            })
                        })
                        .collect()
                }),
                filter: filter.map(Filter::try_from).transpose()?,
            }),
            label,
            created_at: Timestamp(created_at),
            expires_at: expires_at.map(Timestamp),
            secret_hash,
        })
    }
}

/// A key's record filter. Append variants only.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum DiskFilter {
    And(Vec<DiskFilter>),
    Or(Vec<DiskFilter>),
    Not(Box<DiskFilter>),
    Field { key: String, test: DiskTest },
    Text { test: u8, operand: String },
}

/// Append variants only.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum DiskTest {
    Eq(DiskValue),
    Ne(DiskValue),
    Gt(DiskValue),
    Gte(DiskValue),
    Lt(DiskValue),
    Lte(DiskValue),
    In(Vec<DiskValue>),
    NotIn(Vec<DiskValue>),
    Contains(DiskValue),
    NotContains(DiskValue),
    Exists(bool),
}

impl From<&Filter> for DiskFilter {
    fn from(filter: &Filter) -> Self {
        let values = |all: &[Value]| all.iter().map(DiskValue::from).collect();
        match filter {
            Filter::And(all) => Self::And(all.iter().map(Self::from).collect()),
            Filter::Or(all) => Self::Or(all.iter().map(Self::from).collect()),
            Filter::Not(one) => Self::Not(Box::new((&**one).into())),
            Filter::Field { key, test } => Self::Field {
                key: key.clone(),
                test: match test {
                    FieldTest::Eq(v) => DiskTest::Eq(v.into()),
                    FieldTest::Ne(v) => DiskTest::Ne(v.into()),
                    FieldTest::Gt(v) => DiskTest::Gt(v.into()),
                    FieldTest::Gte(v) => DiskTest::Gte(v.into()),
                    FieldTest::Lt(v) => DiskTest::Lt(v.into()),
                    FieldTest::Lte(v) => DiskTest::Lte(v.into()),
                    FieldTest::In(all) => DiskTest::In(values(all)),
                    FieldTest::NotIn(all) => DiskTest::NotIn(values(all)),
                    FieldTest::Contains(v) => DiskTest::Contains(v.into()),
                    FieldTest::NotContains(v) => DiskTest::NotContains(v.into()),
                    FieldTest::Exists(yes) => DiskTest::Exists(*yes),
                },
            },
            Filter::Text(test) => {
                let (test, operand) = match test {
                    TextTest::Contains(s) => (0, s),
                    TextTest::NotContains(s) => (1, s),
                    TextTest::Regex(s) => (2, s),
                    TextTest::NotRegex(s) => (3, s),
                };
                Self::Text { test, operand: operand.clone() }
            }
        }
    }
}

impl TryFrom<DiskFilter> for Filter {
    type Error = Error;

    fn try_from(filter: DiskFilter) -> Result<Self> {
        let values = |all: Vec<DiskValue>| all.into_iter().map(Value::from).collect();
        let filters =
            |all: Vec<DiskFilter>| all.into_iter().map(Self::try_from).collect::<Result<Vec<_>>>();
        Ok(match filter {
            DiskFilter::And(all) => Self::And(filters(all)?),
            DiskFilter::Or(all) => Self::Or(filters(all)?),
            DiskFilter::Not(one) => Self::Not(Box::new((*one).try_into()?)),
            DiskFilter::Field { key, test } => Self::Field {
                key,
                test: match test {
                    DiskTest::Eq(v) => FieldTest::Eq(v.into()),
                    DiskTest::Ne(v) => FieldTest::Ne(v.into()),
                    DiskTest::Gt(v) => FieldTest::Gt(v.into()),
                    DiskTest::Gte(v) => FieldTest::Gte(v.into()),
                    DiskTest::Lt(v) => FieldTest::Lt(v.into()),
                    DiskTest::Lte(v) => FieldTest::Lte(v.into()),
                    DiskTest::In(all) => FieldTest::In(values(all)),
                    DiskTest::NotIn(all) => FieldTest::NotIn(values(all)),
                    DiskTest::Contains(v) => FieldTest::Contains(v.into()),
                    DiskTest::NotContains(v) => FieldTest::NotContains(v.into()),
                    DiskTest::Exists(yes) => FieldTest::Exists(yes),
                },
            },
            DiskFilter::Text { test, operand } => Self::Text(match test {
                0 => TextTest::Contains(operand),
                1 => TextTest::NotContains(operand),
                2 => TextTest::Regex(operand),
                3 => TextTest::NotRegex(operand),
                // To guess would widen the key.
                _ => return Err(unreadable("a key")),
            }),
        })
    }
}
