//! What a sink could not store although the record is well formed, judged before the fan-out: a sink that
//! refused a record on its own would either stop for ever or disagree with the other one.
//!
//! Owns: upper bounds, computed from string lengths alone. They are never too low and a few bytes too high.
//! Does not own: the documents and paths themselves (`sink::mongo`, `lake::layout`).

use super::fault::Fault;
use super::json::Tokens;
use crate::batch::RejectCode;
use crate::config::{RollupConfig, StreamConfig};

/// MongoDB's `maxBsonObjectSize`.
pub(super) const MAX_DOCUMENT_BYTES: usize = 16 * 1024 * 1024;

/// `NAME_MAX` of Linux and of HDFS: bytes of one directory name, `column=value` once escaped.
pub(super) const MAX_PATH_SEGMENT_BYTES: usize = 255;

/// The largest value of fixed size (Decimal128), and what a string takes beside its characters, rounded up.
const MAX_FIXED_VALUE: usize = 16;

/// What a rollup document may hold beside dimensions and measures: bucket start, generation, framing.
const ROLLUP_FRAME: usize = 1024;

/// A dimension's string stands in a rollup document's `_id` and at its top level, and once more in the oplog
/// entry that carries both.
const DIMENSION_COPIES: usize = 3;

/// Bytes of `text` in a path where everything but ASCII letters, digits, `_`, `-` and `.` is escaped as `%XX`.
/// Hive escapes less than that.
pub(super) fn escaped_len(text: &[u8]) -> usize {
    let plain = |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.');
    text.iter().map(|b| if plain(b) { 1 } else { 3 }).sum()
}

/// Upper bounds for the documents MongoDB will be asked to hold.
#[derive(Debug)]
pub(super) struct DocumentBounds {
    /// Everything but strings' characters, in the largest document or rollup document.
    fixed: usize,
    rollups: Vec<(String, Vec<usize>)>,
}

impl DocumentBounds {
    pub(super) fn new(stream: &StreamConfig) -> Self {
        let columns = stream.schema.arrow().fields().iter();
        let document = 5 + columns.map(|column| element_frame(column.name())).sum::<usize>();
        let rollup_frames = stream.rollups.iter().map(|rollup| rollup_frame(stream, rollup));
        Self {
            fixed: rollup_frames.fold(document, usize::max),
            rollups: stream.rollups.iter().map(|r| (r.name.clone(), r.by.clone())).collect(),
        }
    }

    /// Bytes the document takes at most, given the characters of its strings.
    pub(super) fn document(&self, strings: usize) -> usize {
        self.fixed + strings
    }

    /// `strings` is the sum of the record's string lengths.
    #[inline]
    pub(super) fn check(&self, strings: usize, tokens: &Tokens<'_>) -> Result<(), Fault> {
        if self.fixed + DIMENSION_COPIES * strings <= MAX_DOCUMENT_BYTES {
            return Ok(());
        }
        self.check_exactly(strings, tokens)
    }

    #[cold]
    fn check_exactly(&self, strings: usize, tokens: &Tokens<'_>) -> Result<(), Fault> {
        let too_large = |what: String, size: usize| {
            let error = format!("{what} would take up to {size} bytes, MongoDB allows {MAX_DOCUMENT_BYTES}");
            Fault::new(RejectCode::TooLarge, error)
        };
        let size = self.document(strings);
        if size > MAX_DOCUMENT_BYTES {
            return Err(too_large("the document".to_owned(), size));
        }
        for (name, dimensions) in &self.rollups {
            let texts = dimensions
                .iter()
                .map(|field| tokens.fields[*field].text(&tokens.unescaped));
            let strings: usize = texts.flatten().map(<[u8]>::len).sum();
            let size = self.fixed + DIMENSION_COPIES * strings;
            if size > MAX_DOCUMENT_BYTES {
                return Err(too_large(format!("a document of rollup \"{name}\""), size));
            }
        }
        Ok(())
    }
}

/// An element's type byte, its name with the terminator, and a value without characters.
fn element_frame(name: &str) -> usize {
    1 + name.len() + 1 + MAX_FIXED_VALUE
}

fn rollup_frame(stream: &StreamConfig, rollup: &RollupConfig) -> usize {
    let dimensions = rollup
        .by
        .iter()
        .map(|field| element_frame(&stream.schema.fields[*field].name));
    // Twice, because an average is kept as a sum and a count, with a suffix each.
    let measures = rollup
        .measures
        .keys()
        .map(|name| 2 * (element_frame(name) + "_count".len()));
    ROLLUP_FRAME + DIMENSION_COPIES * dimensions.sum::<usize>() + measures.sum::<usize>()
}
