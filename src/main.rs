//! The `affluent` binary; everything else is in the library.

use std::process::ExitCode;

/// librdkafka, Arrow and the driver allocate much and concurrently.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let runtime = match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("affluent: cannot start: {error}");
            return affluent::error::Exit::Infrastructure.into();
        }
    };
    let exit = runtime.block_on(affluent::cli::main());
    // What still waits for a service that does not answer, on threads of its own, is not waited for.
    runtime.shutdown_background();
    exit.into()
}
