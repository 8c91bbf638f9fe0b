//! Matrices of half- or single-precision numbers in NumPy's file format, version 1.0.

use anyhow::{Context, Result, bail, ensure};
use half::f16;

/// Rows of equal length.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Matrix {
    pub(crate) dimension: usize,
    pub(crate) values: Vec<f32>,
}

impl Matrix {
    pub(crate) fn new(dimension: usize) -> Self {
        Self { dimension, values: Vec::new() }
    }

    /// How many rows there are.
    pub(crate) fn len(&self) -> usize {
        self.values.len() / self.dimension.max(1)
    }

    /// A row; empty if there is none.
    pub(crate) fn row(&self, index: usize) -> &[f32] {
        let from = index * self.dimension;
        self.values.get(from..from + self.dimension).unwrap_or_default()
    }

    pub(crate) fn rows(&self) -> impl Iterator<Item = &[f32]> {
        self.values.chunks_exact(self.dimension.max(1))
    }

    pub(crate) fn push(&mut self, row: &[f32]) {
        self.values.extend_from_slice(row);
    }

    /// The bytes of all rows, little-endian, as NumPy's `fromfile` reads them.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        self.values.iter().flat_map(|x| x.to_le_bytes()).collect()
    }
}

/// Reads a file's bytes.
pub(crate) fn parse(file: &[u8]) -> Result<Matrix> {
    ensure!(file.starts_with(b"\x93NUMPY\x01\x00"), "not a NumPy file of version 1.0");
    let length = file.get(8..10).context("no header length")?;
    let length = usize::from(u16::from_le_bytes(length.try_into()?));
    let header = std::str::from_utf8(file.get(10..10 + length).context("no header")?)?;
    ensure!(header.contains("'fortran_order': False"), "expected rows, found {header}");
    let shape = header.split_once("'shape': (").context("no shape")?.1;
    let mut sides = shape.split([',', ')']).map(|side| side.trim().parse::<usize>());
    let (Some(Ok(rows)), Some(Ok(dimension))) = (sides.next(), sides.next()) else {
        bail!("expected two dimensions, found {header}");
    };
    let bytes = file.get(10 + length..).unwrap_or_default();
    let values: Vec<f32> = if header.contains("'<f2'") {
        bytes.as_chunks().0.iter().map(|two| f16::from_le_bytes(*two).to_f32()).collect()
    } else if header.contains("'<f4'") {
        bytes.as_chunks().0.iter().map(|four| f32::from_le_bytes(*four)).collect()
    } else {
        bail!("expected '<f2' or '<f4', found {header}")
    };
    ensure!(
        Some(values.len()) == rows.checked_mul(dimension) && dimension > 0,
        "{} numbers are not {rows} rows of {dimension}",
        values.len()
    );
    Ok(Matrix { dimension, values })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(kind: &str, shape: &str, data: &[u8]) -> Vec<u8> {
        let header = format!("{{'descr': '{kind}', 'fortran_order': False, 'shape': {shape}, }}\n");
        let mut file = b"\x93NUMPY\x01\x00".to_vec();
        file.extend(u16::try_from(header.len()).unwrap().to_le_bytes());
        file.extend(header.as_bytes());
        file.extend(data);
        file
    }

    #[test]
    fn rows_of_half_precision_are_read() {
        let data = [0x00, 0x3c, 0x00, 0x40, 0x00, 0xbc, 0x55, 0x35];
        let found = parse(&file("<f2", "(2, 2)", &data)).unwrap();
        assert_eq!((found.len(), found.dimension), (2, 2));
        assert_eq!((found.row(0), found.row(1)), (&[1.0, 2.0][..], &[-1.0, 0.333_251_95][..]));
        assert_eq!(found.row(2), &[] as &[f32]);
    }

    #[test]
    fn rows_of_single_precision_are_read_back_as_written() {
        let matrix = Matrix { dimension: 3, values: vec![1.0, -2.5, 3.0] };
        assert_eq!(parse(&file("<f4", "(1, 3)", &matrix.bytes())).unwrap(), matrix);
    }

    #[test]
    fn anything_else_is_refused() {
        let good = file("<f4", "(1, 1)", &[0; 4]);
        assert!(parse(&good).is_ok());
        for bad in [
            b"PK".to_vec(),
            good[..9].to_vec(),
            good[..20].to_vec(),
            good[..good.len() - 1].to_vec(),
            file("<f8", "(1, 1)", &[0; 8]),
            file("<f4", "(1,)", &[0; 4]),
            file("<f4", "(2, 0)", &[]),
            file("<f4", "(9223372036854775807, 9223372036854775807)", &[0; 4]),
        ] {
            assert!(parse(&bad).is_err(), "{bad:?}");
        }
    }
}
