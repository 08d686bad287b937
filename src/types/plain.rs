//! The machine's plain numbers as types, for programs that tell none: `(f64)0x4c1008`.

use super::{Field, Shape, TypeId, Typed, Types, TypesError};
use crate::scalar::Scalar;
use std::rc::Rc;

/// The only type that it knows; 0 is `void` in every source.
const ONLY: u64 = 1;

/// Types that consist of one plain number.
struct Plain(Scalar);

/// The type that is this `scalar`.
pub fn plain(scalar: Scalar) -> Typed {
    Typed { types: Rc::new(Plain(scalar)), id: TypeId::new(ONLY) }
}

impl Types for Plain {
    fn named(&self, name: &str) -> Result<Option<TypeId>, TypesError> {
        Ok((name.parse() == Ok(self.0)).then(|| TypeId::new(ONLY)))
    }

    fn shape(&self, id: TypeId) -> Result<Shape, TypesError> {
        if let Some(to) = id.pointed() {
            return Ok(Shape::Pointer(to));
        }
        Ok(match self.0 {
            _ if id != TypeId::new(ONLY) => Shape::Void,
            Scalar::Signed(size) => Shape::Int { size: size.into(), signed: true },
            Scalar::Unsigned(size) => Shape::Int { size: size.into(), signed: false },
            Scalar::Float(size) => Shape::Float { size: size.into() },
        })
    }

    fn own_name(&self, id: TypeId) -> Result<Option<String>, TypesError> {
        Ok((id == TypeId::new(ONLY)).then(|| self.0.to_string()))
    }

    fn members(&self, _id: TypeId) -> Result<Vec<Field>, TypesError> {
        Ok(Vec::new())
    }

    fn enumerators(&self, _id: TypeId) -> Result<Vec<(String, i128)>, TypesError> {
        Ok(Vec::new())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::{bytes_of, value_of};

    #[test]
    fn numbers_and_pointers_to_them() {
        let Typed { types, id } = plain(Scalar::Float(8));
        assert_eq!(types.name(id).unwrap(), "f64");
        assert_eq!(types.name(id.pointer()).unwrap(), "f64 *");
        assert_eq!(types.size(id.pointer()).unwrap(), Some(8));
        let bytes = bytes_of(&*types, id, "1.5").unwrap();
        assert_eq!(value_of(&*types, id, &bytes).unwrap().to_string(), "1.5");
        let Typed { types, id } = plain(Scalar::Signed(2));
        assert_eq!(value_of(&*types, id, &[0xff; 2]).unwrap().to_string(), "-1");
    }
}
