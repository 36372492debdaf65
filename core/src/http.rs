//! The HTTP client that plugins share.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use reqwest::{Method, NoProxy, Proxy, Request, RequestBuilder, Response, Url};

use crate::error::{Error, Result};

/// Longest time to connect.
const CONNECT: Duration = Duration::from_secs(15);
/// Longest silence while an answer arrives. Not a bound on the whole answer: a large body may take its time.
const SILENCE: Duration = Duration::from_secs(90);

/// Hosts that no proxy can reach for us, whatever `NO_PROXY` says: on this machine, or on its own link.
const NEARBY: &str = "localhost,127.0.0.0/8,::1,169.254.0.0/16,fe80::/10";

/// What plugins ask their peers with: the network's [`client`], unless a test has put a peer of its own in its place.
/// Cheap to clone.
#[derive(Clone)]
pub struct Client {
    network: reqwest::Client,
    peer: Option<Arc<dyn Peer>>,
}

/// Answers in the place of the network, so that a protocol can be tested in one process and in virtual time.
#[async_trait]
pub trait Peer: Send + Sync {
    /// The answer to one request, or why there is none.
    async fn answer(&self, request: Request) -> Result<Response>;
}

impl Client {
    /// A client on the network.
    pub fn new() -> Result<Self> {
        Ok(Self {
            network: client()?,
            peer: None,
        })
    }

    /// The same client with this TLS, for servers that the system would not trust.
    pub fn with_tls(self, tls: rustls::ClientConfig) -> Result<Self> {
        let network = through(environment()?, Some(tls))?;
        Ok(Self { network, ..self })
    }

    /// The same client, whose requests `peer` answers.
    #[must_use]
    pub fn answered_by(self, peer: Arc<dyn Peer>) -> Self {
        let peer = Some(peer);
        Self { peer, ..self }
    }

    /// A request to complete and give to [`Client::send`].
    pub fn request(&self, method: Method, url: Url) -> RequestBuilder {
        self.network.request(method, url)
    }

    /// Sends a request and returns the answer, whatever its status; its body is still to be read.
    pub async fn send(&self, request: RequestBuilder) -> Result<Response> {
        match &self.peer {
            None => request.send().await.map_err(broken_off),
            Some(peer) => peer.answer(request.build().map_err(broken_off)?).await,
        }
    }
}

/// The network's client: follows no redirect by itself, since a token must not follow one either, and leaves compressed
/// bodies as they are, so that a plugin can inflate them within bounds. The environment may name proxies
/// (`HTTPS_PROXY`, `HTTP_PROXY`, `ALL_PROXY`, with exceptions in `NO_PROXY`), which serve other machines alone.
pub fn client() -> Result<reqwest::Client> {
    through(environment()?, None)
}

/// The proxies that this process' environment names.
fn environment() -> Result<Vec<Proxy>> {
    proxies(|name| std::env::var(name).ok())
}

/// What a failed exchange says, without the address: that is in the context.
#[must_use]
pub fn broken_off(error: reqwest::Error) -> Error {
    let what = if error.is_connect() {
        "cannot be reached"
    } else if error.is_timeout() {
        "timed out"
    } else {
        "the exchange broke off"
    };
    Error::unavailable(what).with_cause(error.without_url())
}

/// Whether a host of a URL or an address is this machine, so that nobody can read along.
#[must_use]
pub fn is_loopback(host: &str) -> bool {
    let host = host.trim_matches(['[', ']']);
    let here = |address: IpAddr| address.is_loopback();
    host.eq_ignore_ascii_case("localhost") || host.parse().is_ok_and(here)
}

/// A client that uses no proxy, whatever the environment says.
pub(crate) fn direct_client() -> Result<reqwest::Client> {
    through(Vec::new(), None)
}

fn through(proxies: Vec<Proxy>, tls: Option<rustls::ClientConfig>) -> Result<reqwest::Client> {
    // Whoever comes second finds the same provider installed.
    drop(rustls::crypto::ring::default_provider().install_default());
    let mut builder = reqwest::Client::builder()
        .user_agent(concat!("audit-exporter/", env!("CARGO_PKG_VERSION")))
        .redirect(reqwest::redirect::Policy::none())
        .connect_timeout(CONNECT)
        .read_timeout(SILENCE)
        .no_proxy();
    if let Some(tls) = tls {
        builder = builder.tls_backend_preconfigured(tls);
    }
    proxies
        .into_iter()
        .fold(builder, reqwest::ClientBuilder::proxy)
        .build()
        .map_err(|error| Error::config("the TLS client cannot be set up").with_cause(error))
}

/// The proxies that the variables of an environment name.
fn proxies(variable: impl Fn(&str) -> Option<String>) -> Result<Vec<Proxy>> {
    let first = |names: [&'static str; 4]| {
        let set = |name| Some((name, variable(name).filter(|value| !value.is_empty())?));
        names.into_iter().find_map(set)
    };
    let except = ["NO_PROXY", "no_proxy"].into_iter().find_map(&variable);
    let except = format!("{NEARBY},{}", except.unwrap_or_default());
    let mut proxies = Vec::new();
    for (names, https) in [
        (
            ["HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"],
            false,
        ),
        (
            ["HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"],
            true,
        ),
    ] {
        let Some((name, address)) = first(names) else {
            continue;
        };
        let proxy = if https {
            Proxy::https(address)
        } else {
            Proxy::http(address)
        };
        // Without the cause: the address may hold a password.
        let proxy = proxy.map_err(|_| {
            Error::config(format!("environment variable {name} is no proxy's address"))
        })?;
        proxies.push(proxy.no_proxy(NoProxy::from_string(&except)));
    }
    Ok(proxies)
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    /// Listens, answers one request with `name`.
    async fn server(name: &'static str) -> std::net::SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let read = stream.read(&mut [0; 1024]).await.unwrap();
                assert!(read > 0);
                let answer = format!(
                    "HTTP/1.1 200 OK\r\nServer: {name}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
                );
                stream.write_all(answer.as_bytes()).await.unwrap();
            }
        });
        address
    }

    async fn who_answers(client: &reqwest::Client, url: &str) -> String {
        let answer = client.get(url).send().await.unwrap();
        answer.headers()["Server"].to_str().unwrap().to_owned()
    }

    #[tokio::test]
    async fn what_runs_on_this_machine_is_not_asked_by_a_proxy() {
        let proxy = server("proxy").await;
        let here = server("here").await;
        for (name, except) in [
            ("HTTP_PROXY", None),
            ("http_proxy", Some("other.example")),
            ("all_proxy", Some("")),
        ] {
            let client = through(
                proxies(|asked| match asked {
                    "NO_PROXY" => except.map(str::to_owned),
                    _ => (asked == name).then(|| format!("http://{proxy}")),
                })
                .unwrap(),
                None,
            )
            .unwrap();
            for host in ["127.0.0.1", "localhost"] {
                let url = format!("http://{host}:{}/", here.port());
                assert_eq!(who_answers(&client, &url).await, "here", "{name} {host}");
            }
            let other = who_answers(&client, "http://manage.example/").await;
            assert_eq!(other, "proxy", "{name}");
        }
        let except = |name: &str| match name {
            "HTTP_PROXY" => Some("http://127.0.0.1:1".to_owned()),
            "NO_PROXY" => Some("127.0.0.2,*".to_owned()),
            _ => None,
        };
        let client = through(proxies(except).unwrap(), None).unwrap();
        let url = format!("http://localhost:{}/", here.port());
        assert_eq!(who_answers(&client, &url).await, "here");
    }

    #[test]
    fn a_proxy_that_cannot_be_read_is_named_without_its_password() {
        let error = proxies(|name| (name == "HTTPS_PROXY").then(|| "http://u:geheim@[".into()));
        let error = error.unwrap_err().to_string();
        assert_eq!(
            error,
            "environment variable HTTPS_PROXY is no proxy's address"
        );
    }
}
