//! Emptying the shared tables of a database: of a deleted tenant outside the root, and of a living
//! one where it does not live.

use super::{
    carry::put_head,
    cluster::{Place, Shared, signed},
    fence,
    pieces::{self, CHUNK, Only, Table},
    purge::REMOVE_KEYS,
    statement::{Statement, Step},
    submit::commit_steps,
    view::PgView,
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

/// Rows removed in one transaction where a tenant has moved away, and how many times as long others
/// have the server after that, at most for so long: nobody waits for it.
const CHUNK_OF_MOVED: i64 = 250;
const BREATHS: u32 = 3;
const BREATH_MAX: Duration = Duration::from_millis(100);

/// Removes everything that a deleted tenant has in tables that it shares in another database than
/// the root. Its head goes first: nobody writes for it after that.
pub(super) async fn empty(shared: &Arc<Shared>, place: &Place, tenant: TenantId) -> Result<()> {
    let number = signed(tenant)?;
    let remove_head = |keys| remove_heads(place, number, keys);
    let mut is_first = true;
    loop {
        let view = PgView::writing(shared, place.clone());
        view.hold_claim().await?;
        let is_done = if is_first {
            view.run(place, tenant, || vec![remove_head(vec![Vec::new()])]).await?;
            false
        } else {
            let removed = pieces::remove_from(&view, place, tenant, &Table::ALL, &Only::All);
            removed.await? < CHUNK
        };
        commit_steps(view, vec![remove_head(Vec::new())], 0).await?;
        if is_done {
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
    let only = |table| match table {
        Table::Catalog => Only::Families(families(false)),
        Table::Vectors | Table::Records => Only::All,
    };
    let mut tables = Table::ALL.into_iter().peekable();
    let mut after = None;
    while let Some(table) = tables.peek().copied() {
        let begun = Instant::now();
        let view = PgView::putting(shared, place.clone());
        view.hold_claim().await?;
        let head = view.lock(&[tenant]).await?.pop().and_then(|(head, _)| head);
        let Some(head) = head else { return Ok(()) };
        shared.must_move(tenant).await?;
        let (removed, last) =
            pieces::remove(&view, place, tenant, (table, &only(table)), (&after, CHUNK_OF_MOVED))
                .await?;
        after = last;
        if removed < CHUNK_OF_MOVED {
            (_, after) = (tables.next(), None);
        }
        let is_done = tables.peek().is_none();
        let by = shared.signature()?;
        let end = if is_done {
            let counters = Only::Families(families(true));
            let all = (Table::Catalog, &counters);
            pieces::remove(&view, place, tenant, all, (&None, CHUNK)).await?;
            remove_heads(place, number, Vec::new())
        } else if fence::is_arriving(&head) && !fence::is_arriving_by(&head, by) {
            // A mover of before puts nothing more there: it finds another's signature.
            Step::Run(put_head(place, tenant, &head, fence::arriving(by, &[]))?)
        } else {
            // What says that the rest was done has to be found by an index as well.
            remove_heads(place, number, Vec::new())
        };
        commit_steps(view, vec![Step::Enter(place.right(tenant)), end], 0).await?;
        if !is_done {
            tokio::time::sleep((BREATHS * begun.elapsed()).min(BREATH_MAX)).await;
        }
    }
    Ok(())
}
