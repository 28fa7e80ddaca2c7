//! Rows waiting for their transaction, and what a transaction takes of them.
//!
//! Owns: which part of a batch is new (the rest is held already), the order of what waits, cutting it into
//! portions that one transaction can carry. Pure: no I/O.
//! Does not own: progress as stored (`progress`), sending (`insert`, `transaction`).

use std::collections::{BTreeMap, VecDeque};

use arrow::array::cast::AsArray;
use arrow::array::types::Int64Type;
use arrow::array::{BooleanArray, RecordBatch};
use arrow::compute::filter_record_batch;

use crate::offsets::{OffsetRange, Partition, Progress, RecordId};

/// A stretch of offsets with its good records. Without records it still moves progress.
#[derive(Clone, Debug)]
pub(super) struct Piece {
    pub rows: RecordBatch,
    pub covered: BTreeMap<Partition, OffsetRange>,
    /// All rows have been acknowledged at majority in this process: a repeated commit need not send them again.
    /// The transaction counts them all the same.
    pub stored: bool,
}

/// A batch that begins beyond what its partition has: storing it would step over records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Gap {
    pub partition: Partition,
    pub missing: OffsetRange,
}

#[derive(Debug, Default)]
pub(super) struct Buffer {
    pieces: VecDeque<Piece>,
    rows: usize,
    bytes: usize,
    id_index: usize,
}

impl Buffer {
    pub fn new(id_index: usize) -> Self {
        Self {
            id_index,
            ..Self::default()
        }
    }

    pub fn is_empty(&self) -> bool {
        self.pieces.is_empty()
    }

    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Memory of the buffered columns, as Arrow counts it.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    pub fn clear(&mut self) {
        *self = Self::new(self.id_index);
    }

    /// Takes in what of a batch lies at or beyond `tips` (per owned partition, the next offset expected here)
    /// and moves them. What belongs to other partitions is left out.
    pub fn push(
        &mut self,
        rows: &RecordBatch,
        covered: &BTreeMap<Partition, OffsetRange>,
        tips: &mut Progress,
    ) -> Result<(), Gap> {
        let mut fresh = BTreeMap::new();
        let mut whole = true;
        for (&partition, range) in covered {
            let Some(&tip) = tips.get(&partition) else {
                whole = false;
                continue;
            };
            if range.start > tip {
                return Err(Gap {
                    partition,
                    missing: OffsetRange::new(tip, range.start),
                });
            }
            whole &= range.start == tip;
            if range.end > tip {
                fresh.insert(partition, OffsetRange::new(tip, range.end));
            }
        }
        if fresh.is_empty() {
            return Ok(());
        }
        tips.extend(fresh.iter().map(|(&partition, range)| (partition, range.end)));
        self.add(Piece {
            rows: if whole { rows.clone() } else { self.within(rows, &fresh) },
            covered: fresh,
            stored: false,
        });
        Ok(())
    }

    /// Drops what lies below `progress`: it was found to be stored already.
    pub fn skip_to(&mut self, progress: &Progress) {
        let pieces = std::mem::take(&mut self.pieces);
        (self.rows, self.bytes) = (0, 0);
        for mut piece in pieces {
            for (partition, range) in &mut piece.covered {
                let start = progress
                    .get(partition)
                    .map_or(range.start, |&next| range.start.max(next));
                *range = OffsetRange::new(start.min(range.end), range.end);
            }
            piece.covered.retain(|_, range| !range.is_empty());
            if !piece.covered.is_empty() {
                piece.rows = self.within(&piece.rows, &piece.covered);
                self.add(piece);
            }
        }
    }

    /// Cuts the waiting pieces so that the first ones hold at most `max_rows` rows, and says how many pieces
    /// those are (at least one, unless nothing waits).
    pub fn portion(&mut self, max_rows: usize) -> usize {
        let mut rows = 0;
        for at in 0..self.pieces.len() {
            let here = self.pieces[at].rows.num_rows();
            if rows + here > max_rows {
                if at > 0 {
                    return at;
                }
                let (head, tail) = split(&self.pieces[0], max_rows.max(1), self.id_index);
                self.pieces[0] = tail;
                self.pieces.push_front(head);
                return 1;
            }
            rows += here;
        }
        self.pieces.len()
    }

    pub fn front(&self, pieces: usize) -> impl Iterator<Item = &Piece> {
        self.pieces.iter().take(pieces)
    }

    pub fn set_stored(&mut self, pieces: usize, stored: bool) {
        for piece in self.pieces.iter_mut().take(pieces) {
            piece.stored = stored;
        }
    }

    pub fn drop_front(&mut self, pieces: usize) {
        for piece in self.pieces.drain(..pieces) {
            self.rows -= piece.rows.num_rows();
        }
        // Slices of one batch share its memory, so bytes are counted anew rather than taken off.
        self.bytes = self.pieces.iter().map(|p| memory(&p.rows)).sum();
    }

    fn add(&mut self, piece: Piece) {
        self.rows += piece.rows.num_rows();
        self.bytes += memory(&piece.rows);
        self.pieces.push_back(piece);
    }

    fn within(&self, rows: &RecordBatch, covered: &BTreeMap<Partition, OffsetRange>) -> RecordBatch {
        let keep: BooleanArray = ids(rows, self.id_index)
            .iter()
            .map(|&id| {
                let id = RecordId(id);
                let range = covered.get(&id.partition());
                Some(range.is_some_and(|range| range.contains(id.offset())))
            })
            .collect();
        filter_record_batch(rows, &keep).expect("the mask has one entry per row")
    }
}

fn memory(rows: &RecordBatch) -> usize {
    if rows.num_rows() == 0 {
        0
    } else {
        rows.get_array_memory_size()
    }
}

pub(super) fn ids(rows: &RecordBatch, id_index: usize) -> &[i64] {
    rows.column(id_index).as_primitive::<Int64Type>().values()
}

/// Cuts a piece before row `at`. A partition with rows in the tail is cut before the first of them, so that
/// rejected records in between go with the head.
fn split(piece: &Piece, at: usize, id_index: usize) -> (Piece, Piece) {
    let count = piece.rows.num_rows();
    let (head_rows, tail_rows) = (piece.rows.slice(0, at), piece.rows.slice(at, count - at));
    let mut cuts = Progress::new();
    for &id in ids(&tail_rows, id_index) {
        cuts.entry(RecordId(id).partition()).or_insert(RecordId(id).offset());
    }
    let (mut head, mut tail) = (BTreeMap::new(), BTreeMap::new());
    for (&partition, range) in &piece.covered {
        let cut = cuts.get(&partition).copied().unwrap_or(range.end);
        head.insert(partition, OffsetRange::new(range.start, cut));
        tail.insert(partition, OffsetRange::new(cut, range.end));
    }
    let piece = |rows, mut covered: BTreeMap<Partition, OffsetRange>| {
        covered.retain(|_, range| !range.is_empty());
        Piece {
            rows,
            covered,
            stored: piece.stored,
        }
    };
    (piece(head_rows, head), piece(tail_rows, tail))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::Int64Array;
    use arrow::datatypes::{DataType, Field, Schema};

    use super::*;
    use crate::offsets::Epoch;

    type At = (i32, i64);

    fn rows(at: &[At]) -> RecordBatch {
        let schema = Schema::new(vec![Field::new("_id", DataType::Int64, false)]);
        let ids = at
            .iter()
            .map(|&(p, o)| RecordId::new(Epoch(2), Partition(p), o).expect("fits").0);
        RecordBatch::try_new(Arc::new(schema), vec![Arc::new(Int64Array::from_iter_values(ids))]).expect("one column")
    }

    fn covered(ranges: &[(i32, i64, i64)]) -> BTreeMap<Partition, OffsetRange> {
        ranges
            .iter()
            .map(|&(p, start, end)| (Partition(p), OffsetRange::new(start, end)))
            .collect()
    }

    fn progress(next: &[At]) -> Progress {
        next.iter().map(|&(p, o)| (Partition(p), o)).collect()
    }

    fn held(buffer: &Buffer, pieces: usize) -> Vec<At> {
        let ids = buffer.front(pieces).flat_map(|piece| ids(&piece.rows, 0).to_vec());
        ids.map(|id| (RecordId(id).partition().0, RecordId(id).offset()))
            .collect()
    }

    #[test]
    fn only_what_is_new_and_owned_is_taken_in() {
        let mut buffer = Buffer::new(0);
        let mut tips = progress(&[(0, 5)]);
        let batch = rows(&[(0, 3), (0, 5), (1, 0), (0, 6)]);
        buffer
            .push(&batch, &covered(&[(0, 3, 8), (1, 0, 1)]), &mut tips)
            .expect("no gap");
        assert_eq!(held(&buffer, 9), [(0, 5), (0, 6)]);
        assert_eq!(tips, progress(&[(0, 8)]));
        buffer.push(&batch, &covered(&[(0, 3, 8)]), &mut tips).expect("no gap");
        assert_eq!(buffer.rows(), 2, "a batch met twice is taken once");
    }

    #[test]
    fn a_step_over_offsets_is_refused() {
        let mut buffer = Buffer::new(0);
        let gap = buffer.push(&rows(&[(0, 9)]), &covered(&[(0, 9, 10)]), &mut progress(&[(0, 5)]));
        let expected = Gap {
            partition: Partition(0),
            missing: OffsetRange::new(5, 9),
        };
        assert_eq!(gap, Err(expected));
        assert!(buffer.is_empty());
    }

    #[test]
    fn offsets_without_good_records_still_wait_for_a_commit() {
        let mut buffer = Buffer::new(0);
        buffer
            .push(&rows(&[]), &covered(&[(0, 0, 4)]), &mut progress(&[(0, 0)]))
            .expect("no gap");
        assert!(!buffer.is_empty());
        assert_eq!(buffer.portion(100), 1);
    }

    #[test]
    fn portions_keep_order_and_partition_every_offset() {
        let mut buffer = Buffer::new(0);
        let mut tips = progress(&[(0, 0), (1, 0)]);
        let batch = rows(&[(0, 0), (1, 1), (0, 2), (1, 3), (0, 5)]);
        buffer
            .push(&batch, &covered(&[(0, 0, 7), (1, 0, 4)]), &mut tips)
            .expect("no gap");
        let (mut seen, mut next) = (Vec::new(), progress(&[(0, 0), (1, 0)]));
        while !buffer.is_empty() {
            let pieces = buffer.portion(2);
            for piece in buffer.front(pieces) {
                for (&partition, range) in &piece.covered {
                    assert_eq!(
                        next.insert(partition, range.end),
                        Some(range.start),
                        "ranges join without a hole"
                    );
                }
            }
            let portion = held(&buffer, pieces);
            assert!(
                portion.iter().all(|&(p, o)| o < next[&Partition(p)]),
                "a row's offset is covered with it"
            );
            assert!(portion.len() <= 2);
            seen.extend(portion);
            buffer.drop_front(pieces);
        }
        assert_eq!(seen, [(0, 0), (1, 1), (0, 2), (1, 3), (0, 5)]);
        assert_eq!(next, progress(&[(0, 7), (1, 4)]));
        assert_eq!((buffer.rows(), buffer.bytes()), (0, 0));
    }

    #[test]
    fn small_batches_share_a_portion() {
        let mut buffer = Buffer::new(0);
        let mut tips = progress(&[(0, 0)]);
        for o in 0..5 {
            buffer
                .push(&rows(&[(0, o)]), &covered(&[(0, o, o + 1)]), &mut tips)
                .expect("no gap");
        }
        assert_eq!(buffer.portion(3), 3);
        assert_eq!(buffer.portion(100), 5);
    }

    #[test]
    fn what_was_found_stored_is_dropped_wherever_pieces_were_cut() {
        let mut buffer = Buffer::new(0);
        let mut tips = progress(&[(0, 0), (1, 0)]);
        buffer
            .push(&rows(&[(0, 0), (1, 0)]), &covered(&[(0, 0, 1), (1, 0, 1)]), &mut tips)
            .expect("no gap");
        buffer
            .push(&rows(&[(0, 1), (0, 2)]), &covered(&[(0, 1, 3)]), &mut tips)
            .expect("no gap");
        buffer.skip_to(&progress(&[(0, 2)]));
        assert_eq!(held(&buffer, 9), [(1, 0), (0, 2)]);
        assert_eq!(buffer.rows(), 2);
        buffer.skip_to(&progress(&[(0, 3), (1, 1)]));
        assert!(buffer.is_empty());
    }
}
