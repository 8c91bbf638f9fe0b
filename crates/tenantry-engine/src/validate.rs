//! What callers may send. Everything here is refused before the store is asked.

use crate::placement::SETTING;
use std::collections::{BTreeMap, HashSet};
use tenantry_index::CompiledFilter;
use tenantry_store::{CollectionInfo, NewKey, TenantChange};
use tenantry_types::{
    Allowance, Amount, CollectionChange, CollectionSpec, Error, ErrorKind, FieldTest, Filter,
    Limits, Metadata, QueryRequest, RecordId, RecordWrite, Result, Selector, TenantSpec, Term,
    TextTest, Timestamp, UsageEvent, Value, VectorName,
};

const SETTINGS_BYTES_MAX: usize = 64 << 10;
const LABEL_BYTES_MAX: usize = 256;
/// The longest address of RFC 5321.
const EMAIL_BYTES_MAX: usize = 254;
const MEMBERS_MAX: usize = 10_000;
const WEIGHT_MAX: u16 = Allowance::WEIGHT_MAX;
const KEY_OBJECTS_MAX: usize = 1_000;
const AUDIT_ENTRIES_MAX: usize = 10_000;

fn too_large(message: String) -> Error {
    Error::new(ErrorKind::TooLarge, message)
}

pub(crate) fn tenant_spec(spec: &TenantSpec) -> Result<()> {
    weight(spec.weight)?;
    limits(&spec.limits)?;
    settings(spec.settings.iter().map(|(k, v)| (k, v.len())))
}

pub(crate) fn tenant_change(change: &TenantChange, now: Timestamp) -> Result<()> {
    if let Some(value) = change.weight {
        weight(value)?;
    }
    if let Some(all) = &change.exceptions {
        let made = |term| Some((term, all.get(term)?));
        let mut all = Term::ALL.into_iter().filter_map(made);
        all.try_for_each(|(term, exception)| exception.value.check(term))?;
    }
    limits(&change.limits.over(Limits::default()))?;
    change.except.ends().try_for_each(|end| expiry(Some(end), now))?;
    settings(change.settings.iter().map(|(k, v)| (k, v.as_ref().map_or(0, String::len))))
}

/// Rates are valid as they are.
pub(crate) fn allowance(allowance: &Allowance) -> Result<()> {
    limits(&allowance.limits)?;
    weight(allowance.weight)
}

pub(crate) fn limits(limits: &Limits) -> Result<()> {
    Amount::of(limits.users.into()).check(Term::Users)?;
    Amount::of(limits.vector_dimensions.into()).check(Term::VectorDimensions)
}

fn weight(weight: u16) -> Result<()> {
    if (1..=WEIGHT_MAX).contains(&weight) {
        return Ok(());
    }
    Err(Error::invalid(format!("weight: {weight} is not between 1 and {WEIGHT_MAX}")))
}

fn settings<'a>(entries: impl Iterator<Item = (&'a String, usize)>) -> Result<()> {
    let bytes: usize = entries.map(|(key, value)| key.len() + value).sum();
    if bytes > SETTINGS_BYTES_MAX {
        return Err(too_large(format!(
            "settings: {bytes} bytes, at most {SETTINGS_BYTES_MAX} are allowed"
        )));
    }
    Ok(())
}

/// Settings that mean something to the server, with the values that they may have.
const MEANT: [(&str, &[&str]); 1] = [(SETTING.0, &[SETTING.1])];

/// A mistyped value would be believed to do something. Asked of whoever sets it, and not of archives
/// and copies, which are of what was set already.
pub(crate) fn meant<'a>(settings: impl Iterator<Item = (&'a String, &'a String)>) -> Result<()> {
    for (key, value) in settings {
        let known = MEANT.iter().find(|(known, _)| known == key);
        let Some((_, allowed)) = known.filter(|(_, all)| !all.contains(&value.as_str())) else {
            continue;
        };
        let allowed = allowed.join("\" or \"");
        return Err(Error::invalid(format!(
            "settings, {key}: it may be \"{allowed}\", or not be set"
        )));
    }
    Ok(())
}

/// What is said of a member for people.
pub(crate) fn about_member(email: Option<&str>, name: Option<&str>) -> Result<()> {
    for (what, text, most) in [("email", email, EMAIL_BYTES_MAX), ("name", name, LABEL_BYTES_MAX)] {
        let Some(text) = text else { continue };
        if text.is_empty() || text.len() > most || text.chars().any(char::is_control) {
            let why = format!("{what}: 1 to {most} bytes are allowed, and no control characters");
            return Err(Error::invalid(why));
        }
    }
    Ok(())
}

/// Each is looked up, before the store counts them.
pub(crate) fn grants(grants: usize) -> Result<()> {
    let most = Limits::GROUP_GRANTS_MAX;
    if grants > most {
        return Err(Error::invalid(format!("grants: {grants}, at most {most} are allowed")));
    }
    Ok(())
}

pub(crate) fn members_page(limit: usize) -> Result<()> {
    if limit > MEMBERS_MAX {
        return Err(Error::invalid(format!("limit: at most {MEMBERS_MAX} members a page")));
    }
    Ok(())
}

/// How many events one report may have.
pub(crate) fn events(count: usize) -> Result<()> {
    let most = UsageEvent::BATCH_MAX;
    match count {
        0 => Err(Error::invalid(format!("events: 1 to {most} are to be reported at once"))),
        _ if count > most => Err(too_large(format!("events: at most {most} are reported at once"))),
        _ => Ok(()),
    }
}

pub(crate) fn label(label: &str) -> Result<()> {
    if label.len() > LABEL_BYTES_MAX {
        return Err(Error::invalid(format!("label: at most {LABEL_BYTES_MAX} bytes are allowed")));
    }
    // Logs show it.
    if let Some(bad) = label.chars().find(|c| c.is_control()) {
        return Err(Error::invalid(format!("label: {bad:?} is not allowed")));
    }
    Ok(())
}

/// A key that is refused from the start is a mistake of whoever asks for it.
pub(crate) fn expiry(expires_at: Option<Timestamp>, now: Timestamp) -> Result<()> {
    if expires_at.is_some_and(|end| end <= now) {
        return Err(Error::invalid("expiry: must be in the future"));
    }
    Ok(())
}

pub(crate) fn audit_page(limit: usize) -> Result<()> {
    if limit > AUDIT_ENTRIES_MAX {
        return Err(Error::invalid(format!("limit: at most {AUDIT_ENTRIES_MAX} entries a page")));
    }
    Ok(())
}

pub(crate) fn new_key(key: &NewKey, now: Timestamp) -> Result<()> {
    label(&key.label)?;
    expiry(key.expires_at, now)?;
    if key.restriction.objects.as_ref().is_some_and(|all| all.len() > KEY_OBJECTS_MAX) {
        return Err(Error::invalid(format!(
            "a key can be limited to at most {KEY_OBJECTS_MAX} databases and collections"
        )));
    }
    key.restriction.filter.as_ref().map_or(Ok(()), bound)
}

/// A filter that a key or a token is bound to.
pub(crate) fn bound(bound: &Filter) -> Result<()> {
    filter(bound)?;
    // A pattern that does not compile would make every later request of the key fail.
    CompiledFilter::compile(bound).map(drop)
}

pub(crate) fn collection_spec(spec: &CollectionSpec) -> Result<()> {
    attributes(&spec.attributes)?;
    let (named, most) = (spec.vectors.len(), Limits::NAMED_VECTORS_MAX);
    if named > most {
        return Err(too_large(format!("vectors: {named} names, at most {most} are allowed")));
    }
    if let Some(bad) = spec.dimension.filter(|d| !is_dimension(*d as usize)) {
        let most = Limits::DIMENSION_MAX;
        return Err(Error::invalid(format!("a dimension is 1 to {most}, got {bad}")));
    }
    for (name, vector) in &spec.vectors {
        if let Some(bad) = vector.dimension.filter(|d| !is_dimension(*d as usize)) {
            return Err(Error::invalid(format!(
                "vectors, {name:?}: a dimension is 1 to {}, got {bad}",
                Limits::DIMENSION_MAX
            )));
        }
    }
    spec.metadata.as_ref().map_or(Ok(()), |m| metadata(m, "collection metadata"))
}

pub(crate) fn collection_change(change: &CollectionChange) -> Result<()> {
    attributes(&change.attributes)?;
    match &change.metadata {
        Some(Some(new)) => metadata(new, "collection metadata"),
        Some(None) | None => Ok(()),
    }
}

fn attributes(attributes: &BTreeMap<String, String>) -> Result<()> {
    let bytes: usize = attributes.iter().map(|(k, v)| k.len() + v.len()).sum();
    if bytes > Limits::ATTRIBUTES_BYTES_MAX {
        return Err(too_large(format!(
            "configuration: {bytes} bytes, at most {} are allowed",
            Limits::ATTRIBUTES_BYTES_MAX
        )));
    }
    Ok(())
}

fn metadata(metadata: &Metadata, place: &str) -> Result<()> {
    fields(metadata.iter().map(|(key, value)| (key, Some(value))), metadata.len(), place)
}

fn fields<'a>(
    entries: impl Iterator<Item = (&'a String, Option<&'a Value>)>,
    count: usize,
    place: &str,
) -> Result<()> {
    if count > Limits::METADATA_KEYS_MAX {
        return Err(too_large(format!(
            "{place}: {count} keys, at most {} are allowed",
            Limits::METADATA_KEYS_MAX
        )));
    }
    let mut bytes = 0;
    for (key, entry) in entries {
        if key.is_empty() || key.len() > Limits::METADATA_KEY_BYTES_MAX {
            return Err(Error::invalid(format!(
                "{place}: a key must have 1 to {} bytes",
                Limits::METADATA_KEY_BYTES_MAX
            )));
        }
        bytes += key.len();
        if let Some(entry) = entry {
            value(entry, key, place)?;
            bytes += entry.bytes();
        }
    }
    if bytes > Limits::METADATA_BYTES_MAX {
        return Err(too_large(format!(
            "{place}: {bytes} bytes, at most {} are allowed",
            Limits::METADATA_BYTES_MAX
        )));
    }
    Ok(())
}

fn value(value: &Value, key: &str, place: &str) -> Result<()> {
    match value {
        Value::Float(float) if !float.is_finite() => {
            Err(Error::invalid(format!("{place}, key {key:?}: floats must be finite")))
        }
        Value::List(items) => {
            let first = items.first();
            for item in items {
                if matches!(item, Value::List(_)) || !first.is_some_and(|f| f.same_kind(item)) {
                    return Err(Error::invalid(format!(
                        "{place}, key {key:?}: a list must hold scalars of one kind"
                    )));
                }
                self::value(item, key, place)?;
            }
            Ok(())
        }
        Value::Bool(_) | Value::Int(_) | Value::Float(_) | Value::Str(_) => Ok(()),
    }
}

/// Checks a batch of records: sizes, known names of vectors, finite vectors of one dimension for
/// each name, no id twice.
pub(crate) fn batch(records: &[RecordWrite], info: &CollectionInfo) -> Result<()> {
    if records.len() > Limits::BATCH_RECORDS_MAX {
        return Err(too_large(format!(
            "batch: {} records, at most {} are allowed",
            records.len(),
            Limits::BATCH_RECORDS_MAX
        )));
    }
    let mut seen: HashSet<&RecordId> = HashSet::with_capacity(records.len());
    let mut dimensions: BTreeMap<Option<&VectorName>, usize> = BTreeMap::new();
    for (index, record) in records.iter().enumerate() {
        if !seen.insert(&record.id) {
            return Err(Error::invalid(format!(
                "record {index}: the id {:?} occurs twice in this batch",
                shown(record.id.as_str())
            )));
        }
        record_write(record, index)?;
        for (name, new) in vectors(record) {
            let at = |why| Error::invalid(format!("record {index}{}: {why}", called(name)));
            info.vector(name).map_err(|why| at(why.to_string()))?;
            vector(new).map_err(at)?;
            let first = *dimensions.entry(name).or_insert(new.len());
            if first != new.len() {
                return Err(Error::invalid(format!(
                    "Inconsistent dimensions in provided embeddings: record {index}{} has {}, the \
                     first has {first}",
                    called(name),
                    new.len()
                )));
            }
        }
    }
    Ok(())
}

/// All vectors of a record, with their names.
fn vectors(record: &RecordWrite) -> impl Iterator<Item = (Option<&VectorName>, &[f32])> {
    let unnamed = record.vector.iter().map(|vector| (None, vector.as_slice()));
    unnamed.chain(record.vectors.iter().map(|(name, vector)| (Some(name), vector.as_slice())))
}

/// A name for messages; nothing if there is none.
fn called(name: Option<&VectorName>) -> String {
    name.map(|name| format!(", vector {name:?}")).unwrap_or_default()
}

fn record_write(record: &RecordWrite, index: usize) -> Result<()> {
    if record.document.as_ref().is_some_and(|t| t.len() > Limits::DOCUMENT_BYTES_MAX) {
        return Err(too_large(format!(
            "record {index}: the document has more than {} bytes",
            Limits::DOCUMENT_BYTES_MAX
        )));
    }
    if record.uri.as_ref().is_some_and(|u| u.len() > Limits::URI_BYTES_MAX) {
        return Err(too_large(format!(
            "record {index}: the uri has more than {} bytes",
            Limits::URI_BYTES_MAX
        )));
    }
    let entries = record.metadata.iter().map(|(key, value)| (key, value.as_ref()));
    fields(entries, record.metadata.len(), &format!("record {index}, metadata"))
}

fn is_dimension(components: usize) -> bool {
    (1..=Limits::DIMENSION_MAX).contains(&components)
}

fn vector(vector: &[f32]) -> std::result::Result<(), String> {
    if !is_dimension(vector.len()) {
        return Err(format!(
            "a vector must have a dimension of 1 to {}, got {}",
            Limits::DIMENSION_MAX,
            vector.len()
        ));
    }
    match vector.iter().position(|x| !x.is_finite()) {
        Some(at) => {
            Err(format!("vectors must not contain NaN or Infinity values (component {at})"))
        }
        None => Ok(()),
    }
}

pub(crate) fn selector(select: &Selector) -> Result<()> {
    if select.ids.as_ref().is_some_and(|ids| ids.len() > Limits::IDS_MAX) {
        return Err(too_large(format!("ids: at most {} are allowed", Limits::IDS_MAX)));
    }
    select.filter.as_ref().map_or(Ok(()), filter)
}

pub(crate) fn query(request: &QueryRequest, info: &CollectionInfo) -> Result<()> {
    selector(&request.select)?;
    let dimension = info.vector(request.using.as_ref())?.spec.dimension;
    let count = request.vectors.len();
    if count > Limits::QUERY_VECTORS_MAX {
        return Err(too_large(format!(
            "query: {count} vectors, at most {} are allowed",
            Limits::QUERY_VECTORS_MAX
        )));
    }
    if count.saturating_mul(request.k) > Limits::QUERY_HITS_MAX {
        return Err(too_large(format!(
            "query: {} neighbours of {count} vectors, at most {} in all are allowed",
            request.k,
            Limits::QUERY_HITS_MAX
        )));
    }
    for (index, one) in request.vectors.iter().enumerate() {
        vector(one).map_err(|why| Error::invalid(format!("query vector {index}: {why}")))?;
        if let Some(want) = dimension.filter(|want| *want as usize != one.len()) {
            return Err(dimension_error(request.using.as_ref(), want as usize, one.len()));
        }
    }
    Ok(())
}

fn dimension_error(name: Option<&VectorName>, want: usize, got: usize) -> Error {
    Error::invalid(match name {
        None => format!("Collection expecting embedding with dimension of {want}, got {got}"),
        Some(name) => format!("vectors named {name:?} have a dimension of {want}, got {got}"),
    })
}

/// Checks size, depth, operand kinds and regular expressions' length. Syntax of regular
/// expressions is checked where they are compiled.
pub(crate) fn filter(filter: &Filter) -> Result<()> {
    depth(filter, 0)?;
    let terms = filter.terms();
    if terms > Limits::FILTER_TERMS_MAX {
        return Err(too_large(format!(
            "filter: {terms} terms, at most {} are allowed",
            Limits::FILTER_TERMS_MAX
        )));
    }
    Ok(())
}

fn depth(filter: &Filter, level: usize) -> Result<()> {
    if level > Limits::DEPTH_MAX {
        return Err(too_large(format!("filter: nested deeper than {} levels", Limits::DEPTH_MAX)));
    }
    match filter {
        Filter::And(all) | Filter::Or(all) => all.iter().try_for_each(|f| depth(f, level + 1)),
        Filter::Not(one) => depth(one, level + 1),
        Filter::Text(TextTest::Regex(pattern) | TextTest::NotRegex(pattern))
            if pattern.len() > Limits::REGEX_BYTES_MAX =>
        {
            Err(too_large(format!(
                "filter: a regular expression has at most {} bytes",
                Limits::REGEX_BYTES_MAX
            )))
        }
        Filter::Field { key, test } => operand(key, test),
        Filter::Text(_) => Ok(()),
    }
}

fn operand(key: &str, test: &FieldTest) -> Result<()> {
    let (values, order): (&[Value], bool) = match test {
        FieldTest::Gt(v) | FieldTest::Gte(v) | FieldTest::Lt(v) | FieldTest::Lte(v) => {
            (std::slice::from_ref(v), true)
        }
        FieldTest::Eq(v)
        | FieldTest::Ne(v)
        | FieldTest::Contains(v)
        | FieldTest::NotContains(v) => (std::slice::from_ref(v), false),
        FieldTest::In(values) | FieldTest::NotIn(values) => (values, false),
        FieldTest::Exists(_) => return Ok(()),
    };
    for operand in values {
        if matches!(operand, Value::List(_)) {
            return Err(Error::invalid(format!("filter on {key:?}: an operand must be a scalar")));
        }
        if order && matches!(operand, Value::Bool(_)) {
            return Err(Error::invalid(format!("filter on {key:?}: a boolean has no order")));
        }
        if matches!(operand, Value::Float(f) if f.is_nan()) {
            return Err(Error::invalid(format!("filter on {key:?}: NaN equals nothing")));
        }
    }
    Ok(())
}

/// At most 100 characters of a caller's text, for messages.
fn shown(text: &str) -> String {
    text.chars().take(100).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use tenantry_types::TenantName;

    #[test]
    fn a_setting_with_a_meaning_has_one_of_its_values_where_it_is_set() {
        let check =
            |key: &str, value: &str| meant([(&key.to_owned(), &value.to_owned())].into_iter());
        check("placement", "fixed").unwrap();
        check("Placement", "anywhere").unwrap();
        for value in ["Fixed", "fixed ", "", "anywhere"] {
            let why = check("placement", value).unwrap_err();
            assert_eq!(why.kind(), ErrorKind::Invalid);
            let words = "settings, placement: it may be \"fixed\", or not be set";
            assert_eq!(why.public_message(), words);
        }
    }

    /// Archives of tenants that were made before that come back.
    #[test]
    fn what_was_set_before_is_no_reason_to_refuse_a_tenant() {
        let mut spec = TenantSpec::new(TenantName::parse("a").unwrap());
        spec.settings.insert("placement".into(), "anywhere".into());
        tenant_spec(&spec).unwrap();
    }
}
