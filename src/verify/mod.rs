pub mod oracle;
#[cfg(test)]
mod testing;
