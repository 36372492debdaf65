//! What happens below HTTP: connections that end with a reset, and the spelling of a header name
//! that the HTTP library always writes in lower case.

use std::{
    borrow::Cow,
    io::{self, IoSlice},
    net::SocketAddr,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use axum::{
    extract::connect_info::Connected,
    serve::{IncomingStream, Listener},
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
};

use crate::config::HeaderCase;

/// The listener, which gives each connection its [`Line`].
pub(crate) struct Lines {
    pub(crate) listener: TcpListener,
    pub(crate) next_page: HeaderCase,
}

/// A request's hold on its connection.
#[derive(Debug, Clone, Default)]
pub(crate) struct Line(Arc<AtomicBool>);

impl Line {
    /// Lets the connection end with a TCP reset in place of an orderly close.
    pub(crate) fn reset_when_closed(&self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

impl Listener for Lines {
    type Io = Wire;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Wire, SocketAddr) {
        loop {
            match self.listener.accept().await {
                Ok((stream, address)) => {
                    if let Err(error) = stream.set_nodelay(true) {
                        tracing::debug!(%error, "no TCP_NODELAY");
                    }
                    return (
                        Wire {
                            stream,
                            line: Line::default(),
                            next_page: self.next_page,
                        },
                        address,
                    );
                }
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a connection");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

impl Connected<IncomingStream<'_, Lines>> for Line {
    fn connect_info(stream: IncomingStream<'_, Lines>) -> Self {
        stream.io().line.clone()
    }
}

/// One connection.
pub(crate) struct Wire {
    stream: TcpStream,
    line: Line,
    next_page: HeaderCase,
}

impl Drop for Wire {
    fn drop(&mut self) {
        if self.line.0.load(Ordering::Relaxed)
            && let Err(error) = self.stream.set_zero_linger()
        {
            tracing::debug!(%error, "the connection ends without a reset");
        }
    }
}

impl AsyncRead for Wire {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, into)
    }
}

impl AsyncWrite for Wire {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let bytes = respell(bytes, self.next_page);
        Pin::new(&mut self.stream).poll_write(context, &bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let Some((head, rest)) = parts.split_first() else {
            return Pin::new(&mut self.stream).poll_write_vectored(context, parts);
        };
        match respell(head, self.next_page) {
            Cow::Borrowed(_) => Pin::new(&mut self.stream).poll_write_vectored(context, parts),
            Cow::Owned(head) => {
                let mut parts = vec![IoSlice::new(&head)];
                parts.extend(rest.iter().map(|part| IoSlice::new(part)));
                Pin::new(&mut self.stream).poll_write_vectored(context, &parts)
            }
        }
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.line.0.load(Ordering::Relaxed) {
            // An orderly close first would spare the client the reset.
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

/// Rewrites the name of the next-page header in the head of an answer. All spellings have the same
/// length, so that a partial write needs no care.
fn respell(bytes: &[u8], spelling: HeaderCase) -> Cow<'_, [u8]> {
    const LOWER: &[u8] = b"\r\nnextpageuri:";
    let name: &[u8] = match spelling {
        HeaderCase::Documented => b"\r\nNextPageUri:",
        HeaderCase::Title => b"\r\nNextpageuri:",
        HeaderCase::Lower => return Cow::Borrowed(bytes),
    };
    if !bytes.starts_with(b"HTTP/1.") {
        return Cow::Borrowed(bytes);
    }
    let head = bytes
        .windows(4)
        .position(|end| end == b"\r\n\r\n")
        .unwrap_or(bytes.len());
    match bytes[..head]
        .windows(LOWER.len())
        .position(|found| found == LOWER)
    {
        Some(at) => {
            let mut respelt = bytes.to_vec();
            respelt[at..at + LOWER.len()].copy_from_slice(name);
            Cow::Owned(respelt)
        }
        None => Cow::Borrowed(bytes),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_head_of_an_answer_is_respelt() {
        let answer = b"HTTP/1.1 200 OK\r\nnextpageuri: x\r\n\r\n\r\nnextpageuri: y";
        let respelt = respell(answer, HeaderCase::Documented);
        assert_eq!(
            &respelt[..],
            b"HTTP/1.1 200 OK\r\nNextPageUri: x\r\n\r\n\r\nnextpageuri: y"
        );
        assert_eq!(&respell(answer, HeaderCase::Lower)[..], answer);
        assert_eq!(
            &respell(b"\r\nnextpageuri: x", HeaderCase::Title)[..],
            b"\r\nnextpageuri: x"
        );
    }
}
