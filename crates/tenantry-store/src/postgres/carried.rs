//! A place's rows as moves see them: records, too, are keys with values.
//!
//! In a database a record is a row of `records` and one of `vectors` for each of its vectors. Here
//! its body, its vectors and what its id leads to are values of keys, as on files; bodies as they
//! are sealed, vectors clear.

use super::{
    cluster::{Place, signed},
    draft::{self, IdKeys, signed_collection},
    fields,
    lines::another_record,
    statement::{Statement, Step},
    vector::{self, Wire},
    view::{PgView, bytes, many, odd},
    write::{PUT_RECORDS, PUT_VECTORS},
};
use crate::tenancy::{
    Pair, Space, View, WriteSet,
    catalog::PARTITION,
    disk::{Body, decode_vector, encode_vector},
    keys::{self, Decode as _, Family, PREFIX_BYTES},
    tenants::OpenTenant,
};
use std::{collections::BTreeMap, sync::Arc};
use tenantry_types::{CollectionNumber, Error, Result};
use tokio_postgres::{Row, types::Type};

/// Each is looked up by an index, whatever the server believes of the number of rows.
const IDS: &str = "SELECT g.n, f.ordinal FROM unnest($3::bytea[]) WITH ORDINALITY AS g (key, n) \
     CROSS JOIN LATERAL (SELECT r.ordinal FROM {schema}.records r WHERE r.tenant = $1 \
     AND r.collection = $2 AND r.key BETWEEN g.key AND g.key ORDER BY r.key LIMIT 1) f";
const BODIES: &str = "SELECT g.n, f.ordinal, f.id, f.key, f.body \
     FROM unnest($3::bigint[]) WITH ORDINALITY AS g (ordinal, n) \
     CROSS JOIN LATERAL (SELECT r.ordinal, r.id, r.key, r.body FROM {schema}.records r \
     WHERE r.tenant = $1 AND r.collection = $2 AND r.ordinal BETWEEN g.ordinal AND g.ordinal \
     ORDER BY r.ordinal LIMIT 1) f";
const VECTORS: &str = "SELECT g.n, {vector}.vector_send(f.v) \
     FROM unnest($3::smallint[], $4::bigint[]) WITH ORDINALITY AS g (field, ordinal, n) \
     CROSS JOIN LATERAL (SELECT e.v FROM {schema}.vectors e WHERE e.tenant = $1 \
     AND e.collection = $2 AND e.field = g.field AND e.ordinal BETWEEN g.ordinal AND g.ordinal \
     ORDER BY e.ordinal LIMIT 1) f";
const PAGE_OF_BODIES: &str = "SELECT 0::bigint, c.ordinal, c.id, c.key, c.body FROM \
     (SELECT p.*, sum(octet_length(p.body)) OVER (ORDER BY p.ordinal) - octet_length(p.body) \
     AS before FROM (SELECT r.ordinal, r.id, r.key, r.body FROM {schema}.records r \
     WHERE r.tenant = $1 AND r.collection = $2 AND r.ordinal >= $3 ORDER BY r.ordinal LIMIT $4) p) \
     c WHERE c.before < $5 ORDER BY c.ordinal";
const PAGE_OF_VECTORS: &str = "SELECT e.field, e.ordinal, {vector}.vector_send(e.v) \
     FROM {schema}.vectors e WHERE e.tenant = $1 AND e.collection = $2 \
     AND (e.field, e.ordinal) >= ($3, $4) ORDER BY e.field, e.ordinal LIMIT $5";
const ANY_VECTOR: &str = "SELECT {vector}.vector_send('[1]'::{vector}.vector)";
const REMOVE_RECORDS: &str = "DELETE FROM {schema}.records \
     WHERE tenant = $1 AND collection = $2 AND ordinal = ANY ($3)";
const REMOVE_VECTORS_OF: &str = "DELETE FROM {schema}.vectors \
     WHERE tenant = $1 AND collection = $2 AND field = ANY (ARRAY (SELECT DISTINCT v.field \
     FROM {schema}.vectors v WHERE v.tenant = $1 AND v.collection = $2)) AND ordinal = ANY ($3)";
const REMOVE_VECTORS: &str = "DELETE FROM {schema}.vectors \
     WHERE tenant = $1 AND collection = $2 AND field = $3 AND ordinal = ANY ($4)";

/// See the module. One transaction, which sees one state of the database.
pub(crate) struct Carried {
    view: PgView,
    tenant: Arc<OpenTenant>,
}

/// A key of a record's.
enum OfRecord {
    Id(u32, String),
    Body(u32, u64),
    Vector(u32, u16, u64),
}

impl OfRecord {
    /// None if the key is of another family.
    fn of(tenant: &OpenTenant, key: &[u8]) -> Result<Option<Self>> {
        let prefix = tenant.prefix();
        let odd = || Error::internal("a partition that moves know nothing of");
        let (partition, found) = if let Some(id) = keys::Id::decode(prefix, key) {
            let text = str::from_utf8(id.id.0).map_err(|_| Error::corrupt("an id is no text"))?;
            (id.partition, Self::Id(id.collection, text.to_owned()))
        } else if let Some(body) = keys::Body::decode(prefix, key) {
            (body.partition, Self::Body(body.collection, body.ordinal))
        } else if let Some(vector) = keys::Vector::decode(prefix, key) {
            let found = Self::Vector(vector.collection, vector.vector, vector.ordinal);
            (vector.partition, found)
        } else {
            return Ok(None);
        };
        if partition == PARTITION { Ok(Some(found)) } else { Err(odd()) }
    }
}

/// Keys of one kind of row, to be looked up in one statement: where in the answer each one's value
/// goes, and what it is looked up by.
enum Asked {
    Rows(Vec<usize>, Vec<Vec<u8>>),
    Ids(u32, Vec<usize>, Vec<String>),
    Bodies(u32, Vec<usize>, Vec<i64>),
    Vectors(u32, Vec<usize>, Vec<i16>, Vec<i64>),
}

/// What is asked for of one collection.
#[derive(Default)]
struct OfCollection {
    ids: (Vec<usize>, Vec<String>),
    bodies: (Vec<usize>, Vec<i64>),
    vectors: (Vec<usize>, Vec<i16>, Vec<i64>),
}

impl Asked {
    /// Sorts keys by what they are looked up with.
    fn of(tenant: &OpenTenant, keys: &[Vec<u8>]) -> Result<Vec<Self>> {
        let mut records: BTreeMap<u32, OfCollection> = BTreeMap::new();
        let (mut of_rows, mut rows) = (Vec::new(), Vec::new());
        for (at, key) in keys.iter().enumerate() {
            match OfRecord::of(tenant, key)? {
                None => {
                    of_rows.push(at);
                    rows.push(key.clone());
                }
                Some(OfRecord::Id(collection, id)) => {
                    let ids = &mut records.entry(collection).or_default().ids;
                    ids.0.push(at);
                    ids.1.push(id);
                }
                Some(OfRecord::Body(collection, ordinal)) => {
                    let bodies = &mut records.entry(collection).or_default().bodies;
                    bodies.0.push(at);
                    bodies.1.push(draft::signed(ordinal)?);
                }
                Some(OfRecord::Vector(collection, field, ordinal)) => {
                    let vectors = &mut records.entry(collection).or_default().vectors;
                    vectors.0.push(at);
                    vectors.1.push(field.cast_signed());
                    vectors.2.push(draft::signed(ordinal)?);
                }
            }
        }
        let mut all = vec![Self::Rows(of_rows, rows)];
        for (collection, OfCollection { ids, bodies, vectors }) in records {
            all.push(Self::Ids(collection, ids.0, ids.1));
            all.push(Self::Bodies(collection, bodies.0, bodies.1));
            all.push(Self::Vectors(collection, vectors.0, vectors.1, vectors.2));
        }
        all.retain(|asked| !asked.at().is_empty());
        Ok(all)
    }

    fn at(&self) -> &[usize] {
        match self {
            Self::Rows(at, ..)
            | Self::Ids(_, at, ..)
            | Self::Bodies(_, at, ..)
            | Self::Vectors(_, at, ..) => at,
        }
    }
}

impl Carried {
    pub(super) fn new(view: PgView, tenant: &Arc<OpenTenant>) -> Self {
        Self { view, tenant: Arc::clone(tenant) }
    }

    /// A statement on the records of a collection, which is looked up by an index.
    fn on(&self, text: &str, collection: u32) -> Result<Statement> {
        on(self.view.home(), &self.tenant, text, collection)
    }

    /// Runs statements in one round trip; their answers.
    async fn ask(
        &self,
        statements: impl Fn() -> Result<Vec<Statement>> + Send + Sync,
    ) -> Result<Vec<Vec<Row>>> {
        statements()?;
        let steps = || {
            let all = statements().unwrap_or_default().into_iter();
            all.flat_map(Statement::into_steps).collect()
        };
        let answers = self.view.run(self.view.home(), self.tenant.id(), steps).await?;
        // Before each is what it is planned with.
        Ok(answers.into_iter().skip(1).step_by(2).collect())
    }

    /// The key and the value of a body in a line, if all that the line says of it agrees.
    fn body(&self, keys: &IdKeys, collection: u32, row: &Row) -> Result<Pair> {
        let ordinal = ordinal_of(row.try_get(1).map_err(|_| odd())?)?;
        let (id, hash, sealed) = (bytes(row, 2)?, bytes(row, 3)?, bytes(row, 4)?);
        let key = keys::Body { collection, partition: PARTITION, ordinal };
        let key = key.encode(self.tenant.prefix());
        let body = Body::decode(&self.tenant.key().open(&key, &sealed)?)?;
        if body.id.as_bytes() != id || keys.of(&body.id) != hash {
            return Err(another_record());
        }
        Ok((key, sealed))
    }

    /// See [`Carry::page`](crate::tenancy::moving::Carry::page).
    pub(super) async fn some(
        &self,
        start: &[u8],
        from: &[u8],
        (rows, bytes_most): (usize, usize),
    ) -> Result<Vec<Pair>> {
        let prefix = self.tenant.prefix();
        let is_of = |family: Family| start.starts_with(&prefix.family(family));
        let of_record = is_of(Family::Body) || is_of(Family::Vector) || is_of(Family::Id);
        if !of_record {
            let most = (rows, Some(bytes_most));
            return self.view.page_within(Space::Data, (start, from), most).await;
        }
        let from = from.max(start);
        if !from.starts_with(start) {
            return Ok(Vec::new());
        }
        let mut fields = Fields(from.get(PREFIX_BYTES..).unwrap_or_default());
        let (collection, _partition) = (fields.u32(), fields.u32());
        let limit = i64::try_from(rows).unwrap_or(i64::MAX);
        if is_of(Family::Body) {
            let Some(first) = fields.last_u64() else { return Ok(Vec::new()) };
            let first = draft::signed(first)?;
            let most = i64::try_from(bytes_most).unwrap_or(i64::MAX);
            let page = || {
                let page = self.on(PAGE_OF_BODIES, collection)?;
                let page = page.with(first, Type::INT8).with(limit, Type::INT8);
                Ok(vec![page.with(most, Type::INT8)])
            };
            let keys = IdKeys::new(&self.tenant, CollectionNumber(collection));
            let answers = self.ask(page).await?;
            return answers.iter().flatten().map(|row| self.body(&keys, collection, row)).collect();
        }
        if is_of(Family::Id) {
            return Err(Error::internal("ids are asked for in their order"));
        }
        let field = fields.u16();
        let Some(first) = fields.last_u64() else { return Ok(Vec::new()) };
        let first = draft::signed(first)?;
        let page = || {
            let page = self.on(PAGE_OF_VECTORS, collection)?;
            let page = page.with(field.cast_signed(), Type::INT2).with(first, Type::INT8);
            Ok(vec![page.with(limit, Type::INT8)])
        };
        let mut found = Vec::new();
        for row in self.ask(page).await?.iter().flatten() {
            let field: i16 = row.try_get(0).map_err(|_| odd())?;
            let ordinal = ordinal_of(row.try_get(1).map_err(|_| odd())?)?;
            let (vector, partition) = (field.cast_unsigned(), PARTITION);
            let key = keys::Vector { collection, partition, vector, ordinal }.encode(prefix);
            // Of this vector name only, if one was asked for.
            if key.starts_with(start) {
                found.push((key, encode_vector(&vector::read(&bytes(row, 2)?)?)));
            }
        }
        Ok(found)
    }

    fn statement(&self, asked: &Asked) -> Result<Statement> {
        match asked {
            Asked::Rows(_, keys) => {
                let mut statement = many(self.view.home(), keys)?;
                statement.looks_up = true;
                Ok(statement)
            }
            Asked::Ids(collection, _, ids) => {
                let keys = IdKeys::new(&self.tenant, CollectionNumber(*collection));
                let hashes: Vec<Vec<u8>> = ids.iter().map(|id| keys.of(id)).collect();
                Ok(self.on(IDS, *collection)?.with(hashes, Type::BYTEA_ARRAY))
            }
            Asked::Bodies(collection, _, ordinals) => {
                Ok(self.on(BODIES, *collection)?.with(ordinals.clone(), Type::INT8_ARRAY))
            }
            Asked::Vectors(collection, _, fields, ordinals) => Ok(self
                .on(VECTORS, *collection)?
                .with(fields.clone(), Type::INT2_ARRAY)
                .with(ordinals.clone(), Type::INT8_ARRAY)),
        }
    }

    /// The value that a row of an answer has, and behind which of the keys that were asked for.
    fn value(&self, asked: &Asked, n: usize, row: &Row) -> Result<(usize, Option<Vec<u8>>)> {
        let number = |row: &Row| row.try_get::<_, i64>(0).map_err(|_| odd());
        let at = |n: i64| usize::try_from(n - 1).map_err(|_| odd());
        Ok(match asked {
            Asked::Rows(..) => (n, row.try_get(0).map_err(|_| odd())?),
            Asked::Ids(..) => {
                let ordinal = ordinal_of(row.try_get(1).map_err(|_| odd())?)?;
                (at(number(row)?)?, Some(ordinal.to_be_bytes().to_vec()))
            }
            Asked::Bodies(collection, ..) => {
                let keys = IdKeys::new(&self.tenant, CollectionNumber(*collection));
                (at(number(row)?)?, Some(self.body(&keys, *collection, row)?.1))
            }
            Asked::Vectors(..) => {
                (at(number(row)?)?, Some(encode_vector(&vector::read(&bytes(row, 1)?)?)))
            }
        })
    }
}

impl View for Carried {
    fn generation(&self) -> u64 {
        self.view.generation()
    }

    async fn get(&self, space: Space, key: &[u8]) -> Result<Option<Vec<u8>>> {
        if space == Space::Data && OfRecord::of(&self.tenant, key)?.is_some() {
            return Ok(self.many(space, &[key.to_vec()]).await?.pop().flatten());
        }
        self.view.get(space, key).await
    }

    async fn many(&self, space: Space, keys: &[Vec<u8>]) -> Result<Vec<Option<Vec<u8>>>> {
        if space == Space::Catalog {
            return self.view.many(space, keys).await;
        }
        let all = Asked::of(&self.tenant, keys)?;
        if all.is_empty() {
            return Ok(Vec::new());
        }
        let ask = || all.iter().map(|asked| self.statement(asked)).collect();
        let answers = self.ask(ask).await?;
        let mut found = vec![None; keys.len()];
        for (asked, rows) in all.iter().zip(&answers) {
            for (n, row) in rows.iter().enumerate() {
                let (at, value) = self.value(asked, n, row)?;
                let place = asked.at().get(at).and_then(|at| found.get_mut(*at));
                *place.ok_or_else(odd)? = value;
            }
        }
        Ok(found)
    }

    async fn page(
        &self,
        space: Space,
        start: &[u8],
        from: &[u8],
        limit: usize,
    ) -> Result<Vec<Pair>> {
        match space {
            Space::Catalog => self.view.page(space, start, from, limit).await,
            Space::Data => self.some(start, from, (limit, usize::MAX)).await,
        }
    }
}

/// Numbers at the beginning of a key that may end too early.
struct Fields<'a>(&'a [u8]);

impl Fields<'_> {
    fn next<const N: usize>(&mut self) -> [u8; N] {
        let mut field = [0; N];
        let (now, rest) = self.0.split_at(N.min(self.0.len()));
        field[..now.len()].copy_from_slice(now);
        self.0 = rest;
        field
    }

    fn u16(&mut self) -> u16 {
        u16::from_be_bytes(self.next())
    }

    fn u32(&mut self) -> u32 {
        u32::from_be_bytes(self.next())
    }

    /// The last number, or the one behind it if something follows; none if there is none.
    fn last_u64(&mut self) -> Option<u64> {
        let number = u64::from_be_bytes(self.next());
        if self.0.is_empty() { Some(number) } else { number.checked_add(1) }
    }
}

fn ordinal_of(ordinal: i64) -> Result<u64> {
    u64::try_from(ordinal)
        .map_err(|_| Error::corrupt("the database answers with a negative number"))
}

/// What makes a session know the tables of records, their indexes and vectors: the first one who asks
/// for records in it would wait for that.
pub(super) fn first_questions(place: &Place, tenant: &OpenTenant) -> Result<Vec<Step>> {
    let bodies = on(place, tenant, PAGE_OF_BODIES, 0)?;
    let bodies = bodies.with(0_i64, Type::INT8).with(1_i64, Type::INT8).with(1_i64, Type::INT8);
    let vectors = on(place, tenant, PAGE_OF_VECTORS, 0)?;
    let vectors = vectors.with(0_i16, Type::INT2).with(0_i64, Type::INT8).with(1_i64, Type::INT8);
    let library = Statement::new(place.text(ANY_VECTOR));
    Ok([bodies, vectors, library].into_iter().flat_map(Statement::into_steps).collect())
}

fn on(place: &Place, tenant: &OpenTenant, text: &str, collection: u32) -> Result<Statement> {
    let mut statement = Statement::new(place.text(text))
        .with(signed(tenant.id())?, Type::INT8)
        .with(signed_collection(CollectionNumber(collection))?, Type::INT4);
    statement.looks_up = true;
    Ok(statement)
}

/// What is put and removed of one collection's records.
#[derive(Default)]
struct Changes {
    ordinals: Vec<i64>,
    keys: Vec<Vec<u8>>,
    ids: Vec<Vec<u8>>,
    fields: Vec<String>,
    bodies: Vec<Vec<u8>>,
    removed: Vec<i64>,
    /// Records that are there under another ordinal.
    replaced: Vec<i64>,
    vectors: (Vec<i16>, Vec<i64>, Vec<Wire>),
    /// By field.
    removed_vectors: BTreeMap<i16, Vec<i64>>,
}

/// What a set says of records, by collection.
pub(super) struct Taken(BTreeMap<u32, Changes>);

impl Taken {
    /// Takes it out of a set.
    pub(super) fn of(tenant: &OpenTenant, set: &mut WriteSet) -> Result<Self> {
        let mut all = BTreeMap::new();
        let mut kept = Vec::with_capacity(set.operations.len());
        for (space, key, value) in std::mem::take(&mut set.operations) {
            match OfRecord::of(tenant, &key)? {
                Some(what) if space == Space::Data => take(tenant, &mut all, what, &key, value)?,
                _ => kept.push((space, key, value)),
            }
        }
        set.operations = kept;
        Ok(Self(all))
    }

    /// Asks for what is to be known before the steps are made, with the tenant's head locked.
    pub(super) fn questions(&self, tenant: &OpenTenant, view: &PgView) -> Result<Vec<Statement>> {
        let with_keys = self.0.iter().filter(|(_, changes)| !changes.keys.is_empty());
        let ask = |(collection, changes): (&u32, &Changes)| {
            let ids = on(view.home(), tenant, IDS, *collection)?;
            Ok(ids.with(changes.keys.clone(), Type::BYTEA_ARRAY))
        };
        with_keys.map(ask).collect()
    }

    /// The steps that put and remove it, by the answers.
    pub(super) async fn into_steps(
        mut self,
        tenant: &OpenTenant,
        view: &PgView,
        answers: &[Vec<Row>],
    ) -> Result<Vec<Step>> {
        let with_keys = self.0.values_mut().filter(|changes| !changes.keys.is_empty());
        for (changes, rows) in with_keys.zip(answers) {
            changes.find_replaced(rows)?;
        }
        let mut steps = Vec::new();
        for (collection, changes) in self.0 {
            changes.into_steps(tenant, view, collection, &mut steps).await?;
        }
        Ok(steps)
    }
}

fn take(
    tenant: &OpenTenant,
    all: &mut BTreeMap<u32, Changes>,
    what: OfRecord,
    key: &[u8],
    value: Option<Vec<u8>>,
) -> Result<()> {
    match (what, value) {
        // A part of its record.
        (OfRecord::Id(..), _) => {}
        (OfRecord::Body(collection, ordinal), Some(sealed)) => {
            let body = Body::decode(&tenant.key().open(key, &sealed)?)?;
            let changes = all.entry(collection).or_default();
            changes.ordinals.push(draft::signed(ordinal)?);
            changes.keys.push(IdKeys::new(tenant, CollectionNumber(collection)).of(&body.id));
            changes.fields.push(fields::fields(body.metadata.as_deref(), body.logical_bytes()));
            changes.ids.push(body.id.into_bytes());
            changes.bodies.push(sealed);
        }
        (OfRecord::Body(collection, ordinal), None) => {
            all.entry(collection).or_default().removed.push(draft::signed(ordinal)?);
        }
        (OfRecord::Vector(collection, field, ordinal), value) => {
            let changes = all.entry(collection).or_default();
            let (field, ordinal) = (field.cast_signed(), draft::signed(ordinal)?);
            match value {
                Some(value) => {
                    changes.vectors.0.push(field);
                    changes.vectors.1.push(ordinal);
                    changes.vectors.2.push(Wire::of(&decode_vector(&value)?)?);
                }
                None => changes.removed_vectors.entry(field).or_default().push(ordinal),
            }
        }
    }
    Ok(())
}

impl Changes {
    /// A record may be there under the ordinal that its id had before it was deleted and came
    /// again.
    fn find_replaced(&mut self, rows: &[Row]) -> Result<()> {
        for row in rows {
            let n: i64 = row.try_get(0).map_err(|_| odd())?;
            let there: i64 = row.try_get(1).map_err(|_| odd())?;
            let at = usize::try_from(n - 1).ok().and_then(|at| self.ordinals.get(at));
            if *at.ok_or_else(odd)? != there {
                self.replaced.push(there);
            }
        }
        Ok(())
    }

    async fn into_steps(
        self,
        tenant: &OpenTenant,
        view: &PgView,
        collection: u32,
        steps: &mut Vec<Step>,
    ) -> Result<()> {
        let on = |text: &str| -> Result<Statement> {
            let mut statement = on(view.home(), tenant, text, collection)?;
            statement.looks_up = false;
            Ok(statement)
        };
        let Self { ordinals, keys, ids, fields, bodies, mut removed, replaced, .. } = self;
        if !replaced.is_empty() {
            let of = on(REMOVE_VECTORS_OF)?.with(replaced.clone(), Type::INT8_ARRAY);
            steps.push(Step::Run(of));
        }
        removed.extend(replaced);
        if !removed.is_empty() {
            steps.push(Step::Run(on(REMOVE_RECORDS)?.with(removed, Type::INT8_ARRAY)));
        }
        for (field, ordinals) in self.removed_vectors {
            let remove = on(REMOVE_VECTORS)?.with(field, Type::INT2);
            steps.push(Step::Run(remove.with(ordinals, Type::INT8_ARRAY)));
        }
        if !ordinals.is_empty() {
            let put = on(PUT_RECORDS)?
                .with(ordinals, Type::INT8_ARRAY)
                .with(keys, Type::BYTEA_ARRAY)
                .with(ids, Type::BYTEA_ARRAY)
                .with(fields, Type::TEXT_ARRAY)
                .with(bodies, Type::BYTEA_ARRAY);
            steps.push(Step::Run(put));
        }
        let (of_fields, of_ordinals, vectors) = self.vectors;
        if !of_ordinals.is_empty() {
            let facts = view.facts().await;
            let of = facts.as_ref().and_then(|facts| facts.vector.as_ref());
            let of = of.ok_or_else(|| Error::internal("the database has no vectors"))?;
            let put = on(PUT_VECTORS)?
                .with(of_fields, Type::INT2_ARRAY)
                .with(of_ordinals, Type::INT8_ARRAY)
                .with(vectors, of.many.clone());
            steps.push(Step::Run(put));
        }
        Ok(())
    }
}
