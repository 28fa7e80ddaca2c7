//! What a command prints as its result.
//!
//! Owns: writing to standard output. Does not own: logs and errors, which go to standard error.

use std::fmt::Display;
use std::io::{self, Write as _};

/// Writes to standard output; a reader that has seen enough (`| head`) is no failure, and changes no exit code.
pub fn write(bytes: &[u8]) -> io::Result<()> {
    let mut out = io::stdout().lock();
    match out.write_all(bytes).and_then(|()| out.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        written => written,
    }
}

pub fn print(text: impl Display) -> io::Result<()> {
    write(text.to_string().as_bytes())
}

/// The same, with the line's end.
pub fn print_line(text: impl Display) -> io::Result<()> {
    print(format_args!("{text}\n"))
}
