//! How many rows the next transaction takes.
//!
//! Owns: the size, learnt from the transactions before, those that the server could not carry included. Pure.
//!
//! Rows of live traffic share rollup documents: the more of them a transaction takes, the fewer updates each costs.
//! Rows of a backfill touch documents of their own: there, more rows only make the transaction longer.

/// Rollup statements of one transaction to aim at: about a second of the server's work, and some tens of megabytes
/// of ours.
const STATEMENTS: usize = 40_000;
/// What is tried first, and the least that statements alone reduce a transaction to: each also has a price of its own.
const FIRST: usize = 20_000;
const LEAST: usize = 5_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct PortionSize {
    rows: usize,
    /// What the server can carry, as far as is known.
    most: usize,
    configured: usize,
}

impl PortionSize {
    /// `most`: the configured bound.
    pub fn new(most: usize) -> Self {
        let most = most.max(1);
        Self {
            rows: FIRST.min(most),
            most,
            configured: most,
        }
    }

    pub fn rows(self) -> usize {
        self.rows
    }

    /// A transaction took so many rows and made so many statements of them.
    pub fn learn(&mut self, rows: usize, statements: usize) {
        // A few rows say little of what many share.
        if rows * 2 < self.rows {
            return;
        }
        let fitting = (rows as u64 * STATEMENTS as u64 / statements.max(1) as u64) as usize;
        // Shared documents become fewer per row the more rows there are, so the guess is low; doubling bounds it where
        // it is not.
        self.rows = fitting.max(LEAST).min(2 * self.rows).min(self.most);
        // What the server could not carry in a bad moment it may carry later.
        self.most = (self.most + self.most / 16 + 1).min(self.configured);
    }

    /// The server could not carry so many rows in one transaction.
    pub fn too_long(&mut self, rows: usize) {
        self.most = (rows / 2).max(1);
        self.rows = self.most;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_that_share_documents_go_together_in_greater_numbers() {
        let mut size = PortionSize::new(100_000);
        assert_eq!(size.rows(), 20_000);
        size.learn(20_000, 13_000);
        assert_eq!(size.rows(), 40_000, "no more than doubled at a time");
        size.learn(40_000, 16_000);
        size.learn(80_000, 20_000);
        assert_eq!(size.rows(), 100_000, "the configured bound");
        size.learn(100_000, 0);
        assert_eq!(size.rows(), 100_000);
    }

    #[test]
    fn rows_with_documents_of_their_own_make_smaller_transactions() {
        let mut size = PortionSize::new(100_000);
        size.learn(20_000, 60_000);
        assert_eq!(size.rows(), 13_333);
        size.learn(13_333, 1_000_000);
        assert_eq!(size.rows(), LEAST);
    }

    #[test]
    fn what_was_too_long_is_approached_again_slowly() {
        let mut size = PortionSize::new(100_000);
        size.too_long(20_000);
        assert_eq!(size.rows(), 10_000);
        let mut transactions = 0;
        while size.rows() < 20_000 {
            size.learn(size.rows(), 1);
            transactions += 1;
        }
        assert!(transactions > 10, "{transactions}");
        (0..10).for_each(|_| size.too_long(size.rows() / 4));
        assert_eq!(size.rows(), 1, "never none");
    }

    #[test]
    fn a_small_flush_changes_nothing_and_a_small_bound_holds() {
        let mut size = PortionSize::new(100_000);
        size.learn(3, 9);
        assert_eq!(size, PortionSize::new(100_000));
        let mut bounded = PortionSize::new(3);
        bounded.learn(3, 9);
        assert_eq!(bounded.rows(), 3);
        assert_eq!(PortionSize::new(0).rows(), 1);
    }
}
