//! What is counted of a tenant's work, when, and what it costs: integers only.

mod event;
mod money;
mod time;

pub use event::{Reported, UsageEvent};
pub use money::{Bill, MicroUnits, Price, Tariff};
pub use time::{Day, Every, Hour, Month};

/// Something that is counted. Amounts of it only grow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Meter {
    /// Operations that were answered.
    Requests,
    /// Records that were made or changed.
    RecordsWritten,
    /// Bytes of records that were handed in: ids, texts, metadata and vectors.
    BytesIn,
    /// Bytes of records that were answered with, counted in the same way.
    BytesOut,
    /// Vectors that searches looked at.
    VectorsScanned,
    /// Microseconds of computing, by requests and in the background.
    CpuMicros,
    /// Records that are kept, times milliseconds.
    RecordMillis,
    /// Bytes that are kept, times milliseconds.
    ByteMillis,
    /// Tokens of models, as the application reports them.
    Tokens,
    /// Money that was spent elsewhere, in micro-units, as the application reports it.
    Money,
    /// Messages, as the application reports them.
    Messages,
}

impl Meter {
    /// All of them, in the order of their numbers.
    pub const ALL: [Self; 11] = [
        Self::Requests,
        Self::RecordsWritten,
        Self::BytesIn,
        Self::BytesOut,
        Self::VectorsScanned,
        Self::CpuMicros,
        Self::RecordMillis,
        Self::ByteMillis,
        Self::Tokens,
        Self::Money,
        Self::Messages,
    ];

    /// Its number, which is kept on disk: never another one.
    pub const fn number(self) -> u8 {
        self as u8
    }

    /// The meter with this number.
    pub fn of_number(number: u8) -> Option<Self> {
        Self::ALL.get(usize::from(number)).copied()
    }

    /// Its name in protocols and files.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Requests => "requests",
            Self::RecordsWritten => "records_written",
            Self::BytesIn => "bytes_in",
            Self::BytesOut => "bytes_out",
            Self::VectorsScanned => "vectors_scanned",
            Self::CpuMicros => "cpu_us",
            Self::RecordMillis => "record_ms",
            Self::ByteMillis => "byte_ms",
            Self::Tokens => "tokens",
            Self::Money => "money_micros",
            Self::Messages => "messages",
        }
    }

    /// The meter with this name.
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|meter| meter.word() == word)
    }
}

/// How much of each meter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Amounts([u128; Meter::ALL.len()]);

impl Amounts {
    /// So much of one meter.
    #[must_use]
    pub fn of(meter: Meter, amount: u128) -> Self {
        let mut amounts = Self::default();
        amounts.add(meter, amount);
        amounts
    }

    /// So much of this meter.
    pub fn get(&self, meter: Meter) -> u128 {
        self.0.get(usize::from(meter.number())).copied().unwrap_or(0)
    }

    /// So much more of it. Nothing that is counted comes near the end of the numbers; if it did,
    /// it would stay there.
    pub fn add(&mut self, meter: Meter, amount: u128) {
        if let Some(all) = self.0.get_mut(usize::from(meter.number())) {
            *all = all.saturating_add(amount);
        }
    }

    /// All of others, too.
    pub fn add_all(&mut self, others: &Self) {
        for (all, more) in self.0.iter_mut().zip(others.0) {
            *all = all.saturating_add(more);
        }
    }

    /// What these have more than others had before; none if they have less of something.
    pub fn since(&self, before: &Self) -> Option<Self> {
        let mut more = *self;
        for (all, less) in more.0.iter_mut().zip(before.0) {
            *all = all.checked_sub(less)?;
        }
        Some(more)
    }

    /// True if there is nothing.
    pub fn is_empty(&self) -> bool {
        self.0.iter().all(|amount| *amount == 0)
    }

    /// Those meters of which there is something, in the order of their numbers.
    pub fn iter(&self) -> impl Iterator<Item = (Meter, u128)> + '_ {
        Meter::ALL.into_iter().zip(self.0).filter(|(_, amount)| *amount > 0)
    }
}

/// What a tenant has used in one hour or month.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Used {
    /// Which one, by its number.
    pub at: u32,
    /// How much.
    pub amounts: Amounts,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_names_lead_back() {
        for (number, meter) in (0..).zip(Meter::ALL) {
            assert_eq!(meter.number(), number);
            assert_eq!(Meter::of_number(number), Some(meter));
            assert_eq!(Meter::parse(meter.word()), Some(meter));
        }
        assert_eq!(Meter::of_number(11), None);
        assert_eq!(Meter::parse("Requests"), None);
    }

    #[test]
    fn what_was_added_is_the_difference() {
        let before = Amounts::of(Meter::Requests, 5);
        let mut after = before;
        after.add(Meter::BytesIn, 7);
        after.add_all(&Amounts::of(Meter::Requests, 2));
        let more = after.since(&before).unwrap();
        let said: Vec<_> = more.iter().collect();
        assert_eq!(said, [(Meter::Requests, 2), (Meter::BytesIn, 7)]);
        assert_eq!(before.since(&after), None);
        assert!(after.since(&after).unwrap().is_empty());
    }
}
