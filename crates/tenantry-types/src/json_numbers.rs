//! Lists of numbers in JSON. Most of a body with vectors is numbers, and reading each through a
//! general parser, which rounds to 64 bits first, takes several times as long.
//!
//! Only what is well-formed and finite is read; whoever gets nothing asks a general parser what is
//! wrong.

/// JSON, and how far it was read.
#[derive(Debug)]
pub struct JsonNumbers<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> JsonNumbers<'a> {
    /// Of this text, from this byte on.
    pub fn new(bytes: &'a [u8], at: usize) -> Self {
        Self { bytes, at }
    }

    /// The byte that is next.
    pub fn at(&self) -> usize {
        self.at
    }

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

    /// `[item, item, …]`, at most `max` of them, with room made for `room`; none if that is not
    /// what is next.
    pub fn list<T>(
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

    /// One list of numbers, with room made for `room`.
    pub fn numbers(&mut self, room: usize) -> Option<Vec<f32>> {
        self.list(room, usize::MAX, Self::number)
    }

    /// A finite number by the grammar of RFC 8259 §6, rounded to the nearest float.
    pub fn number(&mut self) -> Option<f32> {
        let start = self.at;
        let negative = self.eat(b'-');
        let mut digits = Digits::default();
        let whole = self.few_digits(&mut digits)?;
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
    #[inline]
    fn digits(&mut self, digits: &mut Digits) -> Option<usize> {
        let start = self.at;
        while let Some(eight) = self.rest().first_chunk().and_then(|text| eight_digits(*text)) {
            digits.push_eight(eight);
            self.at += 8;
        }
        let _ = self.few_digits(digits);
        (self.at > start).then(|| self.at - start)
    }

    /// The same where they are hardly ever eight.
    #[inline]
    fn few_digits(&mut self, digits: &mut Digits) -> Option<usize> {
        let start = self.at;
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
