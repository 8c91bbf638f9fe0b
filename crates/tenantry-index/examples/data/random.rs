//! Random numbers by a seed.

/// The sum of twelve uniform numbers less six.
pub(crate) fn gaussian(state: &mut u64) -> f32 {
    (0..12).map(|_| uniform(state)).sum::<f32>() - 6.0
}

/// SplitMix64.
pub(crate) fn uniform(state: &mut u64) -> f32 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    ((z ^ (z >> 31)) >> 40) as f32 / (1_u32 << 24) as f32
}
