//! A vector whose elements start at a cache line.
use std::{
    fmt,
    marker::PhantomData,
    ops::{Deref, DerefMut},
};

use bytemuck::Pod;
use bytes::{Buf, Bytes, BytesMut};

use crate::huge;

/// A vector of plain numbers, aligned to 64 bytes and zeroed when it grows.
///
/// An aligned 512-bit load never crosses a cache line; an unaligned one costs two. Large vectors ask the system for huge
/// pages: weights that stream through a core need 512 times fewer address translations.
///
/// ```
/// use chalot_simd::AlignedVec;
///
/// let mut x = AlignedVec::<f32>::zeroed(3);
/// x[1] = 2.0;
/// assert_eq!(*x, [0.0, 2.0, 0.0]);
/// assert_eq!(x.as_ptr().addr() % AlignedVec::<f32>::ALIGN, 0);
/// ```
pub struct AlignedVec<T> {
    /// The elements' bytes, from an aligned address on; an allocation may have several such parts. Plain bytes, because
    /// only for small alignments does the allocator hand out untouched zero pages: asking it for 64-byte alignment
    /// writes every byte (and packing a model's weights would touch all memory twice, on one thread).
    memory: BytesMut,
    len: usize,
    element: PhantomData<T>,
}

impl<T> AlignedVec<T> {
    /// The alignment in bytes: a cache line, and the widest vector register.
    pub const ALIGN: usize = 64;
}

impl<T: Pod> AlignedVec<T> {
    /// An empty vector; allocates nothing.
    pub fn new() -> Self {
        const { assert!(align_of::<T>() <= Self::ALIGN) };
        Self { memory: BytesMut::new(), len: 0, element: PhantomData }
    }

    /// `len` zeros. Large ones come straight from the system, untouched until used.
    ///
    /// # Panics
    /// When `len` elements exceed the address space, or memory runs out, like [`Vec`].
    pub fn zeroed(len: usize) -> Self {
        if len == 0 {
            return Self::new();
        }
        let bytes = len.checked_mul(size_of::<T>());
        let align = if bytes >= Some(2 * huge::PAGE) { huge::PAGE } else { Self::ALIGN };
        let Some(bytes) = bytes.and_then(|bytes| bytes.checked_add(align)) else {
            panic!("{len} elements of {} bytes exceed the address space", size_of::<T>());
        };
        let mut memory = BytesMut::zeroed(bytes);
        memory.advance(until_aligned(&memory, align));
        if align == huge::PAGE {
            huge::ask_for_huge_pages(&mut memory);
        }
        Self { memory, len, element: PhantomData }
    }

    /// `len` zeros, written; `None` when the system has no memory for them.
    pub fn try_zeroed(len: usize) -> Option<Self> {
        if len == 0 {
            return Some(Self::new());
        }
        let bytes = len.checked_mul(size_of::<T>())?.checked_add(Self::ALIGN)?;
        let mut memory = Vec::new();
        memory.try_reserve_exact(bytes).ok()?;
        huge::ask_for_huge_pages(memory.spare_capacity_mut());
        memory.resize(bytes, 0);
        let mut memory = BytesMut::from(Bytes::from(memory));
        memory.advance(until_aligned(&memory, Self::ALIGN));
        Some(Self { memory, len, element: PhantomData })
    }

    /// Cuts off the first `len` elements: a vector of its own, in the same memory, which is free again when all its parts are.
    /// So small vectors can lie in huge pages.
    ///
    /// # Panics
    /// When there are fewer elements, or what is left would not start at a multiple of [`AlignedVec::ALIGN`].
    pub fn split_to(&mut self, len: usize) -> Self {
        let bytes = len * size_of::<T>();
        assert!(len <= self.len && bytes.is_multiple_of(Self::ALIGN), "{len} of {} elements", self.len);
        self.len -= len;
        Self { memory: self.memory.split_to(bytes), len, element: PhantomData }
    }

    /// Makes the length `len` and every element zero, keeping the memory when it suffices.
    pub fn resize_zeroed(&mut self, len: usize) {
        if len > self.capacity() {
            *self = Self::zeroed(len);
        } else {
            self.len = len;
            self.fill(T::zeroed());
        }
    }

    /// Makes the length `len`; elements hold zero or what they held before. For buffers that are
    /// overwritten whole: nothing is cleared while the memory suffices.
    pub fn resize_dirty(&mut self, len: usize) {
        if len > self.capacity() {
            // Fresh zeroed memory is cheaper than copying what is about to be overwritten.
            *self = Self::zeroed(len);
        }
        self.len = len;
    }

    /// How many elements fit without new memory.
    pub fn capacity(&self) -> usize {
        self.memory.len() / size_of::<T>().max(1)
    }

    /// The elements' memory as a cheaply cloned, shared byte buffer (64-byte aligned still).
    pub fn into_bytes(self) -> Bytes
    where
        T: Send,
    {
        if self.len == 0 { Bytes::new() } else { Bytes::from_owner(self) }
    }
}

/// Bytes before the first multiple of `align`.
fn until_aligned(memory: &[u8], align: usize) -> usize {
    memory.as_ptr().addr().wrapping_neg() % align
}

impl<T: Pod> Clone for AlignedVec<T> {
    fn clone(&self) -> Self {
        Self::from(&**self)
    }
}

impl<T: Pod> Default for AlignedVec<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T: Pod> Deref for AlignedVec<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        if self.len == 0 {
            return &[]; // what is not allocated has no aligned address
        }
        bytemuck::cast_slice(&self.memory[..self.len * size_of::<T>()])
    }
}

impl<T: Pod> DerefMut for AlignedVec<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        if self.len == 0 {
            return &mut [];
        }
        bytemuck::cast_slice_mut(&mut self.memory[..self.len * size_of::<T>()])
    }
}

impl<T: Pod> AsRef<[u8]> for AlignedVec<T> {
    fn as_ref(&self) -> &[u8] {
        bytemuck::cast_slice(self)
    }
}

impl<T: Pod> From<&[T]> for AlignedVec<T> {
    fn from(elements: &[T]) -> Self {
        let mut vec = Self::zeroed(elements.len());
        vec.copy_from_slice(elements);
        vec
    }
}

impl<T: Pod + fmt::Debug> fmt::Debug for AlignedVec<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

impl<T: Pod + PartialEq> PartialEq for AlignedVec<T> {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn aligned_and_zeroed_at_every_length() {
        for len in 0..200 {
            let vec = AlignedVec::<u16>::zeroed(len);
            assert_eq!(vec.len(), len);
            assert!(vec.iter().all(|&x| x == 0));
            assert!(len == 0 || vec.as_ptr().addr().is_multiple_of(64));
            let bytes = vec.into_bytes();
            assert_eq!(bytes.len(), 2 * len);
            assert!(len == 0 || bytes.as_ptr().addr().is_multiple_of(64));
        }
    }

    #[test]
    fn memory_that_is_not_there_is_no_panic() {
        assert!(AlignedVec::<f32>::try_zeroed(usize::MAX / 2).is_none());
        assert!(AlignedVec::<u8>::try_zeroed(isize::MAX as usize).is_none());
        let vec = AlignedVec::<u16>::try_zeroed(5).unwrap();
        assert_eq!((&*vec, vec.as_ptr().addr() % 64), (&[0; 5][..], 0));
        assert!(AlignedVec::<u16>::try_zeroed(0).unwrap().is_empty());
    }

    #[test]
    fn resizing_clears_or_keeps() {
        let mut vec = AlignedVec::from(&[1.0_f32, 2.0, 3.0][..]);
        vec.resize_dirty(2);
        assert_eq!(*vec, [1.0, 2.0]);
        vec.resize_zeroed(3);
        assert_eq!(*vec, [0.0; 3]);
        vec.resize_dirty(1000);
        assert_eq!(*vec, [0.0; 1000]);
    }

    #[test]
    fn a_clone_is_aligned_and_equal() {
        let vec = AlignedVec::from(&[7_u32; 33][..]);
        let clone = vec.clone();
        assert_eq!(clone, vec);
        assert!(clone.as_ptr().addr().is_multiple_of(64));
    }

    #[test]
    fn large_ones_start_at_a_huge_page() {
        let mut vec = AlignedVec::<u32>::zeroed(3 << 20);
        assert!(vec.as_ptr().addr().is_multiple_of(huge::PAGE));
        assert!(vec.iter().all(|&x| x == 0));
        vec.fill(7);
        assert!(vec.clone().iter().all(|&x| x == 7));
        assert!(vec.capacity() >= 3 << 20);
    }

    #[test]
    fn parts_of_one_memory_are_vectors_of_their_own() {
        let mut rest = AlignedVec::<u32>::try_zeroed(3 << 20).unwrap();
        let mut parts: Vec<_> = [16, 32, 0].map(|len| rest.split_to(len)).into();
        assert_eq!(rest.len(), (3 << 20) - 48);
        for (i, part) in parts.iter_mut().enumerate() {
            assert!(part.is_empty() || part.as_ptr().addr().is_multiple_of(64));
            part.fill(1 + i as u32);
        }
        assert!(rest.iter().all(|&x| x == 0) && rest.as_ptr().addr().is_multiple_of(64));
        drop(rest);
        assert_eq!((&*parts[0], &*parts[1]), (&[1; 16][..], &[2; 32][..]));
        // A part that grows leaves its neighbour alone.
        parts[0].resize_dirty(17);
        parts[0].fill(7);
        assert_eq!(*parts[1], [2; 32]);
    }

    #[test]
    #[should_panic(expected = "3 of 32 elements")]
    fn parts_are_whole_lines() {
        AlignedVec::<u32>::zeroed(32).split_to(3);
    }

    #[test]
    #[should_panic(expected = "exceed the address space")]
    fn absurd_lengths_panic() {
        AlignedVec::<f32>::zeroed(usize::MAX / 2);
    }
}
