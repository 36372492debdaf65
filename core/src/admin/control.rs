//! How a command finds the process that holds the journal, and shows that it may ask: two files in the journal's folder.

use std::io::{ErrorKind, Write as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use tokio::net::TcpListener;

use crate::error::{Error, Kind, Result};
use crate::http;

/// The file in the journal's folder that holds the control token.
const TOKEN_FILE: &str = "control.token";
/// The file that tells commands where the running process listens.
pub(super) const ADDRESS_FILE: &str = "control.address";

/// How long a command waits for the running process.
pub(super) const PATIENCE: Duration = Duration::from_mins(1);

/// The control token, made at the first start. One that others could read, or that another user may change, is none.
pub(crate) fn token(journal_dir: &Path) -> Result<Arc<str>> {
    let path = journal_dir.join(TOKEN_FILE);
    match std::fs::symlink_metadata(&path) {
        Ok(known) if known.uid() != rustix::process::geteuid().as_raw() => {
            return Err(Error::config(format!(
                "{} belongs to another user; run as that user, or delete the file",
                path.display()
            )));
        }
        Ok(known) if known.is_file() && known.mode() % 0o100 == 0 => {
            let token = std::fs::read_to_string(&path)?;
            if !token.trim().is_empty() {
                return Ok(token.trim().into());
            }
        }
        Ok(_) => tracing::warn!("{TOKEN_FILE} was not this user's alone; it is made anew"),
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        Err(error) => return Err(error.into()),
    }
    let token = format!(
        "{}{}",
        uuid::Uuid::new_v4().simple(),
        uuid::Uuid::new_v4().simple()
    );
    private_file(&path, &token)?;
    Ok(token.into())
}

/// Puts a fresh file of ours in the place of whatever is there.
fn private_file(path: &Path, text: &str) -> Result<()> {
    remove(path)?;
    let mut file = std::fs::OpenOptions::new()
        .create_new(true)
        .write(true)
        .mode(0o600)
        .open(path)?;
    Ok(file.write_all(text.as_bytes())?)
}

fn remove(path: &Path) -> Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error.into()),
        _ => Ok(()),
    }
}

/// Tells commands where to find this process.
pub(crate) fn announce(listener: &TcpListener, journal_dir: &Path) -> Result<()> {
    let mut address = listener.local_addr()?;
    // Commands run on this machine: what they send has no reason to leave it.
    if address.ip().is_unspecified() {
        address.set_ip(match address.ip() {
            IpAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
            IpAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
        });
    }
    private_file(&journal_dir.join(ADDRESS_FILE), &address.to_string())
}

/// Forgets where a process listened that held the journal before: whoever listens there now is not to be sent the
/// token. Whoever takes the journal's lock does this first.
pub fn withdraw(journal_dir: &Path) -> Result<()> {
    remove(&journal_dir.join(ADDRESS_FILE))
}

/// The most that an answer to a command may have: reasons of dead letters are the far side's words.
const ANSWER_BYTES: usize = 16 << 20;

/// What the running process answers to a command.
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) text: String,
}

impl Answer {
    /// The text of a success. Whatever else it is, is an error, in the words of the process ([`refusal`]).
    pub(super) fn success(self) -> Result<String> {
        match (self.status, self.text.trim_end()) {
            (StatusCode::OK, _) => Ok(self.text),
            (status, "") => Err(Error::unavailable(format!(
                "the running process answers HTTP {}; is it another version?",
                status.as_u16()
            ))),
            (StatusCode::UNPROCESSABLE_ENTITY, why) => Err(Error::config(why)),
            (_, why) => Err(Error::unavailable(why)),
        }
    }
}

/// The answer that a command turns back into the error ([`Answer::success`]).
pub(super) fn refusal(error: &Error) -> Response {
    let status = match error.kind() {
        Kind::Config => StatusCode::UNPROCESSABLE_ENTITY,
        _ => StatusCode::INTERNAL_SERVER_ERROR,
    };
    (status, format!("{error}\n")).into_response()
}

/// Sends a request to the process that holds the journal in `journal_dir`, with the token. It is known to be taken.
pub(super) async fn ask(
    journal_dir: &Path,
    path: &[&str],
    body: Vec<u8>,
    patience: Duration,
) -> Result<Answer> {
    let Some((address, token)) = find(journal_dir) else {
        return Err(Error::config(
            "another audit-exporter uses the journal, and its admin listener is not to be found; stop it first",
        ));
    };
    let url = reqwest::Url::parse(&format!("http://{address}/-"))
        .ok()
        .and_then(|mut url| {
            url.path_segments_mut().ok()?.extend(path);
            Some(url)
        })
        .ok_or_else(|| Error::bug("the admin listener's address makes no URL"))?;
    // No proxy may see the token.
    let answer = http::direct_client()?
        .post(url)
        .timeout(patience)
        .bearer_auth(token)
        .body(body)
        .send()
        .await
        .map_err(|error| {
            Error::unavailable("the process that uses the journal does not answer")
                .with_cause(error.without_url())
        })?;
    if answer.status() == StatusCode::UNAUTHORIZED {
        return Err(Error::config(
            "the running process does not know the token in the journal's folder",
        ));
    }
    Ok(Answer {
        status: answer.status(),
        text: text_of(answer).await?,
    })
}

async fn text_of(mut answer: reqwest::Response) -> Result<String> {
    let mut text = Vec::new();
    while let Some(chunk) = answer.chunk().await.map_err(|error| {
        Error::unavailable("the running process breaks off its answer")
            .with_cause(error.without_url())
    })? {
        text.extend_from_slice(&chunk);
        if text.len() > ANSWER_BYTES {
            return Err(Error::unavailable("the running process answers too much"));
        }
    }
    String::from_utf8(text)
        .map_err(|error| Error::unavailable("the answer is no text").with_cause(error))
}

/// Where the process listens that holds the journal, and its token. `None` if there is none to be found.
pub(crate) fn find(journal_dir: &Path) -> Option<(SocketAddr, String)> {
    let address = std::fs::read_to_string(journal_dir.join(ADDRESS_FILE)).ok()?;
    let token = std::fs::read_to_string(journal_dir.join(TOKEN_FILE)).ok()?;
    Some((address.trim().parse().ok()?, token.trim().to_owned()))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_token_that_others_could_read_is_not_used_again() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join(TOKEN_FILE);
        let first = token(folder.path()).unwrap();
        assert_eq!(token(folder.path()).unwrap(), first, "it stays");
        for mode in [0o604, 0o640, 0o666] {
            let before = std::fs::read_to_string(&file).unwrap();
            std::fs::set_permissions(&file, PermissionsExt::from_mode(mode)).unwrap();
            let fresh = token(folder.path()).unwrap();
            assert_ne!(*fresh, *before, "{mode:o}");
            assert_eq!(file.metadata().unwrap().mode() & 0o777, 0o600);
        }
    }

    #[test]
    fn a_token_that_is_a_link_is_replaced_and_what_it_points_to_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let other = folder.path().join("other");
        std::fs::write(&other, "chosen by somebody else").unwrap();
        std::os::unix::fs::symlink(&other, folder.path().join(TOKEN_FILE)).unwrap();
        let token = token(folder.path()).unwrap();
        assert_eq!(token.len(), 64);
        let text = std::fs::read_to_string(other).unwrap();
        assert_eq!(text, "chosen by somebody else");
    }

    #[tokio::test]
    async fn a_refusal_comes_back_as_the_error_that_it_was() {
        for error in [
            Error::config("no sink archive"),
            Error::unavailable("the journal cannot be written: no space left on device"),
        ] {
            let sent = refusal(&error);
            let (head, body) = sent.into_parts();
            let body = axum::body::to_bytes(body, ANSWER_BYTES).await.unwrap();
            let answer = Answer {
                status: head.status,
                text: String::from_utf8(body.to_vec()).unwrap(),
            };
            let back = answer.success().unwrap_err();
            assert_eq!(back.kind(), error.kind());
            assert_eq!(back.to_string(), error.to_string());
        }
        let nothing = Answer {
            status: StatusCode::NOT_FOUND,
            text: String::new(),
        };
        assert_eq!(
            nothing.success().unwrap_err().to_string(),
            "the running process answers HTTP 404; is it another version?"
        );
    }

    #[tokio::test]
    async fn commands_on_this_machine_never_leave_it() {
        let folder = tempfile::tempdir().unwrap();
        let listener = TcpListener::bind("0.0.0.0:0").await.unwrap();
        token(folder.path()).unwrap();
        announce(&listener, folder.path()).unwrap();
        let (address, _) = find(folder.path()).unwrap();
        assert!(address.ip().is_loopback(), "{address}");
        withdraw(folder.path()).unwrap();
        assert!(find(folder.path()).is_none());
        withdraw(folder.path()).unwrap();
    }
}
