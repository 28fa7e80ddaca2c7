//! The sink against a real server: `AFFLUENT_TEST_MONGO` names a replica set started with
//! `--setParameter enableTestCommands=1` (its failpoints stand in for lost replies and elections).
//!
//! Every test has a database of its own and drops it at the end.

mod evolution;
mod rebuild;
mod support;
mod with_server;
