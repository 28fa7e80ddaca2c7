pub mod compare;
pub mod document;
pub mod form;
pub mod oracle;
pub mod plan;
pub mod rollup;
#[cfg(test)]
mod testing;
