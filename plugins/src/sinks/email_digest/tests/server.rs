//! A small SMTP server on loopback for tests: takes mails, refuses what it is told to, and remembers everything.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// A mail that was taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Taken {
    pub(crate) from: String,
    pub(crate) to: Vec<String>,
    /// The message, headers and all.
    pub(crate) text: String,
}

impl Taken {
    /// A header's value, unfolded.
    pub(crate) fn header(&self, name: &str) -> Option<String> {
        let head = self.text.split("\r\n\r\n").next()?.replace("\r\n ", " ");
        head.lines().find_map(|line| {
            let (key, value) = line.split_once(": ")?;
            key.eq_ignore_ascii_case(name).then(|| value.to_owned())
        })
    }
}

/// What the server does, and has seen.
#[derive(Default)]
struct State {
    taken: Vec<Taken>,
    commands: Vec<String>,
    /// A command that begins with this gets this answer; an empty one is silence.
    refusals: Vec<(String, String)>,
    /// How long it takes to look through a mail.
    scans: Duration,
}

/// The server. Ends when dropped.
pub(crate) struct Server {
    pub(crate) port: u16,
    state: Arc<Mutex<State>>,
    task: JoinHandle<()>,
}

impl Server {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let state: Arc<Mutex<State>> = Arc::default();
        let shared = Arc::clone(&state);
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                // A client that goes away ends its own conversation alone.
                drop(converse(stream, &shared).await);
            }
        });
        Self { port, state, task }
    }

    /// From now on commands that begin with `command` get `answer`.
    pub(crate) fn refuse(&self, command: &str, answer: &str) {
        let mut state = self.state.lock().unwrap();
        state.refusals.push((command.to_owned(), answer.to_owned()));
    }

    /// From now on mails are answered after this time.
    pub(crate) fn scan_for(&self, time: Duration) {
        self.state.lock().unwrap().scans = time;
    }

    /// Refuses nothing any more.
    pub(crate) fn accept(&self) {
        self.state.lock().unwrap().refusals.clear();
    }

    /// The mails that were taken.
    pub(crate) fn taken(&self) -> Vec<Taken> {
        self.state.lock().unwrap().taken.clone()
    }

    /// What clients have said.
    pub(crate) fn commands(&self) -> Vec<String> {
        self.state.lock().unwrap().commands.clone()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn converse(stream: TcpStream, state: &Mutex<State>) -> std::io::Result<()> {
    let (reader, mut writer) = stream.into_split();
    let mut lines = BufReader::new(reader).lines();
    let (mut from, mut to) = (String::new(), Vec::new());
    writer.write_all(b"220 tests\r\n").await?;
    while let Some(line) = lines.next_line().await? {
        let refusal = {
            let mut state = state.lock().unwrap();
            state.commands.push(line.clone());
            let upper = line.to_uppercase();
            let found = state
                .refusals
                .iter()
                .find(|(command, _)| upper.starts_with(&command.to_uppercase()));
            found.map(|(_, answer)| answer.clone())
        };
        let verb = line
            .split([' ', ':'])
            .next()
            .unwrap_or_default()
            .to_uppercase();
        let answer = match (refusal, verb.as_str()) {
            (Some(refusal), _) => refusal,
            (None, "EHLO") => {
                "250-tests\r\n250-8BITMIME\r\n250 AUTH PLAIN LOGIN XOAUTH2".to_owned()
            }
            (None, "AUTH") => "235 welcome".to_owned(),
            (None, "MAIL") => {
                from = address(&line);
                to.clear();
                "250 ok".to_owned()
            }
            (None, "RCPT") => {
                to.push(address(&line));
                "250 ok".to_owned()
            }
            (None, "DATA") => {
                writer.write_all(b"354 go ahead\r\n").await?;
                let text = message(&mut lines).await?;
                let scans = state.lock().unwrap().scans;
                tokio::time::sleep(scans).await;
                let refusal = {
                    let mut state = state.lock().unwrap();
                    let found = state.refusals.iter().find(|(command, _)| command == ".");
                    let refusal = found.map(|(_, answer)| answer.clone());
                    if refusal.is_none() {
                        state.taken.push(Taken {
                            from: from.clone(),
                            to: to.clone(),
                            text,
                        });
                    }
                    refusal
                };
                refusal.unwrap_or_else(|| "250 taken".to_owned())
            }
            (None, "QUIT") => {
                writer.write_all(b"221 bye\r\n").await?;
                return Ok(());
            }
            (None, _) => "250 ok".to_owned(),
        };
        if !answer.is_empty() {
            writer.write_all(format!("{answer}\r\n").as_bytes()).await?;
        }
    }
    Ok(())
}

/// The lines up to the dot.
async fn message(
    lines: &mut tokio::io::Lines<BufReader<tokio::net::tcp::OwnedReadHalf>>,
) -> std::io::Result<String> {
    let mut text = String::new();
    while let Some(line) = lines.next_line().await? {
        if line == "." {
            break;
        }
        text.push_str(line.strip_prefix('.').unwrap_or(&line));
        text.push_str("\r\n");
    }
    Ok(text)
}

fn address(line: &str) -> String {
    let address = line.split(['<', '>']).nth(1);
    address.unwrap_or_default().to_owned()
}
