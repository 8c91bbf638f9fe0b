//! Lists of numbers, lifted out of a JSON body before the rest is parsed: reading a vector number
//! by number through a general parser is most of the work of a small query.
//!
//! Only well-formed lists of lists of finite numbers are lifted. Anything else stays where it is,
//! so that the general parser says what is wrong and where.

use serde::de::IgnoredAny;
use serde_json::Deserializer;
use tenantry_engine::Limits;

/// Lists beyond this many are left to the general parser; no request may have as many.
const LISTS_MAX: usize = Limits::BATCH_RECORDS_MAX;

/// The lists in this member of an object, and the object with an empty list in their place.
pub(crate) fn lift(body: &[u8], member: &str) -> Option<(Vec<Vec<f32>>, Vec<u8>)> {
    let start = value_of(body, member)?;
    let mut text = Text { bytes: body, at: start };
    // Each list will be about as long as the one before; none is longer than its bytes allow.
    let mut room = 0;
    let lists = text.list(0, LISTS_MAX, |text| {
        let list = text.list(room, usize::MAX, Text::number)?;
        room = list.len();
        Some(list)
    })?;
    let mut rest = Vec::with_capacity(start + 2 + body.len() - text.at);
    rest.extend_from_slice(body.get(..start)?);
    rest.extend_from_slice(b"[]");
    rest.extend_from_slice(body.get(text.at..)?);
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

    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    fn blanks(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\n' | b'\t' | b'\r')) {
            self.at += 1;
        }
    }

    fn eat(&mut self, byte: u8) -> bool {
        let eaten = self.peek() == Some(byte);
        self.at += usize::from(eaten);
        eaten
    }

    /// A mark of JSON's, blanks before it passed over.
    fn expect(&mut self, mark: u8) -> Option<()> {
        self.blanks();
        self.eat(mark).then_some(())
    }

    /// `[item, item, …]`, at most `max` of them, with room made for `room`.
    fn list<T>(
        &mut self,
        room: usize,
        max: usize,
        mut item: impl FnMut(&mut Self) -> Option<T>,
    ) -> Option<Vec<T>> {
        self.expect(b'[')?;
        self.blanks();
        if self.eat(b']') {
            return Some(Vec::new());
        }
        let mut items = Vec::with_capacity(room.min(self.rest().len() / 2));
        loop {
            self.blanks();
            if items.len() == max {
                return None;
            }
            items.push(item(self)?);
            self.blanks();
            if !self.eat(b',') {
                return self.eat(b']').then_some(items);
            }
        }
    }

    /// A finite number by the grammar of RFC 8259 §6, rounded to the nearest float.
    fn number(&mut self) -> Option<f32> {
        let start = self.at;
        let negative = self.eat(b'-');
        let mut digits = Digits::default();
        let whole = self.digits(&mut digits)?;
        if whole > 1 && self.bytes.get(self.at - whole) == Some(&b'0') {
            return None;
        }
        let mut exponent = 0_i64;
        if self.eat(b'.') {
            exponent -= i64::try_from(self.digits(&mut digits)?).ok()?;
        }
        if self.eat(b'e') || self.eat(b'E') {
            let down = self.eat(b'-');
            let _ = !down && self.eat(b'+');
            let mut power = Digits::default();
            self.digits(&mut power)?;
            // No body has as many decimals as could make up for more.
            let power = power.exact().and_then(|power| i64::try_from(power).ok())?.min(1 << 40);
            exponent += if down { -power } else { power };
        }
        let size = digits.exact().and_then(|digits| nearest(digits, exponent));
        let value = match size {
            Some(size) => Some(if negative { -size } else { size }),
            // Too many digits, or too near to the middle between two floats for the short way.
            None => std::str::from_utf8(self.bytes.get(start..self.at)?).ok()?.parse().ok(),
        };
        value.filter(|value: &f32| value.is_finite())
    }

    /// At least one digit; how many.
    fn digits(&mut self, digits: &mut Digits) -> Option<usize> {
        let start = self.at;
        while let Some(eight) = self.rest().first_chunk().and_then(|text| eight_digits(*text)) {
            digits.push_eight(eight);
            self.at += 8;
        }
        while let Some(byte @ b'0'..=b'9') = self.peek() {
            digits.push(byte - b'0');
            self.at += 1;
        }
        (self.at > start).then(|| self.at - start)
    }
}

/// A number of up to 19 digits.
#[derive(Default)]
struct Digits {
    value: u64,
    significant: u32,
}

impl Digits {
    #[inline]
    fn push(&mut self, digit: u8) {
        self.significant += u32::from(self.significant > 0 || digit > 0);
        self.value = self.value.wrapping_mul(10).wrapping_add(digit.into());
    }

    #[inline]
    fn push_eight(&mut self, eight: u32) {
        self.significant += match self.significant {
            0 => eight.checked_ilog10().map_or(0, |power| power + 1),
            _ => 8,
        };
        self.value = self.value.wrapping_mul(100_000_000).wrapping_add(eight.into());
    }

    /// The number, unless digits were lost.
    fn exact(&self) -> Option<u64> {
        (self.significant <= 19).then_some(self.value)
    }
}

/// The number that eight digits make, all of them looked at in one register (after Lemire, "Number
/// parsing at a gigabyte per second", 2021).
#[inline]
fn eight_digits(text: [u8; 8]) -> Option<u32> {
    const EACH: u64 = 0x0101_0101_0101_0101;
    let text = u64::from_le_bytes(text);
    // A digit's high half is 3, and still is when 6 is added.
    let high = |value: u64| value & (0xf0 * EACH);
    if high(text) != 0x30 * EACH || high(text.wrapping_add(6 * EACH)) != 0x30 * EACH {
        return None;
    }
    // Neighbours are put together: to numbers of two digits, of four, of eight.
    let pairs = (text & (0x0f * EACH)).wrapping_mul((10 << 8) + 1) >> 8;
    let fours = (pairs & 0x00ff_00ff_00ff_00ff).wrapping_mul((100 << 16) + 1) >> 16;
    let eight = (fours & 0x0000_ffff_0000_ffff).wrapping_mul((10_000 << 32) + 1) >> 32;
    u32::try_from(eight).ok()
}

/// The float nearest to `digits` × 10^`exponent`, if 64-bit floats can tell: they err by less than
/// two units in their last place here (one rounding of the digits, one of the product, exact
/// powers), which matters only if that is where two 32-bit floats meet.
fn nearest(digits: u64, exponent: i64) -> Option<f32> {
    /// Bits of a 64-bit float's fraction that a 32-bit one lacks.
    const LOST: u64 = (1 << 29) - 1;
    const MIDDLE: u64 = 1 << 28;
    if digits == 0 {
        return Some(0.0);
    }
    let power = *POWERS.get(usize::try_from(exponent.unsigned_abs()).ok()?)?;
    let value = if exponent < 0 { digits as f64 / power } else { digits as f64 * power };
    let normal = (f64::from(f32::MIN_POSITIVE) * 2.0..f64::from(f32::MAX) / 2.0).contains(&value);
    if !normal || (value.to_bits() & LOST).abs_diff(MIDDLE) <= 4 {
        return None;
    }
    #[expect(clippy::cast_possible_truncation, reason = "rounding to the nearest is the purpose")]
    Some(value as f32)
}

/// The powers of ten that a 64-bit float holds exactly.
const POWERS: [f64; 23] = [
    1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16,
    1e17, 1e18, 1e19, 1e20, 1e21, 1e22,
];

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
