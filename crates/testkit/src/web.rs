//! A web server inside a test's namespaces that answers as the test says, faults included.

use crate::Namespaces;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{TcpListener, TcpStream};

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// A request without a body.
#[derive(Debug)]
pub struct Request {
    /// The method.
    pub method: String,
    /// Path and query.
    pub path: String,
    /// The `Range` header, if there was one.
    pub range: Option<String>,
}

/// An answer.
#[derive(Debug, Clone, Default)]
pub struct Reply {
    /// The status.
    pub status: u16,
    /// Further headers.
    pub headers: Vec<(&'static str, String)>,
    /// The body.
    pub body: Vec<u8>,
    /// After how many bytes of the body the connection breaks.
    pub cut_after: Option<usize>,
}

impl Reply {
    /// `200 OK` with a body.
    pub fn ok(content_type: &str, body: impl Into<Vec<u8>>) -> Self {
        let headers = vec![("Content-Type", content_type.to_owned())];
        Self { status: 200, headers, body: body.into(), cut_after: None }
    }

    /// A status alone.
    pub fn status(status: u16) -> Self {
        Self { status, ..Self::default() }
    }
}

/// The server, at [`Web::HOST`].
#[derive(Debug)]
pub struct Web {
    stop: Arc<AtomicBool>,
    thread: Option<std::thread::JoinHandle<()>>,
    listener: TcpListener,
}

impl Web {
    /// Where it answers.
    pub const HOST: &'static str = "127.0.0.1:5001";

    /// Starts it. Each connection carries one request.
    pub fn start(
        namespaces: &Namespaces,
        answer: impl Fn(&Request) -> Reply + Send + Sync + 'static,
    ) -> Self {
        let listener = namespaces.within(|| TcpListener::bind(Self::HOST).expect("bind the web server"));
        let stop = Arc::new(AtomicBool::new(false));
        let (accepting, stopping) = (listener.try_clone().expect("a second handle"), Arc::clone(&stop));
        let answer = Arc::new(answer);
        let thread = std::thread::spawn(move || {
            for connection in accepting.incoming() {
                if stopping.load(Ordering::Relaxed) {
                    return;
                }
                let Ok(connection) = connection else { continue };
                let answer = Arc::clone(&answer);
                std::thread::spawn(move || drop(serve(&connection, answer.as_ref())));
            }
        });
        Self { stop, thread: Some(thread), listener }
    }
}

fn serve(connection: &TcpStream, answer: &dyn Fn(&Request) -> Reply) -> std::io::Result<()> {
    let mut lines = BufReader::new(connection).lines();
    let first = lines.next().unwrap_or_else(|| Ok(String::new()))?;
    let mut words = first.split(' ').map(str::to_owned);
    let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let mut range = None;
    for line in lines {
        let line = line?;
        if line.is_empty() {
            break;
        }
        if let Some((name, value)) = line.split_once(':')
            && name.eq_ignore_ascii_case("range")
        {
            range = Some(value.trim().to_owned());
        }
    }
    let request = Request { method, path, range };
    let reply = answer(&request);
    let mut head = format!(
        "HTTP/1.1 {} status\r\nConnection: close\r\nContent-Length: {}\r\n",
        reply.status,
        reply.body.len()
    );
    for (name, value) in &reply.headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    let mut connection = connection;
    connection.write_all(format!("{head}\r\n").as_bytes())?;
    if request.method != "HEAD" {
        let length = reply.cut_after.unwrap_or(reply.body.len()).min(reply.body.len());
        connection.write_all(reply.body.get(..length).unwrap_or_default())?;
    }
    Ok(())
}

impl Drop for Web {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        // A listener that is shut down accepts no more (the descriptor alone does not say so).
        rustix::net::shutdown(&self.listener, rustix::net::Shutdown::Both).ok();
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}
