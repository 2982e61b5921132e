//! Memory that I/O moves through.
//!
//! A [`BufferArea`] is one allocation cut into equal buffers. A [`Buffer`] is the only handle to
//! its piece, so whoever holds it may touch the bytes; while an I/O is in flight, the queue holds
//! it. The area counts the buffers that are out: if one is missing when the area is dropped, a
//! device may still write to it, and the memory is leaked instead of freed.

#![allow(unsafe_code, reason = "raw memory shared with the kernel and with devices")]

use std::alloc::{Layout, alloc_zeroed, dealloc};
use std::fmt;
use std::mem::ManuallyDrop;
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;

use crate::base::host::allocation::may_fail;
use crate::base::host::mapping::{BufferMemory, Mapping};

/// Alignment of every buffer in bytes: the page, which also satisfies O_DIRECT on every device.
pub const BUFFER_ALIGN: usize = 4096;

/// The only handle to one piece of an area.
pub struct Buffer {
    start: NonNull<u8>,
    len: u32,
    id: u32,
}

// SAFETY: a `Buffer` is the only way to its bytes (`BufferArea::take` hands out each once), so
// moving it to another thread moves all access to them.
unsafe impl Send for Buffer {}

impl Buffer {
    /// Its number in its area, from 0.
    #[inline]
    #[must_use]
    pub fn id(&self) -> u32 {
        self.id
    }
}

impl Deref for Buffer {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        // SAFETY: `start` and `len` describe initialised memory of an area that is not freed while
        // this handle exists (see `BufferArea::drop`), and this is the only handle to it.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.len as usize) }
    }
}

impl DerefMut for Buffer {
    #[inline]
    fn deref_mut(&mut self) -> &mut [u8] {
        // SAFETY: as in `deref`; `&mut self` makes the access exclusive.
        unsafe { std::slice::from_raw_parts_mut(self.start.as_ptr(), self.len as usize) }
    }
}

impl fmt::Debug for Buffer {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "Buffer {} of {} bytes", self.id, self.len)
    }
}

/// Where an area's memory came from, and how it goes back.
enum Origin {
    Heap(Layout),
    Mapped(ManuallyDrop<Mapping>),
    #[cfg(feature = "spdk")]
    Device(fn(NonNull<u8>)),
}

/// One allocation cut into buffers of equal size.
pub struct BufferArea {
    start: NonNull<u8>,
    origin: Origin,
    stride: usize,
    len: u32,
    count: u32,
    taken: u32,
    out: u32,
}

impl BufferArea {
    /// `count` zeroed buffers of `len` bytes each, page-aligned.
    ///
    /// # Errors
    /// If the memory cannot be had: a sentence with the size.
    pub fn new(count: u32, len: u32) -> Result<BufferArea, String> {
        let (stride, total) = dimensions(count, len);
        let failed = || format!("no memory for {count} buffers of {len} bytes: lower iodepth, bs or numjobs");
        let layout = total.and_then(|total| Layout::from_size_align(total, BUFFER_ALIGN).ok());
        let layout = layout.ok_or_else(failed)?;
        // SAFETY: the layout's size is not zero: both factors are at least 1.
        let start = may_fail(|| unsafe { alloc_zeroed(layout) });
        let start = NonNull::new(start).ok_or_else(failed)?;
        Ok(BufferArea { start, origin: Origin::Heap(layout), stride, len, count, taken: 0, out: 0 })
    }

    /// The same in memory of the kind that the job asks for.
    ///
    /// # Errors
    /// If the memory cannot be had: a sentence with the size.
    pub fn mapped(count: u32, len: u32, memory: &BufferMemory) -> Result<BufferArea, String> {
        let (stride, total) = dimensions(count, len);
        let total = total.ok_or_else(|| format!("no memory for {count} buffers of {len} bytes"))?;
        let mapping = Mapping::new(memory, total)?;
        let (align, shift) = memory.alignment();
        let offset = mapping.start().align_offset(align) + shift;
        assert!(offset + total <= mapping.bytes(), "a mapping has room for how its buffers are aligned");
        // SAFETY: the offset is inside the mapping, as was asserted.
        let start = unsafe { mapping.start().add(offset) };
        let origin = Origin::Mapped(ManuallyDrop::new(mapping));
        Ok(BufferArea { start, origin, stride, len, count, taken: 0, out: 0 })
    }

    /// The same in memory that a device can reach by itself: `alloc` gives so many zeroed bytes so
    /// aligned, and `free` takes them back when no buffer is out.
    #[cfg(feature = "spdk")]
    pub(super) fn of_device(
        count: u32,
        len: u32,
        alloc: impl FnOnce(usize, usize) -> Option<NonNull<u8>>,
        free: fn(NonNull<u8>),
    ) -> Option<BufferArea> {
        let (stride, total) = dimensions(count, len);
        let start = alloc(total?, BUFFER_ALIGN)?;
        Some(BufferArea { start, origin: Origin::Device(free), stride, len, count, taken: 0, out: 0 })
    }

    /// Whether devices can reach it by themselves.
    #[cfg(feature = "spdk")]
    pub(super) fn is_of_device(&self) -> bool {
        matches!(self.origin, Origin::Device(_))
    }

    /// The addresses of its buffers.
    #[cfg(feature = "spdk")]
    pub(super) fn range(&self) -> std::ops::Range<usize> {
        let start = self.start.addr().get();
        start..start + self.stride * self.count.max(1) as usize
    }

    /// Length of each buffer in bytes.
    #[cfg(feature = "spdk")]
    pub(super) fn len(&self) -> u32 {
        self.len
    }

    /// The next buffer, until all have been taken.
    pub fn take(&mut self) -> Option<Buffer> {
        if self.taken == self.count {
            return None;
        }
        let id = self.taken;
        // SAFETY: `id < count`, so the sum stays inside the allocation of `count * stride` bytes.
        let start = unsafe { self.start.add(id as usize * self.stride) };
        self.taken += 1;
        self.out += 1;
        Some(Buffer { start, len: self.len, id })
    }

    /// Takes a buffer back at the end. A buffer that never comes back keeps the area alive.
    ///
    /// # Panics
    /// If the buffer is not one of this area.
    pub fn give_back(&mut self, buffer: Buffer) {
        let expected = self.start.addr().get() + buffer.id as usize * self.stride;
        assert!(buffer.start.addr().get() == expected && buffer.id < self.count, "a buffer of another area");
        self.out -= 1;
    }

    /// How many buffers there are.
    #[must_use]
    pub fn count(&self) -> u32 {
        self.count
    }

    /// Address and length of buffer `id`, to register it with the kernel.
    pub(super) fn span(&self, id: u32) -> (*mut u8, usize) {
        assert!(id < self.count);
        (self.start.as_ptr().wrapping_add(id as usize * self.stride), self.len as usize)
    }
}

impl Drop for BufferArea {
    fn drop(&mut self) {
        match &mut self.origin {
            _ if self.out > 0 => {}
            // SAFETY: allocated in `new` with this layout, and no handle to it is left.
            Origin::Heap(layout) => unsafe { dealloc(self.start.as_ptr(), *layout) },
            // SAFETY: no handle to it is left, and it is not looked at again.
            Origin::Mapped(mapping) => unsafe { ManuallyDrop::drop(mapping) },
            #[cfg(feature = "spdk")]
            Origin::Device(free) => free(self.start),
        }
    }
}

/// Bytes from one buffer to the next, and in all if that is a number.
fn dimensions(count: u32, len: u32) -> (usize, Option<usize>) {
    let stride = (len.max(1) as usize).next_multiple_of(BUFFER_ALIGN);
    (stride, stride.checked_mul(count.max(1) as usize))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_are_aligned_distinct_and_zeroed() {
        let mut area = BufferArea::new(3, 5000).unwrap();
        let mut buffers: Vec<Buffer> = std::iter::from_fn(|| area.take()).collect();
        assert_eq!(buffers.len(), 3);
        for (id, buffer) in buffers.iter_mut().enumerate() {
            assert_eq!(buffer.as_ptr().addr() % BUFFER_ALIGN, 0);
            assert!(buffer.len() == 5000 && buffer.iter().all(|&byte| byte == 0));
            buffer.fill(u8::try_from(id).unwrap() + 1);
        }
        for (id, buffer) in buffers.into_iter().enumerate() {
            assert!(buffer.iter().all(|&byte| usize::from(byte) == id + 1));
            area.give_back(buffer);
        }
    }

    #[test]
    fn mapped_buffers_begin_where_the_job_says() {
        use crate::base::host::mapping::{MemoryKind, PAGE};
        for (align, kind) in [
            (0, MemoryKind::Mmap),
            (512, MemoryKind::Shm),
            (1 << 20, MemoryKind::MmapShared),
            (4, MemoryKind::Mmap),
        ] {
            let memory = BufferMemory { kind, align, ..BufferMemory::default() };
            let mut area = BufferArea::mapped(3, 5000, &memory).unwrap();
            let mut buffers: Vec<Buffer> = std::iter::from_fn(|| area.take()).collect();
            let (first, shift) = memory.alignment();
            assert_eq!((buffers[0].as_ptr().addr() - shift) % first, 0);
            for buffer in &mut buffers {
                assert_eq!(buffer.as_ptr().addr() % PAGE, shift);
                assert!(buffer.iter().all(|&byte| byte == 0));
                buffer.fill(1);
            }
            buffers.into_iter().for_each(|buffer| area.give_back(buffer));
        }
    }

    #[test]
    #[should_panic(expected = "a buffer of another area")]
    fn a_buffer_of_another_area_is_not_taken_back() {
        let mut one = BufferArea::new(1, 512).unwrap();
        let mut two = BufferArea::new(1, 512).unwrap();
        let stray = one.take().unwrap();
        two.give_back(stray);
    }

    #[test]
    fn a_size_that_no_machine_has_is_an_error() {
        assert!(BufferArea::new(u32::MAX, u32::MAX).is_err());
    }
}
