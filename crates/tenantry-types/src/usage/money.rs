//! What amounts cost.

use super::{Amounts, Meter};
use std::collections::BTreeMap;

/// Millionths of a unit of the installation's currency.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct MicroUnits(pub u128);

/// What 10⁹ of a meter cost: small prices are whole numbers, too.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Price(pub u64);

impl Price {
    /// So many of a meter cost the price.
    pub const FOR: u128 = 1_000_000_000;

    /// What an amount costs, rounded half up: called once for each meter and month, because what
    /// is rounded hour by hour does not add up.
    #[must_use]
    pub fn of(self, amount: u128) -> MicroUnits {
        let (whole, part) = (amount / Self::FOR, amount % Self::FOR);
        let price = u128::from(self.0);
        // A part is below 2^30 and a price below 2^64.
        let part = (part * price + Self::FOR / 2) / Self::FOR;
        MicroUnits(whole.saturating_mul(price).saturating_add(part))
    }
}

/// The prices of one plan. A meter without one costs nothing, but money: what was spent elsewhere is
/// passed on as it is.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Tariff(pub BTreeMap<Meter, Price>);

impl Tariff {
    /// What each meter of a month costs.
    pub fn bill(&self, month: &Amounts) -> BTreeMap<Meter, MicroUnits> {
        let cost = |(meter, price): (&Meter, &Price)| (*meter, price.of(month.get(*meter)));
        let mut bill: BTreeMap<_, _> = self.0.iter().map(cost).collect();
        let money = month.get(Meter::Money);
        if money > 0 {
            bill.entry(Meter::Money).or_insert(MicroUnits(money));
        }
        bill
    }

    /// The sum of a bill.
    #[must_use]
    pub fn total(bill: &BTreeMap<Meter, MicroUnits>) -> MicroUnits {
        MicroUnits(bill.values().fold(0, |sum, one| sum.saturating_add(one.0)))
    }
}

/// What a month costs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bill {
    /// What was used.
    pub amounts: Amounts,
    /// What each meter that has a price costs.
    pub lines: BTreeMap<Meter, MicroUnits>,
    /// Their sum.
    pub total: MicroUnits,
}

impl Bill {
    /// Of a month.
    pub fn of(amounts: Amounts, tariff: &Tariff) -> Self {
        let lines = tariff.bill(&amounts);
        let total = Tariff::total(&lines);
        Self { amounts, lines, total }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_rounded_half_up() {
        for (amount, price, costs) in [
            (0, 7, 0),
            (1, 499_999_999, 0),
            (1, 500_000_000, 1),
            (1_000_000_000, 7, 7),
            (1_500_000_000, 1, 2),
            (1_499_999_999, 1, 1),
        ] {
            let exact = (amount * u128::from(price) + 500_000_000) / 1_000_000_000;
            assert_eq!(Price(price).of(amount), MicroUnits(exact), "{amount} × {price}");
            assert_eq!(exact, costs);
        }
        assert_eq!(Price(u64::MAX).of(u128::MAX), MicroUnits(u128::MAX));
    }

    #[test]
    fn money_is_passed_on_as_it_is_or_with_a_surcharge() {
        let month = Amounts::of(Meter::Money, 2_500_000);
        let costs = |price: Option<u64>| {
            let tariff =
                Tariff(price.map(|price| (Meter::Money, Price(price))).into_iter().collect());
            Tariff::total(&tariff.bill(&month)).0
        };
        assert_eq!(costs(None), 2_500_000);
        assert_eq!(costs(Some(1_100_000_000)), 2_750_000);
        assert_eq!(costs(Some(0)), 0);
        assert!(Tariff::default().bill(&Amounts::of(Meter::Tokens, 7)).is_empty());
    }

    #[test]
    fn a_month_is_rounded_once() {
        let tariff = Tariff(BTreeMap::from([(Meter::Requests, Price(400_000_000))]));
        let mut month = Amounts::default();
        for _ in 0..5 {
            // Alone each would cost nothing.
            assert_eq!(tariff.bill(&Amounts::of(Meter::Requests, 1))[&Meter::Requests].0, 0);
            month.add(Meter::Requests, 1);
        }
        month.add(Meter::Tokens, 1_000_000);
        let bill = tariff.bill(&month);
        assert_eq!(bill, BTreeMap::from([(Meter::Requests, MicroUnits(2))]));
        assert_eq!(Tariff::total(&bill), MicroUnits(2));
    }
}
