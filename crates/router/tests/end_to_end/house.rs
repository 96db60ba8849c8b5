//! A router in a thread of its own, and the test as its arbiter.

use std::cell::RefCell;
use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use channel::link::Files;
use channel::memory::Layout;
use serde_json::{Value, json};

use crate::client::Client;
use crate::fake::Fake;

/// However slow the machine is: what has not happened by then will not happen.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// The smallest rings that a router accepts.
pub const LAYOUT: Layout = Layout { slots: 64, requests: 256 << 10, responses: 256 << 10 };

/// Wait until something is so.
pub fn eventually(what: &str, mut is: impl FnMut() -> bool) {
    let until = Instant::now() + PATIENCE;
    while !is() {
        assert!(Instant::now() < until, "never happened: {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// A directory that goes away with the test.
#[derive(Debug)]
pub struct Directory(pub PathBuf);

impl Directory {
    fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("remuda-router-{}-{count}", std::process::id()));
        std::fs::create_dir(&path).unwrap();
        Self(path)
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// The router and what the arbiter would hold.
pub struct House {
    control: Option<OwnedFd>,
    router: Option<JoinHandle<i32>>,
    pub listener: TcpListener,
    pub address: SocketAddr,
    pub directory: Directory,
    pub options: Value,
    /// What the class of the workers is, of those that come from now on.
    pub streams: bool,
    pub evented: bool,
    /// What was reported and not yet asked for.
    reports: RefCell<Vec<Value>>,
    next: u32,
    /// The router's ends of the channels, for another router.
    ends: Vec<(u32, [OwnedFd; 5])>,
}

impl House {
    /// A router with one listener and settings that suit most tests. What they say of `streams` and
    /// `evented` is meant for the workers.
    pub fn open(change: impl FnOnce(&mut Value)) -> Self {
        let directory = Directory::new();
        let path = |name: &str| directory.0.join(name).to_str().unwrap().to_owned();
        let mut options = json!({
            "type": "options",
            "access_log_format": "%(m)s %(U)s %(s)s %(b)s",
            "accesslog": path("access"), "errorlog": path("errors"), "loglevel": "debug",
            "body_rate": 240, "send_rate": 240,
            "forwarded_allow_ips": ["127.0.0.1"], "forwarder_headers": [], "header_map": "drop",
            "header_timeout": 10.0, "keepalive": 75.0,
            "limit_request_body": 64 << 20, "limit_request_field_size": 8190,
            "limit_request_fields": 100, "limit_request_head": 65536, "limit_request_line": 4094,
            "max_connections": 0, "max_queue": 2048,
            "non_ascii_target": "encode", "queue_timeout": 60.0,
            "request_buffer": 1 << 20, "request_timeout": 0.0,
            "response_buffer": 1 << 20, "response_spool_limit": 1 << 30,
            "secure_scheme_headers": {}, "sendfile": true, "timeout": 30.0,
            "tmp_upload_dir": path(""),
        });
        change(&mut options);
        let mut take = |name| options.as_object_mut().unwrap().remove(name) == Some(Value::Bool(true));
        let (streams, evented) = (take("streams"), take("evented"));
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let mut house = Self {
            control: None,
            router: None,
            listener,
            address,
            directory,
            options,
            streams,
            evented,
            reports: RefCell::default(),
            next: 1,
            ends: Vec::new(),
        };
        house.start();
        house
    }

    /// Start a router.
    pub fn start(&mut self) {
        let (ours, theirs) = seqpacket();
        self.router = Some(std::thread::spawn(move || router::run(theirs)));
        self.control = Some(ours);
        self.configure(&self.options);
        self.listen();
        self.report("started");
    }

    pub fn listen(&self) {
        let listeners = json!([{"address": "127.0.0.1", "port": self.address.port()}]);
        self.order(&json!({"type": "listeners", "listeners": listeners}), &[self.listener.as_raw_fd()]);
    }

    /// Tell the router these options, with the log files that they name.
    pub fn configure(&self, options: &Value) {
        self.order_with_logs(options, options);
    }

    /// Have the router go on with log files that are opened anew.
    pub fn reopen(&self) {
        self.order_with_logs(&json!({"type": "reopen"}), &self.options);
    }

    fn order_with_logs(&self, order: &Value, options: &Value) {
        let files = ["errorlog", "accesslog"].map(|name| {
            let path = options[name].as_str().unwrap();
            std::fs::OpenOptions::new().append(true).create(true).open(path).unwrap()
        });
        self.order(order, &[files[0].as_raw_fd(), files[1].as_raw_fd()]);
    }

    /// Wait until the router has heard all that it was told.
    pub fn is_heard(&self) {
        self.order(&json!({"type": "ping"}), &[]);
        self.report("pong");
    }

    /// What the error log says.
    pub fn errors(&self) -> String {
        std::fs::read_to_string(self.directory.0.join("errors")).unwrap_or_default()
    }

    /// What the access log says.
    pub fn accesses(&self) -> String {
        std::fs::read_to_string(self.directory.0.join("access")).unwrap_or_default()
    }

    /// Let a worker of so many slots appear, and wait until it is ready.
    pub fn worker(&mut self, slots: usize) -> Fake {
        self.worker_of(slots, 0)
    }

    /// A worker that is not ready yet.
    pub fn boot(&mut self, slots: usize) -> Fake {
        self.boot_of(slots, 0)
    }

    fn boot_of(&mut self, slots: usize, max_requests: u64) -> Fake {
        let files = Files::create(LAYOUT).unwrap();
        let id = self.next;
        self.next += 1;
        self.ends.push((id, files.router));
        self.attach(id, slots, max_requests);
        Fake::open(id, files.worker)
    }

    /// As [`House::worker`], with a bound on its requests.
    pub fn worker_of(&mut self, slots: usize, max_requests: u64) -> Fake {
        let mut fake = self.boot_of(slots, max_requests);
        fake.greet(0);
        self.report("ready");
        fake
    }

    /// Hand a worker's channel to the router.
    pub fn attach(&self, id: u32, slots: usize, max_requests: u64) {
        let (_, fds) = self.ends.iter().find(|(other, _)| *other == id).unwrap();
        let numbers: Vec<i32> = fds.iter().map(AsRawFd::as_raw_fd).collect();
        let order = json!({
            "type": "worker", "id": id, "pid": 40_000 + id, "slots": slots, "max_requests": max_requests,
            "streams": self.streams, "evented": self.evented,
        });
        self.order(&order, &numbers);
    }

    /// Tell the router that a worker is dead.
    pub fn gone(&mut self, fake: Fake) {
        let id = fake.id;
        drop(fake);
        self.ends.retain(|(other, _)| *other != id);
        self.order(&json!({"type": "gone", "id": id, "why": "was killed by SIGKILL"}), &[]);
    }

    pub fn connect(&self) -> Client {
        Client::new(TcpStream::connect(self.address).unwrap())
    }

    /// Give an order.
    pub fn order(&self, order: &Value, fds: &[i32]) {
        send(self.control.as_ref().unwrap(), order.to_string().as_bytes(), fds).unwrap();
    }

    /// Wait for a report of this type.
    pub fn report(&self, kind: &str) -> Value {
        let until = Instant::now() + PATIENCE;
        loop {
            let mut reports = self.reports.borrow_mut();
            if let Some(index) = reports.iter().position(|report| report["type"] == kind) {
                return reports.remove(index);
            }
            let Some(report) = self.receive(until) else {
                panic!("no {kind}, but {reports:?}; errors:\n{}", self.errors());
            };
            reports.push(report);
        }
    }

    /// Has such a report come?
    pub fn has_reported(&self, kind: &str) -> bool {
        while let Some(report) = self.receive(Instant::now()) {
            self.reports.borrow_mut().push(report);
        }
        self.reports.borrow().iter().any(|report| report["type"] == kind)
    }

    fn receive(&self, until: Instant) -> Option<Value> {
        let control = self.control.as_ref().unwrap();
        let left = until.saturating_duration_since(Instant::now());
        let mut entry = libc::pollfd { fd: control.as_raw_fd(), events: libc::POLLIN, revents: 0 };
        // SAFETY: one live entry, as is passed.
        if unsafe { libc::poll(&raw mut entry, 1, left.as_millis() as i32) } <= 0 {
            return None;
        }
        let mut buffer = [0_u8; 4096];
        // SAFETY: receives into a live buffer of the length that is passed.
        let got = unsafe {
            libc::recv(control.as_raw_fd(), buffer.as_mut_ptr().cast(), buffer.len(), libc::MSG_DONTWAIT)
        };
        if got <= 0 {
            return None;
        }
        Some(serde_json::from_slice(&buffer[..got as usize]).unwrap())
    }

    /// The arbiter dies.
    pub fn orphan(&mut self) {
        self.control = None;
    }

    /// Wait for the router to end.
    pub fn exit_code(&mut self) -> i32 {
        let router = self.router.take().unwrap();
        eventually("the router's end", || router.is_finished());
        router.join().unwrap()
    }

    /// Have the router end as if it had crashed: whatever it holds is lost.
    pub fn crash(&mut self) {
        self.order(&json!({"type": "quit"}), &[]);
        assert_eq!(self.exit_code(), 0);
        self.control = None;
        self.reports.borrow_mut().clear();
    }
}

impl Drop for House {
    fn drop(&mut self) {
        if let Some(control) = &self.control {
            // It may have ended already.
            let _ = send(control, br#"{"type": "quit"}"#, &[]);
        }
        self.control = None;
        if let Some(router) = self.router.take()
            && !std::thread::panicking()
        {
            assert_eq!(router.join().unwrap(), 0, "{}", self.errors());
        }
        if std::thread::panicking() {
            eprintln!("---- the error log\n{}---- the access log\n{}", self.errors(), self.accesses());
        }
    }
}

fn seqpacket() -> (OwnedFd, OwnedFd) {
    let mut fds = [0; 2];
    // SAFETY: two fresh descriptors, checked, and ours alone.
    unsafe {
        let kind = libc::SOCK_SEQPACKET | libc::SOCK_CLOEXEC;
        assert_eq!(libc::socketpair(libc::AF_UNIX, kind, 0, fds.as_mut_ptr()), 0);
        (OwnedFd::from_raw_fd(fds[0]), OwnedFd::from_raw_fd(fds[1]))
    }
}

fn send(socket: &OwnedFd, message: &[u8], fds: &[i32]) -> io::Result<()> {
    let mut part = libc::iovec { iov_base: message.as_ptr().cast_mut().cast(), iov_len: message.len() };
    let mut control = [0_u64; 32];
    let size = size_of_val(fds) as u32;
    // SAFETY: the header points at live buffers; the control buffer has room for a few descriptors.
    unsafe {
        let mut header: libc::msghdr = std::mem::zeroed();
        header.msg_iov = &raw mut part;
        header.msg_iovlen = 1;
        if !fds.is_empty() {
            header.msg_control = control.as_mut_ptr().cast();
            header.msg_controllen = libc::CMSG_SPACE(size) as _;
            let first = libc::CMSG_FIRSTHDR(&raw const header);
            (*first).cmsg_level = libc::SOL_SOCKET;
            (*first).cmsg_type = libc::SCM_RIGHTS;
            (*first).cmsg_len = libc::CMSG_LEN(size) as _;
            for (index, fd) in fds.iter().enumerate() {
                libc::CMSG_DATA(first).cast::<i32>().add(index).write_unaligned(*fd);
            }
        }
        let sent = libc::sendmsg(socket.as_fd().as_raw_fd(), &raw const header, libc::MSG_NOSIGNAL);
        if sent < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }
}
