//! The `affluent` binary; everything else is in the library.

use std::process::ExitCode;

/// librdkafka, Arrow and the driver allocate much and concurrently.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[tokio::main]
async fn main() -> ExitCode {
    affluent::cli::main().await.into()
}
