//! The shipped sample: package descriptions of two Debian teams, with their embeddings.
//! `sample/README.md` says where it comes from.

use anyhow::{Context, Result, ensure};
use serde::Deserialize;
use serde_json::Value;

const TEXTS: &str = include_str!("../sample/texts.jsonl");
const VECTORS: &[u8] = include_bytes!("../sample/vectors.f16.npy");
/// Components of each embedding.
pub(crate) const DIMENSION: usize = 384;

/// One text with its embedding.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Text {
    /// The tenant that owns it; `None` for a text that serves as a question.
    pub(crate) tenant: Option<String>,
    /// The package's name.
    pub(crate) id: String,
    /// The description; its first line is the summary.
    pub(crate) document: String,
    pub(crate) metadata: Value,
    pub(crate) uri: Option<String>,
    #[serde(skip)]
    pub(crate) vector: Vec<f32>,
}

impl Text {
    /// The first line of the description.
    pub(crate) fn summary(&self) -> &str {
        self.document.lines().next().unwrap_or_default()
    }
}

/// Decodes the sample.
pub(crate) fn texts() -> Result<Vec<Text>> {
    let rows = rows(VECTORS)?;
    let texts = TEXTS.lines().zip(rows.chunks_exact(2 * DIMENSION)).map(|(line, row)| {
        let mut text: Text = serde_json::from_str(line).context("read the sample")?;
        text.vector =
            row.chunks_exact(2).map(|b| widen(u16::from_le_bytes([b[0], b[1]]))).collect();
        Ok(text)
    });
    let texts = texts.collect::<Result<Vec<_>>>()?;
    ensure!(
        texts.len() == TEXTS.lines().count() && rows.len() == 2 * DIMENSION * texts.len(),
        "the sample's texts and vectors differ in number"
    );
    Ok(texts)
}

/// The tenants of the sample, in the order in which they first occur.
pub(crate) fn tenants(texts: &[Text]) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    for name in texts.iter().filter_map(|text| text.tenant.as_ref()) {
        if !names.contains(name) {
            names.push(name.clone());
        }
    }
    names
}

/// The rows of a NumPy file, version 1.
fn rows(npy: &[u8]) -> Result<&[u8]> {
    let length = npy.get(8..10).context("the sample's vectors are cut short")?;
    let start = 10 + usize::from(u16::from_le_bytes([length[0], length[1]]));
    ensure!(npy.starts_with(b"\x93NUMPY\x01"), "the sample's vectors are no NumPy file");
    npy.get(start..).context("the sample's vectors are cut short")
}

/// An IEEE 754 half-precision number as a single-precision one; exact.
fn widen(half: u16) -> f32 {
    let sign = u32::from(half >> 15) << 31;
    let exponent = u32::from(half >> 10) & 0x1F;
    let fraction = u32::from(half) & 0x3FF;
    let magnitude = match exponent {
        // Subnormal: the fraction counts units of 2^-24.
        0 => fraction as f32 / 16_777_216.0,
        31 => f32::from_bits(0x7F80_0000 | (fraction << 13)),
        _ => f32::from_bits(((exponent + 112) << 23) | (fraction << 13)),
    };
    f32::from_bits(magnitude.to_bits() | sign)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashMap;

    #[test]
    fn half_precision_widens_exactly() {
        for (half, single) in [
            (0x0000, 0.0),
            (0x3C00, 1.0),
            (0xC000, -2.0),
            (0x7BFF, 65_504.0),
            (0x0001, 5.960_464_5e-8),
            (0x03FF, 6.097_555e-5),
            (0x0400, 6.103_515_6e-5),
            (0x3555, 0.333_251_95),
            (0xFC00, f32::NEG_INFINITY),
        ] {
            assert_eq!(widen(half).to_bits(), f32::to_bits(single), "{half:#06x}");
        }
    }

    #[test]
    fn the_sample_is_two_tenants_and_some_questions() {
        let texts = texts().unwrap();
        let mut counts: HashMap<Option<&str>, usize> = HashMap::new();
        for text in &texts {
            *counts.entry(text.tenant.as_deref()).or_default() += 1;
            let length: f32 = text.vector.iter().map(|x| x * x).sum::<f32>().sqrt();
            assert!((length - 1.0).abs() < 0.01, "{}: {length}", text.id);
            assert!(!text.summary().is_empty() && text.metadata.is_object(), "{}", text.id);
        }
        let expected =
            [(Some("perl-group"), 250), (Some("python-team"), 250), (None, 5)].into_iter();
        assert_eq!(counts, expected.collect());
    }
}
