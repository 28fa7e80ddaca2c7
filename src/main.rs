//! The `affluent` binary; everything else is in the library.

use std::process::ExitCode;

/// librdkafka, Arrow and the driver allocate much and concurrently.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    give_memory_back_soon();
    affluent::cli::main().into()
}

/// Batches are allocated by one thread and freed by another, so the allocator's pages empty at a high rate. By default
/// they stay for tenths of a second, and a drain of half a million records a second held some 100 MiB more for it.
fn give_memory_back_soon() {
    // `mi_option_e` of mimalloc 3.3; the crate does not name them.
    const PURGE_DELAY_MS: libmimalloc_sys::mi_option_t = 15;
    const ARENA_PURGE_MULTIPLIER: libmimalloc_sys::mi_option_t = 24;
    for option in [PURGE_DELAY_MS, ARENA_PURGE_MULTIPLIER] {
        // Sound: sets a number, and there is no other thread yet.
        unsafe { libmimalloc_sys::mi_option_set(option, 1) };
    }
}
