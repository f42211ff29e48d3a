//! An MLflow server, over its REST interface.

mod file;
mod registry;
mod run;

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use reqwest::header::RETRY_AFTER;
use reqwest::{Certificate, Client, Method, Request, RequestBuilder, Response, StatusCode, Url};
use serde_json::Value;
use tracing::debug;

pub use self::run::ServerRun;
use crate::{Credentials, TrackingAddress, TrackingError};

/// Calls of a request that may be repeated, as long as the server cannot answer it at the moment.
const ATTEMPTS: u32 = 7;
/// Pause after the first call; twice as long after each further one.
const PAUSE_FIRST: Duration = Duration::from_millis(200);
/// Longest pause, also where the server asks for more.
const PAUSE_MAX: Duration = Duration::from_secs(30);
/// How long a server may take to answer.
const TIMEOUT: Duration = Duration::from_secs(30);
/// How long it may take to be reached.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Interface of the tracking server.
const PREFIX: &str = "/api/2.0/mlflow/";

/// An MLflow server.
///
/// A request that the server cannot answer at the moment (status 408, 429, 500, 502, 503, 504, or no
/// connection) is repeated with growing pauses; others are not. Clones share connections.
#[derive(Clone)]
pub struct MlflowServer {
    client: Client,
    /// Without name and password, and without a slash at the end.
    base: Arc<str>,
    credentials: Arc<Credentials>,
    attempts: u32,
}

/// What is asked of a server.
pub(crate) struct Call<'a> {
    /// What it is for, as a verb with its object.
    pub(crate) action: &'static str,
    pub(crate) method: Method,
    /// Path after the prefix of the interface.
    pub(crate) path: &'a str,
    pub(crate) query: &'a [(&'a str, &'a str)],
    pub(crate) body: Option<Value>,
    /// Whether it does the same when it is repeated.
    pub(crate) may_be_repeated: bool,
}

impl<'a> Call<'a> {
    pub(crate) fn get(
        action: &'static str,
        path: &'a str,
        query: &'a [(&'a str, &'a str)],
    ) -> Self {
        Self { action, method: Method::GET, path, query, body: None, may_be_repeated: true }
    }

    pub(crate) fn post(action: &'static str, path: &'a str, body: Value) -> Self {
        let body = Some(body);
        Self { action, method: Method::POST, path, query: &[], body, may_be_repeated: true }
    }

    /// A call that does something once more when it is repeated.
    pub(crate) fn once(self) -> Self {
        Self { may_be_repeated: false, ..self }
    }
}

impl MlflowServer {
    /// Makes a client of the server at an address; nothing is sent.
    ///
    /// A name and a password in the address win over those of `credentials`.
    ///
    /// # Errors
    ///
    /// - [`TrackingError::InvalidAddress`] if the address is not one of HTTP.
    /// - [`TrackingError::Certificates`] if the file of certificates cannot be read or has none.
    pub fn new(address: &str, credentials: &Credentials) -> Result<Self, TrackingError> {
        let shown = TrackingAddress::Server(address.to_owned()).to_string();
        let invalid = |reason: &str| TrackingError::InvalidAddress {
            address: shown.clone(),
            reason: reason.to_owned(),
        };
        let mut url = Url::parse(address).map_err(|error| invalid(&error.to_string()))?;
        if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none() {
            return Err(invalid("it must begin with `http://` or `https://` and a host"));
        }
        let mut credentials = credentials.clone();
        if !url.username().is_empty() {
            let password = url.password().unwrap_or_default().to_owned();
            credentials.login = Some((url.username().to_owned(), password));
        }
        let cleared = url.set_username("").and_then(|()| url.set_password(None));
        cleared.map_err(|()| invalid("it can have no password"))?;

        // There may be one already: what this program uses is built with no other.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let mut builder = Client::builder()
            .connect_timeout(CONNECT_TIMEOUT)
            .tls_danger_accept_invalid_certs(credentials.trusts_anybody);
        if let Some(path) = &credentials.certificates {
            builder = builder.tls_certs_merge(certificates(path)?);
        }
        let client = builder.build().map_err(|error| invalid(&error.to_string()))?;
        let base = url.as_str().trim_end_matches('/').into();
        Ok(Self { client, base, credentials: Arc::new(credentials), attempts: ATTEMPTS })
    }

    /// Returns a client of the same server that does not repeat what failed.
    #[must_use]
    pub fn without_repetition(&self) -> Self {
        Self { attempts: 1, ..self.clone() }
    }

    /// The address, without name and password.
    pub fn address(&self) -> &str {
        &self.base
    }

    /// Sends a call, and returns what the server answers.
    pub(crate) async fn call(&self, call: Call<'_>) -> Result<Value, TrackingError> {
        let mut pause = PAUSE_FIRST;
        for attempt in 1.. {
            let (error, asked) = match self.attempt(&call).await {
                Ok(answer) => return Ok(answer),
                Err(failed) => failed,
            };
            let may_repeat = call.may_be_repeated && error.is_temporary();
            if !may_repeat || attempt >= self.attempts {
                return Err(error);
            }
            debug!(action = call.action, %error, "the tracking server is asked again");
            tokio::time::sleep(asked.unwrap_or_else(|| jittered(pause)).min(PAUSE_MAX)).await;
            pause = (2 * pause).min(PAUSE_MAX);
        }
        unreachable!("the last attempt returns")
    }

    /// Sends a call once; an error comes with the pause that the server asks for.
    async fn attempt(&self, call: &Call<'_>) -> Result<Value, (TrackingError, Option<Duration>)> {
        let request = self.request(call).map_err(|error| (error, None))?;
        let answer = self.client.execute(request).await;
        let answer = answer.map_err(|source| (self.unreachable(call.action, source), None))?;
        let asked = asked_pause(&answer);
        let (status, text) =
            self.text(call.action, answer).await.map_err(|error| (error, asked))?;
        self.parse(call.action, status, &text).map_err(|error| (error, asked))
    }

    fn request(&self, call: &Call<'_>) -> Result<Request, TrackingError> {
        let url = self.url(&format!("{PREFIX}{}", call.path), call.query)?;
        let mut builder = self.client.request(call.method.clone(), url).timeout(TIMEOUT);
        if let Some(body) = &call.body {
            builder = builder.header("content-type", "application/json").body(body.to_string());
        }
        let built = self.identified(builder).build();
        built.map_err(|source| self.unreachable(call.action, source))
    }

    /// Makes the address of a path; every part of the path is encoded.
    fn url(&self, path: &str, query: &[(&str, &str)]) -> Result<Url, TrackingError> {
        let address = format!("{}{path}", self.base);
        let url = match query {
            [] => Url::parse(&address),
            _ => Url::parse_with_params(&address, query),
        };
        url.map_err(|error| TrackingError::InvalidAddress { address, reason: error.to_string() })
    }

    /// Says to the server who asks.
    fn identified(&self, builder: RequestBuilder) -> RequestBuilder {
        let Credentials { login, token, workspace, .. } = &*self.credentials;
        let builder = match (login, token) {
            (Some((name, password)), _) => builder.basic_auth(name, Some(password)),
            (None, Some(token)) => builder.bearer_auth(token),
            (None, None) => builder,
        };
        match workspace {
            Some(workspace) => builder.header("X-MLFLOW-WORKSPACE", workspace),
            None => builder,
        }
    }

    async fn text(
        &self,
        action: &'static str,
        answer: Response,
    ) -> Result<(StatusCode, String), TrackingError> {
        let status = answer.status();
        let text = answer.text().await.map_err(|source| self.unreachable(action, source))?;
        Ok((status, text))
    }

    /// Makes sense of an answer. Errors are JSON, but for those of authentication and of routes that
    /// do not exist.
    fn parse(
        &self,
        action: &'static str,
        status: StatusCode,
        text: &str,
    ) -> Result<Value, TrackingError> {
        if matches!(status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) {
            let (address, status) = (self.base.to_string(), status.as_u16());
            return Err(TrackingError::NotAllowed { action, address, status });
        }
        match serde_json::from_str::<Value>(text) {
            Ok(answer) if status.is_success() && answer.is_object() => Ok(answer),
            Ok(answer) if !status.is_success() && answer["error_code"].is_string() => {
                let told = |field: &str| answer[field].as_str().unwrap_or_default().to_owned();
                Err(TrackingError::Refused {
                    action,
                    status: status.as_u16(),
                    code: told("error_code"),
                    message: told("message"),
                })
            }
            _ => Err(TrackingError::NotMlflow {
                address: self.base.to_string(),
                status: status.as_u16(),
                answer: text.chars().take(80).collect(),
            }),
        }
    }

    fn unreachable(&self, action: &'static str, source: reqwest::Error) -> TrackingError {
        let (address, source) = (self.base.to_string(), Box::new(source.without_url()));
        TrackingError::Unreachable { action, address, source }
    }
}

impl fmt::Debug for MlflowServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("MlflowServer").field(&self.base).finish()
    }
}

/// The pause that a server asks for, in whole seconds.
fn asked_pause(answer: &Response) -> Option<Duration> {
    let seconds: u64 = answer.headers().get(RETRY_AFTER)?.to_str().ok()?.trim().parse().ok()?;
    Some(Duration::from_secs(seconds))
}

/// A pause between half and all of the given one, so that those who failed together do not come back
/// together.
pub(crate) fn jittered(pause: Duration) -> Duration {
    let share = uuid::Uuid::new_v4().as_bytes()[0];
    pause.mul_f64(0.5 + f64::from(share) / 510.0)
}

fn certificates(path: &PathBuf) -> Result<Vec<Certificate>, TrackingError> {
    let failed = |reason: String| TrackingError::Certificates { path: path.clone(), reason };
    let pem = std::fs::read(path).map_err(|error| failed(error.to_string()))?;
    let found = Certificate::from_pem_bundle(&pem).map_err(|error| failed(error.to_string()))?;
    if found.is_empty() {
        return Err(failed("it has no certificate".to_owned()));
    }
    Ok(found)
}

#[cfg(test)]
mod tests;
