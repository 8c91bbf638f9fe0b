//! Vectors to measure with: synthetic by a seed, or from a file.

use std::error::Error;

/// One cluster per hundred vectors, within which cosines are about one half.
pub(crate) fn clusters(n: usize, dimension: usize) -> Vec<Vec<f32>> {
    let mut state = 7;
    let mut gaussians = |count| -> Vec<f32> { (0..count).map(|_| gaussian(&mut state)).collect() };
    let centres: Vec<_> = (0..n.div_ceil(100)).map(|_| gaussians(dimension)).collect();
    let around = |i: usize| {
        // Scattered, so that rows taken at even steps are not whole clusters.
        let centre = &centres[i.wrapping_mul(0x9e37_79b9) / 65_536 % centres.len()];
        let vector: Vec<f32> =
            gaussians(dimension).iter().zip(centre).map(|(x, centre)| x + centre).collect();
        let norm = vector.iter().map(|x| x * x).sum::<f32>().sqrt();
        vector.iter().map(|x| x / norm).collect()
    };
    (0..n).map(around).collect()
}

/// The sum of twelve uniform numbers less six.
fn gaussian(state: &mut u64) -> f32 {
    (0..12).map(|_| uniform(state)).sum::<f32>() - 6.0
}

/// SplitMix64.
fn uniform(state: &mut u64) -> f32 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    ((z ^ (z >> 31)) >> 40) as f32 / (1_u32 << 24) as f32
}

/// The rows of a file in NumPy's format, as little-endian float16.
pub(crate) fn read_npy(bytes: &[u8], dimension: usize) -> Result<Vec<Vec<f32>>, Box<dyn Error>> {
    let header = bytes.get(8..10).ok_or("no NumPy header")?;
    let data = 10 + usize::from(u16::from_le_bytes([header[0], header[1]]));
    let description = String::from_utf8_lossy(bytes.get(10..data).ok_or("no NumPy header")?);
    if !bytes.starts_with(b"\x93NUMPY\x01") || !description.contains("'<f2'") {
        return Err("not version 1 of NumPy's format with little-endian float16".into());
    }
    if !description.contains(&format!(", {dimension})")) {
        return Err(format!("the rows have another dimension: {description}").into());
    }
    let half = |two: &[u8; 2]| from_half(u16::from_le_bytes(*two));
    let values: Vec<f32> = bytes[data..].as_chunks::<2>().0.iter().map(half).collect();
    Ok(values.chunks_exact(dimension).map(<[f32]>::to_vec).collect())
}

/// IEEE binary16; infinities and NaN do not occur in embeddings.
fn from_half(bits: u16) -> f32 {
    let sign = if bits >> 15 == 1 { -1.0 } else { 1.0 };
    let (exponent, fraction) = (i32::from(bits >> 10 & 31), f32::from(bits & 1023));
    let magnitude = if exponent == 0 {
        fraction * 2.0_f32.powi(-24)
    } else {
        (1024.0 + fraction) * 2.0_f32.powi(exponent - 25)
    };
    sign * magnitude
}
