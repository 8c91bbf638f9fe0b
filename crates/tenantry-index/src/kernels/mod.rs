//! The inner loops, chosen once for the processor at hand.
//!
//! The variants for one architecture live in a file each; they are the only code of the workspace
//! that may be `unsafe`, and each is tested against [`scalar`]. All variants agree exactly on
//! integers; on floats they may differ in the last bits, so distances are reproducible on one
//! machine but not always across processors.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
#[cfg(target_arch = "aarch64")]
mod neon;
mod scalar;
#[cfg(test)]
mod tests;

use std::sync::LazyLock;

/// Codes in one [`Block`].
pub(crate) const BLOCK: usize = 64;

/// Most components whose integer dot product cannot overflow in any variant: the largest
/// intermediate product is 255 × 128.
pub(crate) const COMPONENTS_MAX: usize = 65_536;
const _: () = assert!(COMPONENTS_MAX * 255 * 128 <= i32::MAX as usize);
const _: () = assert!(COMPONENTS_MAX.is_multiple_of(BLOCK));

/// One cache line of int8 codes, each within ±127; a row of codes is a whole number of blocks,
/// padded with zeros, so that no kernel has a tail.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(C, align(64))]
pub(crate) struct Block(pub(crate) [i8; BLOCK]);

impl Block {
    /// Padding.
    pub(crate) const ZERO: Self = Self([0; BLOCK]);
}

type Gather = fn(query: &[Block], rows: &[Block], numbers: &[u32], out: &mut [i32]);

/// The kernels of one instruction set.
#[derive(Debug)]
pub(crate) struct Kernels {
    /// The name, for diagnostics.
    pub(crate) name: &'static str,
    /// The dot product of `query` with each of `out.len()` consecutive rows, into `out`.
    scan: fn(query: &[Block], rows: &[Block], out: &mut [i32]),
    /// The dot product of `query` with the rows of these numbers, into `out`.
    gather: Gather,
    /// Σ aᵢbᵢ
    dot: fn(&[f32], &[f32]) -> f32,
    /// Σ (aᵢ−bᵢ)²
    squared_l2: fn(&[f32], &[f32]) -> f32,
}

impl Kernels {
    /// The fastest variant that this processor can run.
    pub(crate) fn best() -> &'static Self {
        static BEST: LazyLock<&'static Kernels> = LazyLock::new(|| {
            let mut available = Kernels::available();
            available.next().unwrap_or(&scalar::KERNELS)
        });
        *BEST
    }

    /// Every variant that this processor can run, the fastest first; the last is the scalar one.
    pub(crate) fn available() -> impl Iterator<Item = &'static Self> {
        #[cfg(target_arch = "x86_64")]
        let native = [avx512::detect(), avx2::detect()];
        #[cfg(target_arch = "aarch64")]
        let native = [neon::detect()];
        #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
        let native: [Option<&'static Self>; 0] = [];
        native.into_iter().flatten().chain([&scalar::KERNELS])
    }

    /// The dot product of `query` with each of `out.len()` consecutive rows, into `out`.
    #[inline]
    pub(crate) fn scan(&self, query: &[Block], rows: &[Block], out: &mut [i32]) {
        assert_eq!(rows.len(), query.len() * out.len(), "rows are as long as the query");
        assert!(!query.is_empty() && query.len() <= COMPONENTS_MAX / BLOCK);
        (self.scan)(query, rows, out);
    }

    /// The dot product of `query` with the rows of these numbers, into `out`. For rows far apart:
    /// where the processor can be asked to, it fetches some rows ahead.
    #[inline]
    pub(crate) fn gather(&self, query: &[Block], rows: &[Block], numbers: &[u32], out: &mut [i32]) {
        assert_eq!(numbers.len(), out.len());
        assert!(!query.is_empty() && query.len() <= COMPONENTS_MAX / BLOCK);
        (self.gather)(query, rows, numbers, out);
    }

    /// Σ aᵢbᵢ
    #[inline]
    pub(crate) fn dot(&self, a: &[f32], b: &[f32]) -> f32 {
        assert_eq!(a.len(), b.len());
        (self.dot)(a, b)
    }

    /// Σ (aᵢ−bᵢ)²
    #[inline]
    pub(crate) fn squared_l2(&self, a: &[f32], b: &[f32]) -> f32 {
        assert_eq!(a.len(), b.len());
        (self.squared_l2)(a, b)
    }
}

/// How many rows ahead of its work a gathering kernel fetches.
#[cfg(target_arch = "x86_64")]
const AHEAD: usize = 3;

/// The row of a number.
#[inline]
fn row(rows: &[Block], width: usize, number: u32) -> &[Block] {
    &rows[number as usize * width..][..width]
}

/// The last, incomplete chunk of a vector, padded with zeros, which add nothing to either sum.
#[inline]
fn padded<const N: usize>(rest: &[f32]) -> [f32; N] {
    let mut chunk = [0.0; N];
    chunk[..rest.len()].copy_from_slice(rest);
    chunk
}
