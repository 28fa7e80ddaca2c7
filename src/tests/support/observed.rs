//! A running job seen from outside: `/readyz`, `/metrics`, memory and processor time.
//!
//! Owns: asking and reading the answers. Does not own: the process (`Running`), what the answers should be.

use std::io::{BufRead as _, BufReader, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::{Value, json};

use super::{DEADLINE, Job, Running, until};

pub struct Observed {
    pub run: Running,
    address: String,
}

impl Observed {
    /// Starts `affluent run` with its HTTP side on a free port. `settings` are `--set` values.
    pub fn start(job: &Job, settings: &[&str]) -> Self {
        let mut args = vec!["--set", "http.enabled=true", "--set", "http.listen=127.0.0.1:0"];
        args.extend(settings.iter().flat_map(|setting| ["--set", setting]));
        args.push("run");
        let run = job.spawn("run", &args, &[]);
        let address = until("the job serves", || {
            let log = run.log();
            let (_, rest) = log.split_once("/readyz address=")?;
            Some(rest.split_whitespace().next()?.to_owned())
        });
        Self { run, address }
    }

    /// Status and body.
    pub fn get(&self, path: &str) -> (u16, String) {
        let (head, body) = self.ask(path, "");
        let status = head.split(' ').nth(1).and_then(|code| code.parse().ok());
        (status.unwrap(), String::from_utf8(body).unwrap())
    }

    /// Head and body of an answer. `headers`: lines that end with CRLF.
    pub fn ask(&self, path: &str, headers: &str) -> (String, Vec<u8>) {
        let mut stream = TcpStream::connect(&self.address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        write!(
            stream,
            "GET {path} HTTP/1.1\r\nHost: job\r\nConnection: close\r\n{headers}\r\n"
        )
        .unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        let end = answer.windows(4).position(|bytes| bytes == b"\r\n\r\n").unwrap();
        let head = String::from_utf8(answer[..end].to_vec()).unwrap();
        (head, answer[end + 4..].to_vec())
    }

    /// A connection on which only this has been sent.
    pub fn send(&self, text: &str) -> TcpStream {
        let mut stream = TcpStream::connect(&self.address).unwrap();
        stream.write_all(text.as_bytes()).unwrap();
        stream
    }

    /// A connection on which the answer to `path` has begun: its lines, as they come.
    pub fn listen(&self, path: &str) -> impl Iterator<Item = String> + use<> {
        let mut stream = TcpStream::connect(&self.address).unwrap();
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        write!(stream, "GET {path} HTTP/1.1\r\nHost: job\r\n\r\n").unwrap();
        BufReader::new(stream).lines().map(|line| line.unwrap())
    }

    pub fn ready(&self) -> bool {
        let (status, board) = self.get("/readyz");
        let board: Value = serde_json::from_str(&board).unwrap();
        assert_ne!(board["parts"], json!([]), "whoever asks first is told of every part");
        status == 200
    }

    /// The board's line about a part; `Null` where it has none.
    pub fn part(&self, stream: &str, part: &str) -> Value {
        let board: Value = serde_json::from_str(&self.get("/readyz").1).unwrap();
        let parts = board["parts"].as_array().unwrap();
        let found = parts.iter().find(|p| p["stream"] == stream && p["part"] == part);
        found.cloned().unwrap_or_default()
    }

    /// Sum over the series of a metric that carry all these labels, written `name="value"`.
    pub fn metric(&self, name: &str, labels: &[&str]) -> f64 {
        let metrics = self.get("/metrics").1;
        let series = metrics.lines().filter(|line| {
            let rest = line.strip_prefix(name);
            rest.is_some_and(|rest| rest.starts_with(['{', ' '])) && labels.iter().all(|label| line.contains(label))
        });
        series
            .map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap())
            .sum()
    }

    /// Records of a stream that a sink has passed, all partitions together.
    pub fn progress(&self, stream: &str, sink: &str) -> u64 {
        let labels = [format!("stream=\"{stream}\""), format!("sink=\"{sink}\"")];
        let labels: Vec<&str> = labels.iter().map(String::as_str).collect();
        self.metric("affluent_progress_offset", &labels) as u64
    }

    pub fn until_progress(&self, stream: &str, sink: &str, at_least: u64) {
        until(&format!("{sink} has {at_least} records of {stream}"), || {
            (self.progress(stream, sink) >= at_least).then_some(())
        });
    }

    /// Failed tries of a part so far.
    pub fn failed_tries(&self, stream: &str, part: &str) -> u64 {
        let labels = [format!("stream=\"{stream}\""), format!("part=\"{part}\"")];
        let labels: Vec<&str> = labels.iter().map(String::as_str).collect();
        self.metric("affluent_failed_tries_total", &labels) as u64
    }

    pub fn resident_mib(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.run.pid())).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmRSS")).unwrap();
        let kib: u64 = line.split_whitespace().nth(1).unwrap().parse().unwrap();
        kib / 1024
    }

    /// Processor time used so far, user and system, all threads.
    pub fn processor_seconds(&self) -> f64 {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.run.pid())).unwrap();
        let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
        let ticks: u64 = fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap();
        // The unit that Linux shows to every program, whatever the kernel counts in.
        ticks as f64 / 100.0
    }

    /// SIGTERM, and everything read is committed.
    pub fn end(mut self) -> String {
        self.run.signal(Signal::TERM);
        let status = self.run.wait();
        let log = self.run.log();
        assert_eq!(status.code(), Some(0), "{log}");
        log
    }
}
