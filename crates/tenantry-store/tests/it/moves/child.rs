//! A process that moves a tenant that is written to, and to which something happens when the mover
//! says a word.

use super::{Ground, Target, over, target};
use crate::stand::{Running, Stand, record, spec, tenant, this_binary};
use std::{
    io::{BufRead as _, BufReader, Write as _},
    path::Path,
    process::{Child, Command, Stdio},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};
use tenantry_types::{DatabaseName, ErrorKind, Isolation, Location, Metric, WriteMode};
use tokio_postgres::NoTls;
use tracing::{
    Event, Metadata, Subscriber,
    field::{Field, Visit},
    span::{Attributes, Id, Record},
};

const GROUND: &str = "TENANTRY_MOVES_GROUND";
const STEP: &str = "TENANTRY_MOVES_STEP";
const TO: &str = "TENANTRY_MOVES_TO";
const FAULT: &str = "TENANTRY_MOVES_FAULT";
/// The move is cancelled when something is copied.
const CANCEL: &str = "TENANTRY_MOVES_CANCEL";

/// What happens at the word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    /// The process ends.
    Kill,
    /// All its connections to PostgreSQL do.
    Lost,
    /// The session does that says that it is the one who moves.
    Leader,
    /// The same, and the mover waits there until it is told to go on.
    Held,
    /// The same, for a while.
    Slow,
    /// The process is stopped.
    Stopped,
}

impl Fault {
    const ALL: [(&str, Self); 6] = [
        ("kill", Self::Kill),
        ("lost", Self::Lost),
        ("leader", Self::Leader),
        ("held", Self::Held),
        ("slow", Self::Slow),
        ("stopped", Self::Stopped),
    ];

    fn word(self) -> &'static str {
        Self::ALL.iter().find(|(_, one)| *one == self).expect("one of them").0
    }

    fn parse(word: &str) -> Self {
        Self::ALL.iter().find(|(one, _)| *one == word).expect("one of them").1
    }
}

/// A place, as a word for another process.
fn word((isolation, location): Target) -> String {
    format!("{} {location}", isolation.word())
}

fn place(word: &str) -> Target {
    let (isolation, location) = word.split_once(' ').expect("two words");
    let isolation = Isolation::ALL.into_iter().find(|one| one.word() == isolation);
    (isolation.expect("an isolation"), Location::parse(location).expect("a location"))
}

/// Does it at a word of the mover.
struct Ending {
    word: String,
    left: AtomicU64,
    fault: Fault,
    ground: String,
    has_copied: Arc<AtomicBool>,
}

impl Ending {
    fn happen(&self, step: &str) {
        match self.fault {
            Fault::Kill => {
                say(&format!("end at {step}"));
                std::process::abort();
            }
            Fault::Lost => {
                end_sessions(&self.ground, "true");
                say(&format!("end at {step}"));
            }
            Fault::Leader => {
                end_sessions(&self.ground, LEADS);
                say(&format!("end at {step}"));
            }
            Fault::Held => {
                end_sessions(&self.ground, LEADS);
                say(&format!("end at {step}"));
                let mut line = String::new();
                std::io::stdin().read_line(&mut line).expect("the parent says when to go on");
            }
            Fault::Slow => {
                end_sessions(&self.ground, LEADS);
                say(&format!("end at {step}"));
                std::thread::sleep(Duration::from_millis(2_500));
            }
            Fault::Stopped => {
                say(&format!("end at {step}"));
                signal(std::process::id(), "STOP");
            }
        }
    }
}

pub(super) fn signal(process: u32, what: &str) {
    let sent = Command::new("kill").args([&format!("-{what}"), &process.to_string()]).status();
    assert!(sent.expect("kill").success());
}

/// It has the lock of whoever moves: see `Work` in `postgres/admin.rs`.
const LEADS: &str = "EXISTS (SELECT FROM pg_locks l WHERE l.pid = a.pid AND l.granted \
                     AND l.locktype = 'advisory' AND l.classid = 1952804468 AND l.objid = 5)";

/// Ends sessions of an installation's roles.
fn end_sessions(ground: &str, which: &str) {
    let user = |url: &str| Some(url.split_once("://")?.1.split_once(':')?.0.to_owned());
    let users: Vec<String> = ground.split(' ').filter_map(user).collect();
    assert_eq!(users.len(), 2, "{ground}");
    let sql = format!(
        "SELECT pg_terminate_backend(a.pid, 5000) FROM pg_stat_activity a \
         WHERE a.usename IN ('{}', '{}') AND {which}",
        users[0], users[1]
    );
    let superuser = std::env::var("TENANTRY_TEST_POSTGRES").expect("an URL");
    let ending = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.expect("a runtime").block_on(async {
            let (client, connection) =
                tokio_postgres::connect(&superuser, NoTls).await.expect("connect");
            tokio::spawn(connection);
            client.query(&sql, &[]).await.expect("ended").len()
        })
    });
    assert!(ending.join().expect("ended") > 0, "there are such sessions");
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
            // Others of this process go on meanwhile.
            tokio::task::block_in_place(|| self.happen(&step.0));
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
    let fault = Fault::parse(&std::env::var(FAULT).expect("a fault"));
    let (word, time) = step.split_once(':').expect("a word and a number");
    let has_copied = Arc::new(AtomicBool::new(false));
    let left = AtomicU64::new(time.parse().expect("a number"));
    let (word, seen) = (word.to_owned(), Arc::clone(&has_copied));
    let ending = Ending { word, left, fault, ground: ground.clone(), has_copied: seen };
    tracing::subscriber::set_global_default(ending).expect("the only one");
    let stand = Arc::new(Ground::open_by(&ground).await);
    let is_over = Arc::new(AtomicBool::new(false));
    let writer = tokio::spawn(write_on(Arc::clone(&stand), "w", say, Arc::clone(&is_over)));
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

/// Tries until it is done; what fails does so for a while.
macro_rules! soon {
    ($what:expr) => {
        loop {
            match $what.await {
                Ok(done) => break done,
                Err(why) => assert_eq!(why.kind(), ErrorKind::Unavailable, "{why:?}"),
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
}

/// Writes records with values that become larger until it is over, and says of each that it was
/// acknowledged. What fails for a while is tried until it does not.
pub(super) async fn write_on(
    stand: Arc<Stand>,
    prefix: &'static str,
    say: impl Fn(&str),
    is_over: Arc<AtomicBool>,
) {
    let found = soon!(stand.store.find_tenant(&tenant("a")));
    let scope = stand.scope(found.expect("it lives").id);
    let name = DatabaseName::default_database();
    let database = soon!(stand.store.database(&scope, &name));
    let spec = spec("c", Metric::L2);
    let collection = soon!(stand.store.create_collection(&scope, &database, &spec, true)).0;
    for value in 1.. {
        if is_over.load(Ordering::SeqCst) {
            return;
        }
        let id = format!("{prefix}{}", value % 7);
        let batch = || vec![record(&id, vec![1.0; 8], &[("value", value)])];
        soon!(stand.store.write(&scope, &collection, WriteMode::Upsert, batch()));
        say(&format!("+ {id} {value}"));
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

/// A child, and what it says.
pub(super) struct Mover {
    running: Running,
    said: Arc<Mutex<Vec<String>>>,
    listening: Option<std::thread::JoinHandle<()>>,
}

impl Mover {
    pub(super) fn start(
        ground: &Ground,
        step: &str,
        (fault, to): (Fault, Target),
        cancel: bool,
    ) -> Self {
        let word = ground.word();
        let mut child = this_binary("moves::child::child_that_moves", GROUND, Path::new(&word));
        child.env(STEP, step).env(TO, self::word(to)).env(FAULT, fault.word());
        if cancel {
            child.env(CANCEL, "1");
        }
        child.stdin(Stdio::piped()).stdout(Stdio::piped());
        if fault == Fault::Kill {
            child.stderr(Stdio::null());
        }
        let mut child: Child = child.spawn().expect("start the child");
        let said = Arc::<Mutex<Vec<String>>>::default();
        let lines = BufReader::new(child.stdout.take().expect("its output")).lines();
        let heard = Arc::clone(&said);
        let listening = std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                heard.lock().unwrap().push(line);
            }
        });
        Self { running: Running(child), said, listening: Some(listening) }
    }

    /// True if it has said a line that begins so.
    pub(super) fn has_said(&self, start: &str) -> bool {
        self.said.lock().unwrap().iter().any(|line| line.starts_with(start))
    }

    pub(super) fn has_ended(&mut self) -> bool {
        self.running.0.try_wait().expect("child").is_some()
    }

    /// Lets one go on that is held or stopped.
    pub(super) fn let_go(&mut self, fault: Fault) {
        match fault {
            Fault::Held => {
                let stdin = self.running.0.stdin.as_mut().expect("its input");
                stdin.write_all(b"\n").expect("it listens");
            }
            Fault::Stopped => signal(self.running.0.id(), "CONT"),
            Fault::Kill | Fault::Lost | Fault::Leader | Fault::Slow => {}
        }
    }

    /// Waits for its end; what it said.
    pub(super) fn end(mut self) -> String {
        self.running.0.wait().expect("child");
        self.listening.take().expect("one end").join().expect("heard");
        let said = self.said.lock().unwrap();
        said.join("\n")
    }
}

/// What a child said that something happened to and that went on as it could.
pub(super) fn run(
    ground: &Ground,
    step: &str,
    (fault, to): (Fault, Target),
    cancel: bool,
) -> String {
    Mover::start(ground, step, (fault, to), cancel).end()
}
