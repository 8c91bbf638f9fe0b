//! The trace that a request belongs to: the header `traceparent` of W3C Trace Context, level 1.
//!
//! It is a stranger's word and gets no further than into the log, as two numbers of fixed size. What
//! its flags say is read by nobody: no trace asks for more than another, and `tracestate` is not
//! looked at.

use crate::observe::distinct;
use axum::http::{HeaderMap, HeaderName};
use tracing::Span;

const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
/// Bytes of `00-<trace>-<span>-<flags>`.
const BYTES: usize = 55;

/// The span of a caller that a request comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Parent {
    trace: u128,
    span: u64,
}

/// A new span of this server for a request: what is logged in it says which, and of which trace. It
/// is one of the caller's trace, if the headers name one, else of a new one.
///
/// Of the level of errors, so that a filter that lets through a line lets through this with it.
pub(crate) fn span(headers: &HeaderMap) -> Span {
    let parent = parent(headers);
    let trace = parent.map_or_else(new_trace, |parent| parent.trace);
    let [own, _] = distinct();
    tracing::error_span!(
        "request",
        trace_id = format_args!("{trace:032x}"),
        span_id = format_args!("{:016x}", own.max(1)),
        parent_span_id = parent.map(|parent| display(format!("{:016x}", parent.span))),
    )
}

fn new_trace() -> u128 {
    let [one, other] = distinct();
    ((u128::from(one) << 64) | u128::from(other)).max(1)
}

/// A request has one parent or none: of several headers none is believed.
fn parent(headers: &HeaderMap) -> Option<Parent> {
    let mut given = headers.get_all(TRACEPARENT).iter();
    let one = given.next()?;
    if given.next().is_some() { None } else { parse(one.as_bytes()) }
}

fn parse(header: &[u8]) -> Option<Parent> {
    let (known, more) = header.split_at_checked(BYTES)?;
    let is_ended = match hex(&known[..2])? {
        0x00 => more.is_empty(),
        0xff => false,
        // Later versions may go on behind a dash; what is before it means the same.
        _ => more.first().is_none_or(|byte| *byte == b'-'),
    };
    let has_dashes = [2, 35, 52].iter().all(|at| known[*at] == b'-');
    let trace = hex(&known[3..35]).filter(|trace| *trace != 0)?;
    let span = u64::try_from(hex(&known[36..52])?).ok().filter(|span| *span != 0)?;
    hex(&known[53..])?;
    (is_ended && has_dashes).then_some(Parent { trace, span })
}

/// The number of at most 32 hexadecimal digits, none of which is upper case.
fn hex(digits: &[u8]) -> Option<u128> {
    digits.iter().try_fold(0, |number: u128, digit| {
        let value = match digit {
            b'0'..=b'9' => digit - b'0',
            b'a'..=b'f' => digit - b'a' + 10,
            _ => return None,
        };
        Some((number << 4) | u128::from(value))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
    const SPAN: &str = "b7ad6b7169203331";

    const GOOD: Option<Parent> = Some(Parent {
        trace: 0x0af7_6519_16cd_43dd_8448_eb21_1c80_319c,
        span: 0xb7ad_6b71_6920_3331,
    });

    fn parsed(header: &str) -> Option<Parent> {
        parse(header.as_bytes())
    }

    #[test]
    fn a_valid_parent_is_read_whatever_its_flags() {
        for flags in ["00", "01", "09", "ff"] {
            assert_eq!(parsed(&format!("00-{TRACE}-{SPAN}-{flags}")), GOOD, "{flags}");
        }
    }

    #[test]
    fn a_later_version_may_say_more_behind_a_dash() {
        for header in [
            format!("01-{TRACE}-{SPAN}-01"),
            format!("cc-{TRACE}-{SPAN}-01-what the future will be like"),
            format!("fe-{TRACE}-{SPAN}-01-"),
        ] {
            assert_eq!(parsed(&header), GOOD, "{header}");
        }
        for header in [
            format!("cc-{TRACE}-{SPAN}-01.what the future will be like"),
            format!("cc-{TRACE}-{SPAN}-010"),
            format!("cc-{TRACE}-{SPAN}-0"),
            format!("cc-{TRACE}-{SPAN}"),
            format!("cc-{}-{SPAN}-01", "0".repeat(32)),
        ] {
            assert_eq!(parsed(&header), None, "{header}");
        }
    }

    #[test]
    fn what_is_malformed_is_no_parent() {
        for header in [
            String::new(),
            TRACE.to_owned(),
            format!("ff-{TRACE}-{SPAN}-01"),
            format!("0-{TRACE}-{SPAN}-01"),
            format!("0x-{TRACE}-{SPAN}-01"),
            format!("-0-{TRACE}-{SPAN}-01"),
            // Of version 0 nothing follows the flags.
            format!("00-{TRACE}-{SPAN}-01-"),
            format!("00-{TRACE}-{SPAN}-01-00"),
            format!("00-{TRACE}-{SPAN}-011"),
            format!("00-{TRACE}-{SPAN}-01 "),
            format!(" 00-{TRACE}-{SPAN}-01"),
            format!("00-{TRACE}-{SPAN}-1"),
            format!("00-{TRACE}-{SPAN}-0x"),
            format!("00-{TRACE}-{SPAN}"),
            // Ids that are none.
            format!("00-{}-{SPAN}-01", "0".repeat(32)),
            format!("00-{TRACE}-{}-01", "0".repeat(16)),
            // Upper case, anywhere.
            format!("00-{}-{SPAN}-01", TRACE.to_uppercase()),
            format!("00-{TRACE}-{}-01", SPAN.to_uppercase()),
            format!("00-{TRACE}-{SPAN}-0A"),
            format!("CC-{TRACE}-{SPAN}-01"),
            // Digits too few, too many, or none.
            format!("00-{}-{SPAN}-01", &TRACE[1..]),
            format!("00-0{TRACE}-{SPAN}-01"),
            format!("00-{}-{SPAN}0-01", &TRACE[1..]),
            format!("00-{}-{SPAN}-01", TRACE.replace('a', "+")),
            format!("00-{TRACE}-{}-01", SPAN.replace('b', "\u{e9}")),
            format!("00_{TRACE}_{SPAN}_01"),
        ] {
            assert_eq!(parsed(&header), None, "{header:?}");
        }
    }

    #[test]
    fn of_two_parents_none_is_believed() {
        let one = format!("00-{TRACE}-{SPAN}-01").parse().expect("a header");
        let mut headers = HeaderMap::new();
        assert_eq!(parent(&headers), None);
        headers.append(TRACEPARENT, one);
        assert_eq!(parent(&headers), GOOD);
        let again = headers[TRACEPARENT].clone();
        headers.append(TRACEPARENT, again);
        assert_eq!(parent(&headers), None);
    }
}
