//! Where things stand in the file.

use std::ops::Range;

/// Where in the file something was said. Two of them are always equal: moving a line changes nothing of what the
/// configuration means.
#[derive(Clone, Debug)]
pub struct Origin(Range<usize>);

impl Origin {
    pub(crate) fn new(span: Range<usize>) -> Self {
        Self(span)
    }

    /// The bytes of the file that said it.
    pub fn span(&self) -> Range<usize> {
        self.0.clone()
    }
}

impl PartialEq for Origin {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}
