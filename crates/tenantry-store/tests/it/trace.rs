//! What the system is asked to do, in which order: nothing is acknowledged before the journal, or
//! the slot file, that holds it is synchronised.
//!
//! A child works under `strace` and writes a line to its output for each acknowledgement. Record
//! ids and names stand unsealed in the journal's keys, so the write that carries each of them to
//! the journal can be found.

use crate::stand::{Stand, arguments, record, tenant};
use std::{
    collections::HashMap,
    fs,
    io::Write as _,
    path::Path,
    process::{Command, Stdio},
    sync::Arc,
};
use tenantry_types::WriteMode;

const FOLDER: &str = "TENANTRY_TRACE_FOLDER";
const WRITERS: usize = 6;
const WRITES: usize = 8;

/// Acknowledges in one system call.
fn acknowledge(what: &str) {
    let line = format!("acknowledged {what}\n");
    std::io::stdout().lock().write_all(line.as_bytes()).expect("the output is open");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn child_that_is_traced() {
    let Some(folder) = std::env::var_os(FOLDER) else { return };
    let stand = Arc::new(Stand::open(Path::new(&folder)).await);
    let mut writers = tokio::task::JoinSet::new();
    for writer in 0..WRITERS {
        let stand = Arc::clone(&stand);
        writers.spawn(async move {
            let name = format!("tenant-{writer}");
            let scope = stand.create(&name).await.expect("create");
            acknowledge(&format!("create {name} {}", scope.tenant()));
            let collection = stand.collection(&scope).await.expect("collection");
            for n in 0..WRITES {
                let id = format!("record-{writer}-{n}-end");
                let batch = vec![record(&id, vec![1.0; 32], &[])];
                let written = stand.store.write(&scope, &collection, WriteMode::Upsert, batch);
                written.await.expect("write");
                acknowledge(&format!("write {id}"));
            }
            if writer % 2 == 0 {
                stand.store.delete_tenant(&stand.operator, &tenant(&name)).await.expect("delete");
                acknowledge(&format!("erase {name} {}", scope.tenant()));
            }
        });
    }
    while let Some(writer) = writers.join_next().await {
        writer.expect("writer");
    }
    Arc::into_inner(stand).expect("the writers are done").close();
}

/// One system call: the lines of the trace in which it began and ended.
struct Call {
    name: String,
    /// The path behind the descriptor.
    path: String,
    arguments: String,
    began: usize,
    ended: usize,
}

/// Reads a trace of `strace -f -y`. A call that another thread interrupts takes two lines.
fn read_trace(trace: &str) -> Vec<Call> {
    let mut calls = Vec::new();
    let mut unfinished: HashMap<&str, (String, usize)> = HashMap::new();
    for (at, line) in trace.lines().enumerate() {
        let Some((thread, rest)) = line.split_once(' ') else { continue };
        let rest = rest.trim_start();
        if let Some(start) = rest.strip_suffix("<unfinished ...>") {
            unfinished.insert(thread, (start.to_owned(), at));
        } else if rest.starts_with("<... ") {
            let Some((start, began)) = unfinished.remove(thread) else { continue };
            let end = rest.split_once(" resumed>").map_or("", |(_, end)| end);
            calls.extend(parse(&(start + end), began, at));
        } else {
            calls.extend(parse(rest, at, at));
        }
    }
    calls.sort_by_key(|call| call.began);
    calls
}

/// `name(7</path>, arguments) = result`; nothing for calls that failed or have no descriptor.
fn parse(text: &str, began: usize, ended: usize) -> Option<Call> {
    let (name, rest) = text.split_once('(')?;
    let (_, rest) = rest.split_once('<')?;
    let (path, rest) = rest.split_once('>')?;
    let (arguments, result) = rest.rsplit_once(" = ")?;
    (!result.starts_with('-')).then(|| Call {
        name: name.to_owned(),
        path: path.to_owned(),
        arguments: arguments.to_owned(),
        began,
        ended,
    })
}

impl Call {
    fn writes(&self) -> bool {
        matches!(self.name.as_str(), "write" | "pwrite64" | "writev")
    }

    fn synchronises(&self) -> bool {
        matches!(self.name.as_str(), "fsync" | "fdatasync")
    }

    /// The bytes written, as strace shows them.
    fn data(&self) -> &str {
        let from = self.arguments.find('"').map_or(0, |at| at + 1);
        let to = self.arguments.rfind('"').unwrap_or(from);
        self.arguments.get(from..to).unwrap_or_default()
    }
}

struct Trace {
    calls: Vec<Call>,
    /// All that was written to the journal, one after another, and the call each byte came with.
    journal: String,
    journal_calls: Vec<usize>,
}

impl Trace {
    fn new(calls: Vec<Call>) -> Self {
        let (mut journal, mut journal_calls) = (String::new(), Vec::new());
        for (at, call) in calls.iter().enumerate() {
            if Path::new(&call.path).extension() == Some("jnl".as_ref()) && call.writes() {
                journal.push_str(call.data());
                journal_calls.resize(journal.len(), at);
            }
        }
        Self { calls, journal, journal_calls }
    }

    /// The write that carries `text` to the journal for the first time: when it is made.
    fn first_journal_write(&self, text: &str) -> &Call {
        self.journal_write(self.journal.find(text), text)
    }

    /// The write that carries `text` to the journal for the last time: when it is removed.
    fn last_journal_write(&self, text: &str) -> &Call {
        self.journal_write(self.journal.rfind(text), text)
    }

    fn journal_write(&self, at: Option<usize>, text: &str) -> &Call {
        let at = at.unwrap_or_else(|| panic!("{text} is not in the journal"));
        &self.calls[self.journal_calls[at + text.len() - 1]]
    }

    /// The slot write of a tenant with this state.
    fn slot_write(&self, tenant: u64, state: u8) -> &Call {
        let data = format!("TSL1\\{state}");
        let place = format!(", {}", tenant * 128);
        let found = self.calls.iter().find(|call| {
            call.name == "pwrite64"
                && call.path.ends_with("/slots")
                && call.data().starts_with(&data)
                && call.arguments.trim_end_matches([')', ' ']).ends_with(&place)
        });
        found.unwrap_or_else(|| panic!("slot {tenant} is never written with state {state}"))
    }

    /// Where a synchronisation of `written`'s file ended that began after it had ended.
    fn synchronised(&self, written: &Call) -> usize {
        let found = self.calls.iter().find(|call| {
            call.synchronises() && call.path == written.path && call.began > written.ended
        });
        let found = found.unwrap_or_else(|| panic!("{} is never synchronised", written.path));
        found.ended
    }
}

fn trace(folder: &Path) -> Trace {
    let output = folder.join("trace");
    let mut strace = Command::new("strace");
    strace
        .args(["-f", "-y", "-s", "1000000", "-o"])
        .arg(&output)
        .args(["-e", "trace=write,writev,pwrite64,fsync,fdatasync"])
        .arg(std::env::current_exe().expect("this test binary"))
        .args(arguments("trace::child_that_is_traced"))
        .env(FOLDER, folder.join("data"))
        .stdin(Stdio::null())
        .stdout(Stdio::null());
    let status = match strace.status() {
        Ok(status) => status,
        Err(why) => panic!("this test needs strace (`apt-get install strace`): {why}"),
    };
    assert!(status.success(), "the traced child failed");
    let text = fs::read(&output).expect("the trace");
    Trace::new(read_trace(&String::from_utf8_lossy(&text)))
}

#[test]
fn nothing_is_acknowledged_before_it_is_synchronised() {
    let dir = tempfile::tempdir().expect("a folder");
    let trace = trace(dir.path());
    let (mut created, mut written, mut erased) = (0, 0, 0);
    for call in trace.calls.iter().filter(|call| call.writes()) {
        let Some(line) = call.data().strip_prefix("acknowledged ") else { continue };
        let line = line.trim_end_matches("\\n");
        let words: Vec<&str> = line.split(' ').collect();
        let before = |what: &Call, step: &str| {
            assert!(
                trace.synchronised(what) < call.began,
                "{line}: acknowledged before {step} was synchronised"
            );
        };
        match words[..] {
            ["create", name, id] => {
                let slot = trace.slot_write(id.parse().expect("an id"), 1);
                let row = trace.first_journal_write(name);
                before(slot, "its slot");
                before(row, "its row");
                assert!(
                    trace.synchronised(slot) < row.began,
                    "{line}: a row is written before the key that seals it"
                );
                created += 1;
            }
            ["write", id] => {
                before(trace.first_journal_write(id), "the record");
                written += 1;
            }
            ["erase", name, id] => {
                let slot = trace.slot_write(id.parse().expect("an id"), 2);
                let row = trace.last_journal_write(name);
                before(row, "the deletion");
                before(slot, "the erased slot");
                assert!(
                    trace.synchronised(row) < slot.began,
                    "{line}: a key is destroyed before its tenant is gone"
                );
                erased += 1;
            }
            _ => panic!("what is {line:?}?"),
        }
    }
    assert_eq!((created, written, erased), (WRITERS, WRITERS * WRITES, WRITERS / 2));
}

#[test]
fn a_trace_is_read_as_strace_writes_it() {
    let text = "\
1 write(9</d/0.jnl>, \"a(<b>\\\")\", 6) = 6
1 fdatasync(9</d/0.jnl> <unfinished ...>
2 write(1</dev/null>, \"x\", 1) = 1
1 <... fdatasync resumed>)        = 0
2 pwrite64(8</d/slots>, \"TSL1\\1\\0\", 128, 256 <unfinished ...>
1 write(9</d/0.jnl>, \"\", 0) = -1 ENOSPC (No space left on device)
2 <... pwrite64 resumed>) = 128
";
    let trace = Trace::new(read_trace(text));
    assert_eq!(trace.calls.len(), 4);
    assert_eq!(trace.journal, "a(<b>\\\")");
    let write = trace.first_journal_write("<b>");
    assert_eq!((write.began, trace.synchronised(write)), (0, 3));
    let slot = trace.slot_write(2, 1);
    assert_eq!((slot.began, slot.ended), (4, 6));
}
