//! A client that believes nothing.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};

use crate::house::PATIENCE;
use crate::strict::{Parsed, parse};

pub struct Client {
    pub stream: TcpStream,
    got: Vec<u8>,
}

impl Client {
    pub fn new(stream: TcpStream) -> Self {
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        stream.set_nodelay(true).unwrap();
        Self { stream, got: Vec::new() }
    }

    pub fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream.write_all(bytes.as_ref()).unwrap();
    }

    /// Ask for a path.
    pub fn get(&mut self, path: &str) {
        self.send(format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n"));
    }

    /// No more will be sent.
    pub fn finish(&mut self) {
        self.stream.shutdown(Shutdown::Write).unwrap();
    }

    /// Wait for a response.
    pub fn response(&mut self) -> Parsed {
        self.response_to("GET")
    }

    /// Wait for a response to a request of this method.
    pub fn response_to(&mut self, method: &str) -> Parsed {
        let mut ended = false;
        loop {
            match parse(&self.got, method == "HEAD", ended) {
                Ok(Some(parsed)) => {
                    self.got.drain(..parsed.len);
                    return parsed;
                }
                Ok(None) if ended => panic!("cut: {:?}", String::from_utf8_lossy(&self.got)),
                Ok(None) => {}
                Err(error) => panic!("{error}: {:?}", String::from_utf8_lossy(&self.got)),
            }
            ended = !self.more();
        }
    }

    /// Read more. False at the end.
    fn more(&mut self) -> bool {
        let mut buffer = vec![0; 64 * 1024];
        let got = self.stream.read(&mut buffer).expect("the server says nothing");
        self.got.extend_from_slice(&buffer[..got]);
        got > 0
    }

    /// Wait until these bytes have come.
    pub fn until(&mut self, wanted: &[u8]) {
        while !self.got.windows(wanted.len()).any(|window| window == wanted) {
            assert!(self.more(), "the server has ended: {:?}", String::from_utf8_lossy(&self.got));
        }
    }

    /// All that comes until the server ends the connection, and whether that was a reset.
    pub fn rest(&mut self) -> (Vec<u8>, bool) {
        let mut buffer = vec![0; 64 * 1024];
        loop {
            match self.stream.read(&mut buffer) {
                Ok(0) => return (std::mem::take(&mut self.got), false),
                Ok(got) => self.got.extend_from_slice(&buffer[..got]),
                Err(error) if error.kind() == ErrorKind::ConnectionReset => {
                    return (std::mem::take(&mut self.got), true);
                }
                Err(error) => panic!("the server does not end: {error}"),
            }
        }
    }

    /// The server ends the connection in an orderly way and says nothing more.
    pub fn is_closed(&mut self) {
        let (rest, reset) = self.rest();
        assert!(rest.is_empty() && !reset, "{:?}, reset: {reset}", String::from_utf8_lossy(&rest));
    }

    /// There is an answer of this status, and then nothing any more.
    pub fn is_refused(&mut self, status: u16) {
        let response = self.response();
        assert_eq!(response.status, status);
        assert!(!response.keeps_alive());
        self.is_closed();
    }
}
