//! Which filters a schema refuses.

use super::{ATTRIBUTE, Kind, Schema, read};
use crate::chroma::{error::Failure, filter::DOCUMENT};
use tenantry_engine::{CollectionInfo, FieldTest, Filter, Value};

/// Refuses a filter that needs an index which the collection's schema switches off.
pub(crate) fn permit(info: &CollectionInfo, filter: &Filter) -> Result<(), Failure> {
    let schema = info.attributes.get(ATTRIBUTE).map(|text| read::<Schema>(text)).transpose()?;
    permit_by(schema.as_ref(), filter)
}

fn permit_by(schema: Option<&Schema>, filter: &Filter) -> Result<(), Failure> {
    match filter {
        Filter::And(all) | Filter::Or(all) => all.iter().try_for_each(|f| permit_by(schema, f)),
        Filter::Not(one) => permit_by(schema, one),
        Filter::Text(_) if schema.is_some_and(|schema| !schema.allows_text()) => {
            Err(Failure::invalid(
                "Cannot filter using full-text search because FTS indexing is disabled",
            ))
        }
        Filter::Text(_) => Ok(()),
        Filter::Field { key, test } => {
            let Some(kind) = operand(test).and_then(Kind::of) else { return Ok(()) };
            // The text is searched, never compared.
            let allowed = !(key == DOCUMENT && kind == Kind::Str)
                && schema.is_none_or(|schema| schema.allows(key, kind));
            if allowed {
                return Ok(());
            }
            Err(Failure::invalid(format!(
                "Cannot filter using metadata key '{key}' with type '{kind:?}' because indexing \
                 is disabled"
            )))
        }
    }
}

fn operand(test: &FieldTest) -> Option<&Value> {
    match test {
        FieldTest::Eq(value)
        | FieldTest::Ne(value)
        | FieldTest::Gt(value)
        | FieldTest::Gte(value)
        | FieldTest::Lt(value)
        | FieldTest::Lte(value)
        | FieldTest::Contains(value)
        | FieldTest::NotContains(value) => Some(value),
        FieldTest::In(values) | FieldTest::NotIn(values) => values.first(),
        FieldTest::Exists(_) => None,
    }
}
