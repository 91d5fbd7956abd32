//! The callers' tensors, kept by name.
//!
//! A name holds one tensor, or several by key, as a safetensors file does. A request works on a [`Shelf`], the caller's
//! tensors as they were when it came, so that what is put or deleted meanwhile does not touch it.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, PoisonError, RwLock};

use candle_core::Tensor;
use patchbay_graph::problem::{Code, Problem};
use patchbay_graph::{DType, Store};

use crate::caller::Caller;
use crate::settings::StoreLimits;
use crate::{Failure, name};

/// A tensor of the store.
#[derive(Clone, Debug)]
pub struct StoredTensor {
    /// Its type in the protocol.
    pub dtype: DType,
    /// Its elements, on the CPU; booleans are u8 here.
    pub tensor: Tensor,
}

impl StoredTensor {
    /// Bytes of its elements.
    pub fn bytes(&self) -> u64 {
        (self.tensor.elem_count() * self.dtype.size()) as u64
    }
}

/// What a name holds: tensors by key. The only tensor of a name may have the name itself as its key.
pub type Tensors = BTreeMap<String, StoredTensor>;

/// Every caller's tensors.
#[derive(Debug, Default)]
pub struct TensorStore {
    limits: StoreLimits,
    shelves: RwLock<HashMap<Arc<str>, Shelf>>,
}

/// One caller's tensors at one moment.
#[derive(Clone, Debug, Default)]
pub struct Shelf(BTreeMap<String, Arc<Tensors>>);

impl TensorStore {
    /// An empty store.
    pub fn new(limits: StoreLimits) -> Self {
        Self { limits, shelves: RwLock::default() }
    }

    /// The caller's tensors as they are now.
    pub fn shelf(&self, caller: &Caller) -> Shelf {
        self.shelves.read().unwrap_or_else(PoisonError::into_inner).get(caller.owner()).cloned().unwrap_or_default()
    }

    /// Keeps tensors under a name, in place of what the name held. Returns whether it held something.
    ///
    /// # Errors
    /// Status 422 for a name that cannot be, 413 over a limit.
    pub fn put(&self, caller: &Caller, name: &str, tensors: Tensors) -> Result<bool, Failure> {
        name::check_tensor(name)?;
        let bytes = total(&tensors);
        let mut shelves = self.shelves.write().unwrap_or_else(PoisonError::into_inner);
        let shelf = shelves.entry(Arc::clone(caller.owner())).or_default();
        self.fits(shelf, &[(name, bytes)])?;
        Ok(shelf.0.insert(name.to_owned(), Arc::new(tensors)).is_some())
    }

    /// Whether a caller with this shelf may keep so many bytes under these names.
    ///
    /// # Errors
    /// Status 413, naming the limit.
    pub fn fits(&self, shelf: &Shelf, wanted: &[(&str, u64)]) -> Result<(), Failure> {
        let StoreLimits { max_names, max_tensor_bytes, max_total_bytes } = self.limits;
        let too_large =
            |detail: String| Failure::new(413, "too_large", detail).hint("DELETE /v1/tensors/{name} frees some");
        if let Some((name, bytes)) = wanted.iter().find(|(_, bytes)| *bytes > max_tensor_bytes) {
            return Err(too_large(format!("`@{name}` has {bytes} bytes, max_tensor_bytes is {max_tensor_bytes}")));
        }
        let others = shelf.0.iter().filter(|(name, _)| !wanted.iter().any(|(new, _)| new == name));
        let (names, bytes) = others
            .fold((wanted.len(), wanted.iter().map(|(_, bytes)| bytes).sum()), |(n, sum): (_, u64), (_, tensors)| {
                (n + 1, sum + total(tensors))
            });
        if names > max_names {
            return Err(too_large(format!("that would make {names} names, max_names is {max_names}")));
        }
        if bytes > max_total_bytes {
            return Err(too_large(format!("that would make {bytes} bytes, max_total_bytes is {max_total_bytes}")));
        }
        Ok(())
    }

    /// Forgets a name.
    ///
    /// # Errors
    /// Status 404 where the caller has no such name.
    pub fn delete(&self, caller: &Caller, name: &str) -> Result<(), Failure> {
        let mut shelves = self.shelves.write().unwrap_or_else(PoisonError::into_inner);
        let shelf = shelves.entry(Arc::clone(caller.owner())).or_default();
        match shelf.0.remove(name) {
            Some(_) => Ok(()),
            None => Err(shelf.unknown(name).into()),
        }
    }

    /// Bytes of all callers together.
    pub fn bytes(&self) -> u64 {
        let shelves = self.shelves.read().unwrap_or_else(PoisonError::into_inner);
        shelves.values().flat_map(|shelf| shelf.0.values()).map(|tensors| total(tensors)).sum()
    }
}

fn total(tensors: &Tensors) -> u64 {
    tensors.values().map(StoredTensor::bytes).sum()
}

impl Shelf {
    /// Every name and what it holds.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Tensors)> {
        self.0.iter().map(|(name, tensors)| (name.as_str(), tensors.as_ref()))
    }

    /// What a name holds.
    ///
    /// # Errors
    /// No such name.
    pub fn tensors(&self, name: &str) -> Result<&Arc<Tensors>, Problem> {
        self.0.get(name).ok_or_else(|| self.unknown(name))
    }

    /// The tensor that `@name` or `@name.key` means.
    ///
    /// # Errors
    /// No such name or key; several tensors and no key.
    pub fn tensor(&self, name: &str, key: Option<&str>) -> Result<&StoredTensor, Problem> {
        let tensors = self.tensors(name)?;
        let keys = || tensors.keys().map(String::as_str);
        match (key, tensors.len()) {
            (Some(key), _) => tensors.get(key).ok_or_else(|| {
                Problem::new(Code::UnknownTensor, format!("`@{name}` has no tensor `{key}`")).suggest(key, keys())
            }),
            (None, 1) => tensors.values().next().ok_or_else(|| self.unknown(name)),
            (None, count) => {
                let some: Vec<String> = keys().take(12).map(|key| format!("`@{name}.{key}`")).collect();
                let dots = if count > some.len() { ", …" } else { "" };
                let hint = format!("name one: {}{dots}", some.join(", "));
                Err(Problem::new(Code::UnknownTensor, format!("`@{name}` holds {count} tensors")).hint(hint))
            }
        }
    }

    fn unknown(&self, name: &str) -> Problem {
        let problem = Problem::new(Code::UnknownTensor, format!("there is no tensor `@{name}`"));
        match self.0.is_empty() {
            true => problem.hint(format!("PUT /v1/tensors/{name} keeps one")),
            false => problem.suggest(name, self.0.keys().map(String::as_str)),
        }
    }
}

impl Store for Shelf {
    fn describe(&self, name: &str, key: Option<&str>) -> Result<(DType, Vec<usize>), Problem> {
        self.tensor(name, key).map(|stored| (stored.dtype, stored.tensor.dims().to_vec()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Device;

    fn tensors<const N: usize>(keys: [&str; N]) -> Tensors {
        let tensor = Tensor::zeros(4, candle_core::DType::F32, &Device::Cpu).unwrap();
        keys.map(|key| (key.to_owned(), StoredTensor { dtype: DType::F32, tensor: tensor.clone() })).into()
    }

    #[test]
    fn names_keys_and_what_is_said_when_they_are_wrong() {
        let store = TensorStore::new(StoreLimits::default());
        let caller = Caller::local();
        assert!(!store.put(&caller, "joy", tensors(["joy"])).unwrap());
        assert!(store.put(&caller, "joy", tensors(["joy"])).unwrap());
        store.put(&caller, "many", tensors(["a.weight", "b"])).unwrap();
        let shelf = store.shelf(&caller);
        assert_eq!(shelf.describe("joy", None).unwrap(), (DType::F32, vec![4]));
        assert!(shelf.describe("many", Some("a.weight")).is_ok());
        assert_eq!(shelf.describe("jou", None).unwrap_err().hint.unwrap(), "did you mean `joy`?");
        assert_eq!(shelf.describe("many", None).unwrap_err().hint.unwrap(), "name one: `@many.a.weight`, `@many.b`");
        assert!(shelf.describe("many", Some("c")).unwrap_err().detail.contains("`c`"));
        store.delete(&caller, "joy").unwrap();
        assert_eq!(store.delete(&caller, "joy").unwrap_err().status, 404);
        assert!(shelf.describe("joy", None).is_ok(), "a shelf is what was there when it was taken");
    }

    #[test]
    fn limits_are_named() {
        let limits = StoreLimits { max_names: 2, max_tensor_bytes: 32, max_total_bytes: 40 };
        let store = TensorStore::new(limits);
        let caller = Caller::local();
        let fail = |name, keys: Tensors| store.put(&caller, name, keys).unwrap_err();
        assert!(fail("x", tensors(["a", "b", "c"])).detail.contains("max_tensor_bytes is 32"));
        store.put(&caller, "x", tensors(["a", "b"])).unwrap();
        assert!(fail("y", tensors(["a"])).detail.contains("max_total_bytes is 40"));
        store.put(&caller, "x", tensors(["a"])).unwrap();
        store.put(&caller, "y", tensors(["a"])).unwrap();
        assert!(fail("z", Tensors::new()).detail.contains("max_names is 2"));
        assert_eq!(store.bytes(), 32);
    }
}
