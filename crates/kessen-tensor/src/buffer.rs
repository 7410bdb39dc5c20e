//! Owned memory aligned for the widest vector registers.

use std::fmt;

/// Alignment in bytes of every buffer: one cache line, one AVX-512 register.
pub const ALIGNMENT: usize = 64;

/// Zero-initialised bytes, aligned to [`ALIGNMENT`].
///
/// They are cut from an allocation without alignment: only that comes zeroed from the system, page by page as it is
/// touched, while the allocator fills aligned memory itself. What is never written takes no memory.
pub struct Buffer {
    room: Vec<u8>,
    start: usize,
    len: usize,
}

impl Buffer {
    /// `len` bytes, all zero.
    pub fn zeroed(len: usize) -> Self {
        let room = vec![0u8; len + ALIGNMENT - 1];
        let start = room.as_ptr().align_offset(ALIGNMENT);
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
        &self.room[self.start..self.start + self.len]
    }

    /// The bytes, to write.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.room[self.start..self.start + self.len]
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
