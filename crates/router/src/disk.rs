//! Work with files that may take its time: a thread does it, while the router goes on.
//!
//! A write goes to the page cache, but the kernel holds whoever dirties pages faster than the disk
//! takes them; and the last descriptor of a file that has no name takes all its pages along, some
//! milliseconds for each ten megabytes.

use std::io;
use std::pin::Pin;
use std::sync::OnceLock;
use std::sync::mpsc::{Sender, channel};
use std::task::{Context, Poll, ready};
use std::thread::Builder;

use tokio::sync::oneshot;

/// The thread's stack, in bytes: it calls nothing deep.
const STACK: usize = 128 * 1024;

type Job = Box<dyn FnOnce() + Send>;

/// What the process's one such thread is to do, from the first time on that there is something.
/// `None`: there is no room for a thread. The row is bounded by those who wait: one job for each
/// body that arrives, and one for each that has gone.
static JOBS: OnceLock<Option<Sender<Job>>> = OnceLock::new();

/// Have some work done. Without a thread it is done here and now.
pub(crate) fn run<T: Send + 'static>(work: impl FnOnce() -> io::Result<T> + Send + 'static) -> Work<T> {
    let (done, wait) = oneshot::channel();
    submit(Box::new(move || {
        // Whoever waited for it may have gone.
        let _ = done.send(work());
    }));
    Work(wait)
}

/// Have something dropped.
pub(crate) fn discard(thing: impl Send + 'static) {
    submit(Box::new(move || drop(thing)));
}

fn submit(job: Job) {
    let refused = match JOBS.get_or_init(start) {
        Some(jobs) => jobs.send(job).map_err(|refused| refused.0),
        None => Err(job),
    };
    if let Err(job) = refused {
        job();
    }
}

fn start() -> Option<Sender<Job>> {
    let (jobs, work) = channel::<Job>();
    let thread = Builder::new().name("disk".to_owned()).stack_size(STACK);
    thread.spawn(move || work.into_iter().for_each(|job| job())).ok().map(|_| jobs)
}

/// Work under way. Dropping it leaves the work to its end.
#[derive(Debug)]
pub(crate) struct Work<T>(oneshot::Receiver<io::Result<T>>);

impl<T> Work<T> {
    /// What came of it.
    ///
    /// # Errors
    /// The work's own.
    pub fn poll(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<T>> {
        let done = ready!(Future::poll(Pin::new(&mut self.0), cx));
        Poll::Ready(done.unwrap_or_else(|_| Err(io::Error::other("the thread for files has failed"))))
    }
}
