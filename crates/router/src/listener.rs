//! Accepting: one task a listening socket.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::rc::Rc;
use std::time::{Duration, Instant};

use socket2::{SockAddr, SockAddrStorage, SockRef};
use tokio::io::unix::AsyncFd;
use tokio::task::spawn_local;

use crate::connection::{Connection, Peer};
use crate::control::{Address, set_nonblocking, would_block};
use crate::core::Router;
use crate::watch::watch;

/// Connections that are accepted before others get their turn.
const BATCH: usize = 64;
/// The most idle connections that are closed at once when there is no descriptor left...
const MAKE_ROOM: usize = 32;
/// ... and of all connections one in so many: the youngest may only look idle, with a request under
/// way.
const MAKE_ROOM_OF: usize = 16;
/// How long accepting pauses when there is no descriptor left and nothing to close.
const PAUSE: Duration = Duration::from_millis(100);
/// How often the log says so.
const SAY_AGAIN: Duration = Duration::from_secs(1);
/// How long a listener that closes still accepts what was under way.
const DRAIN: Duration = Duration::from_millis(100);

/// A listening socket.
#[derive(Debug)]
pub(crate) struct Listener {
    pub address: Address,
    socket: AsyncFd<OwnedFd>,
    is_unix: bool,
}

impl Listener {
    /// # Errors
    /// The operating system's, when the descriptor is not a socket.
    pub fn new(address: Address, fd: OwnedFd) -> io::Result<Self> {
        set_nonblocking(&fd)?;
        let socket = SockRef::from(&fd);
        let is_unix = socket.local_addr()?.is_unix();
        if !is_unix {
            // Accepted sockets inherit it.
            socket.set_tcp_nodelay(true)?;
            take_handshakes(&fd);
        }
        Ok(Self { address, socket: watch(fd)?, is_unix })
    }

    /// Accept until the task is aborted.
    pub async fn accept_all(self: Rc<Self>, router: Rc<Router>) {
        let mut said: Option<Instant> = None;
        loop {
            let Ok(mut guard) = self.socket.readable().await else { return };
            let accepted = self.accept_some(&router);
            match accepted {
                Ok(true) => {
                    drop(guard);
                    tokio::task::yield_now().await;
                }
                Ok(false) => guard.clear_ready(),
                Err(error) => {
                    drop(guard);
                    make_room(&router, &error, &mut said).await;
                }
            }
        }
    }

    /// Accept what is there, up to a batch. True: there may be more.
    fn accept_some(&self, router: &Rc<Router>) -> io::Result<bool> {
        let limit = router.settings().options.max_connections;
        for _ in 0..BATCH {
            if limit > 0 && router.clients.len() >= limit {
                // Only for one who really waits must others go.
                return if self.has_waiting()? {
                    Err(io::Error::other("max_connections"))
                } else {
                    Ok(false)
                };
            }
            match accept(self.socket.as_raw_fd()) {
                Ok((fd, from)) => self.begin(router, fd, &from),
                Err(error) if would_block(&error) => return Ok(false),
                // The client gave up before it was accepted, or a signal came.
                Err(error) if is_passing(&error) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(true)
    }

    /// Is there a connection to accept?
    fn has_waiting(&self) -> io::Result<bool> {
        let mut entry = libc::pollfd { fd: self.socket.as_raw_fd(), events: libc::POLLIN, revents: 0 };
        // SAFETY: one live entry, and no waiting.
        if unsafe { libc::poll(&raw mut entry, 1, 0) } < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(entry.revents & libc::POLLIN != 0)
    }

    fn begin(&self, router: &Rc<Router>, fd: OwnedFd, from: &SockAddr) {
        let address = from.as_socket().map(unmapped);
        let server = if self.is_unix { None } else { local_address(&fd) };
        let peer = Peer {
            address,
            text: address.map(|address| address.ip().to_string()).unwrap_or_default(),
            server: server.unwrap_or_else(|| self.address.clone()),
        };
        match Connection::new(router.clone(), fd, peer) {
            Ok(connection) => {
                spawn_local(connection.serve());
            }
            Err(error) => router.log.error(format_args!("a connection cannot be registered: {error}")),
        }
    }

    /// Take no new connections, but lose none that a client believes to have: refuse new handshakes,
    /// accept what is under way, then close.
    pub async fn drain(self: Rc<Self>, router: Rc<Router>) {
        if !self.is_unix
            && let Err(error) = refuse_handshakes(self.socket.get_ref())
        {
            router.log.debug(format_args!("new handshakes cannot be refused: {error}"));
        }
        let until = Instant::now() + DRAIN;
        loop {
            let accepted = self.accept_some(&router);
            let now = Instant::now();
            match accepted {
                // A unix socket refuses nobody: somebody may go on connecting for ever.
                Ok(true) if now < until + DRAIN * 10 => tokio::task::yield_now().await,
                Ok(false) | Err(_) if now < until => tokio::time::sleep(Duration::from_millis(5)).await,
                _ => break,
            }
        }
        // Others may have the same socket: a successor of the arbiter, or a service manager.
        take_handshakes(self.socket.get_ref());
        // Whoever was quicker than the closing of the port.
        if let Err(error) = self.accept_some(&router) {
            router.log.debug(format_args!("the last connections cannot be accepted: {error}"));
        }
    }
}

/// Accepting fails. When no descriptor or no memory is left (or `max_connections` are open), close
/// what is idle; wait otherwise.
async fn make_room(router: &Router, error: &io::Error, said: &mut Option<Instant>) {
    let is_short = matches!(
        error.raw_os_error(),
        None | Some(libc::EMFILE | libc::ENFILE | libc::ENOBUFS | libc::ENOMEM)
    );
    let most = MAKE_ROOM.min(1 + router.clients.len() / MAKE_ROOM_OF);
    let closed = if is_short { router.clients.close_idlest(most) } else { 0 };
    if said.is_none_or(|said| said.elapsed() >= SAY_AGAIN) {
        *said = Some(Instant::now());
        router.log.warning(format_args!(
            "cannot accept connections: {error}; {} are open, {closed} idle ones are being closed",
            router.clients.len()
        ));
    }
    if closed > 0 {
        tokio::task::yield_now().await;
    } else {
        tokio::time::sleep(PAUSE).await;
    }
}

fn is_passing(error: &io::Error) -> bool {
    // accept(2) of Linux also gives the network's errors of the new connection.
    matches!(
        error.raw_os_error(),
        Some(
            libc::ECONNABORTED
                | libc::EINTR
                | libc::EPROTO
                | libc::EPERM
                | libc::ENETDOWN
                | libc::ENETUNREACH
                | libc::EHOSTDOWN
                | libc::EHOSTUNREACH
        )
    )
}

fn accept(listener: i32) -> io::Result<(OwnedFd, SockAddr)> {
    let mut storage = SockAddrStorage::zeroed();
    let mut len = storage.size_of();
    // SAFETY: the storage is live and `len` is its size; the descriptor is checked and ours alone.
    unsafe {
        #[cfg(target_os = "linux")]
        let fd = libc::accept4(
            listener,
            (&raw mut storage).cast(),
            &raw mut len,
            libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC,
        );
        #[cfg(not(target_os = "linux"))]
        let fd = libc::accept(listener, (&raw mut storage).cast(), &raw mut len);
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        let fd = OwnedFd::from_raw_fd(fd);
        #[cfg(not(target_os = "linux"))]
        {
            libc::fcntl(fd.as_raw_fd(), libc::F_SETFD, libc::FD_CLOEXEC);
            set_nonblocking(&fd)?;
        }
        Ok((fd, SockAddr::new(storage, len)))
    }
}

/// An IPv4 client of a socket that listens on both families.
fn unmapped(address: SocketAddr) -> SocketAddr {
    match address.ip() {
        IpAddr::V6(ip) => match ip.to_ipv4_mapped() {
            Some(ip) => SocketAddr::new(IpAddr::V4(ip), address.port()),
            None => address,
        },
        IpAddr::V4(_) => address,
    }
}

fn local_address(fd: &OwnedFd) -> Option<Address> {
    let local = unmapped(SockRef::from(fd).local_addr().ok()?.as_socket()?);
    let text = match local.ip() {
        IpAddr::V4(Ipv4Addr::LOCALHOST) => "127.0.0.1".to_owned(),
        IpAddr::V6(Ipv6Addr::LOCALHOST) => "::1".to_owned(),
        ip => ip.to_string(),
    };
    Some(Address { address: text, port: local.port() })
}

/// Drop the SYN of new handshakes: their clients try again, and find the port closed or a new
/// listener on it. Whatever has shaken hands already is in the backlog and will be accepted.
#[cfg(target_os = "linux")]
fn refuse_handshakes(listener: &OwnedFd) -> io::Result<()> {
    // A socket filter sees a segment from its TCP header on; byte 13 are the flags (RFC 9293 3.1).
    let statement = |code: u32, jt: u8, jf: u8, k: u32| libc::sock_filter { code: code as u16, jt, jf, k };
    let mut program = [
        statement(libc::BPF_LD | libc::BPF_B | libc::BPF_ABS, 0, 0, 13),
        statement(libc::BPF_JMP | libc::BPF_JSET | libc::BPF_K, 0, 1, 0x02),
        statement(libc::BPF_RET | libc::BPF_K, 0, 0, 0),
        statement(libc::BPF_RET | libc::BPF_K, 0, 0, u32::MAX),
    ];
    let filter = libc::sock_fprog { len: program.len() as u16, filter: program.as_mut_ptr() };
    // SAFETY: the option's value is a live `sock_fprog` that points at a live program.
    let set = unsafe {
        libc::setsockopt(
            listener.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_ATTACH_FILTER,
            (&raw const filter).cast(),
            size_of_val(&filter) as libc::socklen_t,
        )
    };
    if set < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Undo [`refuse_handshakes`], ours or that of a router that died on it: the filter belongs to the
/// socket, which may outlive us.
#[cfg(target_os = "linux")]
fn take_handshakes(listener: &OwnedFd) {
    let unused: libc::c_int = 0;
    // Without a filter it fails (ENOENT), and all is well.
    // SAFETY: the option's value is a live int, which the kernel does not look at.
    let _ = unsafe {
        libc::setsockopt(
            listener.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_DETACH_FILTER,
            (&raw const unused).cast(),
            size_of_val(&unused) as libc::socklen_t,
        )
    };
}

#[cfg(not(target_os = "linux"))]
fn take_handshakes(_: &OwnedFd) {}

#[cfg(not(target_os = "linux"))]
fn refuse_handshakes(_: &OwnedFd) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}
