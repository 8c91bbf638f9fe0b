//! Kill -9 at every step: a child process moves a tenant that is written to and ends itself when the
//! mover says a word the first or the second time; what it leaves is opened, and the move goes on or was undone.

use super::{Ground, Target, all, lives, over, target};
use crate::stand::{Running, record, tenant, this_binary, verify_chain, whole_number};
use std::{
    collections::BTreeMap,
    io::{Read as _, Write as _},
    path::Path,
    process::Stdio,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};
use tenantry_auth::TenantId;
use tenantry_store::MovePhase;
use tenantry_types::{ErrorKind, Isolation, Location, Selector, WriteMode};
use tracing::{
    Event, Metadata, Subscriber,
    field::{Field, Visit},
    span::{Attributes, Id, Record},
};

const GROUND: &str = "TENANTRY_MOVES_GROUND";
const STEP: &str = "TENANTRY_MOVES_STEP";
const TO: &str = "TENANTRY_MOVES_TO";
/// The move is cancelled when something is copied.
const CANCEL: &str = "TENANTRY_MOVES_CANCEL";
const RECORDS: usize = 300;
const MANY: usize = 20_000;

/// A place, as a word for another process.
fn word((isolation, location): Target) -> String {
    format!("{} {location}", isolation.word())
}

fn place(word: &str) -> Target {
    let (isolation, location) = word.split_once(' ').expect("two words");
    let all = Isolation::ALL.into_iter();
    let isolation = all.into_iter().find(|one| one.word() == isolation).expect("an isolation");
    (isolation, Location::parse(location).expect("a location"))
}

/// Ends the process at a word of the mover.
struct Ending {
    word: String,
    left: AtomicU64,
    has_copied: Arc<AtomicBool>,
}

struct Step(String);

impl Visit for Step {
    fn record_debug(&mut self, _field: &Field, _value: &dyn std::fmt::Debug) {}

    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == "step" {
            value.clone_into(&mut self.0);
        }
    }
}

impl Subscriber for Ending {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target() == "tenantry_store::moving"
    }

    fn new_span(&self, _span: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _span: &Id, _values: &Record<'_>) {}

    fn record_follows_from(&self, _span: &Id, _follows: &Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut step = Step(String::new());
        event.record(&mut step);
        if step.0 == "copied" {
            self.has_copied.store(true, Ordering::SeqCst);
        }
        if step.0 == self.word && self.left.fetch_sub(1, Ordering::SeqCst) == 1 {
            say(&format!("end at {}", step.0));
            std::process::abort();
        }
    }

    fn enter(&self, _span: &Id) {}

    fn exit(&self, _span: &Id) {}
}

fn say(line: &str) {
    let line = format!("{line}\n");
    std::io::stdout().lock().write_all(line.as_bytes()).expect("the parent listens");
}

/// The child's side; returns at once when the test binary runs as usual.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn child_that_moves() {
    let Ok(ground) = std::env::var(GROUND) else { return };
    let step = std::env::var(STEP).expect("a step");
    let (word, time) = step.split_once(':').expect("a word and a number");
    let has_copied = Arc::new(AtomicBool::new(false));
    let left = AtomicU64::new(time.parse().expect("a number"));
    let ending = Ending { word: word.to_owned(), left, has_copied: Arc::clone(&has_copied) };
    tracing::subscriber::set_global_default(ending).expect("the only one");
    let stand = Arc::new(Ground::open_by(&ground).await);
    let id = stand.store.find_tenant(&tenant("a")).await.expect("find").expect("it lives").id;
    let scope = stand.scope(id);
    let collection = stand.collection(&scope).await.expect("collection");
    let is_over = Arc::new(AtomicBool::new(false));
    let writer = {
        let (stand, is_over) = (Arc::clone(&stand), Arc::clone(&is_over));
        tokio::spawn(async move {
            for value in 1.. {
                if is_over.load(Ordering::SeqCst) {
                    return;
                }
                let id = format!("w{}", value % 7);
                let batch = vec![record(&id, vec![1.0; 8], &[("value", value)])];
                let written = stand.store.write(&scope, &collection, WriteMode::Upsert, batch);
                written.await.expect("write");
                say(&format!("+ {id} {value}"));
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        })
    };
    let to = std::env::var(TO).expect("where to");
    let to = target(place(&to));
    stand.store.start_move(&stand.operator, &tenant("a"), to).await.expect("a move");
    if std::env::var_os(CANCEL).is_some() {
        while !has_copied.load(Ordering::SeqCst) {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        match stand.store.cancel_move(&stand.operator, &tenant("a")).await {
            Ok(_) => {}
            Err(error) => assert_eq!(error.kind(), ErrorKind::Conflict),
        }
    }
    over(&stand, "a").await;
    is_over.store(true, Ordering::SeqCst);
    writer.await.expect("the writer");
    Arc::into_inner(stand).expect("the writer is done").close();
    say("over");
}

/// What the child said.
fn run(ground: &Ground, step: &str, to: Target, cancel: bool) -> String {
    let word = ground.word();
    let mut child = this_binary("moves::steps::child_that_moves", GROUND, Path::new(&word));
    child.env(STEP, step).env(TO, self::word(to));
    if cancel {
        child.env(CANCEL, "1");
    }
    let child = child.stdout(Stdio::piped()).stderr(Stdio::null()).spawn();
    let mut child = Running(child.expect("start the child"));
    let mut said = String::new();
    child.0.stdout.take().expect("its output").read_to_string(&mut said).expect("read");
    child.0.wait().expect("child");
    said
}

/// Opens what the child has left, lets the move end, and compares with what was acknowledged.
async fn compare(
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
    let steps: &[&str] = if cancel {
        &["let go", "undo", "undone"]
    } else {
        &[
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
        ]
    };
    for step in steps {
        for time in 1..=ground.times() {
            let stand = ground.open().await;
            let scope = stand.create_at("a", from).await.expect("tenant");
            super::fill(&stand, &scope, RECORDS).await;
            let id = scope.tenant();
            stand.close();
            let said = run(&ground, &format!("{step}:{time}"), to, cancel);
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
async fn forget(ground: &Ground) {
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
    let said = run(&ground, "saved:2", to, false);
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
