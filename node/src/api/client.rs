//! The API from the other side: what the command line, demo and tests use.

use std::path::Path;

use futures::TryStreamExt as _;
use reqwest::{Method, RequestBuilder, Response};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::io::AsyncBufReadExt as _;
use tokio_util::io::StreamReader;

use super::access::Access;
use super::error::ApiError;
use super::stream::Message;

/// A client of one node's API.
#[derive(Clone)]
pub struct Client {
    access: Access,
    http: reqwest::Client,
}

impl Client {
    /// A client of the node that runs on a data folder.
    ///
    /// # Errors
    /// `unreachable` when no node has left its address there.
    pub fn of_folder(data: &Path) -> Result<Self, ApiError> {
        let access = Access::read(data).map_err(|error| ApiError {
            code: "unreachable".to_owned(),
            message: format!("no node is running on {}: {error}", data.display()),
            hint: Some(format!(
                "start it with `samara node --data {}`, or name another folder with --data",
                data.display()
            )),
        })?;
        Ok(Self::new(access))
    }

    /// A client with a known address and token.
    #[must_use]
    pub fn new(access: Access) -> Self {
        // The API is on this machine: no proxy is to see the token.
        let http = reqwest::Client::builder().no_proxy().build().unwrap_or_default();
        Self { access, http }
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
        let response = self.send(self.request(Method::POST, path).json(body)).await?;
        let bytes = response.bytes_stream().map_err(std::io::Error::other);
        let mut lines = StreamReader::new(bytes).lines();
        let cut = |reason: String| {
            ApiError::new(
                "unreachable",
                format!("the node's answer to {path} broke off{reason}; it may have stopped"),
            )
        };
        while let Some(line) = lines.next_line().await.map_err(|error| cut(format!(": {error}")))? {
            let message = serde_json::from_str(&line).map_err(|error| cut(format!(": {error}")))?;
            match message {
                Message::Progress(value) => progress(value),
                Message::Result(value) => {
                    return serde_json::from_value(value)
                        .map_err(|error| ApiError::new("internal", error.to_string()));
                }
                Message::Error(error) => return Err(error),
            }
        }
        Err(cut(String::new()))
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
        Err(response
            .json::<ApiError>()
            .await
            .unwrap_or_else(|_| ApiError::new("internal", format!("the node answered {status}"))))
    }

    fn unreachable(&self, error: &reqwest::Error) -> ApiError {
        ApiError {
            code: "unreachable".to_owned(),
            message: format!("the node at {} does not answer: {error}", self.access.address),
            hint: Some("it may have stopped; start it again with `samara node`".to_owned()),
        }
    }
}
