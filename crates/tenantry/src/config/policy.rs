//! The file of a placement policy.

use super::{ByteSize, IsolationWord, Span, one_line};
use anyhow::{Context, Result, anyhow};
use serde::Deserialize;
use std::{fs, path::Path};
use tenantry::{
    Location,
    placement::{Policy, Rule, Timing},
};
use toml::Spanned;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    every: Option<Span>,
    stay: Option<Span>,
    moves_per_day: Option<u32>,
    #[serde(default)]
    rule: Vec<Spanned<RuleWords>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RuleWords {
    from: IsolationWord,
    from_location: Option<String>,
    to: IsolationWord,
    to_location: Option<String>,
    records_over: Option<u64>,
    records_under: Option<u64>,
    bytes_over: Option<ByteSize>,
    bytes_under: Option<ByteSize>,
}

impl RuleWords {
    fn rule(&self) -> Result<Rule, String> {
        let location = |name: &str, text: &Option<String>| {
            let location = text.as_deref().map(Location::parse).transpose();
            location.map_err(|why| format!("{name}: {why}"))
        };
        Ok(Rule {
            from: self.from.into(),
            from_location: location("from_location", &self.from_location)?,
            to: self.to.into(),
            to_location: location("to_location", &self.to_location)?,
            records_over: self.records_over,
            records_under: self.records_under,
            bytes_over: self.bytes_over.map(|size| size.0),
            bytes_under: self.bytes_under.map(|size| size.0),
        })
    }
}

/// Reads a policy; says what is wrong with it and where.
pub(crate) fn read_policy(path: &Path) -> Result<Policy> {
    let shown = path.display();
    let text =
        fs::read_to_string(path).with_context(|| format!("read the placement policy {shown}"))?;
    parse(&text).map_err(|(line, why)| anyhow!("placement policy {shown}, line {line}: {why}"))
}

fn parse(text: &str) -> Result<Policy, (usize, String)> {
    let line = |at: usize| text[..at.min(text.len())].matches('\n').count() + 1;
    let file: File = toml::from_str(text).map_err(|error| {
        (error.span().map_or(1, |span| line(span.start)), one_line(error.message()))
    })?;
    let line_of = |rule: &Spanned<RuleWords>| line(rule.span().start);
    let mut rules = Vec::new();
    for rule in &file.rule {
        rules.push(rule.get_ref().rule().map_err(|why| (line_of(rule), why))?);
    }
    let usual = Timing::default();
    let timing = Timing {
        every: file.every.map_or(usual.every, |span| span.0),
        stay: file.stay.map_or(usual.stay, |span| span.0),
        moves_per_day: file.moves_per_day.unwrap_or(usual.moves_per_day),
    };
    Policy::new(rules, timing).map_err(|refusal| {
        let rule = refusal.rule.and_then(|at| file.rule.get(at));
        (rule.map_or(1, line_of), refusal.why)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;
    use tenantry::Isolation;

    #[test]
    fn a_policy_is_read() {
        let text = "every = \"10m\"\nstay = \"7d\"\nmoves_per_day = 3\n\n[[rule]]\nfrom = \"shared\"\n\
                    to = \"schema\"\nto_location = \"eu\"\nrecords_over = 100_000\n\
                    bytes_over = \"1GiB\"\n\n[[rule]]\nfrom = \"schema\"\nfrom_location = \"eu\"\n\
                    to = \"shared\"\nto_location = \"home\"\nrecords_under = 50_000\n";
        let policy = parse(text).unwrap();
        assert_eq!(policy.timing().every, Duration::from_secs(600));
        assert_eq!(policy.timing().stay, Duration::from_secs(7 * 86_400));
        assert_eq!(policy.timing().moves_per_day, 3);
        let [up, down] = policy.rules() else { panic!("two rules") };
        assert_eq!((up.from, up.to), (Isolation::Shared, Isolation::Schema));
        assert_eq!((up.records_over, up.bytes_over), (Some(100_000), Some(1 << 30)));
        assert_eq!(up.to_location, Some(Location::parse("eu").unwrap()));
        assert_eq!(down.to_location, Some(Location::Home));
    }

    #[test]
    fn what_is_wrong_is_named_with_its_line() {
        let up = "[[rule]]\nfrom = \"shared\"\nto = \"schema\"\nrecords_over = 100\n";
        let down = "[[rule]]\nfrom = \"schema\"\nto = \"shared\"\n";
        for (text, line, says) in [
            ("", 1, "no rules"),
            (
                "every = \"0s\"\n[[rule]]\nfrom = \"shared\"\nto = \"schema\"\nrecords_over = 1",
                1,
                "every",
            ),
            ("\nevery = \"soon\"\n", 2, "span of time"),
            ("[[rule]]\nfrom = \"shared\"\nto = \"tables\"\n", 3, "tables"),
            ("[[rule]]\nfrom = \"shared\"\nto = \"schema\"\nrecords = 5\n", 4, "records"),
            (&format!("\n{down}"), 2, "no bound"),
            (&format!("{up}\n{down}records_under = 90\n"), 6, "back and forth"),
            (&format!("{up}to_location = \"a b\"\n"), 1, "to_location"),
        ] {
            let (at, why) = parse(text).unwrap_err();
            assert!(at == line && why.contains(says), "{text}: line {at}: {why}");
        }
        parse(&format!("{up}\n{down}records_under = 80\n")).unwrap();
    }
}
