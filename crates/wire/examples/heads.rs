//! Prints how long it takes to read heads of several sizes and to write one, in nanoseconds:
//! `cargo run --release -p remuda-wire --example heads`.

use std::hint::black_box;
use std::time::Instant;

use wire::{Connection, HeadReader, Limits, ResponseFraming, ResponseHead, write_head};

const SMALL: &[u8] = b"GET / HTTP/1.1\r\nHost: 127.0.0.1:8000\r\n\r\n";

const AB: &[u8] = b"GET /hello?name=world HTTP/1.0\r\nConnection: Keep-Alive\r\nHost: 127.0.0.1:8000\r\n\
User-Agent: ApacheBench/2.3\r\nAccept: */*\r\n\r\n";

const BROWSER: &[u8] = b"GET /articles/2026/11/23/a-title?utm_source=feed&page=2 HTTP/1.1\r\n\
Host: www.example.com\r\nConnection: keep-alive\r\nCache-Control: max-age=0\r\n\
sec-ch-ua: \"Chromium\";v=\"140\", \"Not=A?Brand\";v=\"24\"\r\nsec-ch-ua-mobile: ?0\r\n\
sec-ch-ua-platform: \"Linux\"\r\nUpgrade-Insecure-Requests: 1\r\n\
User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0 Safari/537.36\r\n\
Accept: text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8\r\n\
Sec-Fetch-Site: same-origin\r\nSec-Fetch-Mode: navigate\r\nSec-Fetch-User: ?1\r\nSec-Fetch-Dest: document\r\n\
Referer: https://www.example.com/articles\r\nAccept-Encoding: gzip, deflate, br, zstd\r\n\
Accept-Language: en-US,en;q=0.9,de;q=0.8\r\nCookie: session=0123456789abcdef0123456789abcdef; theme=dark\r\n\r\n";

/// The median of several runs, in nanoseconds a round.
fn measure(mut round: impl FnMut()) -> f64 {
    const ROUNDS: u32 = 200_000;
    let mut runs: Vec<f64> = (0..9)
        .map(|_| {
            let start = Instant::now();
            for _ in 0..ROUNDS {
                round();
            }
            start.elapsed().as_nanos() as f64 / f64::from(ROUNDS)
        })
        .collect();
    runs.sort_by(f64::total_cmp);
    runs.get(runs.len() / 2).copied().unwrap_or_default()
}

fn main() {
    let limits = Limits::default();
    for (name, bytes) in [("small", SMALL), ("ab", AB), ("browser", BROWSER)] {
        let mut reader = HeadReader::new();
        let time = measure(|| {
            reader.reset();
            let end = reader.read(black_box(bytes), &limits);
            assert_eq!(end, Ok(Some(bytes.len())));
            black_box(reader.head(bytes));
        });
        println!("read {name:8} {:4} bytes {time:7.1} ns", bytes.len());
    }

    let mut out = Vec::with_capacity(1024);
    let fields: [(&[u8], &[u8]); 2] =
        [(b"Content-Type", b"text/html; charset=utf-8"), (b"X-Request-Id", b"0123456789")];
    let head = ResponseHead {
        status: 200,
        reason: b"OK",
        framing: ResponseFraming::Length(13),
        connection: Some(Connection::KeepAlive),
        date: b"Mon, 23 Nov 2026 03:54:15 GMT",
        server: b"remuda",
    };
    let time = measure(|| {
        out.clear();
        let written = write_head(&mut out, black_box(&head), fields.iter().copied());
        assert_eq!(written, Ok(()));
        black_box(&out);
    });
    println!("write         {:4} bytes {time:7.1} ns", out.len());
}
