//! Waking and waiting.

use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use channel::{descriptors, wake};

const LONG: Option<Duration> = Some(Duration::from_secs(60));
const NOW: Option<Duration> = Some(Duration::ZERO);

#[test]
fn a_signal_stays_until_it_is_cleared() {
    let (signal, wait) = wake::pair().unwrap();
    let (also, _other) = descriptors::pair().unwrap();
    assert_eq!(wait.wait(also.as_fd(), NOW).unwrap(), (false, false));
    signal.signal();
    signal.signal();
    assert_eq!(wait.wait(also.as_fd(), LONG).unwrap(), (true, false));
    assert_eq!(wait.wait(also.as_fd(), LONG).unwrap(), (true, false));
    wait.clear();
    assert_eq!(wait.wait(also.as_fd(), NOW).unwrap(), (false, false));
    wait.clear();
}

#[test]
fn waiting_ends_when_the_other_end_is_closed() {
    let (_signal, wait) = wake::pair().unwrap();
    let (also, other) = descriptors::pair().unwrap();
    drop(other);
    assert_eq!(wait.wait(also.as_fd(), LONG).unwrap(), (false, true));
    assert!(also.is_closed());
}

#[test]
fn a_descriptor_under_way_is_not_taken_for_the_end() {
    let (_signal, wait) = wake::pair().unwrap();
    let (also, other) = descriptors::pair().unwrap();
    other.send(1, also.as_fd()).unwrap();
    assert_eq!(wait.wait(also.as_fd(), NOW).unwrap(), (false, false));
    assert!(!also.is_closed());
    drop(other);
    assert_eq!(wait.wait(also.as_fd(), LONG).unwrap(), (false, true));
}

#[test]
fn waiting_lasts_no_shorter_than_asked() {
    let (_signal, wait) = wake::pair().unwrap();
    let (also, _other) = descriptors::pair().unwrap();
    let limit = Duration::from_micros(1_500);
    let begun = Instant::now();
    assert_eq!(wait.wait(also.as_fd(), Some(limit)).unwrap(), (false, false));
    assert!(begun.elapsed() >= limit, "a caller with time left would spin: {:?}", begun.elapsed());
}

#[test]
fn a_signal_from_another_thread_ends_the_waiting() {
    let (signal, wait) = wake::pair().unwrap();
    let (also, _other) = descriptors::pair().unwrap();
    std::thread::scope(|scope| {
        scope.spawn(|| signal.signal());
        assert_eq!(wait.wait(also.as_fd(), LONG).unwrap(), (true, false));
    });
}
