//! Opening a port, with an error that says which setting to change.
//!
//! Owns: that and no more. Does not own: who is answered (`serve`, `collect`).

use std::net::SocketAddr;

use anyhow::Context as _;
use tokio::net::TcpListener;

use crate::error::{Exit, Exits};

/// Listens on `address`, which `option` of the configuration gave. `or_else`: what there is to do beside choosing another.
pub async fn on(address: &str, option: &str, or_else: &str) -> anyhow::Result<(TcpListener, SocketAddr)> {
    let listener = TcpListener::bind(address).await.map_err(|error| {
        let message = format!("cannot listen on {address} ({option}): {error}; choose another address {or_else}");
        Exits::error(Exit::Usage, message.trim_end().to_owned())
    })?;
    let address = listener.local_addr().context("the listener has no address")?;
    Ok((listener, address))
}
