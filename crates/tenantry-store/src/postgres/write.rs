//! Writing records: one round trip that locks the tenant and reads what the batch meets, one that
//! writes and commits.
//!
//! Between the two nobody waits for a turn: a connection and the tenant's lock are held.

use super::{
    Inner,
    cluster::{Place, signed as signed_tenant},
    connect::VectorType,
    draft::{Draft, IdKeys, part, signed, signed_collection},
    fields,
    lines::{Lines, another_record},
    named,
    statement::{Statement, Step},
    vector::Wire,
    view::PgView,
};
use crate::{
    CollectionInfo, CollectionRef,
    sites::SiteView,
    tenancy::{
        batch::{Batch, Offered, Place as BatchPlace, Prepared, Put, weight},
        catalog::PARTITION,
        commit::Commit,
        disk::{Body, Statistics},
        keys,
        tenants::OpenTenant,
        writers::batch_bytes,
    },
};
use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Instant,
};
use tenantry_auth::{Scope, TenantId, Write};
use tenantry_types::{
    Allowance, CollectionNumber, Error, ErrorKind, Filter, RecordWrite, Result, WriteMode,
    WriteOutcome,
};
use tokio::sync::MutexGuard;
use tokio_postgres::types::Type;

/// Sealed bytes of the records that a batch changes. They are in memory twice while it is made.
const OLD_BYTES_MAX: i64 = 256 << 20;

/// Lists are unfolded where they are selected: behind FROM each would be copied once more.
const INSERT: &str = "INSERT INTO {schema}.records \
     (tenant, collection, ordinal, key, id, fields, body) \
     SELECT $1, $2, g.ordinal, g.key, g.id, g.fields::jsonb, g.body FROM (SELECT \
     unnest($3::bigint[]) AS ordinal, unnest($4::bytea[]) AS key, unnest($5::bytea[]) AS id, \
     unnest($6::text[]) AS fields, unnest($7::bytea[]) AS body) AS g";
/// Which one is there is found by the primary key; an update would join, and with statistics that do
/// not know the collection read all of it.
pub(super) const PUT_RECORDS: &str = "INSERT INTO {schema}.records \
     (tenant, collection, ordinal, key, id, fields, body) \
     SELECT $1, $2, g.ordinal, g.key, g.id, g.fields::jsonb, g.body FROM (SELECT \
     unnest($3::bigint[]) AS ordinal, unnest($4::bytea[]) AS key, unnest($5::bytea[]) AS id, \
     unnest($6::text[]) AS fields, unnest($7::bytea[]) AS body) AS g \
     ON CONFLICT (tenant, collection, ordinal) DO UPDATE \
     SET key = excluded.key, id = excluded.id, fields = excluded.fields, body = excluded.body";
/// Of records that are new.
const VECTORS: &str = "INSERT INTO {schema}.vectors (tenant, collection, field, ordinal, v) \
     SELECT $1, $2, unnest($3::smallint[]), unnest($4::bigint[]), unnest($5)";
pub(super) const PUT_VECTORS: &str = "INSERT INTO {schema}.vectors (tenant, collection, field, ordinal, v) \
     SELECT $1, $2, unnest($3::smallint[]), unnest($4::bigint[]), unnest($5) \
     ON CONFLICT (tenant, collection, field, ordinal) DO UPDATE SET v = excluded.v";

impl Inner {
    /// Whoever calls this does not go away.
    pub(super) async fn write(
        &self,
        scope: &Scope<Write>,
        collection: &CollectionRef,
        mode: WriteMode,
        batch: &mut Offered,
    ) -> Result<WriteOutcome> {
        match self.write_all(scope, collection, mode, batch).await {
            Err(why) => {
                let other = self.namesake(scope, collection, why).await?;
                self.write_all(scope, &other, mode, batch).await
            }
            done => done,
        }
    }

    /// Takes the batch once the collection is known to be there.
    async fn write_all(
        &self,
        scope: &Scope<Write>,
        collection: &CollectionRef,
        mode: WriteMode,
        batch: &mut Offered,
    ) -> Result<WriteOutcome> {
        let tenant = self.tenancy.collection_tenant(scope, collection).await?;
        let number = collection.info.number;
        let records = batch.as_ref().map_or(&[] as &[_], |(records, _)| records);
        let bytes = records.iter().map(weight).sum::<usize>();
        let keys = IdKeys::new(&tenant, number).all(records.iter().map(|one| &one.id));
        // Whoever adds only meets no old record.
        let needs_bodies = !matches!(mode, WriteMode::Add(_));
        let held = batch_bytes(records);
        let change = self.changing(scope, &tenant, collection, held, |draft| {
            Ok(Some(existing(draft, &keys, needs_bodies)))
        });
        let Changing { writing: _writing, view, info, statistics, most, lines, looked_at } =
            change.await?;
        let met = Met::of(lines, records, needs_bodies)?;
        let Some((records, attributes)) = batch.take() else {
            return Err(Error::internal("a batch was written twice"));
        };
        let bytes = bytes + met.bytes;
        let prepared = {
            let (tenant, info) = (Arc::clone(&tenant), info.clone());
            let commit_tenant = Arc::clone(&tenant);
            let tenancy = &self.tenancy;
            let (now, entropy) = (tenancy.now(), Arc::clone(&tenancy.entropy));
            // A bound filter may read stored texts, which are larger than what is written.
            let (bound, of) = (scope.restriction().filter.clone(), scope.tenant());
            let scope = scope.clone();
            let bytes =
                if bound.as_ref().is_some_and(Filter::needs_text) { usize::MAX } else { bytes };
            let prepare = move || {
                let commit = Commit::begin(&commit_tenant, &*entropy, now)?;
                let (columns, counts) = (Columns::new(&tenant, number, met), (statistics, most));
                let batch =
                    Batch::new(&tenant, commit, &info, counts, bound.as_ref(), mode, columns)?;
                let prepared = batch.prepare(records, attributes, scope.author())?;
                Ok(prepared.map(|columns| columns.rows))
            };
            self.pool.compute(of, bytes, prepare).await?
        };
        let Prepared { set, head, outcome, place: rows, row_changed, info, records, .. } = prepared;
        if outcome.version == 0 {
            return Ok(outcome);
        }
        let steps = {
            let facts = view.facts().await;
            let vector = facts.as_ref().and_then(|facts| facts.vector.as_ref());
            rows.into_steps(view.home(), &tenant, number, vector)?
        };
        let view = self.stands_still(scope, &tenant, view, looked_at).await?;
        self.submit_with(view, set, steps).await?;
        tenant.set_head(head);
        self.shared.graphs.notice(&tenant, &info, records);
        if row_changed {
            tenant.catalog_changed();
        }
        Ok(outcome)
    }
}

/// A change that has begun: the tenant is locked, here and for other nodes.
pub(super) struct Changing<'t> {
    pub(super) writing: MutexGuard<'t, ()>,
    pub(super) view: PgView,
    pub(super) info: CollectionInfo,
    pub(super) statistics: Statistics,
    /// What the tenant may have.
    pub(super) most: Allowance,
    pub(super) lines: Lines,
    /// When the right was looked at.
    pub(super) looked_at: Instant,
}

impl<'t> Changing<'t> {
    /// Gives the change up, but not the writer lock.
    pub(super) fn into_lock(self) -> MutexGuard<'t, ()> {
        self.writing
    }
}

impl Inner {
    /// Waits for the tenant's writer lock with so many bytes in hand, then locks it for other nodes, and reads in the same
    /// round trip what the collection is like and what else is asked for.
    pub(super) async fn changing<'t>(
        &self,
        scope: &Scope<Write>,
        tenant: &'t OpenTenant,
        collection: &CollectionRef,
        bytes: usize,
        data: impl Fn(&mut Draft) -> Result<Option<String>> + Send + Sync,
    ) -> Result<Changing<'t>> {
        let writing = tenant.writer_turn(bytes).await?;
        if tenant.is_behind() {
            drop(Box::pin(self.tenancy.caught_up(tenant)).await?);
        }
        self.changing_locked(scope, tenant, collection, writing, true, data).await
    }

    /// The same for whoever has the writer lock. What is asked for is
    /// [common](Statement::common_if), or not.
    pub(super) async fn changing_locked<'t>(
        &self,
        scope: &Scope<Write>,
        tenant: &'t OpenTenant,
        collection: &CollectionRef,
        writing: MutexGuard<'t, ()>,
        is_common: bool,
        data: impl Fn(&mut Draft) -> Result<Option<String>> + Send + Sync,
    ) -> Result<Changing<'t>> {
        tenant.check_alive()?;
        let (place, number) = (self.place(tenant).await?, collection.info.number);
        let make = || -> Result<Statement> {
            let mut draft = Draft::new(tenant, number)?;
            let data = data(&mut draft)?;
            Ok(draft.finish(&place, "", data.as_deref()).common_if(is_common))
        };
        make()?;
        let steps = || make().map(Statement::into_steps).unwrap_or_default();
        let (view, answers) =
            PgView::change_and(&self.shared, place.clone(), &[tenant], steps).await?;
        // A revocation takes the same lock.
        let view = SiteView::from(view);
        self.tenancy.stands(scope.standing(), Some(tenant), Some(&view)).await?;
        let looked_at = Instant::now();
        let most = self.tenancy.allowance(Some(&view), tenant).await?;
        let view = view.into_postgres()?;
        let rows = answers.into_iter().next_back().unwrap_or_default();
        let lines = Lines::of(rows, tenant, number)?;
        let info = named::check(tenant, collection, lines.info.as_ref())?.clone();
        let statistics = lines.statistics.ok_or_else(|| {
            Error::corrupt(format!(
                "the counts of collection {} of tenant {} are gone",
                number.0,
                tenant.id()
            ))
        })?;
        Ok(Changing { writing, view, info, statistics, most, lines, looked_at })
    }

    /// [`Tenancy::stands_still`](crate::tenancy::Tenancy::stands_still) before this view is committed.
    pub(super) async fn stands_still(
        &self,
        scope: &Scope<Write>,
        tenant: &OpenTenant,
        view: PgView,
        looked_at: Instant,
    ) -> Result<PgView> {
        let view = SiteView::from(view);
        self.tenancy.stands_still(scope, (tenant, Some(&view)), looked_at).await?;
        view.into_postgres()
    }
}

/// What there is of these ids: ordinals and ids, and their bodies if the batch looks at them.
fn existing(draft: &mut Draft, keys: &[Vec<u8>], needs_bodies: bool) -> String {
    let body = if needs_bodies { ", r.body" } else { "" };
    let met = draft.of_keys(keys, &format!("r.tenant, r.collection, r.ordinal, r.id{body}"));
    let select = |part: i16, bytes: &str, total: &str| {
        format!(
            "SELECT {part}::smallint AS part, 0::bigint AS n, met.ordinal, met.tenant, \
             met.collection, 0::real AS distance, {bytes} AS bytes, NULL::smallint[] AS fields, \
             NULL::bytea[] AS vectors, {total}::bigint AS total FROM met"
        )
    };
    // Neighbours stand for ids.
    let mut all = format!("WITH met AS MATERIALIZED ({met}) {}", select(part::NEAR, "met.id", "0"));
    if needs_bodies {
        let bytes = "sum(octet_length(met.body)) OVER ()";
        let body = format!("CASE WHEN {bytes} <= {OLD_BYTES_MAX} THEN met.body END");
        all = format!("{all} UNION ALL {}", select(part::RECORD, &body, bytes));
    }
    all
}

/// The records of the ids of a batch that are there.
struct Met {
    ordinals: HashMap<String, u64>,
    bodies: HashMap<u64, Vec<u8>>,
    bytes: usize,
}

impl Met {
    fn of(lines: Lines, records: &[RecordWrite], needs_bodies: bool) -> Result<Self> {
        let mut met = Self { ordinals: HashMap::new(), bodies: HashMap::new(), bytes: 0 };
        let asked: HashSet<&str> = records.iter().map(|one| one.id.as_str()).collect();
        for line in lines.near {
            let id = line.bytes()?.and_then(|id| std::str::from_utf8(id).ok());
            let id = id.filter(|id| asked.contains(id)).ok_or_else(another_record)?;
            met.ordinals.insert(id.to_owned(), line.ordinal()?);
        }
        for line in lines.records {
            let body = line.bytes()?.ok_or_else(|| {
                Error::new(
                    ErrorKind::TooLarge,
                    format!(
                        "the records that this batch changes take more than {} MiB: change fewer \
                         at once",
                        OLD_BYTES_MAX >> 20
                    ),
                )
            })?;
            met.bytes += body.len();
            met.bodies.insert(line.ordinal()?, body.to_vec());
        }
        if needs_bodies && met.bodies.len() != met.ordinals.len() {
            return Err(another_record());
        }
        Ok(met)
    }
}

/// Where a batch finds records and puts them.
struct Columns<'a> {
    tenant: &'a OpenTenant,
    number: CollectionNumber,
    keys: IdKeys,
    met: Met,
    rows: Rows,
}

/// Rows to write, column by column.
#[derive(Default)]
struct Rows {
    insert: Records,
    update: Records,
    insert_vectors: Vectors,
    update_vectors: Vectors,
}

#[derive(Default)]
struct Vectors {
    fields: Vec<i16>,
    ordinals: Vec<i64>,
    vectors: Vec<Wire>,
}

#[derive(Default)]
struct Records {
    ordinals: Vec<i64>,
    keys: Vec<Vec<u8>>,
    ids: Vec<Vec<u8>>,
    fields: Vec<String>,
    bodies: Vec<Vec<u8>>,
}

impl<'a> Columns<'a> {
    fn new(tenant: &'a OpenTenant, number: CollectionNumber, met: Met) -> Self {
        let keys = IdKeys::new(tenant, number);
        Self { tenant, number, keys, met, rows: Rows::default() }
    }

    fn body_key(&self, ordinal: u64) -> Vec<u8> {
        let place = keys::Body { collection: self.number.0, partition: PARTITION, ordinal };
        place.encode(self.tenant.prefix())
    }
}

impl BatchPlace for Columns<'_> {
    fn find(&self, id: &str) -> Result<Option<u64>> {
        Ok(self.met.ordinals.get(id).copied())
    }

    fn body(&self, ordinal: u64, id: &str) -> Result<Body> {
        let sealed = self.met.bodies.get(&ordinal);
        let sealed = sealed.ok_or_else(|| Error::corrupt("a record has no body"))?;
        let body = Body::decode(&self.tenant.key().open(&self.body_key(ordinal), sealed)?)?;
        // Ids in columns are not sealed, bodies are.
        if body.id != id {
            return Err(another_record());
        }
        Ok(body)
    }

    fn put(&mut self, commit: &mut Commit<'_>, put: Put) -> Result<()> {
        let Put { collection: _, ordinal, is_new, body, vectors } = put;
        let number = signed(ordinal)?;
        let sealed = commit.seal(&self.body_key(ordinal), &body.encode());
        let fields = fields::fields(body.metadata.as_deref(), body.logical_bytes());
        let records = if is_new { &mut self.rows.insert } else { &mut self.rows.update };
        records.ordinals.push(number);
        records.keys.push(self.keys.of(&body.id));
        records.ids.push(body.id.into_bytes());
        records.fields.push(fields);
        records.bodies.push(sealed);
        let rows =
            if is_new { &mut self.rows.insert_vectors } else { &mut self.rows.update_vectors };
        for (field, vector) in vectors {
            rows.fields.push(field.cast_signed());
            rows.ordinals.push(number);
            rows.vectors.push(Wire::of(&vector)?);
        }
        Ok(())
    }
}

impl Rows {
    fn into_steps(
        self,
        place: &Place,
        tenant: &OpenTenant,
        number: CollectionNumber,
        vector: Option<&VectorType>,
    ) -> Result<Vec<Step>> {
        let statement = on(place, tenant.id(), number)?;
        let Self { insert, update, insert_vectors, update_vectors } = self;
        let mut steps = Vec::new();
        if !insert.ordinals.is_empty() {
            steps.push(insert.into_step(statement(INSERT)));
        }
        if !update.ordinals.is_empty() {
            steps.push(update.into_step(statement(PUT_RECORDS)));
        }
        for (text, vectors) in [(VECTORS, insert_vectors), (PUT_VECTORS, update_vectors)] {
            if vectors.vectors.is_empty() {
                continue;
            }
            let vector = vector.ok_or_else(|| Error::internal("the database has no vectors"))?;
            steps.push(vectors.into_step(statement(text), vector));
        }
        Ok(steps)
    }
}

impl Records {
    fn into_step(self, put: Statement) -> Step {
        let Self { ordinals, keys, ids, fields, bodies } = self;
        let put = put
            .with(ordinals, Type::INT8_ARRAY)
            .with(keys, Type::BYTEA_ARRAY)
            .with(ids, Type::BYTEA_ARRAY)
            .with(fields, Type::TEXT_ARRAY)
            .with(bodies, Type::BYTEA_ARRAY);
        Step::Run(put.common_if(true))
    }
}

impl Vectors {
    fn into_step(self, put: Statement, vector: &VectorType) -> Step {
        let Self { fields, ordinals, vectors } = self;
        let put = put
            .with(fields, Type::INT2_ARRAY)
            .with(ordinals, Type::INT8_ARRAY)
            .with(vectors, vector.many.clone());
        Step::Run(put.common_if(true))
    }
}

/// Makes statements whose first values are a tenant and one of its collections.
fn on(
    place: &Place,
    tenant: TenantId,
    number: CollectionNumber,
) -> Result<impl Fn(&str) -> Statement> {
    let (tenant, collection) = (signed_tenant(tenant)?, signed_collection(number)?);
    Ok(move |text: &str| {
        Statement::new(place.text(text)).with(tenant, Type::INT8).with(collection, Type::INT4)
    })
}

/// What a batch asks for first, of a collection that nobody has.
pub(super) fn question_of_none(place: &Place, tenant: &OpenTenant) -> Result<Statement> {
    let mut draft = Draft::new(tenant, CollectionNumber(0))?;
    let data = existing(&mut draft, &[], true);
    Ok(draft.finish(place, "", Some(&data)))
}

/// What adds and replaces records, with none: the session in which it runs knows it then.
pub(super) fn of_none(
    place: &Place,
    tenant: TenantId,
    vector: Option<&VectorType>,
) -> Result<Vec<Step>> {
    let statement = on(place, tenant, CollectionNumber(0))?;
    let records = [INSERT, PUT_RECORDS].map(|text| Records::default().into_step(statement(text)));
    let vectors = [VECTORS, PUT_VECTORS]
        .map(|text| vector.map(|vector| Vectors::default().into_step(statement(text), vector)));
    Ok(records.into_iter().chain(vectors.into_iter().flatten()).collect())
}
