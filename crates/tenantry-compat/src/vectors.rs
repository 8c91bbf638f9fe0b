//! Lists of numbers, lifted out of a JSON body before the rest is parsed: they are most of it.
//!
//! Only well-formed lists of lists of finite numbers are lifted. Anything else stays where it is,
//! so that the general parser says what is wrong and where.

use serde::de::IgnoredAny;
use serde_json::Deserializer;
use tenantry_engine::{JsonNumbers, Limits};

/// Lists beyond this many are left to the general parser; no request may have as many.
const LISTS_MAX: usize = Limits::BATCH_RECORDS_MAX;

/// The lists in this member of an object, and the object with an empty list in their place.
pub(crate) fn lift(body: &[u8], member: &str) -> Option<(Vec<Vec<f32>>, Vec<u8>)> {
    let start = value_of(body, member)?;
    let mut text = JsonNumbers::new(body, start);
    // Each list will be about as long as the one before; none is longer than its bytes allow.
    let mut room = 0;
    let lists = text.list(0, LISTS_MAX, |text| {
        let list = text.numbers(room)?;
        room = list.len();
        Some(list)
    })?;
    let mut rest = Vec::with_capacity(start + 2 + body.len() - text.at());
    rest.extend_from_slice(body.get(..start)?);
    rest.extend_from_slice(b"[]");
    rest.extend_from_slice(body.get(text.at()..)?);
    Some((lists, rest))
}

/// Where the value of an object's member begins.
fn value_of(body: &[u8], member: &str) -> Option<usize> {
    let mut text = Text { bytes: body, at: 0 };
    text.expect(b'{')?;
    loop {
        text.blanks();
        let mut key = Deserializer::from_slice(text.rest()).into_iter::<&str>();
        let found = key.next()?.ok()? == member;
        text.at += key.byte_offset();
        text.expect(b':')?;
        text.blanks();
        if found {
            return Some(text.at);
        }
        let mut value = Deserializer::from_slice(text.rest()).into_iter::<IgnoredAny>();
        value.next()?.ok()?;
        text.at += value.byte_offset();
        text.expect(b',')?;
    }
}

/// JSON, and how far it was read.
struct Text<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Text<'a> {
    fn rest(&self) -> &'a [u8] {
        self.bytes.get(self.at..).unwrap_or_default()
    }

    fn blanks(&mut self) {
        let blanks = self.rest().iter().take_while(|byte| b" \n\t\r".contains(byte));
        self.at += blanks.count();
    }

    /// A mark of JSON's, blanks before it passed over.
    fn expect(&mut self, mark: u8) -> Option<()> {
        self.blanks();
        let is_next = self.rest().first() == Some(&mark);
        self.at += usize::from(is_next);
        is_next.then_some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::{collection::vec, prelude::*};

    fn lifted(body: &str) -> Option<(Vec<Vec<f32>>, String)> {
        let (lists, rest) = lift(body.as_bytes(), "v")?;
        Some((lists, String::from_utf8(rest).unwrap()))
    }

    #[test]
    fn lists_are_lifted_and_the_rest_stays() {
        let body = r#" {"a":{"v":[[9]]} ,"b":"\"v\":" , "v" : [ [ 1 , -2.5e-1,3E+2 ] ,[]] ,"c":1}"#;
        let (lists, rest) = lifted(body).unwrap();
        assert_eq!(lists, [vec![1.0, -0.25, 300.0], vec![]]);
        assert_eq!(rest, r#" {"a":{"v":[[9]]} ,"b":"\"v\":" , "v" : [] ,"c":1}"#);
        assert_eq!(lifted(r#"{"v":[]}"#), Some((Vec::new(), r#"{"v":[]}"#.to_owned())));
        let twice = lifted(r#"{"v":[[1]],"v":[[2]]}"#).unwrap();
        assert_eq!(twice, (vec![vec![1.0]], r#"{"v":[],"v":[[2]]}"#.to_owned()));
    }

    #[test]
    fn lists_take_no_more_room_than_they_need_and_too_many_are_left() {
        let long = vec!["1"; 5_000].join(",");
        let (lists, _) = lifted(&format!("{{\"v\":[[{long}],[],[1],[2]]}}")).unwrap();
        assert_eq!(lists.iter().map(Vec::len).collect::<Vec<_>>(), [5_000, 0, 1, 1]);
        assert_eq!(lists[1].capacity(), 0);
        assert!(lists[2].capacity() <= 8 && lists[3].capacity() <= 8);
        let many = |count: usize| lifted(&format!("{{\"v\":[{}]}}", vec!["[]"; count].join(",")));
        assert!(many(LISTS_MAX).is_some() && many(LISTS_MAX + 1).is_none());
    }

    #[test]
    fn what_is_not_lists_of_finite_numbers_stays_where_it_is() {
        for value in [
            "null",
            "1",
            "{}",
            "\"AACAPw==\"",
            "[1]",
            "[[1],null]",
            "[[null]]",
            "[[true]]",
            "[[\"1\"]]",
            "[[NaN]]",
            "[[inf]]",
            "[[-inf]]",
            "[[1e39]]",
            "[[1e400]]",
            "[[-1e400]]",
            "[[+1]]",
            "[[.5]]",
            "[[1.]]",
            "[[01]]",
            "[[-]]",
            "[[--1]]",
            "[[1e]]",
            "[[0x1]]",
            "[[1 2]]",
            "[[1,]]",
            "[[,1]]",
            "[[1]",
            "[[1],]",
            "[[[1]]]",
            "[[1_0]]",
            "[",
        ] {
            assert_eq!(lifted(&format!("{{\"v\":{value}}}")), None, "{value}");
        }
        for body in ["", "[]", "{", "{\"a\":1}", "{\"a\":[[1]]", "{\"\\u0076\":[[1]]}", "{1:2}"] {
            assert_eq!(lifted(body), None, "{body}");
        }
    }

    fn read(number: &str) -> Option<f32> {
        lifted(&format!("{{\"v\":[[{number}]]}}")).map(|(lists, _)| lists[0][0])
    }

    #[test]
    fn an_exponent_may_make_up_for_any_number_of_decimals() {
        for zeros in [9_999_usize, 10_000, 10_020, 30_000] {
            let one = format!("0.{}1e{}", "0".repeat(zeros), zeros + 1);
            assert_eq!(read(&one), Some(1.0), "{zeros}");
        }
    }

    #[test]
    fn numbers_are_rounded_as_the_standard_library_rounds_them() {
        for number in [
            "0",
            "-0",
            "0.0",
            "-0.0e9",
            "1e-45",
            "1.4e-45",
            "1e-50",
            "3.4028235e38",
            "340282356779733661637539395458142568447",
            "16777217",
            "16777219",
            "33554435",
            "0.10000000149011612",
            "1.00000005960464477539062",
            "1.000000059604644775390625",
            "1.17549435e-38",
            "1.1754942e-38",
            "9007199254740993",
            "18446744073709551616",
            "123456789012345678901234567890e-20",
            "0.00000000000000000000000000000000000001",
            "1e9999999999999999999999",
            "1e-99999999999999999999999",
        ] {
            let want: f32 = number.parse().unwrap();
            let found = read(number);
            if want.is_finite() && !number.contains("99999999999999999999") {
                assert_eq!(found.map(f32::to_bits), Some(want.to_bits()), "{number}");
            } else {
                assert_eq!(found, None, "{number}");
            }
        }
    }

    proptest! {
        #[test]
        fn every_float_comes_back(bits in any::<u32>(), wide in any::<bool>()) {
            let float = f32::from_bits(bits);
            prop_assume!(float.is_finite());
            let text = if wide { format!("{:?}", f64::from(float)) } else { format!("{float:?}") };
            prop_assert_eq!(read(&text).map(f32::to_bits), Some(float.to_bits()), "{}", text);
        }

        #[test]
        fn any_number_is_the_nearest_float(
            sign in "-?",
            whole in "(0|[1-9][0-9]{0,21})",
            part in "(\\.[0-9]{1,25})?",
            power in "([eE][+-]?[0-9]{1,2})?",
        ) {
            let text = format!("{sign}{whole}{part}{power}");
            let want: f32 = text.parse().unwrap();
            prop_assert_eq!(read(&text), Some(want).filter(|want| want.is_finite()), "{}", text);
        }

        #[test]
        fn halves_between_floats_are_told_apart(bits in 0x0080_0000_u32..0x7f00_0000, by in -1_i8..=1) {
            let (low, high) = (f32::from_bits(bits), f32::from_bits(bits + 1));
            let middle = f64::midpoint(low.into(), high.into());
            let text = format!("{:e}", f64::from_bits(middle.to_bits().wrapping_add_signed(by.into())));
            prop_assert_eq!(read(&text), Some(text.parse::<f32>().unwrap()), "{}", text);
        }

        #[test]
        fn no_bytes_make_it_panic(body in vec(any::<u8>(), 0..64), json in "[\\[\\]{},:\"v0-9eE.+ -]{0,48}") {
            let _ = lift(&body, "v");
            let _ = lift(json.as_bytes(), "v");
        }
    }
}
