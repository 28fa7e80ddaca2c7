//! Micro-benchmarks: what each stage costs per record, alone, on one thread, without a service.
//!
//! ```text
//!  payloads ─ decode ─▶ rows ─┬─ documents ─▶ BSON
//!                             ├─ rollups ─▶ increments
//!                             ├─ event_times ─▶ lateness
//!                             └─ split ─▶ rows by partition ─ parquet ─▶ files
//! ```
//!
//! `cargo bench` runs all of them, `cargo bench -- decode` one stage's. Read the column `fastest`: whatever else the
//! machine does can only make a run slower. `cargo test --release --benches` goes through each once, which takes a
//! second; a plain `cargo test` leaves them out.
//!
//! Owns: what is measured, always over one micro-batch of the default size. Throughput is in records and in bytes, and
//! the bytes are those of the records' payloads whatever the stage, so that stages can be compared and added up.
//! Does not own: the records (`records`), the cost of a whole job (`scripts/profile.sh`).
//!
//! The seam: benchmarks are one more program on the library, like the whole-job tests. Of what they need only two
//! things were private, and each has one public function for it: `produce::payloads` and `sink::mongo::documents`. No
//! Cargo feature hides them: with one, `cargo bench` would compile a library of its own, and lints would pass the
//! benchmarks by. For the same reason there is no `[profile.bench]` (it is `release` then, with the same artifacts),
//! and library and binary say `bench = false`, else both would be compiled once more, to run no benchmark.

mod records;

use affluent::decode::Decoder;
use affluent::event_time::{Columns, EventTimes};
use affluent::lake::parquet::{EncodedFile, PartitionWriter, properties};
use affluent::lake::split::Splitter;
use affluent::offsets::Epoch;
use affluent::rollup::{Rollup, increments};
use affluent::sink::mongo::documents;
use arrow::array::RecordBatch;
use divan::Bencher;
use divan::counter::{BytesCount, ItemsCount};

use self::records::{Input, Shape};
use Shape::{Columns100, Flat1Kb, Poisoned, SalesOfAMonth, SalesOfAnHour};

/// The binary's.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() {
    divan::main();
}

/// Payloads to Arrow, faults of rejected records included.
#[divan::bench(args = [SalesOfAnHour, Poisoned, Flat1Kb, Columns100])]
fn decode(bencher: Bencher<'_, '_>, shape: Shape) {
    let input = shape.input();
    let mut decoder = Decoder::new(&input.stream);
    counted(bencher, &input).bench_local(|| decoder.decode(&input.raw, Epoch(0)));
}

/// Arrow to the documents of MongoDB's inserts.
#[divan::bench(args = [SalesOfAnHour, Flat1Kb, Columns100])]
fn bson(bencher: Bencher<'_, '_>, shape: Shape) {
    let input = shape.input();
    let rows = input.rows();
    let mut buffer = Vec::new();
    counted(bencher, &input).bench_local(|| {
        buffer.clear();
        documents(&input.stream.schema, &rows, &mut buffer);
        buffer.len()
    });
}

/// Grouping and adding up for the three rollups of sales; a flush has up to six such batches.
#[divan::bench(args = [SalesOfAnHour, SalesOfAMonth])]
fn rollups(bencher: Bencher<'_, '_>, shape: Shape) {
    let input = shape.input();
    let rows = [input.rows()];
    let defined = &input.stream.rollups;
    let rollups: Vec<Rollup> = defined.iter().map(|r| Rollup::new(r, &input.stream.schema)).collect();
    counted(bencher, &input).bench_local(|| increments(&rollups, &rows).expect("no sum overflows"));
}

/// Arrow by partition: 13 regions of one day, or of thirty.
#[divan::bench(args = [SalesOfAnHour, SalesOfAMonth])]
fn split(bencher: Bencher<'_, '_>, shape: Shape) {
    let input = shape.input();
    let rows = [input.rows()];
    let mut splitter = Splitter::new(&input.stream.schema);
    let partitions = splitter.split(&rows).expect("rows of the stream").len();
    assert_eq!(partitions, shape.partitions());
    counted(bencher, &input).bench_local(|| splitter.split(&rows).expect("rows of the stream"));
}

/// Highest event time per partition and lateness, once per sink and batch.
#[divan::bench(args = [SalesOfAnHour, SalesOfAMonth])]
fn event_times(bencher: Bencher<'_, '_>, shape: Shape) {
    let input = shape.input();
    let rows = input.rows();
    let columns = Columns::of(&input.stream.schema);
    let mut times = EventTimes::default();
    counted(bencher, &input).bench_local(|| times.take_in(&rows, columns));
}

/// Arrow by partition to the bytes of Parquet files, one per partition. A file of a month's batch has 42 rows: that
/// measures what a file costs. The job gathers many batches before it closes one (`lake::open`).
#[divan::bench(args = [SalesOfAnHour, SalesOfAMonth, Flat1Kb, Columns100])]
fn parquet(bencher: Bencher<'_, '_>, shape: Shape) {
    let input = shape.input();
    let mut splitter = Splitter::new(&input.stream.schema);
    let split = splitter.split(&[input.rows()]).expect("rows of the stream");
    let parts: Vec<RecordBatch> = split.into_iter().map(|(_, rows)| rows).collect();
    let properties = properties(splitter.data_schema());
    let encoded = |rows: &RecordBatch| -> EncodedFile {
        let mut writer = PartitionWriter::new(splitter.data_schema(), &properties);
        writer.push(rows.clone()).expect("rows of the files' schema");
        writer.close().expect("writing to memory")
    };
    counted(bencher, &input).bench_local(|| parts.iter().map(encoded).collect::<Vec<_>>());
}

/// With the records' number and bytes, for throughput.
fn counted<'a, 'b>(bencher: Bencher<'a, 'b>, input: &Input) -> Bencher<'a, 'b> {
    bencher
        .counter(ItemsCount::new(input.raw.records.len()))
        .counter(BytesCount::new(input.raw.arena.len()))
}
