//! The tar in an archive: regular files with headers in which nothing is free but name and size
//! (POSIX.1-1988 `ustar`). They are compared with what they must be, so nothing else of tar can be
//! meant by one.

/// Bytes of a header, and what all entries are padded to.
pub(super) const BLOCK: usize = 512;
/// The end of a tar: two blocks of zeros.
pub(super) const END: usize = 2 * BLOCK;
/// Bytes of the longest name, and of the largest entry that eleven octal digits can say.
const NAME_BYTES_MAX: usize = 100;
const SIZE_MAX: u64 = 0o777_7777_7777;

/// Where the size is.
const SIZE: std::ops::Range<usize> = 124..135;

/// A header.
pub(super) type Header = [u8; BLOCK];

/// The header of an entry; none if there cannot be one.
pub(super) fn header(name: &str, size: u64) -> Option<Header> {
    if name.len() > NAME_BYTES_MAX || size > SIZE_MAX {
        return None;
    }
    let mut header = [0; BLOCK];
    let mut put = |at: usize, field: &[u8]| header[at..at + field.len()].copy_from_slice(field);
    put(0, name.as_bytes());
    put(100, b"0000644\0");
    put(108, b"0000000\0");
    put(116, b"0000000\0");
    put(SIZE.start, format!("{size:011o}\0").as_bytes());
    put(136, b"00000000000\0");
    // The sum is made with blanks in its own place.
    put(148, b"        ");
    put(156, b"0");
    put(257, b"ustar\x0000");
    put(329, b"0000000\0");
    put(337, b"0000000\0");
    let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
    header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    Some(header)
}

/// The size that a header says, if it says one.
pub(super) fn size(header: &Header) -> Option<u64> {
    let digits = header.get(SIZE)?;
    if !digits.iter().all(|digit| (b'0'..=b'7').contains(digit)) {
        return None;
    }
    u64::from_str_radix(str::from_utf8(digits).ok()?, 8).ok()
}

/// How many zeros follow so many bytes.
pub(super) fn padding(size: u64) -> usize {
    let over = usize::try_from(size % BLOCK as u64).unwrap_or(0);
    if over == 0 { 0 } else { BLOCK - over }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_says_its_size_and_others_differ() {
        let one = header("collections/000001/collection.json", 1_234).unwrap();
        assert_eq!(size(&one), Some(1_234));
        assert_eq!(&one[257..265], b"ustar\x0000");
        assert_ne!(header("collections/000002/collection.json", 1_234).unwrap(), one);
        assert_eq!(header(&"n".repeat(101), 1), None);
        assert_eq!(header("n", SIZE_MAX + 1), None);
        assert_eq!([0, 1, 511, 512, 513].map(padding), [0, 511, 1, 0, 511]);
        let mut odd = one;
        odd[SIZE.start] = b'8';
        assert_eq!(size(&odd), None);
    }
}
