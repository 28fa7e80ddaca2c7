//! Named places at which a crash test kills the process, compiled out unless the feature `failpoints` is on.
//!
//! `AFFLUENT_FAILPOINT=name` kills (SIGKILL, no clean-up) the first time `failpoint!("name")` is reached,
//! `name:N` the N-th time. Every durable step has one before and one after it.

/// Dies here when the environment asks for it; nothing in a release build.
#[macro_export]
macro_rules! failpoint {
    ($name:literal) => {
        #[cfg(feature = "failpoints")]
        $crate::failpoint::reach($name);
    };
}

#[cfg(feature = "failpoints")]
pub fn reach(name: &str) {
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicU64, Ordering};

    static ARMED: OnceLock<Option<(String, u64)>> = OnceLock::new();
    static REACHED: AtomicU64 = AtomicU64::new(0);

    let armed = ARMED.get_or_init(|| {
        let text = std::env::var("AFFLUENT_FAILPOINT").ok()?;
        let (name, nth) = match text.rsplit_once(':') {
            Some((name, nth)) => (name, nth.parse().expect("AFFLUENT_FAILPOINT=name:N wants a number")),
            None => (text.as_str(), 1),
        };
        Some((name.to_owned(), nth))
    });
    let Some((wanted, nth)) = armed else { return };
    if wanted == name && REACHED.fetch_add(1, Ordering::SeqCst) + 1 == *nth {
        eprintln!("failpoint {name}: killing this process");
        let _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
        // SIGKILL is asynchronous; do not run on into the step the test wants to miss.
        loop {
            std::thread::park();
        }
    }
}
