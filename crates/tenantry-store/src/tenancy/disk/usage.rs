//! What was counted of a tenant's work.
//!
//! Amounts are a list of a meter's number and a value, so that something new to be counted is a new
//! number and no new version; a number that is not known is unreadable and not skipped, because
//! what is skipped is not billed.

use super::unreadable;
use crate::{
    Stock, UsageNote,
    tenancy::usage::{Counted, EventDay, Seen},
};
use serde::{Deserialize, Serialize};
use tenantry_auth::TenantId;
use tenantry_types::{Amounts, Day, Hour, Meter, Price, Result, Tariff, Timestamp, UsageEvent};

const WHAT: &str = "usage";

/// Ascending, without zeros.
type DiskAmounts = Vec<(u8, u128)>;

fn to_disk(amounts: &Amounts) -> DiskAmounts {
    amounts.iter().map(|(meter, amount)| (meter.number(), amount)).collect()
}

fn from_disk(row: &[(u8, u128)]) -> Result<Amounts> {
    if !row.is_sorted_by(|(one, _), (next, _)| one < next) {
        return Err(unreadable(WHAT));
    }
    let mut amounts = Amounts::default();
    for (number, amount) in row {
        let meter = Meter::of_number(*number).ok_or_else(|| unreadable(WHAT))?;
        amounts.add(meter, *amount);
    }
    Ok(amounts)
}

/// The part of a tenant's counters that is about usage.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct DiskCounted {
    hour: u32,
    since: u64,
    records: Option<u64>,
    bytes: Option<u64>,
    totals: DiskAmounts,
    closed: DiskAmounts,
}

impl DiskCounted {
    pub(super) fn new(counted: &Counted) -> Self {
        let Counted { hour, since, records, bytes, totals, closed } = counted;
        Self {
            hour: hour.0,
            since: since.0,
            records: *records,
            bytes: *bytes,
            totals: to_disk(totals),
            closed: to_disk(closed),
        }
    }

    pub(super) fn read(self) -> Result<Counted> {
        let Self { hour, since, records, bytes, totals, closed } = self;
        Ok(Counted {
            hour: Hour(hour),
            since: Timestamp(since),
            records,
            bytes,
            totals: from_disk(&totals)?,
            closed: from_disk(&closed)?,
        })
    }
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum DiskSeen {
    V1 { commit: u64, hour: u32, since: u64, totals: DiskAmounts, falls: u32 },
}

impl DiskSeen {
    pub(crate) fn new(seen: &Seen) -> Self {
        let Seen { commit, hour, since, totals, falls } = seen;
        Self::V1 {
            commit: *commit,
            hour: hour.0,
            since: since.0,
            totals: to_disk(totals),
            falls: *falls,
        }
    }

    pub(crate) fn into_seen(self) -> Result<Seen> {
        let Self::V1 { commit, hour, since, totals, falls } = self;
        let totals = from_disk(&totals)?;
        Ok(Seen { commit, hour: Hour(hour), since: Timestamp(since), totals, falls })
    }
}

/// What a tenant keeps.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum DiskKept {
    V1 { records: Option<u64>, bytes: Option<u64> },
}

impl DiskKept {
    pub(crate) fn new(stock: Stock) -> Self {
        let Stock { records, bytes } = stock;
        Self::V1 { records, bytes }
    }

    pub(crate) fn into_stock(self) -> Stock {
        let Self::V1 { records, bytes } = self;
        Stock { records, bytes }
    }
}

/// A sum.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum DiskUsage {
    V1(DiskAmounts),
}

impl DiskUsage {
    pub(crate) fn new(amounts: &Amounts) -> Self {
        Self::V1(to_disk(amounts))
    }

    pub(crate) fn into_amounts(self) -> Result<Amounts> {
        let Self::V1(amounts) = self;
        from_disk(&amounts)
    }
}

/// A second of a node: tenant, hour, amounts.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum DiskJournal {
    V1(Vec<(u64, u32, DiskAmounts)>),
}

impl DiskJournal {
    pub(crate) fn new(notes: &[UsageNote]) -> Self {
        let note = |note: &UsageNote| (note.tenant.get(), note.hour.0, to_disk(&note.amounts));
        Self::V1(notes.iter().map(note).collect())
    }

    pub(crate) fn into_notes(self) -> Result<Vec<UsageNote>> {
        let Self::V1(notes) = self;
        let note = |(tenant, hour, amounts): (u64, u32, DiskAmounts)| {
            let (tenant, hour) = (TenantId::new(tenant), Hour(hour));
            Ok(UsageNote { tenant, hour, amounts: from_disk(&amounts)? })
        };
        notes.into_iter().map(note).collect()
    }
}

/// What was reported under an id.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum DiskEvent {
    V1 { meter: u8, amount: u64 },
}

impl DiskEvent {
    pub(crate) fn new(event: &UsageEvent) -> Self {
        Self::V1 { meter: event.meter().number(), amount: event.amount() }
    }

    /// In words.
    pub(crate) fn words(&self) -> Result<String> {
        let Self::V1 { meter, amount } = *self;
        let meter = Meter::of_number(meter).ok_or_else(|| unreadable(WHAT))?;
        Ok(format!("{amount} {}", meter.word()))
    }
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum DiskEventDay {
    V1 { hour: u32, events: u32 },
    V2 { hour: u32, events: u32, day: u32, behind: Option<u32>, week: u32, id: [u8; 16] },
}

impl DiskEventDay {
    pub(crate) fn new(day: EventDay) -> Self {
        let EventDay { hour, events, day, behind, oldest: (week, id) } = day;
        let behind = behind.map(|hour| hour.0);
        Self::V2 { hour: hour.0, events, day: day.0, behind, week, id }
    }

    pub(crate) fn read(self) -> EventDay {
        match self {
            Self::V1 { hour, events } => {
                let hour = Hour(hour);
                EventDay { hour, events, day: hour.day(), ..EventDay::default() }
            }
            Self::V2 { hour, events, day, behind, week, id } => EventDay {
                hour: Hour(hour),
                events,
                day: Day(day),
                behind: behind.map(Hour),
                oldest: (week, id),
            },
        }
    }
}

/// Prices by meter, ascending.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum DiskTariff {
    V1(Vec<(u8, u64)>),
}

impl DiskTariff {
    pub(crate) fn new(tariff: &Tariff) -> Self {
        Self::V1(tariff.0.iter().map(|(meter, price)| (meter.number(), price.0)).collect())
    }

    pub(crate) fn into_tariff(self) -> Result<Tariff> {
        let Self::V1(prices) = self;
        let price = |(number, price): (u8, u64)| {
            let meter = Meter::of_number(number).ok_or_else(|| unreadable(WHAT))?;
            Ok((meter, Price(price)))
        };
        prices.into_iter().map(price).collect::<Result<_>>().map(Tariff)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tenancy::disk::{decode, encode};

    #[test]
    fn amounts_are_read_as_they_were_written() {
        let mut amounts = Amounts::of(Meter::ByteMillis, u128::MAX);
        amounts.add(Meter::Requests, 300);
        let row = encode(&DiskUsage::new(&amounts));
        assert_eq!(row[..6], [0, 2, 0, 0xac, 2, 7]);
        let read: DiskUsage = decode(&row, WHAT).unwrap();
        assert_eq!(read.into_amounts().unwrap(), amounts);
    }

    #[test]
    fn what_is_not_known_is_unreadable() {
        for row in [vec![(11, 1)], vec![(1, 1), (0, 1)], vec![(0, 1), (0, 1)]] {
            assert!(from_disk(&row).is_err(), "{row:?}");
        }
    }

    #[test]
    fn events_are_read_as_they_were_written() {
        let event = UsageEvent::new("a", Meter::Messages, 300).unwrap();
        let row = encode(&DiskEvent::new(&event));
        assert_eq!(row, [0, 10, 0xac, 2]);
        let read: DiskEvent = decode(&row, WHAT).unwrap();
        assert_eq!(
            (&read, read.words().unwrap().as_str()),
            (&DiskEvent::new(&event), "300 messages")
        );
        assert!(DiskEvent::V1 { meter: 11, amount: 1 }.words().is_err());
        let day = |row: &[u8]| decode::<DiskEventDay>(row, WHAT).unwrap().read();
        let first = EventDay { hour: Hour(300), events: 5, day: Day(12), ..EventDay::default() };
        assert_eq!(day(&[0, 0xac, 2, 5]), first);
        let now = EventDay { day: Day(13), behind: Some(Hour(299)), oldest: (1, [7; 16]), ..first };
        let row = encode(&DiskEventDay::new(now));
        assert_eq!(row[..9], [1, 0xac, 2, 5, 13, 1, 0xab, 2, 1]);
        assert_eq!((&row[9..], day(&row)), (&[7; 16][..], now));
    }

    #[test]
    fn what_is_kept_is_read_as_it_was_written() {
        let stock = Stock { records: Some(300), bytes: None };
        let row = encode(&DiskKept::new(stock));
        assert_eq!(row, [0, 1, 0xac, 2, 0]);
        assert_eq!(decode::<DiskKept>(&row, WHAT).unwrap().into_stock(), stock);
    }

    #[test]
    fn a_journal_is_read_as_it_was_written() {
        let amounts = Amounts::of(Meter::VectorsScanned, 7);
        let notes = vec![UsageNote { tenant: TenantId::new(9), hour: Hour(3), amounts }];
        let row = encode(&DiskJournal::new(&notes));
        assert_eq!(row, [0, 1, 9, 3, 1, 4, 7]);
        let read: DiskJournal = decode(&row, WHAT).unwrap();
        assert_eq!(read.into_notes().unwrap(), notes);
    }
}
