//! JSON lines, read and checked one by one and handed on in bounded batches.

use anyhow::{Result, anyhow, bail};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::io::{BufRead, Read};

/// Records of one request.
pub(super) const BATCH_RECORDS_MAX: usize = 1_000;
/// Bytes of the lines of one request; a longer line goes alone.
const BATCH_BYTES_MAX: usize = 8 << 20;
/// Bytes of one line. The server's limit for a body is below it.
const LINE_BYTES_MAX: usize = 64 << 20;

/// One line: what the file says, and what is sent.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Line {
    pub(super) id: String,
    #[serde(alias = "embedding", default, skip_serializing_if = "Option::is_none")]
    vector: Option<Vec<f32>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    document: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    metadata: Option<Map<String, Value>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    uri: Option<String>,
}

/// Lines that are sent together, in their order.
#[derive(Debug, Default)]
pub(super) struct Batch {
    pub(super) lines: Vec<Line>,
    /// The number of each line in its file, from 1.
    pub(super) numbers: Vec<usize>,
    /// Bytes of these lines in the file.
    pub(super) bytes: u64,
}

/// Reads batches from a file.
#[derive(Debug)]
pub(super) struct Batches<R> {
    input: R,
    number: usize,
    buffer: Vec<u8>,
}

impl<R: BufRead> Batches<R> {
    pub(super) fn new(input: R) -> Self {
        Self { input, number: 0, buffer: Vec::new() }
    }

    /// The next batch; `None` at the end. Empty lines are left out.
    ///
    /// # Errors
    /// At a line that cannot be read, with its number. Lines before it that were not handed on
    /// yet are lost: nothing of a batch with a bad line is sent.
    pub(super) fn next(&mut self) -> Result<Option<Batch>> {
        let mut batch = Batch::default();
        while batch.lines.len() < BATCH_RECORDS_MAX && batch.bytes < BATCH_BYTES_MAX as u64 {
            self.buffer.clear();
            let mut one = (&mut self.input).take(LINE_BYTES_MAX as u64 + 1);
            let read = one.read_until(b'\n', &mut self.buffer)?;
            if read == 0 {
                break;
            }
            self.number += 1;
            batch.bytes += read as u64;
            if read > LINE_BYTES_MAX {
                bail!("line {}: longer than {} MiB", self.number, LINE_BYTES_MAX >> 20);
            }
            let text = self.buffer.trim_ascii();
            // A byte order mark, as some programs write at the start of a file.
            let text = text.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(text);
            if text.is_empty() {
                continue;
            }
            let line = parse(text).map_err(|why| anyhow!("line {}: {why}", self.number))?;
            batch.lines.push(line);
            batch.numbers.push(self.number);
        }
        Ok((!batch.lines.is_empty()).then_some(batch))
    }
}

fn parse(text: &[u8]) -> Result<Line, String> {
    if text.first() != Some(&b'{') {
        return Err("a line must be a JSON object, see `tenantry import --help`".into());
    }
    let line: Line = serde_json::from_slice(text).map_err(|error| {
        // The parser counts lines within this text, which is always line 1.
        let full = error.to_string();
        let (says, _) = full.rsplit_once(" at line ").unwrap_or((&full, ""));
        let column = error.column();
        if error.is_eof() {
            return format!("{says} (column {column}): an object must stand on one line");
        }
        format!("{says} (column {column})")
    })?;
    if line.id.is_empty() {
        return Err("the id is empty".into());
    }
    Ok(line)
}

impl Batch {
    /// The number of the line that a message about `record N` or `records[N]` of this batch means.
    pub(super) fn line_of(&self, message: &str) -> Option<usize> {
        let rest = ["record ", "records["].iter().find_map(|word| message.split_once(word))?.1;
        let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        self.numbers.get(rest[..digits].parse::<usize>().ok()?).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Vec<Batch>, String> {
        let mut batches = Batches::new(text.as_bytes());
        let mut all = Vec::new();
        while let Some(batch) = batches.next().map_err(|e| e.to_string())? {
            all.push(batch);
        }
        Ok(all)
    }

    #[test]
    fn lines_become_records_in_bounded_batches() {
        let lines = (0..=BATCH_RECORDS_MAX).map(|i| format!("{{\"id\":\"{i}\"}}\n\n"));
        let batches = read(&lines.collect::<String>()).unwrap();
        assert_eq!(batches.iter().map(|b| b.lines.len()).collect::<Vec<_>>(), [1_000, 1]);
        assert_eq!(batches[1].numbers, [2_001]);
        assert_eq!(batches[0].line_of("record 2: too long"), Some(5));
        assert_eq!(batches[0].line_of("records[999]: bad id"), Some(1_999));
        assert_eq!(batches[0].line_of("record 1000: beyond"), None);
        assert_eq!(batches[0].line_of("collection is gone"), None);

        let both = "\u{feff}{\"id\":\"a\",\"embedding\":[1,2.5],\"metadata\":{\"k\":[1]}}\r\n\
                    {\"id\":\"b\",\"vector\":[3,4],\"uri\":null}";
        let batch = read(both).unwrap().remove(0);
        assert_eq!(
            serde_json::to_string(&batch.lines).unwrap(),
            "[{\"id\":\"a\",\"vector\":[1.0,2.5],\"metadata\":{\"k\":[1]}},\
             {\"id\":\"b\",\"vector\":[3.0,4.0]}]"
        );
    }

    #[test]
    fn large_lines_make_small_batches() {
        let long = "x".repeat(BATCH_BYTES_MAX / 2);
        let lines = (0..3).map(|i| format!("{{\"id\":\"{i}\",\"document\":\"{long}\"}}\n"));
        let batches = read(&lines.collect::<String>()).unwrap();
        assert_eq!(batches.iter().map(|b| b.lines.len()).collect::<Vec<_>>(), [2, 1]);
    }

    #[test]
    fn a_bad_line_is_named() {
        for (bad, says) in [
            ("{\"id\":1}", "line 3: invalid type: integer `1`, expected a string (column 7)"),
            ("{\"id\":\"x\",\"text\":\"y\"}", "line 3: unknown field `text`"),
            (
                "{\"id\":\"x\"",
                "line 3: EOF while parsing an object (column 9): an object must stand on one line",
            ),
            ("id;document", "line 3: a line must be a JSON object, see `tenantry import --help`"),
            ("[{\"id\":\"x\"}]", "line 3: a line must be a JSON object"),
            ("{\"id\":\"\"}", "line 3: the id is empty"),
            ("{}", "line 3: missing field `id`"),
            ("{\"id\":\"x\",\"vector\":[1e39]}", "line 3: number out of range (column 24)"),
        ] {
            let error = read(&format!("{{\"id\":\"a\"}}\n\n{bad}\n")).unwrap_err();
            assert!(error.starts_with(says), "{error}");
        }
    }
}
