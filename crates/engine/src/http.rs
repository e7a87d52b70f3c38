//! The little HTTP that plugins need: one request with a document, one answer, on a connection of its own (RFC 9112).

use std::io::{self, BufRead, BufReader, Read, Write};

/// The largest answer that is taken.
const LARGEST: u64 = 4 << 20;

/// An answer.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Response {
    pub(crate) status: u16,
    pub(crate) body: Vec<u8>,
}

/// Posts a document and reads the answer.
///
/// # Errors
///
/// The connection's, or `InvalidData` for what is no answer or too large.
pub(crate) fn post(
    mut connection: impl Read + Write,
    host: &str,
    path: &str,
    media_type: &str,
    body: &[u8],
) -> io::Result<Response> {
    write!(
        connection,
        "POST {path} HTTP/1.1\r\nHost: {host}\r\nAccept: {media_type}\r\nContent-Type: {media_type}\r\n\
         Content-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    )?;
    connection.write_all(body)?;
    connection.flush()?;
    read(&mut BufReader::new(connection.take(LARGEST)))
}

fn read(from: &mut impl BufRead) -> io::Result<Response> {
    let status = line(from)?;
    let status = status.split(' ').nth(1).and_then(|code| code.parse().ok()).ok_or_else(malformed)?;
    let (mut length, mut chunked) = (None, false);
    loop {
        let header = line(from)?;
        let Some((name, value)) = header.split_once(':') else {
            if header.is_empty() {
                break;
            }
            return Err(malformed());
        };
        if name.eq_ignore_ascii_case("content-length") {
            length = Some(value.trim().parse::<u64>().map_err(|_error| malformed())?);
        }
        chunked |=
            name.eq_ignore_ascii_case("transfer-encoding") && value.trim().eq_ignore_ascii_case("chunked");
    }
    let mut body = Vec::new();
    if chunked {
        loop {
            let size = line(from)?;
            let size = size.split(';').next().unwrap_or_default().trim();
            let size = u64::from_str_radix(size, 16).map_err(|_error| malformed())?;
            whole(from, size, &mut body)?;
            if size == 0 {
                break;
            }
            line(from)?;
        }
    } else if let Some(length) = length {
        whole(from, length, &mut body)?;
    } else {
        from.read_to_end(&mut body)?;
    }
    Ok(Response { status, body })
}

fn whole(from: &mut impl BufRead, length: u64, body: &mut Vec<u8>) -> io::Result<()> {
    if from.by_ref().take(length).read_to_end(body)? as u64 == length {
        return Ok(());
    }
    Err(io::ErrorKind::UnexpectedEof.into())
}

fn line(from: &mut impl BufRead) -> io::Result<String> {
    let mut text = String::new();
    if from.read_line(&mut text)? == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(text.trim_end_matches(['\r', '\n']).to_owned())
}

fn malformed() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "malformed HTTP answer")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_of_all_forms() {
        let check = |text: &str, expect: Option<(u16, &str)>| {
            let answer = read(&mut text.as_bytes()).ok();
            let answer = answer.map(|answer| (answer.status, String::from_utf8(answer.body).unwrap()));
            assert_eq!(answer, expect.map(|(status, body)| (status, body.to_owned())), "{text}");
        };
        check("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}more", Some((200, "{}")));
        check("HTTP/1.0 404 Not Found\r\n\r\nnone", Some((404, "none")));
        check(
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\n{}\r\n1;x\r\n!\r\n0\r\n\r\n",
            Some((200, "{}!")),
        );
        check("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{}", None);
        check("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffffff\r\n", None);
        for text in ["", "x", "HTTP/1.1 OK\r\n\r\n", "HTTP/1.1 200 OK\r\nnothing"] {
            check(text, None);
        }
    }
}
