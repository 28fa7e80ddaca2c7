//! As much of affluent's `batch` as its tokenizer names: why a record is rejected.

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    Decode,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RejectCode {
    InvalidJson,
    TooDeep,
}

pub struct Reject {
    pub record: usize,
    pub stage: Stage,
    pub code: RejectCode,
    pub error: String,
}
