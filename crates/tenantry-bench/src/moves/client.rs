//! A client of the tenant that is moved, with a model of what it has written.

use super::{Asks, MOVED};
use crate::{http::Connection, random::Random, target::Target};
use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use std::{
    thread,
    time::{Duration, Instant},
};

/// Ids that each client writes, which nobody else does.
const IDS: usize = 20;
/// Rests between operations of a client: what is measured is delay, not how much the machine can do.
const REST: Duration = Duration::from_millis(5);

/// What a client has done.
#[derive(Debug)]
pub(super) struct Operation {
    pub(super) begun: Instant,
    pub(super) took_ms: f64,
    pub(super) what: What,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum What {
    Query,
    Write,
    Read,
}

/// Writes and reads ids of its own.
pub(super) struct Client<'a> {
    target: &'a Target,
    connection: Connection,
    number: usize,
    query_one_in: usize,
    random: Random,
    vector: &'a [f32],
    written: Vec<Option<u64>>,
    next: u64,
}

impl<'a> Client<'a> {
    pub(super) fn new(target: &'a Target, asks: &Asks<'a>, number: usize) -> Result<Self> {
        let record = asks.tenants.all.get(MOVED).and_then(|one| one.records.get(number));
        Ok(Self {
            target,
            connection: Connection::open(target.address)?,
            number,
            query_one_in: asks.query_one_in,
            random: Random::new(number as u64 + 7),
            vector: &record.context("no record")?.vector,
            written: vec![None; IDS],
            next: 0,
        })
    }

    pub(super) fn run(mut self, until: impl Fn() -> bool) -> Result<Vec<Operation>> {
        let mut took = Vec::new();
        while !until() {
            let begun = Instant::now();
            let what = self.step()?;
            took.push(Operation { begun, took_ms: begun.elapsed().as_secs_f64() * 1e3, what });
            thread::sleep(REST);
        }
        Ok(took)
    }

    fn step(&mut self) -> Result<What> {
        let at = self.random.below(IDS);
        let id = format!("own-{}-{at}", self.number);
        if self.query_one_in > 0 && self.random.below(self.query_one_in) == 0 {
            let body = json!({"query_embeddings": [self.vector], "n_results": 5});
            let found = self.send("query", &body)?;
            ensure!(found.pointer("/ids/0/4").is_some(), "a query found too little: {found}");
            return Ok(What::Query);
        }
        match self.random.below(3) {
            0 => {
                self.next += 1;
                let value = self.next;
                let body = json!({"ids": [id], "embeddings": [self.vector],
                                  "metadatas": [{"value": value}]});
                self.send("upsert", &body)?;
                *self.written.get_mut(at).context("no such id")? = Some(value);
                Ok(What::Write)
            }
            _ => {
                let found = self.send("get", &json!({"ids": [id], "include": ["metadatas"]}))?;
                let value = found.pointer("/metadatas/0/value").and_then(Value::as_u64);
                let written = self.written.get(at).copied().flatten();
                // One of an earlier measurement may be there.
                ensure!(
                    written.is_none() || value == written,
                    "{id} is {value:?}, not {written:?}"
                );
                Ok(What::Read)
            }
        }
    }

    fn send(&mut self, operation: &str, body: &Value) -> Result<Value> {
        let bytes = body.to_string();
        let request = self.target.request(MOVED, operation, bytes.as_bytes())?;
        let answer = self.connection.send(&request)?;
        answer.success().with_context(|| format!("{operation} of the tenant that is moved"))?;
        Ok(serde_json::from_slice(&answer.body).unwrap_or_default())
    }
}
