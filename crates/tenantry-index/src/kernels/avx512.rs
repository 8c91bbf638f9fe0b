//! x86-64 with AVX-512 and VNNI.
#![expect(unsafe_code, reason = "vector instructions")]

use super::{AHEAD, BLOCK, Block, Kernels, padded, row};
use std::arch::x86_64::{
    __m512, __m512i, _MM_HINT_T0, _mm_add_epi32, _mm_prefetch, _mm_set1_epi32, _mm_storeu_si128,
    _mm_sub_epi32, _mm512_add_epi32, _mm512_add_ps, _mm512_dpbusd_epi32, _mm512_extracti32x4_epi32,
    _mm512_fmadd_ps, _mm512_loadu_ps, _mm512_loadu_si512, _mm512_reduce_add_epi32,
    _mm512_reduce_add_ps, _mm512_set1_epi8, _mm512_setzero_ps, _mm512_setzero_si512, _mm512_sub_ps,
    _mm512_unpackhi_epi32, _mm512_unpackhi_epi64, _mm512_unpacklo_epi32, _mm512_unpacklo_epi64,
    _mm512_xor_si512,
};

/// The kernels, if the processor has AVX-512 with VNNI.
pub(super) fn detect() -> Option<&'static Kernels> {
    // SAFETY of the calls: the table is private to this function and leaves it only after the
    // features were found.
    static KERNELS: Kernels = Kernels {
        name: "avx512-vnni",
        // SAFETY: see above.
        scan: |query, rows, out| unsafe { scan(query, rows, out) },
        // SAFETY: see above.
        gather: |query, rows, numbers, out| unsafe { gather(query, rows, numbers, out) },
        // SAFETY: see above.
        dot: |a, b| unsafe { dot(a, b) },
        // SAFETY: see above.
        squared_l2: |a, b| unsafe { squared_l2(a, b) },
    };
    let found = is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512vnni");
    found.then_some(&KERNELS)
}

#[inline]
#[target_feature(enable = "avx512f,avx512vnni")]
fn codes(block: &Block) -> __m512i {
    // SAFETY: a block is 64 readable bytes; the load needs no alignment.
    unsafe { _mm512_loadu_si512(std::ptr::from_ref(block).cast()) }
}

#[inline]
#[target_feature(enable = "avx512f,avx512vnni")]
fn load(chunk: &[f32; 16]) -> __m512 {
    // SAFETY: the array is 64 readable bytes; the load needs no alignment.
    unsafe { _mm512_loadu_ps(chunk.as_ptr()) }
}

#[target_feature(enable = "avx512f,avx512vnni")]
fn scan(query: &[Block], rows: &[Block], out: &mut [i32]) {
    let (width, excess) = (query.len(), excess(query));
    let ((out, out_rest), mut rows) = (out.as_chunks_mut::<4>(), rows);
    for out in out {
        let Some((four, rest)) = rows.split_at_checked(4 * width) else { return };
        *out = products(query, [0, 1, 2, 3].map(|i| row(four, width, i)), excess);
        rows = rest;
    }
    for (row, out) in rows.chunks_exact(width).zip(out_rest) {
        *out = product(query, row) - excess;
    }
}

#[target_feature(enable = "avx512f,avx512vnni")]
fn gather(query: &[Block], rows: &[Block], numbers: &[u32], out: &mut [i32]) {
    let (width, excess) = (query.len(), excess(query));
    let rows_at = |number| row(rows, width, number);
    for number in numbers.iter().take(AHEAD) {
        fetch(rows_at(*number));
    }
    let ((four, rest), (out, out_rest)) = (numbers.as_chunks::<4>(), out.as_chunks_mut::<4>());
    let mut later = numbers.get(AHEAD..).unwrap_or_default().iter();
    for (numbers, out) in four.iter().zip(out) {
        for number in later.by_ref().take(4) {
            fetch(rows_at(*number));
        }
        *out = products(query, numbers.map(rows_at), excess);
    }
    for (number, out) in rest.iter().zip(out_rest) {
        *out = product(query, rows_at(*number)) - excess;
    }
}

/// Four products at once: the query is loaded once for all of them, their sums do not wait for
/// each other, and adding up the lanes of four registers takes little more than of one.
#[inline]
#[target_feature(enable = "avx512f,avx512vnni")]
fn products(query: &[Block], rows: [&[Block]; 4], excess: i32) -> [i32; 4] {
    let flip = _mm512_set1_epi8(i8::MIN);
    let mut sums = [_mm512_setzero_si512(); 4];
    let [a, b, c, d] = rows;
    for ((((q, a), b), c), d) in query.iter().zip(a).zip(b).zip(c).zip(d) {
        let q = codes(q);
        for (sum, row) in sums.iter_mut().zip([a, b, c, d]) {
            *sum = _mm512_dpbusd_epi32(*sum, _mm512_xor_si512(codes(row), flip), q);
        }
    }
    let [a, b, c, d] = sums;
    // Each 128 bits hold a lane of all four sums afterwards.
    let ab = _mm512_add_epi32(_mm512_unpacklo_epi32(a, b), _mm512_unpackhi_epi32(a, b));
    let cd = _mm512_add_epi32(_mm512_unpacklo_epi32(c, d), _mm512_unpackhi_epi32(c, d));
    let all = _mm512_add_epi32(_mm512_unpacklo_epi64(ab, cd), _mm512_unpackhi_epi64(ab, cd));
    let low =
        _mm_add_epi32(_mm512_extracti32x4_epi32::<0>(all), _mm512_extracti32x4_epi32::<1>(all));
    let high =
        _mm_add_epi32(_mm512_extracti32x4_epi32::<2>(all), _mm512_extracti32x4_epi32::<3>(all));
    let products = _mm_sub_epi32(_mm_add_epi32(low, high), _mm_set1_epi32(excess));
    let mut out = [0; 4];
    // SAFETY: the array is 16 writable bytes; the store needs no alignment.
    unsafe { _mm_storeu_si128(out.as_mut_ptr().cast(), products) };
    out
}

#[inline]
#[target_feature(enable = "avx512f,avx512vnni")]
fn fetch(row: &[Block]) {
    for block in row {
        _mm_prefetch::<_MM_HINT_T0>(block.0.as_ptr());
    }
}

/// By how much every [`product`] with this query is too large.
#[inline]
#[target_feature(enable = "avx512f,avx512vnni")]
fn excess(query: &[Block]) -> i32 {
    let sums = query.iter().fold(_mm512_setzero_si512(), |sum, q| {
        _mm512_dpbusd_epi32(sum, _mm512_set1_epi8(1), codes(q))
    });
    128 * _mm512_reduce_add_epi32(sums)
}

/// `dpbusd` multiplies unsigned by signed bytes. Flipping a code's top bit adds 128 to it, so
/// each sum comes out too large by 128 · Σq, which is the same for every row.
#[inline]
#[target_feature(enable = "avx512f,avx512vnni")]
fn product(query: &[Block], row: &[Block]) -> i32 {
    let flip = _mm512_set1_epi8(i8::MIN);
    let mut sums = [_mm512_setzero_si512(); 2];
    for (q, r) in query.chunks(2).zip(row.chunks(2)) {
        for (sum, (q, r)) in sums.iter_mut().zip(q.iter().zip(r)) {
            *sum = _mm512_dpbusd_epi32(*sum, _mm512_xor_si512(codes(r), flip), codes(q));
        }
    }
    _mm512_reduce_add_epi32(_mm512_add_epi32(sums[0], sums[1]))
}

#[target_feature(enable = "avx512f,avx512vnni")]
fn dot(a: &[f32], b: &[f32]) -> f32 {
    sum(a, b, |a, b, sum| _mm512_fmadd_ps(a, b, sum))
}

#[target_feature(enable = "avx512f,avx512vnni")]
fn squared_l2(a: &[f32], b: &[f32]) -> f32 {
    sum(a, b, |a, b, sum| {
        let difference = _mm512_sub_ps(a, b);
        _mm512_fmadd_ps(difference, difference, sum)
    })
}

/// Four registers of running sums hide the latency of one addition.
#[inline]
#[target_feature(enable = "avx512f,avx512vnni")]
fn sum(a: &[f32], b: &[f32], step: impl Fn(__m512, __m512, __m512) -> __m512) -> f32 {
    let mut sums = [_mm512_setzero_ps(); 4];
    let ((a, a_rest), (b, b_rest)) = (a.as_chunks::<BLOCK>(), b.as_chunks::<BLOCK>());
    for (a, b) in a.iter().zip(b) {
        let (a, b) = (a.as_chunks::<16>().0, b.as_chunks::<16>().0);
        for (sum, (a, b)) in sums.iter_mut().zip(a.iter().zip(b)) {
            *sum = step(load(a), load(b), *sum);
        }
    }
    for (sum, (a, b)) in sums.iter_mut().zip(a_rest.chunks(16).zip(b_rest.chunks(16))) {
        *sum = step(load(&padded(a)), load(&padded(b)), *sum);
    }
    let [s0, s1, s2, s3] = sums;
    _mm512_reduce_add_ps(_mm512_add_ps(_mm512_add_ps(s0, s1), _mm512_add_ps(s2, s3)))
}
