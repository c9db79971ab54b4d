//! A stretch of bytes passed on as it is, or with some parts replaced: copied only from the first replacement on.

use std::ops::Range;

/// What goes out for a stretch of input.
pub(crate) struct Edit<'a> {
    input: &'a [u8],
    out: &'a mut Vec<u8>,
    /// Everything before is in `out`, once anything is.
    copied_to: usize,
    is_edited: bool,
}

impl<'a> Edit<'a> {
    /// `out` is emptied; it holds the result when there is any replacement.
    pub(crate) fn new(input: &'a [u8], out: &'a mut Vec<u8>) -> Self {
        out.clear();
        Self { input, out, copied_to: 0, is_edited: false }
    }

    /// Where to write what stands in place of the range. Ranges come in order and do not overlap.
    pub(crate) fn replace(&mut self, range: Range<usize>) -> &mut Vec<u8> {
        self.out.extend_from_slice(&self.input[self.copied_to..range.start]);
        self.copied_to = range.end;
        self.is_edited = true;
        self.out
    }

    /// Leaves out a range.
    pub(crate) fn remove(&mut self, range: Range<usize>) {
        self.replace(range);
    }

    /// The result for the input up to `end`.
    pub(crate) fn finish(self, end: usize) -> &'a [u8] {
        if !self.is_edited {
            return &self.input[..end];
        }
        self.out.extend_from_slice(&self.input[self.copied_to..end]);
        self.out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_copied_without_a_replacement() {
        let (input, mut out) = (b"abcdef".to_vec(), Vec::new());
        let result = Edit::new(&input, &mut out).finish(4);
        assert_eq!(result, b"abcd");
        assert_eq!(result.as_ptr(), input.as_ptr());
    }

    #[test]
    fn replacements_stand_where_they_belong() {
        let mut out = b"old".to_vec();
        let mut edit = Edit::new(b"abcdef", &mut out);
        edit.replace(1..3).extend_from_slice(b"XYZ");
        edit.remove(3..4);
        edit.replace(5..5).push(b'-');
        assert_eq!(edit.finish(6), b"aXYZe-f");
    }
}
