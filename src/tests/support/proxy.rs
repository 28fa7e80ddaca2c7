//! A TCP proxy between the job and a service, so that a test decides what the network does.
//!
//! ```text
//!  job ─▶ 127.0.0.1:(any) ─▶ target      open · cut (also whoever comes next) · black hole
//!   ▲                          │         replies delayed, throttled, or one of them cut after N bytes
//!   └──────────────────────────┘
//! ```
//!
//! Owns: the listener, its connections, their behaviour. Does not own: what a service tells its clients: MongoDB
//! needs `directConnection=true`, Kafka a listener that advertises the proxy (`kafka`), else both are bypassed.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use super::env;

/// What becomes of bytes at the moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Link {
    Open,
    /// Every connection is reset, and so is whoever connects next. The port stays bound: released, it could be
    /// given to somebody else.
    Cut,
    /// Connections are accepted and kept, and nothing comes through. What was sent is delivered when it opens.
    BlackHole,
}

#[derive(Clone, Copy, Debug)]
struct Behaviour {
    link: Link,
    reply_delay: Duration,
    reply_bytes_per_second: Option<u64>,
}

/// One request to be answered incompletely.
#[derive(Debug)]
struct Trap {
    request: Vec<u8>,
    reply_bytes: usize,
}

pub struct Proxy {
    address: SocketAddr,
    behaviour: watch::Sender<Behaviour>,
    shared: Arc<Shared>,
    _runtime: tokio::runtime::Runtime,
}

#[derive(Default)]
struct Shared {
    accepted: AtomicU64,
    trap: Mutex<Option<Trap>>,
    sprung: AtomicU64,
}

impl Proxy {
    /// On a port of its own.
    pub fn to(target: &str) -> Self {
        Self::on(0, target)
    }

    pub fn on(port: u16, target: &str) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("proxy")
            .enable_all()
            .build()
            .unwrap();
        let listener = runtime.block_on(TcpListener::bind(("127.0.0.1", port))).unwrap();
        let (behaviour, watched) = watch::channel(Behaviour {
            link: Link::Open,
            reply_delay: Duration::ZERO,
            reply_bytes_per_second: None,
        });
        let shared = Arc::<Shared>::default();
        let address = listener.local_addr().unwrap();
        runtime.spawn(accept(listener, target.to_owned(), watched, Arc::clone(&shared)));
        Self {
            address,
            behaviour,
            shared,
            _runtime: runtime,
        }
    }

    pub fn address(&self) -> String {
        self.address.to_string()
    }

    pub fn link(&self, link: Link) {
        self.behaviour.send_modify(|b| b.link = link);
    }

    /// Every piece of a reply comes this much later.
    pub fn delay_replies(&self, delay: Duration) {
        self.behaviour.send_modify(|b| b.reply_delay = delay);
    }

    pub fn throttle_replies(&self, bytes_per_second: Option<u64>) {
        self.behaviour
            .send_modify(|b| b.reply_bytes_per_second = bytes_per_second);
    }

    /// The next request that contains `request` reaches the server; of what comes back only `reply_bytes` pass,
    /// then the connection is reset. With 0 the reply has been made when the connection breaks.
    pub fn cut_reply(&self, request: &[u8], reply_bytes: usize) {
        *self.shared.trap() = Some(Trap {
            request: request.to_vec(),
            reply_bytes,
        });
    }

    /// Replies cut so far.
    pub fn replies_cut(&self) -> u64 {
        self.shared.sprung.load(Ordering::SeqCst)
    }

    /// Connections accepted so far, those cut at once included.
    pub fn accepted(&self) -> u64 {
        self.shared.accepted.load(Ordering::SeqCst)
    }
}

impl Shared {
    fn trap(&self) -> MutexGuard<'_, Option<Trap>> {
        self.trap.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the trap if this request is the one it waits for: how much of its reply may pass.
    fn springs(&self, request: &[u8]) -> Option<usize> {
        let mut trap = self.trap();
        let waited_for = &trap.as_ref()?.request;
        request
            .windows(waited_for.len())
            .any(|window| window == waited_for)
            .then(|| trap.take().map(|trap| trap.reply_bytes))?
    }
}

/// The broker's listener for proxied clients names one port, so one test at a time may stand there.
pub fn kafka() -> (Proxy, MutexGuard<'static, ()>) {
    static PORT: Mutex<()> = Mutex::new(());
    let guard = PORT.lock().unwrap_or_else(PoisonError::into_inner);
    let target = format!("127.0.0.1:{}", env("AFFLUENT_TEST_KAFKA_PROXIED_PORT"));
    let port = env("AFFLUENT_TEST_KAFKA_PROXY_PORT").parse().unwrap();
    (Proxy::on(port, &target), guard)
}

/// A proxy before a mongod, and a URI that goes through it. Timers are short, so that tests are.
pub fn mongo(uri: &str) -> (Proxy, String) {
    let host = uri
        .strip_prefix("mongodb://")
        .and_then(|rest| rest.split('/').next())
        .unwrap();
    let proxy = Proxy::to(host);
    let uri = format!(
        "mongodb://{}/?directConnection=true&serverSelectionTimeoutMS=1000&connectTimeoutMS=2000&heartbeatFrequencyMS=1000",
        proxy.address()
    );
    (proxy, uri)
}

async fn accept(listener: TcpListener, target: String, behaviour: watch::Receiver<Behaviour>, shared: Arc<Shared>) {
    while let Ok((client, _)) = listener.accept().await {
        shared.accepted.fetch_add(1, Ordering::SeqCst);
        let (target, behaviour, shared) = (target.clone(), behaviour.clone(), Arc::clone(&shared));
        tokio::spawn(async move { connection(client, &target, behaviour, &shared).await });
    }
}

/// Ends in a reset on both sides, unless one of them closes.
async fn connection(mut client: TcpStream, target: &str, behaviour: watch::Receiver<Behaviour>, shared: &Shared) {
    let mut watched = behaviour.clone();
    if watched.borrow().link != Link::Cut
        && let Ok(mut server) = TcpStream::connect(target).await
    {
        let (from_client, to_client) = client.split();
        let (from_server, to_server) = server.split();
        let allowed = watch::Sender::new(None);
        let closed = tokio::select! {
            () = requests(from_client, to_server, behaviour.clone(), shared, &allowed) => true,
            cut = replies(from_server, to_client, behaviour, &allowed) => {
                shared.sprung.fetch_add(u64::from(cut), Ordering::SeqCst);
                !cut
            }
            _ = watched.wait_for(|b| b.link == Link::Cut) => false,
        };
        if closed {
            return;
        }
        let _ = server.set_zero_linger();
    }
    let _ = client.set_zero_linger();
}

async fn requests(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    mut behaviour: watch::Receiver<Behaviour>,
    shared: &Shared,
    allowed: &watch::Sender<Option<usize>>,
) {
    let mut buffer = vec![0; 64 << 10];
    while let Ok(length @ 1..) = from.read(&mut buffer).await {
        let chunk = &buffer[..length];
        if let Some(bytes) = shared.springs(chunk) {
            allowed.send_replace(Some(bytes));
        }
        if passable(&mut behaviour).await.is_none() || to.write_all(chunk).await.is_err() {
            return;
        }
    }
}

/// True when a reply has been cut where the trap said.
async fn replies(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    mut behaviour: watch::Receiver<Behaviour>,
    allowed: &watch::Sender<Option<usize>>,
) -> bool {
    let mut buffer = vec![0; 64 << 10];
    while let Ok(length @ 1..) = from.read(&mut buffer).await {
        let Some(now) = passable(&mut behaviour).await else {
            return false;
        };
        let share = now
            .reply_bytes_per_second
            .map_or(0.0, |rate| length as f64 / rate as f64);
        tokio::time::sleep(now.reply_delay + Duration::from_secs_f64(share)).await;
        let left = *allowed.borrow();
        let passing = left.map_or(length, |left| left.min(length));
        if to.write_all(&buffer[..passing]).await.is_err() {
            return false;
        }
        if let Some(left) = left {
            if left <= length {
                // What was let through should arrive: a reset may overtake bytes that the client has not read.
                let _ = to.flush().await;
                tokio::time::sleep(Duration::from_millis(5)).await;
                return true;
            }
            allowed.send_replace(Some(left - length));
        }
    }
    false
}

/// Waits out a black hole. `None` when the proxy is gone.
async fn passable(behaviour: &mut watch::Receiver<Behaviour>) -> Option<Behaviour> {
    let open = behaviour.wait_for(|b| b.link != Link::BlackHole).await;
    open.ok().map(|b| *b)
}
