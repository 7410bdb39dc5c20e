//! Owned memory aligned for the widest vector registers.

use std::fmt;

use memmap2::MmapMut;

/// Alignment in bytes of every buffer: one cache line, one AVX-512 register.
pub const ALIGNMENT: usize = 64;

/// Bytes of a huge page, the unit in which the system can map large buffers.
const HUGE_PAGE: usize = 2 << 20;

/// Bytes from which a buffer is mapped by itself, so that huge pages can hold most of it.
const MAPPED_FROM: usize = 2 * HUGE_PAGE;

/// Zero-initialised bytes, aligned to [`ALIGNMENT`].
///
/// They come zeroed from the system, page by page as they are touched: what is never written takes no memory. Large
/// buffers start at a huge page and ask for them where the system has them (Linux): one entry of the processor's table of
/// addresses then covers 2 MiB instead of 4 KiB, and kernels that walk over many megabytes miss it less often.
pub struct Buffer {
    room: Room,
    start: usize,
    len: usize,
}

/// Where the bytes lie.
enum Room {
    /// An allocation without alignment: the allocator fills aligned memory itself, but takes this zeroed from the system.
    Heap(Vec<u8>),
    /// Pages of their own.
    Mapped(MmapMut),
}

impl Room {
    /// Room for `len` bytes, all zero, and where in it they start.
    fn zeroed(len: usize) -> (Self, usize) {
        if let Some(pages) = (len >= MAPPED_FROM).then(|| mapped(len + HUGE_PAGE)).flatten() {
            let start = pages.as_ptr().align_offset(HUGE_PAGE);
            return (Self::Mapped(pages), start);
        }
        let room = vec![0u8; len + ALIGNMENT - 1];
        let start = room.as_ptr().align_offset(ALIGNMENT);
        (Self::Heap(room), start)
    }
}

/// Fresh pages for `len` bytes, huge ones if the system will; none where it maps none.
fn mapped(len: usize) -> Option<MmapMut> {
    let pages = MmapMut::map_anon(len).ok()?;
    #[cfg(target_os = "linux")]
    {
        // Without huge pages the buffer is as good, only slower.
        let _ = pages.advise(memmap2::Advice::HugePage);
    }
    Some(pages)
}

impl Buffer {
    /// `len` bytes, all zero.
    pub fn zeroed(len: usize) -> Self {
        let (room, start) = Room::zeroed(len);
        Self { room, start, len }
    }

    /// Length in bytes.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether the buffer holds no byte.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The bytes.
    pub fn bytes(&self) -> &[u8] {
        let room: &[u8] = match &self.room {
            Room::Heap(bytes) => bytes,
            Room::Mapped(pages) => pages,
        };
        &room[self.start..self.start + self.len]
    }

    /// The bytes, to write.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        let room: &mut [u8] = match &mut self.room {
            Room::Heap(bytes) => bytes,
            Room::Mapped(pages) => pages,
        };
        &mut room[self.start..self.start + self.len]
    }
}

impl Default for Buffer {
    fn default() -> Self {
        Self::zeroed(0)
    }
}

impl Clone for Buffer {
    fn clone(&self) -> Self {
        let mut copy = Self::zeroed(self.len);
        copy.bytes_mut().copy_from_slice(self.bytes());
        copy
    }
}

impl fmt::Debug for Buffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Buffer({} bytes)", self.len)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Lengths on both sides of every limit: of a cache line, of mapped memory, of a huge page.
    const LENGTHS: [usize; 10] =
        [0, 1, 63, 64, 65, 4097, MAPPED_FROM - 1, MAPPED_FROM, MAPPED_FROM + 1, 3 * HUGE_PAGE + 100];

    #[test]
    fn buffers_are_aligned_and_zero_to_the_last_byte() {
        for len in LENGTHS {
            let mut buffer = Buffer::zeroed(len);
            assert_eq!(buffer.bytes().as_ptr().align_offset(ALIGNMENT), 0, "{len} bytes");
            assert_eq!((buffer.len(), buffer.bytes().len()), (len, len));
            assert!(buffer.bytes().iter().all(|&b| b == 0), "{len} bytes");
            buffer.bytes_mut().fill(7);
        }
    }

    #[test]
    fn copies_keep_their_bytes_when_the_original_changes() {
        for len in LENGTHS {
            let mut buffer = Buffer::zeroed(len);
            buffer.bytes_mut().fill(7);
            let copy = buffer.clone();
            buffer.bytes_mut().fill(1);
            assert!(copy.len() == len && copy.bytes().iter().all(|&b| b == 7), "{len} bytes");
        }
    }
}
