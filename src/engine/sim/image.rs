//! What stands on a drive: pages of bytes, and nothing where nothing was written.

use std::collections::BTreeMap;

const PAGE: usize = 4096;

/// Bytes by offset; what was never written is zeros and takes no memory.
#[derive(Debug, Default)]
pub struct Image {
    pages: BTreeMap<u64, Box<[u8; PAGE]>>,
}

/// The pieces of `len` bytes from `offset` that pages or units of `unit` bytes make: the number of
/// the unit, and where in the range the piece lies.
pub fn pieces(offset: u64, len: usize, unit: u64) -> impl Iterator<Item = (u64, std::ops::Range<usize>)> {
    let mut at: usize = 0;
    std::iter::from_fn(move || {
        let place = offset + at as u64;
        let left = unit - place % unit;
        let end = usize::try_from(left).map_or(len, |left| len.min(at.saturating_add(left)));
        let piece = (at < len).then_some((place / unit, at..end));
        at = end;
        piece
    })
}

/// Where `offset` lies in its page.
fn within(offset: u64) -> usize {
    usize::try_from(offset % PAGE as u64).unwrap_or(0)
}

impl Image {
    /// Copies what stands from `offset` on.
    pub fn read(&self, offset: u64, into: &mut [u8]) {
        for (page, range) in pieces(offset, into.len(), PAGE as u64) {
            let from = within(offset + range.start as u64);
            match self.pages.get(&page) {
                Some(bytes) => into[range.clone()].copy_from_slice(&bytes[from..from + range.len()]),
                None => into[range].fill(0),
            }
        }
    }

    /// A copy of `len` bytes.
    pub fn copy(&self, offset: u64, len: usize) -> Box<[u8]> {
        let mut bytes = vec![0; len];
        self.read(offset, &mut bytes);
        bytes.into()
    }

    /// Puts bytes there. Pages of zeros are let go.
    pub fn write(&mut self, offset: u64, bytes: &[u8]) {
        for (page, range) in pieces(offset, bytes.len(), PAGE as u64) {
            let from = within(offset + range.start as u64);
            let zeros = bytes[range.clone()].iter().all(|&byte| byte == 0);
            if zeros && !self.pages.contains_key(&page) {
                continue;
            }
            let stands = self.pages.entry(page).or_insert_with(|| Box::new([0; PAGE]));
            stands[from..from + range.len()].copy_from_slice(&bytes[range]);
            if zeros && stands.iter().all(|&byte| byte == 0) {
                self.pages.remove(&page);
            }
        }
    }

    /// The parts of a range that may hold something else than zeros: offset and length.
    pub fn written(&self, offset: u64, len: u64) -> Vec<(u64, usize)> {
        let end = offset + len;
        let pages = offset / PAGE as u64..end.div_ceil(PAGE as u64);
        let part = |page: u64| {
            let start = offset.max(page * PAGE as u64);
            (start, usize::try_from(end.min((page + 1) * PAGE as u64) - start).unwrap_or(0))
        };
        self.pages.range(pages).map(|(&page, _)| part(page)).collect()
    }

    /// Pages that take memory.
    #[cfg(test)]
    pub fn pages(&self) -> usize {
        self.pages.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_and_the_rest_is_zeros() {
        let mut image = Image::default();
        let far = 1 << 40;
        image.write(far - 100, &[7; 300]);
        assert_eq!(image.pages(), 2);
        let mut expected = vec![0; 500];
        expected[100..400].fill(7);
        assert_eq!(*image.copy(far - 200, 500), *expected);
        assert_eq!(image.written(0, 1 << 41), [(far - 4096, 4096), (far, 4096)]);
        assert_eq!(image.written(far + 10, 20), [(far + 10, 20)]);
        image.write(far - 100, &[0; 300]);
        assert_eq!(image.pages(), 0, "zeros take no memory");
    }
}
