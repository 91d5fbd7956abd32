//! Writing row-major data as nested lists, one number at a time.

use serde::ser::{Serialize, SerializeSeq, Serializer};

/// Nested lists as `dims` says; element `i` in row-major order is `leaf(i)`. With no axes it is `leaf(0)` itself.
pub struct Nested<'a, F> {
    dims: &'a [usize],
    first: usize,
    leaf: &'a F,
}

impl<'a, F> Nested<'a, F> {
    /// All of the data.
    pub fn new(dims: &'a [usize], leaf: &'a F) -> Self {
        Self { dims, first: 0, leaf }
    }
}

impl<T: Serialize, F: Fn(usize) -> T> Serialize for Nested<'_, F> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Some((size, inner)) = self.dims.split_first() else {
            return (self.leaf)(self.first).serialize(serializer);
        };
        let stride: usize = inner.iter().product();
        let mut list = serializer.serialize_seq(Some(*size))?;
        for i in 0..*size {
            list.serialize_element(&Self { dims: inner, first: self.first + i * stride, leaf: self.leaf })?;
        }
        list.end()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nests_as_the_shape_says() {
        let json = |dims: &[usize]| serde_json::to_string(&Nested::new(dims, &|i| i)).unwrap();
        assert_eq!(json(&[2, 3]), "[[0,1,2],[3,4,5]]");
        assert_eq!(json(&[2, 1, 2]), "[[[0,1]],[[2,3]]]");
        assert_eq!(json(&[]), "0");
        assert_eq!(json(&[2, 0]), "[[],[]]");
        assert_eq!(json(&[0, 2]), "[]");
    }
}
