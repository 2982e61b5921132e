//! Choices that the bytes of an input make.

/// Takes bytes from the front of an input; zeros when it has ended.
pub struct Draw<'a> {
    bytes: &'a [u8],
}

#[allow(dead_code, reason = "each target uses some")]
impl<'a> Draw<'a> {
    pub fn new(bytes: &'a [u8]) -> Draw<'a> {
        Draw { bytes }
    }

    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    pub fn byte(&mut self) -> u8 {
        let Some((&first, rest)) = self.bytes.split_first() else { return 0 };
        self.bytes = rest;
        first
    }

    /// A number below `end`.
    pub fn below(&mut self, end: u64) -> u64 {
        u64::from(self.byte()) % end
    }

    /// Any number; small ones are frequent.
    pub fn number(&mut self) -> u64 {
        let width = self.below(9);
        (0..width).fold(0, |number, _| number << 8 | u64::from(self.byte()))
    }

    /// Up to 31 characters of text.
    pub fn text(&mut self) -> String {
        let len = self.bytes.len().min(self.below(32) as usize);
        let (text, rest) = self.bytes.split_at(len.min(self.bytes.len()));
        self.bytes = rest;
        String::from_utf8_lossy(text).into_owned()
    }

    /// All that is left, as text.
    pub fn rest(&mut self) -> String {
        String::from_utf8_lossy(std::mem::take(&mut self.bytes)).into_owned()
    }
}
