//! Room for the bytes of held packets: places of one size, taken at start.

/// Places of one size, a multiple of a cache line: a SYN touches one.
#[derive(Debug)]
pub(super) struct Places {
    bytes: Box<[u8]>,
    size: usize,
    free: Vec<u32>,
}

impl Places {
    pub(super) fn new(count: usize, size: usize) -> Self {
        Self {
            bytes: vec![0; count * size].into_boxed_slice(),
            size,
            free: (0..count as u32).rev().collect(),
        }
    }

    /// A place that nobody has.
    #[inline]
    pub(super) fn take(&mut self) -> Option<u32> {
        self.free.pop()
    }

    /// Takes a place back.
    #[inline]
    pub(super) fn give(&mut self, place: u32) {
        self.free.push(place);
    }

    #[inline]
    pub(super) fn write(&mut self, place: u32, bytes: &[u8]) {
        let at = place as usize * self.size;
        self.bytes[at..at + bytes.len()].copy_from_slice(bytes);
    }

    #[inline]
    pub(super) fn bytes(&self, place: u32, len: usize) -> &[u8] {
        let at = place as usize * self.size;
        &self.bytes[at..at + len]
    }
}
