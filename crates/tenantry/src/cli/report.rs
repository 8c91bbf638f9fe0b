//! `tenantry usage report`: what an application has counted itself.

use super::{
    output::{print, print_json},
    tenant::{Common, text, with},
};
use anyhow::Result;
use clap::Args;
use serde_json::{Value, json};
use std::{collections::BTreeSet, fmt::Write as _, str::FromStr};
use tenantry::{Meter, UsageEvent};

#[derive(Debug, Args)]
#[command(after_help = "\
Whoever does not know whether it was counted types the same again: the ID counts once, for at least
7 days. Each meter is an event of its own, whose id is ID:METER. Amounts count when they arrive, and
money is in millionths of a unit of your currency: 1.50 is money_micros=1500000. Needs an operator key
with act_as: no tenant reports about itself.

Examples:
  tenantry usage report acme messages=1 tokens=812 --id chat-17
  tenantry usage report acme messages=1 --id chat-18 --enforce
      Fails, and counts nothing, if the tenant has no message left today.")]
pub(super) struct ReportArgs {
    /// The tenant's name
    tenant: String,
    /// How much of messages, tokens or money_micros
    #[arg(required = true, value_name = "METER=AMOUNT")]
    amounts: Vec<Measured>,
    /// By what it is known again: visible characters
    #[arg(long)]
    id: String,
    /// Count nothing if messages_per_day or tokens_per_day would be passed
    #[arg(long)]
    enforce: bool,
    #[command(flatten)]
    common: Common,
}

/// An amount as people type it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Measured(Meter, u64);

impl FromStr for Measured {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (word, amount) = text.split_once('=').ok_or("write METER=AMOUNT")?;
        let meter = Meter::parse(word).filter(|meter| UsageEvent::METERS.contains(meter));
        let meter = meter.ok_or_else(|| {
            let all = UsageEvent::METERS.map(Meter::word).join(", ");
            format!("{word:?} is not reported; these are: {all}")
        })?;
        let amount = amount
            .replace('_', "")
            .parse()
            .map_err(|_| format!("{amount:?} is no amount: a whole number, 1 or more"))?;
        Ok(Self(meter, amount))
    }
}

pub(super) fn run(args: ReportArgs) -> Result<()> {
    let ReportArgs { tenant, amounts, id, enforce, common } = args;
    let mut meters = BTreeSet::new();
    for Measured(meter, _) in &amounts {
        anyhow::ensure!(meters.insert(*meter), "{} is said twice", meter.word());
    }
    let event = |Measured(meter, amount): &Measured| json!({ "id": format!("{id}:{}", meter.word()), "meter": meter.word(), "amount": amount });
    let events: Vec<Value> = amounts.iter().map(event).collect();
    with(common, |client, json| {
        let body = json!({ "events": events, "enforce": enforce });
        let told = client.call_in(Some(&tenant), "POST", "/v1/usage/events", Some(&body))?;
        if json { print_json(&told) } else { print(&shown(&told)) }
    })
}

fn shown(told: &Value) -> String {
    let (counted, before) = (text(told, "counted"), text(told, "duplicates"));
    let mut out = format!("counted {counted}, counted before {before}\n");
    for (quota, left) in told["left"].as_object().into_iter().flatten() {
        let _ = writeln!(out, "{quota}: {left} left today");
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_amount_is_a_meter_that_is_reported_and_a_number() {
        assert_eq!("tokens=1_000".parse(), Ok(Measured(Meter::Tokens, 1_000)));
        for wrong in ["tokens", "requests=1", "tokens=-1", "tokens=1.5", "=1"] {
            assert!(wrong.parse::<Measured>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn what_is_left_is_shown() {
        let told = json!({ "counted": 2, "duplicates": 0, "left": { "messages_per_day": 7 } });
        assert_eq!(shown(&told), "counted 2, counted before 0\nmessages_per_day: 7 left today\n");
    }
}
