//! As much of HTTP as asking this machine takes.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use serde_json::Value;

/// `GET`; the body of a 200, or why there is none.
pub(crate) fn get(address: SocketAddr, path: &str) -> Result<String, String> {
    request(address, &format!("GET {path}"), "", "")
}

/// `POST` of JSON to a control of the simulator; it must be taken.
pub(crate) fn post(address: SocketAddr, path: &str, body: &Value) -> Value {
    let body = body.to_string();
    let head = format!(
        "Content-Type: application/json\r\nContent-Length: {}\r\n",
        body.len()
    );
    let answer = request(address, &format!("POST {path}"), &head, &body).unwrap();
    serde_json::from_str(&answer).unwrap()
}

/// One request on a connection of its own. HTTP/1.0, so that the body is simply what comes until the end.
pub(crate) fn request(
    address: SocketAddr,
    what: &str,
    head: &str,
    body: &str,
) -> Result<String, String> {
    let ask = || -> std::io::Result<String> {
        let mut stream = TcpStream::connect(address)?;
        stream.set_read_timeout(Some(Duration::from_mins(1)))?;
        write!(
            stream,
            "{what} HTTP/1.0\r\nHost: {address}\r\n{head}\r\n{body}"
        )?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    };
    let answer = ask().map_err(|error| format!("{what}: {error}"))?;
    let (head, body) = answer.split_once("\r\n\r\n").ok_or("no HTTP")?;
    let status = head.split(' ').nth(1).unwrap_or_default();
    if status == "200" {
        Ok(body.to_owned())
    } else {
        Err(format!("{what}: HTTP {status}: {body}"))
    }
}
