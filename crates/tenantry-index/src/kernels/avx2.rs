//! x86-64 with AVX2 and FMA.
#![expect(unsafe_code, reason = "vector instructions")]

use super::{AHEAD, Block, Kernels, padded, row};
use std::arch::x86_64::{
    __m256, __m256i, _MM_HINT_T0, _mm_add_epi32, _mm_add_ps, _mm_add_ss, _mm_cvtsi128_si32,
    _mm_cvtss_f32, _mm_movehl_ps, _mm_prefetch, _mm_shuffle_epi32, _mm_shuffle_ps, _mm256_abs_epi8,
    _mm256_add_epi32, _mm256_add_ps, _mm256_castps256_ps128, _mm256_castsi256_si128,
    _mm256_extractf128_ps, _mm256_extracti128_si256, _mm256_fmadd_ps, _mm256_loadu_ps,
    _mm256_loadu_si256, _mm256_madd_epi16, _mm256_maddubs_epi16, _mm256_set1_epi16,
    _mm256_setzero_ps, _mm256_setzero_si256, _mm256_sign_epi8, _mm256_sub_ps,
};

/// The kernels, if the processor has AVX2 and FMA.
pub(super) fn detect() -> Option<&'static Kernels> {
    // SAFETY of the calls: the table is private to this function and leaves it only after the
    // features were found.
    static KERNELS: Kernels = Kernels {
        name: "avx2",
        // SAFETY: see above.
        scan: |query, rows, out| unsafe { scan(query, rows, out) },
        // SAFETY: see above.
        gather: |query, rows, numbers, out| unsafe { gather(query, rows, numbers, out) },
        // SAFETY: see above.
        dot: |a, b| unsafe { dot(a, b) },
        // SAFETY: see above.
        squared_l2: |a, b| unsafe { squared_l2(a, b) },
    };
    let found = is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma");
    found.then_some(&KERNELS)
}

#[inline]
#[target_feature(enable = "avx2,fma")]
fn halves(Block(codes): &Block) -> [__m256i; 2] {
    let start: *const __m256i = codes.as_ptr().cast();
    // SAFETY: a block is 64 readable bytes, two registers; the loads need no alignment.
    unsafe { [_mm256_loadu_si256(start), _mm256_loadu_si256(start.add(1))] }
}

#[inline]
#[target_feature(enable = "avx2,fma")]
fn load(chunk: &[f32; 8]) -> __m256 {
    // SAFETY: the array is 32 readable bytes; the load needs no alignment.
    unsafe { _mm256_loadu_ps(chunk.as_ptr()) }
}

#[target_feature(enable = "avx2,fma")]
fn scan(query: &[Block], rows: &[Block], out: &mut [i32]) {
    for (row, out) in rows.chunks_exact(query.len()).zip(out) {
        *out = product(query, row);
    }
}

#[target_feature(enable = "avx2,fma")]
fn gather(query: &[Block], rows: &[Block], numbers: &[u32], out: &mut [i32]) {
    let width = query.len();
    for number in numbers.iter().take(AHEAD) {
        fetch(row(rows, width, *number));
    }
    for (i, (number, out)) in numbers.iter().zip(out).enumerate() {
        if let Some(later) = numbers.get(i + AHEAD) {
            fetch(row(rows, width, *later));
        }
        *out = product(query, row(rows, width, *number));
    }
}

#[inline]
#[target_feature(enable = "avx2,fma")]
fn fetch(row: &[Block]) {
    for block in row {
        _mm_prefetch::<_MM_HINT_T0>(block.0.as_ptr());
    }
}

/// `maddubs` wants one unsigned factor: |q| · (r with the sign of q). Codes are within ±127, so
/// a pair of products is at most 2 × 127 × 127 and does not saturate 16 bits.
#[inline]
#[target_feature(enable = "avx2,fma")]
fn product(query: &[Block], row: &[Block]) -> i32 {
    let ones = _mm256_set1_epi16(1);
    let mut sums = [_mm256_setzero_si256(); 2];
    for (q, r) in query.iter().zip(row) {
        for (sum, (q, r)) in sums.iter_mut().zip(halves(q).into_iter().zip(halves(r))) {
            let pairs = _mm256_maddubs_epi16(_mm256_abs_epi8(q), _mm256_sign_epi8(r, q));
            *sum = _mm256_add_epi32(*sum, _mm256_madd_epi16(pairs, ones));
        }
    }
    total_i32(_mm256_add_epi32(sums[0], sums[1]))
}

#[target_feature(enable = "avx2,fma")]
fn dot(a: &[f32], b: &[f32]) -> f32 {
    sum(a, b, |a, b, sum| _mm256_fmadd_ps(a, b, sum))
}

#[target_feature(enable = "avx2,fma")]
fn squared_l2(a: &[f32], b: &[f32]) -> f32 {
    sum(a, b, |a, b, sum| {
        let difference = _mm256_sub_ps(a, b);
        _mm256_fmadd_ps(difference, difference, sum)
    })
}

/// Four registers of running sums hide the latency of one addition.
#[inline]
#[target_feature(enable = "avx2,fma")]
fn sum(a: &[f32], b: &[f32], step: impl Fn(__m256, __m256, __m256) -> __m256) -> f32 {
    let mut sums = [_mm256_setzero_ps(); 4];
    let ((a, a_rest), (b, b_rest)) = (a.as_chunks::<32>(), b.as_chunks::<32>());
    for (a, b) in a.iter().zip(b) {
        let (a, b) = (a.as_chunks::<8>().0, b.as_chunks::<8>().0);
        for (sum, (a, b)) in sums.iter_mut().zip(a.iter().zip(b)) {
            *sum = step(load(a), load(b), *sum);
        }
    }
    for (sum, (a, b)) in sums.iter_mut().zip(a_rest.chunks(8).zip(b_rest.chunks(8))) {
        *sum = step(load(&padded(a)), load(&padded(b)), *sum);
    }
    let [s0, s1, s2, s3] = sums;
    total_f32(_mm256_add_ps(_mm256_add_ps(s0, s1), _mm256_add_ps(s2, s3)))
}

#[inline]
#[target_feature(enable = "avx2,fma")]
fn total_i32(lanes: __m256i) -> i32 {
    let four = _mm_add_epi32(_mm256_castsi256_si128(lanes), _mm256_extracti128_si256::<1>(lanes));
    let two = _mm_add_epi32(four, _mm_shuffle_epi32::<0b00_00_11_10>(four));
    _mm_cvtsi128_si32(_mm_add_epi32(two, _mm_shuffle_epi32::<0b00_00_00_01>(two)))
}

#[inline]
#[target_feature(enable = "avx2,fma")]
fn total_f32(lanes: __m256) -> f32 {
    let four = _mm_add_ps(_mm256_castps256_ps128(lanes), _mm256_extractf128_ps::<1>(lanes));
    let two = _mm_add_ps(four, _mm_movehl_ps(four, four));
    _mm_cvtss_f32(_mm_add_ss(two, _mm_shuffle_ps::<0b01>(two, two)))
}
