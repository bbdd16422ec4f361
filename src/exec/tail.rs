//! The last part of an output: [`Tail`].

use std::collections::VecDeque;

/// How much of the output of a command in the background is kept, in bytes.
pub(super) const KEPT: usize = 64 << 10;

/// The last [`KEPT`] bytes of an output.
#[derive(Debug, Default)]
pub(super) struct Tail {
    last: VecDeque<u8>,
    total: u64,
}

impl Tail {
    pub(super) fn push(&mut self, data: &[u8]) {
        self.total += data.len() as u64;
        let data = &data[data.len().saturating_sub(KEPT)..];
        let beyond = (self.last.len() + data.len()).saturating_sub(KEPT);
        self.last.drain(..beyond);
        self.last.extend(data);
    }

    /// Returns how many bytes the output has had.
    pub(super) fn total(&self) -> u64 {
        self.total
    }

    pub(super) fn to_vec(&self) -> Vec<u8> {
        self.last.iter().copied().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_bytes_are_kept_however_they_come() {
        let output: Vec<u8> = (0..3 * KEPT as u32 + 7).map(|i| (i % 251) as u8).collect();
        for size in [1, 1000, KEPT - 1, KEPT, KEPT + 1, output.len()] {
            let mut tail = Tail::default();
            assert_eq!((tail.total(), tail.to_vec()), (0, Vec::new()));
            for piece in output.chunks(size) {
                tail.push(piece);
                assert!(tail.last.len() <= KEPT);
            }
            assert_eq!(tail.total(), output.len() as u64);
            assert!(tail.to_vec() == output[output.len() - KEPT..], "in pieces of {size}");
        }
    }
}
