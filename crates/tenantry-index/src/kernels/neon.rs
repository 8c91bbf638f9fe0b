//! 64-bit ARM with NEON.
#![expect(unsafe_code, reason = "vector instructions")]

use super::{Block, Kernels, padded, row};
use std::arch::aarch64::{
    float32x4_t, int8x16_t, int32x4_t, vaddq_f32, vaddq_s32, vaddvq_f32, vaddvq_s32, vdupq_n_f32,
    vdupq_n_s32, vfmaq_f32, vget_low_s8, vld1q_f32, vld1q_s8, vmlal_high_s8, vmull_s8, vpadalq_s16,
    vsubq_f32,
};

/// The kernels, if the processor has NEON (it always has, in practice).
pub(super) fn detect() -> Option<&'static Kernels> {
    // SAFETY of the calls: the table is private to this function and leaves it only after the
    // feature was found.
    static KERNELS: Kernels = Kernels {
        name: "neon",
        // SAFETY: see above.
        scan: |query, rows, out| unsafe { scan(query, rows, out) },
        // SAFETY: see above.
        gather: |query, rows, numbers, out| unsafe { gather(query, rows, numbers, out) },
        // SAFETY: see above.
        dot: |a, b| unsafe { dot(a, b) },
        // SAFETY: see above.
        squared_l2: |a, b| unsafe { squared_l2(a, b) },
    };
    std::arch::is_aarch64_feature_detected!("neon").then_some(&KERNELS)
}

#[inline]
#[target_feature(enable = "neon")]
fn quarters(Block(codes): &Block) -> [int8x16_t; 4] {
    let start = codes.as_ptr();
    // SAFETY: a block is 64 readable bytes, four registers; the loads need no alignment.
    unsafe {
        [vld1q_s8(start), vld1q_s8(start.add(16)), vld1q_s8(start.add(32)), vld1q_s8(start.add(48))]
    }
}

#[inline]
#[target_feature(enable = "neon")]
fn load(chunk: &[f32; 4]) -> float32x4_t {
    // SAFETY: the array is 16 readable bytes; the load needs no alignment.
    unsafe { vld1q_f32(chunk.as_ptr()) }
}

#[target_feature(enable = "neon")]
fn scan(query: &[Block], rows: &[Block], out: &mut [i32]) {
    for (row, out) in rows.chunks_exact(query.len()).zip(out) {
        *out = product(query, row);
    }
}

#[target_feature(enable = "neon")]
fn gather(query: &[Block], rows: &[Block], numbers: &[u32], out: &mut [i32]) {
    for (number, out) in numbers.iter().zip(out) {
        *out = product(query, row(rows, query.len(), *number));
    }
}

/// Codes are within ±127, so the sum of two products is at most 2 × 127 × 127 and fits 16 bits.
#[inline]
#[target_feature(enable = "neon")]
fn product(query: &[Block], row: &[Block]) -> i32 {
    let mut sums = [vdupq_n_s32(0); 4];
    for (q, r) in query.iter().zip(row) {
        for (sum, (q, r)) in sums.iter_mut().zip(quarters(q).into_iter().zip(quarters(r))) {
            let pairs = vmlal_high_s8(vmull_s8(vget_low_s8(q), vget_low_s8(r)), q, r);
            *sum = vpadalq_s16(*sum, pairs);
        }
    }
    total_i32(sums)
}

#[inline]
#[target_feature(enable = "neon")]
fn total_i32([s0, s1, s2, s3]: [int32x4_t; 4]) -> i32 {
    vaddvq_s32(vaddq_s32(vaddq_s32(s0, s1), vaddq_s32(s2, s3)))
}

#[target_feature(enable = "neon")]
fn dot(a: &[f32], b: &[f32]) -> f32 {
    sum(a, b, |a, b, sum| vfmaq_f32(sum, a, b))
}

#[target_feature(enable = "neon")]
fn squared_l2(a: &[f32], b: &[f32]) -> f32 {
    sum(a, b, |a, b, sum| {
        let difference = vsubq_f32(a, b);
        vfmaq_f32(sum, difference, difference)
    })
}

/// Four registers of running sums hide the latency of one addition.
#[inline]
#[target_feature(enable = "neon")]
fn sum(
    a: &[f32],
    b: &[f32],
    step: impl Fn(float32x4_t, float32x4_t, float32x4_t) -> float32x4_t,
) -> f32 {
    let mut sums = [vdupq_n_f32(0.0); 4];
    let ((a, a_rest), (b, b_rest)) = (a.as_chunks::<16>(), b.as_chunks::<16>());
    for (a, b) in a.iter().zip(b) {
        let (a, b) = (a.as_chunks::<4>().0, b.as_chunks::<4>().0);
        for (sum, (a, b)) in sums.iter_mut().zip(a.iter().zip(b)) {
            *sum = step(load(a), load(b), *sum);
        }
    }
    for (sum, (a, b)) in sums.iter_mut().zip(a_rest.chunks(4).zip(b_rest.chunks(4))) {
        *sum = step(load(&padded(a)), load(&padded(b)), *sum);
    }
    let [s0, s1, s2, s3] = sums;
    vaddvq_f32(vaddq_f32(vaddq_f32(s0, s1), vaddq_f32(s2, s3)))
}
