//! How far an import is: a bar on a terminal, plain lines elsewhere.

use indicatif::{ProgressBar, ProgressStyle};
use std::io::{IsTerminal, stderr};

/// Records between two plain lines.
const RECORDS_PER_LINE: usize = 10_000;

/// Tells people how far an import is, on standard error.
#[derive(Debug)]
pub(super) struct Progress {
    bar: Option<ProgressBar>,
    records: usize,
    told: usize,
}

impl Progress {
    /// `total_bytes` is the size of the file, if it is known.
    pub(super) fn new(total_bytes: Option<u64>) -> Self {
        let bar = stderr().is_terminal().then(|| match total_bytes {
            Some(total) => {
                let style = "{bar:40} {bytes}/{total_bytes}  {msg}  {eta} left";
                ProgressBar::new(total).with_style(
                    ProgressStyle::with_template(style).expect("the template is a constant"),
                )
            }
            None => ProgressBar::new_spinner(),
        });
        Self { bar, records: 0, told: 0 }
    }

    /// So many more bytes and records are stored.
    pub(super) fn add(&mut self, bytes: u64, records: usize) {
        self.records += records;
        if let Some(bar) = &self.bar {
            bar.set_message(format!("{} records", self.records));
            bar.inc(bytes);
        } else if self.records - self.told >= RECORDS_PER_LINE {
            self.told = self.records;
            eprintln!("imported {} records", self.records);
        }
    }

    /// Removes the bar.
    pub(super) fn finish(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
