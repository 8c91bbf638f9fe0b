//! `tenantry bill --all`: what a month costs each tenant, written page by page.

use super::{
    bill::money,
    output::{print, table},
    tenant::{Common, text, with},
};
use anyhow::{Context, Result};
use serde_json::Value;
use std::fmt::Write as _;
use tenantry::{Meter, Month, csv_text};

/// Bills that are asked for at once.
const PAGE: usize = 1_000;

/// How they are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Table,
    Json,
    Csv,
}

pub(super) fn all(month: Month, csv: bool, common: Common) -> Result<()> {
    with(common, |client, json| {
        let form = match (csv, json) {
            (true, _) => Form::Csv,
            (_, true) => Form::Json,
            _ => Form::Table,
        };
        let (mut after, mut is_first) = (String::new(), true);
        loop {
            let path = format!("/v1/admin/bills?month={month}&limit={PAGE}{after}");
            let page = client.call("GET", &path, None)?;
            let bills = page["bills"].as_array().context("read the answer")?;
            let next = page["next"].as_u64();
            // A page that only looked at others is none of what is written.
            if !bills.is_empty() || next.is_none() {
                print(&written(form, month, bills, (is_first, next.is_none())))?;
                is_first = false;
            }
            let Some(next) = next else { return Ok(()) };
            after = format!("&after={next}");
        }
    })
}

/// A page, with what stands before the first one and behind the last one.
fn written(form: Form, month: Month, bills: &[Value], (is_first, is_last): (bool, bool)) -> String {
    match form {
        Form::Table => rows(bills, is_first),
        Form::Json => {
            let mut out = if is_first { "[" } else { "" }.to_owned();
            for (at, bill) in bills.iter().enumerate() {
                let comma = if is_first && at == 0 { "" } else { "," };
                let _ = write!(out, "{comma}{bill}");
            }
            out.push_str(if is_last { "]\n" } else { "" });
            out
        }
        Form::Csv => {
            let mut out = if is_first { heading() } else { String::new() };
            for bill in bills {
                line(&mut out, month, bill);
            }
            out
        }
    }
}

/// Columns are as wide as this page needs them.
fn rows(bills: &[Value], is_first: bool) -> String {
    let row = |bill: &Value| {
        let mut cells = ["id", "name", "plan"].map(|key| text(bill, key)).to_vec();
        cells.push(money(&text(bill, "total_micros")));
        cells
    };
    let all = table(&["ID", "NAME", "PLAN", "TOTAL"], &bills.iter().map(row).collect::<Vec<_>>());
    match all.split_once('\n') {
        Some((_, rows)) if !is_first => rows.to_owned(),
        _ => all,
    }
}

fn heading() -> String {
    let mut out = "id,name,plan,month,total_micros".to_owned();
    for meter in Meter::ALL.map(Meter::word) {
        let _ = write!(out, ",{meter},{meter}_cost_micros");
    }
    out.push_str("\r\n");
    out
}

/// One bill; texts are quoted, and what has no price is empty.
fn line(out: &mut String, month: Month, bill: &Value) {
    let [id, name, plan, total] = ["id", "name", "plan", "total_micros"].map(|key| text(bill, key));
    let _ = write!(out, "{id},{},{},{month},{total}", csv_text(&name), csv_text(&plan));
    for meter in Meter::ALL.map(Meter::word) {
        let (amount, cost) = (text(&bill["amounts"], meter), text(&bill["cost_micros"], meter));
        let amount = if amount.is_empty() { "0" } else { &amount };
        let _ = write!(out, ",{amount},{cost}");
    }
    out.push_str("\r\n");
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn pages(form: Form) -> String {
        let acme = json!({
            "id": 7, "name": "a, b", "plan": "p", "amounts": { "requests": "5" },
            "cost_micros": { "requests": "2" }, "total_micros": "2",
        });
        let gone = json!({ "id": 8, "name": null, "plan": null, "amounts": {}, "cost_micros": {},
            "total_micros": null });
        let month = Month::parse("2026-11").unwrap();
        let first = written(form, month, &[acme], (true, false));
        first + &written(form, month, &[gone], (false, true))
    }

    #[test]
    fn pages_are_one_table_one_list_or_one_file() {
        assert_eq!(pages(Form::Table), "ID  NAME  PLAN  TOTAL\n7   a, b  p     0.000002\n8\n");
        let list: Value = serde_json::from_str(&pages(Form::Json)).unwrap();
        assert_eq!((&list[0]["name"], &list[1]["id"]), (&json!("a, b"), &json!(8)));
        let csv = pages(Form::Csv);
        let lines: Vec<_> = csv.split("\r\n").collect();
        let [head, acme, gone, ""] = lines[..] else { panic!("{lines:?}") };
        assert!(head.starts_with("id,name,plan,month,total_micros,requests,requests_cost_micros,"));
        assert!(acme.starts_with("7,\"a, b\",\"p\",2026-11,2,5,2,0,,"), "{acme}");
        assert!(gone.starts_with("8,\"\",\"\",2026-11,,0,,"), "{gone}");
        assert_eq!(head.split(',').count() + 1, acme.split(',').count());
    }

    #[test]
    fn a_month_without_bills_is_an_empty_list() {
        let month = Month::parse("2026-11").unwrap();
        assert_eq!(written(Form::Json, month, &[], (true, true)), "[]\n");
        assert_eq!(written(Form::Table, month, &[], (true, true)), "ID  NAME  PLAN  TOTAL\n");
    }
}
