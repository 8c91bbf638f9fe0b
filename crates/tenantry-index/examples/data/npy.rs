//! Vectors from a file in NumPy's format.

use std::error::Error;

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
