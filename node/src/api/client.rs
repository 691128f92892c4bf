//! The API from the other side: what the command line, demo and tests use.

use std::path::{Path, PathBuf};

use futures::TryStreamExt as _;
use reqwest::header::ACCEPT;
use reqwest::{Method, RequestBuilder, Response};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::io::AsyncBufReadExt as _;
use tokio_util::io::StreamReader;

use super::access::Access;
use super::error::ApiError;
use super::stream::{Message, NDJSON};
use crate::access::Secret;
use crate::tls;

/// A client of one node's API.
#[derive(Clone)]
pub struct Client {
    access: Access,
    http: reqwest::Client,
    /// Where the node runs, if it was found there.
    data: Option<PathBuf>,
    /// The file of the token, if it is another one than that of the folder.
    token_file: Option<PathBuf>,
}

impl Client {
    /// A client of the node that runs on a data folder.
    ///
    /// # Errors
    /// `unreachable` when no node has left its address there.
    pub fn of_folder(data: &Path) -> Result<Self, ApiError> {
        let access = Access::read(data).map_err(|_| ApiError {
            code: "unreachable".to_owned(),
            message: not_running(data),
            hint: None,
            details: None,
        })?;
        Ok(Self { data: Some(data.to_owned()), ..Self::new(access) })
    }

    /// A client with a known address and token.
    #[must_use]
    pub fn new(access: Access) -> Self {
        // The API is on this machine: no proxy is to see the token, and there is no TLS.
        let http = reqwest::Client::builder().no_proxy().tls_backend_preconfigured(tls::nobody());
        let http = http.build().expect("invariant: neither proxies nor certificates are read");
        Self { access, http, data: None, token_file: None }
    }

    /// The same client with the token of a file.
    #[must_use]
    pub fn with_token(self, token: &Secret, file: &Path) -> Self {
        let access = Access { token: token.reveal().to_owned(), ..self.access };
        Self { access, token_file: Some(file.to_owned()), ..self }
    }

    /// Asks and reads one JSON answer.
    ///
    /// # Errors
    /// The API's error, or `unreachable`.
    pub async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, ApiError> {
        self.answer(self.request(Method::GET, path)).await
    }

    /// Sends a JSON body and reads one JSON answer.
    ///
    /// # Errors
    /// As [`Client::get`].
    pub async fn post<B: Serialize + Sync, T: DeserializeOwned>(
        &self,
        path: &str,
        body: &B,
    ) -> Result<T, ApiError> {
        self.answer(self.request(Method::POST, path).json(body)).await
    }

    /// Puts a JSON body and reads one JSON answer.
    ///
    /// # Errors
    /// As [`Client::get`].
    pub async fn put<B: Serialize + Sync, T: DeserializeOwned>(
        &self,
        path: &str,
        body: &B,
    ) -> Result<T, ApiError> {
        self.answer(self.request(Method::PUT, path).json(body)).await
    }

    /// Changes something with a JSON body and reads one JSON answer.
    ///
    /// # Errors
    /// As [`Client::get`].
    pub async fn patch<B: Serialize + Sync, T: DeserializeOwned>(
        &self,
        path: &str,
        body: &B,
    ) -> Result<T, ApiError> {
        self.answer(self.request(Method::PATCH, path).json(body)).await
    }

    /// Deletes and reads one JSON answer.
    ///
    /// # Errors
    /// As [`Client::get`].
    pub async fn delete<T: DeserializeOwned>(&self, path: &str) -> Result<T, ApiError> {
        self.answer(self.request(Method::DELETE, path)).await
    }

    /// Sends a JSON body to a long operation, hands each progress event on, and returns its result.
    ///
    /// # Errors
    /// As [`Client::get`]; `unreachable` when the stream ends without a result.
    pub async fn run<B: Serialize + Sync, T: DeserializeOwned>(
        &self,
        path: &str,
        body: &B,
        mut progress: impl FnMut(Value),
    ) -> Result<T, ApiError> {
        let request = self.request(Method::POST, path).header(ACCEPT, NDJSON).json(body);
        let response = self.send(request).await?;
        let bytes = response.bytes_stream().map_err(std::io::Error::other);
        let mut lines = StreamReader::new(bytes).lines();
        let cut = || {
            let message = "the node stopped before it was done: start it and try again";
            ApiError::new("unreachable", message)
        };
        while let Some(line) = lines.next_line().await.map_err(|_| cut())? {
            let message = serde_json::from_str(&line).map_err(|_| cut())?;
            match message {
                Message::Progress(value) => progress(value),
                Message::Result(value) => {
                    return serde_json::from_value(value)
                        .map_err(|error| ApiError::new("internal", error.to_string()));
                }
                Message::Error(error) => return Err(error),
            }
        }
        Err(cut())
    }

    /// A request with the token, for callers that stream bodies.
    pub fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.http
            .request(method, format!("http://{}{path}", self.access.address))
            .bearer_auth(&self.access.token)
    }

    async fn answer<T: DeserializeOwned>(&self, request: RequestBuilder) -> Result<T, ApiError> {
        let response = self.send(request).await?;
        response.json().await.map_err(|error| self.unreachable(&error))
    }

    /// Sends a request and turns an error status into the API's error.
    ///
    /// # Errors
    /// The API's error, or `unreachable`.
    pub async fn send(&self, request: RequestBuilder) -> Result<Response, ApiError> {
        let response = request.send().await.map_err(|error| self.unreachable(&error))?;
        if response.status().is_success() {
            return Ok(response);
        }
        let status = response.status();
        let answer = response.json::<ApiError>().await;
        let error = answer
            .unwrap_or_else(|_| ApiError::new("internal", format!("the node answered {status}")));
        Err(match (&self.token_file, &self.data) {
            (Some(file), _) if error.code == "unauthorized" => ApiError {
                message: format!("the token in {} is not valid on this node", file.display()),
                hint: Some("an administrator makes another with `samara token create`".to_owned()),
                ..error
            },
            (None, Some(data)) if error.code == "unauthorized" => ApiError {
                message: format!("the token in {} is not this node's", access_file(data).display()),
                hint: Some("the node writes a new one when it is started again".to_owned()),
                ..error
            },
            _ => error,
        })
    }

    fn unreachable(&self, error: &reqwest::Error) -> ApiError {
        ApiError {
            code: "unreachable".to_owned(),
            message: match &self.data {
                Some(data) if error.is_connect() => not_running(data),
                _ => format!("the node at {} broke off its answer", self.access.address),
            },
            hint: None,
            details: None,
        }
    }
}

/// Where the address and the token of a node are.
fn access_file(data: &Path) -> PathBuf {
    data.join(super::access::FILE)
}

/// What, where, and what to do, on one line.
fn not_running(data: &Path) -> String {
    let data = data.display();
    format!("no node runs on {data}: start it with `samara node --data {data}`")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_node_that_does_not_run_is_told_on_one_line() {
        let folder = tempfile::tempdir().unwrap();
        let expected = not_running(folder.path());
        let Err(error) = Client::of_folder(folder.path()) else { panic!("there is a node") };
        assert_eq!((error.code.as_str(), &error.message), ("unreachable", &expected));
        assert!(error.hint.is_none() && !error.message.contains('\n'));

        // A node that was killed leaves its address behind.
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let token = Secret::default();
        Access::new(listener.local_addr().unwrap(), &token).write(folder.path()).unwrap();
        drop(listener);
        let client = Client::of_folder(folder.path()).unwrap();
        let error = client.get::<Value>("/v1/status").await.unwrap_err();
        assert_eq!((error.code.as_str(), &error.message), ("unreachable", &expected));
    }
}
