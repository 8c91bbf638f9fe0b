//! Kill -9 at every step: a child process moves a tenant that is written to and ends itself when the
//! mover says a word the first or the second time; what it leaves is opened, and the move goes on or was undone.

use super::{
    Ground, Target, all,
    child::{Fault, run},
    lives, over,
};
use crate::stand::{tenant, verify_chain, whole_number};
use std::{collections::BTreeMap, time::Duration};
use tenantry_auth::TenantId;
use tenantry_store::MovePhase;
use tenantry_types::Selector;

pub(super) const RECORDS: usize = 300;
const MANY: usize = 20_000;

/// What the mover says on its way.
pub(super) const STEPS: [&str; 20] = [
    "mark",
    "marked",
    "hold",
    "held",
    "made",
    "copy",
    "copied",
    "saved",
    "follow",
    "followed",
    "checked",
    "closed",
    "last",
    "replayed",
    "flip",
    "flipped",
    "exchanged",
    "leave",
    "left",
    "done",
];

/// Opens what the child has left, lets the move end, and compares with what was acknowledged.
pub(super) async fn compare(
    ground: &Ground,
    said: &str,
    id: TenantId,
    from: Target,
    expected: usize,
) -> MovePhase {
    let stand = ground.open().await;
    let begun = stand.store.move_status(&stand.operator, &tenant("a")).await.expect("status");
    let phase = match begun {
        Some(_) => over(&stand, "a").await.phase,
        None => MovePhase::Cancelled,
    };
    let scope = stand.scope(id);
    let records = all(&stand, &scope).await;
    let mut last: BTreeMap<&str, i64> = BTreeMap::new();
    for line in said.lines() {
        if let ["+", id, value] = line.split(' ').collect::<Vec<_>>()[..] {
            last.insert(id, value.parse().expect("a number"));
        }
    }
    for (id, value) in last {
        // One more may have been written that was not acknowledged.
        let found = whole_number(&records[id], "value");
        assert!(found == value || found == value + 7, "{id} is {found}, not {value}");
    }
    let filled = records.keys().filter(|id| id.starts_with('r')).count();
    assert_eq!(filled, expected, "records are lost or doubled");
    let collection = stand.collection(&scope).await.expect("collection");
    let count = stand.store.count(&scope, &collection, &Selector::default()).await.expect("count");
    assert_eq!(count.value, records.len());
    stand.verify_audit(&scope).await;
    verify_chain(&stand.store.operator_audit(&stand.operator, 0, usize::MAX).await.expect("log"));
    let now = lives(&stand, id).await;
    if phase != MovePhase::Done {
        assert_eq!((phase, now), (MovePhase::Cancelled, from));
    }
    stand.close();
    ground.check(id, now).await;
    phase
}

/// Every step of the move from one place to another.
async fn every_step(ground: Ground, from: Target, to: Target, cancel: bool) {
    let steps = if cancel { &["let go", "undo", "undone"][..] } else { &STEPS };
    for step in steps {
        for time in 1..=ground.times() {
            let stand = ground.open().await;
            let scope = stand.create_at("a", from).await.expect("tenant");
            super::fill(&stand, &scope, RECORDS).await;
            let id = scope.tenant();
            stand.close();
            let said = run(&ground, &format!("{step}:{time}"), (Fault::Kill, to), cancel);
            let is_over = said.lines().any(|line| line == "over");
            let has_ended = said.lines().any(|line| line.starts_with("end at "));
            assert!(has_ended != is_over, "the child ended by itself: {said}");
            assert!(has_ended || time > 1, "it never came to {step}");
            let phase = compare(&ground, &said, id, from, RECORDS).await;
            // Undone if the operator said so, and otherwise gone on with.
            let is_asked = *step != "mark" || is_over;
            assert_eq!(phase == MovePhase::Done, is_asked && !cancel, "{step} {time}");
            forget(&ground).await;
            if is_over {
                break;
            }
        }
    }
}

/// Removes the tenant, and everything of it.
pub(super) async fn forget(ground: &Ground) {
    let stand = ground.open().await;
    stand.store.delete_tenant(&stand.operator, &tenant("a")).await.expect("delete");
    for _ in 0..1_000 {
        if stand.store.leftovers(&stand.operator).await.expect("leftovers").is_empty() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    stand.close();
}

pub(super) async fn killed_on_the_way_to_a_schema(ground: Ground) {
    let (from, to) = ground.way(0);
    every_step(ground, from, to, false).await;
}

pub(super) async fn killed_on_the_way_to_a_database(ground: Ground) {
    let (from, to) = ground.way(1);
    every_step(ground, from, to, false).await;
}

pub(super) async fn killed_on_the_way_home(ground: Ground) {
    let (from, to) = ground.way(2);
    every_step(ground, from, to, false).await;
}

/// So much is copied that the row of the move says where to go on.
pub(super) async fn killed_in_the_middle_of_the_copy(ground: Ground) {
    let stand = ground.open().await;
    let scope = stand.create("a").await.expect("tenant");
    super::fill(&stand, &scope, MANY).await;
    let id = scope.tenant();
    stand.close();
    let (from, to) = ground.way(0);
    let said = run(&ground, "saved:2", (Fault::Kill, to), false);
    assert!(said.lines().any(|line| line == "end at saved"), "{said}");
    let phase = compare(&ground, &said, id, from, MANY).await;
    assert_eq!(phase, MovePhase::Done);
}

pub(super) async fn killed_while_a_move_to_the_shared_tables_is_undone(ground: Ground) {
    let (from, to) = ground.way(2);
    every_step(ground, from, to, true).await;
}

pub(super) async fn killed_while_a_move_to_a_database_is_undone(ground: Ground) {
    let (from, to) = ground.way(3);
    every_step(ground, from, to, true).await;
}
