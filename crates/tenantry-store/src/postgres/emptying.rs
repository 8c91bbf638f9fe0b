//! Emptying the shared tables of a database: of a deleted tenant outside the root, and of a living
//! one where it does not live.

use super::{
    cluster::{Place, Shared, signed},
    purge::{CHUNK, REMOVE_ALL, REMOVE_KEYS, chunk, largest},
    statement::{Statement, Step},
    submit::commit_steps,
    view::{PgView, odd},
};
use crate::tenancy::{
    keys::{self, Family},
    moving::Role,
};
use std::{sync::Arc, time::Duration};
use tenantry_auth::TenantId;
use tenantry_types::Result;
use tokio::time::Instant;
use tokio_postgres::types::Type;

/// Rows removed in one transaction where a tenant has moved away, and how many times as long others have the server after
/// that, at most for so long: nobody waits for it.
const CHUNK_OF_MOVED: i64 = 250;
const BREATHS: u32 = 3;
const BREATH_MAX: Duration = Duration::from_millis(100);

const REMOVE_FAMILIES: &str = "WITH gone AS (DELETE FROM {schema}.{table} WHERE tenant = $1 \
     AND ctid = ANY (ARRAY (SELECT ctid FROM {schema}.{table} \
     WHERE tenant = $1 AND family = ANY ($3) LIMIT $2)) RETURNING 1) SELECT count(*) FROM gone";
/// In the order of an index, of records and vectors behind the last piece: what was removed before is
/// not passed over again. How many rows, and the last of them.
const REMOVE_IN_ORDER: &str = "WITH gone AS (DELETE FROM {schema}.{table} WHERE tenant = $1 \
     AND ctid = ANY (ARRAY (SELECT ctid FROM {schema}.{table} WHERE tenant = $1 {only} \
     ORDER BY {order} LIMIT $2)) RETURNING {row}) \
     SELECT count(*) OVER (), g.a, g.b, g.c FROM gone AS g (a, b, c) \
     ORDER BY g.a DESC, g.b DESC, g.c DESC LIMIT 1";

/// Removes everything that a deleted tenant has in tables that it shares in another database than
/// the root. Its head goes first: nobody writes for it after that.
pub(super) async fn empty(shared: &Arc<Shared>, place: &Place, tenant: TenantId) -> Result<()> {
    let number = signed(tenant)?;
    let remove_head = |keys| remove_heads(place, number, keys);
    let mut is_first = true;
    loop {
        let view = PgView::writing(shared, place.clone());
        view.hold_claim().await?;
        let tables = || {
            if is_first {
                return vec![remove_head(vec![Vec::new()])];
            }
            let all = ["vectors", "records", "catalog"].into_iter();
            all.map(|table| chunk(place, REMOVE_ALL, table, number)).map(Step::Run).collect()
        };
        let removed = largest(&view.run(place, tenant, tables).await?)?;
        commit_steps(view, vec![remove_head(Vec::new())], 0).await?;
        if !is_first && removed < CHUNK {
            return Ok(());
        }
        is_first = false;
    }
}

fn remove_heads(place: &Place, tenant: i64, keys: Vec<Vec<u8>>) -> Step {
    let statement = Statement::new(place.text(REMOVE_KEYS))
        .with(tenant, Type::INT8)
        .with(i16::from(keys::Head::FAMILY), Type::INT2)
        .with(keys, Type::BYTEA_ARRAY);
    Step::Run(statement)
}

/// Removes everything of a living tenant from shared tables where it does not live, but what the root
/// knows of it. Its counters, which nobody else may lock who is not the mover, go last: without them
/// there is nothing.
pub(super) async fn empty_of_moved(
    shared: &Arc<Shared>,
    place: &Place,
    tenant: TenantId,
) -> Result<()> {
    let number = signed(tenant)?;
    let is_root = shared.root_here() == Some(place);
    let families = |is_last: bool| -> Vec<i16> {
        let is_of_place = |family: &&Family| {
            let role = family.role();
            match role {
                Role::Root | Role::Keys => !is_root && !is_last,
                Role::Counters => is_last,
                _ => !is_last,
            }
        };
        let all = Family::ALL.iter().filter(is_of_place);
        all.map(|family| i16::from(*family as u8)).collect()
    };
    let mut tables = ["vectors", "records", "catalog"].into_iter().peekable();
    let mut after = None;
    while let Some(table) = tables.peek().copied() {
        let begun = Instant::now();
        let view = PgView::putting(shared, place.clone());
        view.hold_claim().await?;
        if view.lock(&[tenant]).await?.pop().is_none_or(|(head, _)| head.is_none()) {
            return Ok(());
        }
        shared.must_move(tenant).await?;
        let piece = || {
            let piece = piece_of_moved(place, (table, after), number);
            let has_families = table == "catalog";
            let of = has_families.then(|| families(false)).into_iter();
            of.fold(piece, |piece, of| piece.with(of, Type::INT2_ARRAY)).into_steps()
        };
        let answers = view.run(place, tenant, piece).await?;
        let last = answers.last().and_then(|rows| rows.first());
        let removed: i64 = last.map_or(Ok(0), |row| row.try_get(0)).map_err(|_| odd())?;
        after = last.map(Last::of).transpose()?;
        if removed < CHUNK_OF_MOVED {
            (_, after) = (tables.next(), None);
        }
        let is_done = tables.peek().is_none();
        // What says that the rest was done has to be found by an index as well.
        let end = if is_done {
            let all = chunk(place, REMOVE_FAMILIES, "catalog", number);
            Step::Run(all.with(families(true), Type::INT2_ARRAY))
        } else {
            remove_heads(place, number, Vec::new())
        };
        let steps = vec![Step::Enter(place.right(tenant)), end];
        commit_steps(view, steps, 0).await?;
        if !is_done {
            tokio::time::sleep((BREATHS * begun.elapsed()).min(BREATH_MAX)).await;
        }
    }
    Ok(())
}

/// The last row of a piece: its collection, its field if it is a vector, and its ordinal.
#[derive(Clone, Copy)]
struct Last(i32, i16, i64);

impl Last {
    fn of(row: &tokio_postgres::Row) -> Result<Self> {
        let read = || Ok(Self(row.try_get(1)?, row.try_get(2)?, row.try_get(3)?));
        read().map_err(|_: tokio_postgres::Error| odd())
    }
}

/// Removes some rows of a tenant from a table; of the catalog those of the families that follow, from
/// the first one on.
fn piece_of_moved(place: &Place, (table, after): (&str, Option<Last>), tenant: i64) -> Statement {
    let behind = |columns: &str, row: &dyn Fn(Last) -> String| {
        after.map_or_else(String::new, |last| format!("AND ({columns}) > ({})", row(last)))
    };
    let (only, order, row) = match table {
        "vectors" => {
            let order = "collection, field, ordinal";
            (behind(order, &|Last(a, b, c)| format!("{a}, {b}, {c}")), order, order)
        }
        "records" => {
            let order = "collection, ordinal";
            let only = behind(order, &|Last(a, _, c)| format!("{a}, {c}"));
            (only, order, "collection, 0::smallint, ordinal")
        }
        _ => {
            let only = "AND family = ANY ($3)".to_owned();
            (only, "family, key", "0::integer, 0::smallint, 0::bigint")
        }
    };
    let text = REMOVE_IN_ORDER.replace("{table}", table).replace("{row}", row);
    let text = place.text(&text.replace("{only}", &only).replace("{order}", order));
    let mut piece = Statement::new(text).with(tenant, Type::INT8);
    piece.looks_up = true;
    piece.with(CHUNK_OF_MOVED, Type::INT8)
}
