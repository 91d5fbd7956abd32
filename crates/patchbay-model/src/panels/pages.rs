//! Memory for numbers that every forward pass reads: straight from the system, in huge pages where it has them.
//!
//! A model is larger than what a processor remembers of small pages, and looking pages up took a third of the time that
//! reading weights took.

use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};

use bytemuck::Pod;
use candle_core::{Error, Result};
use memmap2::MmapMut;

/// So many `T`, like a boxed slice.
pub(super) struct Pages<T> {
    /// None where there are no bytes.
    map: Option<MmapMut>,
    of: PhantomData<Box<[T]>>,
}

impl<T: Pod> Pages<T> {
    /// All bits zero.
    ///
    /// # Errors
    /// The system has no such memory.
    pub(super) fn zeros(count: usize) -> Result<Self> {
        let of = PhantomData;
        let Some(bytes) = count.checked_mul(size_of::<T>()) else {
            candle_core::bail!("{count} times {} bytes are more than any memory", size_of::<T>());
        };
        if bytes == 0 {
            return Ok(Self { map: None, of });
        }
        let map =
            MmapMut::map_anon(bytes).map_err(|error| Error::msg(format!("{bytes} bytes for weights: {error}")))?;
        // a system that has no huge pages, or keeps them for others, says so; small ones do as well
        #[cfg(target_os = "linux")]
        let _ = map.advise(memmap2::Advice::HugePage);
        Ok(Self { map: Some(map), of })
    }
}

impl<T: Pod> Deref for Pages<T> {
    type Target = [T];

    #[inline(always)]
    fn deref(&self) -> &[T] {
        // pages begin at a multiple of whatever a number's alignment may be
        self.map.as_ref().map_or(&[], |map| bytemuck::cast_slice(map))
    }
}

impl<T: Pod> DerefMut for Pages<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        self.map.as_mut().map_or(&mut [], |map| bytemuck::cast_slice_mut(map))
    }
}

impl<T: Pod + PartialEq> PartialEq for Pages<T> {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_number_of_numbers_is_zero_at_first_and_keeps_what_it_is_given() {
        for count in [0, 1, 7, 1 << 20] {
            let mut pages = Pages::<[u16; 3]>::zeros(count).unwrap();
            assert_eq!(pages.len(), count);
            assert!(pages.iter().all(|x| *x == [0; 3]));
            pages.iter_mut().enumerate().for_each(|(i, x)| *x = [i as u16; 3]);
            assert!(pages.iter().enumerate().all(|(i, x)| *x == [i as u16; 3]));
        }
    }

    #[test]
    fn what_no_memory_has_room_for_is_an_error() {
        assert!(Pages::<f32>::zeros(usize::MAX).is_err());
        assert!(Pages::<f32>::zeros(usize::MAX / 8).is_err());
    }
}
