//! The promises of every sink, kept by this one.

use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use audit_exporter_core::contract::{self, Subject};
use bytes::Bytes;
use tokio::task::JoinHandle;

use super::*;

/// A server that may go away, and come back at the same address.
struct Server {
    address: String,
    taken: Arc<Mutex<Vec<Bytes>>>,
    listening: Mutex<Option<JoinHandle<()>>>,
}

impl Server {
    fn serve(&self, listener: TcpListener) {
        let taken = Arc::clone(&self.taken);
        let listening = tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut said = Vec::new();
                // What a connection has brought until it broke off stays.
                drop(stream.read_to_end(&mut said).await);
                taken.lock().unwrap().extend(records(&said));
            }
        });
        *self.listening.lock().unwrap() = Some(listening);
    }
}

/// The records in what was said, without one that is torn.
fn records(mut said: &[u8]) -> Vec<Bytes> {
    let mut records = Vec::new();
    while let Some(space) = said.iter().position(|byte| *byte == b' ') {
        let length: usize = str::from_utf8(&said[..space]).unwrap().parse().unwrap();
        let Some(message) = said.get(space + 1..space + 1 + length) else {
            break;
        };
        let end = message.windows(2).position(|two| two == b"] ").unwrap();
        records.push(Bytes::copy_from_slice(&message[end + 2..]));
        said = &said[space + 1 + length..];
    }
    records
}

#[async_trait(?Send)]
impl Subject for Server {
    async fn open(&self) -> Result<Box<dyn Sink>> {
        Ok(sink(&self.address, "tls = false"))
    }

    async fn contents(&self) -> Result<Vec<Bytes>> {
        Ok(self.taken.lock().unwrap().clone())
    }

    async fn set_down(&self, down: bool) -> Result<bool> {
        if down {
            let listening = self.listening.lock().unwrap().take().unwrap();
            listening.abort();
            assert!(listening.await.unwrap_err().is_cancelled());
        } else {
            self.serve(TcpListener::bind(&self.address).await?);
        }
        Ok(true)
    }

    fn exactly_once(&self) -> bool {
        false
    }
}

#[tokio::test]
async fn the_syslog_sink_keeps_the_promises_of_every_sink() {
    let (listener, address) = listen().await;
    let server = Server {
        address,
        taken: Arc::default(),
        listening: Mutex::default(),
    };
    server.serve(listener);
    contract::check(&server).await.unwrap();
}
