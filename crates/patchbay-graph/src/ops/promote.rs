//! The type of an operation on several values, as PyTorch promotes.

use super::Arg;
use crate::dtype::DType;

/// Tensors with axes count first, single numbers of a tensor after them, plain numbers last: a lower rank only counts where it is
/// of a higher kind (bool, integer, float).
pub(super) fn promote<'a>(args: impl IntoIterator<Item = &'a Arg<'a>>) -> DType {
    let mut ranks = [None::<DType>; 3];
    for arg in args {
        let rank = if arg.weak { 2 } else { usize::from(arg.shape.rank() == 0) };
        ranks[rank] = Some(ranks[rank].map_or(arg.dtype, |dtype| dtype.promote(arg.dtype)));
    }
    ranks.into_iter().flatten().reduce(combine).unwrap_or(DType::F32)
}

fn combine(higher: DType, lower: DType) -> DType {
    match higher {
        _ if higher.is_float() => higher,
        DType::Bool => higher.promote(lower),
        _ if lower.is_float() => higher.promote(lower),
        _ => higher,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shape::Shape;

    #[test]
    fn plain_numbers_and_single_numbers_give_way() {
        let (scalar, vector) = (Shape::default(), Shape::dense([3]));
        let arg = |shape, dtype, weak| Arg { name: "input", shape, dtype, weak, literal: None };
        let dtype = |a, b| promote(&[a, b]);
        assert_eq!(dtype(arg(&vector, DType::Bf16, false), arg(&scalar, DType::F32, true)), DType::Bf16);
        assert_eq!(dtype(arg(&vector, DType::I64, false), arg(&scalar, DType::F32, true)), DType::F32);
        assert_eq!(dtype(arg(&vector, DType::I64, false), arg(&vector, DType::F16, false)), DType::F16);
        assert_eq!(dtype(arg(&vector, DType::F32, false), arg(&scalar, DType::F64, false)), DType::F32);
        assert_eq!(dtype(arg(&vector, DType::U8, false), arg(&scalar, DType::I64, true)), DType::U8);
        assert_eq!(dtype(arg(&vector, DType::Bool, false), arg(&scalar, DType::I64, true)), DType::I64);
    }
}
