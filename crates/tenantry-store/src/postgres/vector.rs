//! Vectors on the wire, as pgvector sends and receives them: the number of components (16 bits),
//! 16 bits of nothing, and the components, all big-endian.

use std::{error::Error as StdError, ops::RangeInclusive};
use tenantry_types::{Error, Result};
use tokio_postgres::types::{IsNull, ToSql, Type, private::BytesMut, to_sql_checked};

/// Components that pgvector stores at most.
pub(super) const DIMENSION_MAX: usize = 16_000;

/// A vector, ready to be sent.
#[derive(Debug, Clone)]
pub(super) struct Wire(Vec<u8>);

impl Wire {
    /// [`ErrorKind::Invalid`](tenantry_types::ErrorKind::Invalid) if it has more components than
    /// can be stored.
    pub(super) fn of(vector: &[f32]) -> Result<Self> {
        let count = u16::try_from(vector.len()).ok().filter(|n| usize::from(*n) <= DIMENSION_MAX);
        let count = count.ok_or_else(|| {
            Error::invalid(format!(
                "a vector has {} components, at most {DIMENSION_MAX} can be stored in PostgreSQL",
                vector.len()
            ))
        })?;
        let mut bytes = Vec::with_capacity(4 + 4 * vector.len());
        bytes.extend_from_slice(&count.to_be_bytes());
        bytes.extend_from_slice(&[0, 0]);
        for component in vector {
            bytes.extend_from_slice(&component.to_be_bytes());
        }
        Ok(Self(bytes))
    }

    /// One of the same direction whose length can be squared in single precision, as pgvector does
    /// for a cosine.
    pub(super) fn direction(vector: &[f32]) -> Result<Self> {
        let square = vector.iter().map(|x| f64::from(*x) * f64::from(*x)).sum::<f64>();
        let length = square.sqrt();
        if length == 0.0 || LENGTHS.contains(&length) {
            return Self::of(vector);
        }
        #[expect(
            clippy::cast_possible_truncation,
            reason = "no component is longer than the whole"
        )]
        let unit: Vec<f32> = vector.iter().map(|x| (f64::from(*x) / length) as f32).collect();
        Self::of(&unit)
    }
}

/// Lengths whose squares, and products with others of them, are far from both ends of single
/// precision.
const LENGTHS: RangeInclusive<f64> = 1e-15..=1e18;

impl ToSql for Wire {
    fn to_sql(
        &self,
        _: &Type,
        out: &mut BytesMut,
    ) -> std::result::Result<IsNull, Box<dyn StdError + Sync + Send>> {
        out.extend_from_slice(&self.0);
        Ok(IsNull::No)
    }

    fn accepts(of: &Type) -> bool {
        of.name() == "vector"
    }

    to_sql_checked!();
}

/// A vector as `vector_send` gives it.
pub(super) fn read(bytes: &[u8]) -> Result<Vec<f32>> {
    let damaged = || Error::corrupt("a vector from the database cannot be read");
    let (count, rest) = bytes.split_first_chunk().ok_or_else(damaged)?;
    let components = rest.get(2..).ok_or_else(damaged)?;
    let (components, left) = components.as_chunks::<4>();
    if components.len() != usize::from(u16::from_be_bytes(*count)) || !left.is_empty() {
        return Err(damaged());
    }
    Ok(components.iter().map(|bytes| f32::from_be_bytes(*bytes)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vectors_come_back() {
        let vector = [1.0, -0.0, f32::MIN_POSITIVE, f32::MAX];
        let Wire(bytes) = Wire::of(&vector).unwrap();
        let back = read(&bytes).unwrap();
        assert_eq!(back.iter().map(|x| x.to_bits()).collect::<Vec<_>>(), {
            vector.iter().map(|x| x.to_bits()).collect::<Vec<_>>()
        });
        assert!(Wire::of(&vec![0.0; DIMENSION_MAX]).is_ok());
        assert!(Wire::of(&vec![0.0; DIMENSION_MAX + 1]).is_err());
    }

    #[test]
    fn a_direction_is_a_vector_that_can_be_squared() {
        let usual = [3.0, -4.0];
        assert_eq!(Wire::direction(&usual).unwrap().0, Wire::of(&usual).unwrap().0);
        assert_eq!(Wire::direction(&[0.0; 2]).unwrap().0, Wire::of(&[0.0; 2]).unwrap().0);
        for scale in [1e-30_f32, 1e30] {
            let Wire(bytes) = Wire::direction(&[3.0 * scale, -4.0 * scale]).unwrap();
            let unit = read(&bytes).unwrap();
            assert!((unit[0] - 0.6).abs() < 1e-6 && (unit[1] + 0.8).abs() < 1e-6, "{unit:?}");
        }
    }

    #[test]
    fn what_is_no_vector_is_damage() {
        for bytes in [&[][..], &[0], &[0, 1, 0], &[0, 1, 0, 0], &[0, 0, 0, 0, 1]] {
            assert!(read(bytes).is_err(), "{bytes:?}");
        }
    }
}
