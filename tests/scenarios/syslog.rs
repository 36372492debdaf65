//! A collector of syslog messages, each with its length before it.

use std::io::Read as _;
use std::net::TcpListener;
use std::sync::{Arc, Mutex};

pub(crate) struct Collector {
    pub(crate) address: String,
    messages: Arc<Mutex<Vec<String>>>,
}

/// Starts one on a free port; it ends with the test.
pub(crate) fn start() -> Collector {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let collector = Collector {
        address: listener.local_addr().unwrap().to_string(),
        messages: Arc::default(),
    };
    let messages = Arc::clone(&collector.messages);
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            // Closed last: it means that everything was taken.
            let mut stream = stream.unwrap();
            let mut said = String::new();
            stream.read_to_string(&mut said).unwrap();
            messages.lock().unwrap().extend(apart(&said));
        }
    });
    collector
}

impl Collector {
    /// All messages so far.
    pub(crate) fn messages(&self) -> Vec<String> {
        self.messages.lock().unwrap().clone()
    }
}

fn apart(mut said: &str) -> Vec<String> {
    let mut messages = Vec::new();
    while let Some((length, rest)) = said.split_once(' ') {
        let (message, behind) = rest.split_at(length.parse().unwrap());
        messages.push(message.to_owned());
        said = behind;
    }
    messages
}
