//! stub
#![allow(missing_docs, clippy::unused_async, unused_variables)]
use serde::{Deserialize, Serialize};
#[derive(Clone, Debug, Serialize, Deserialize, Default)]
pub struct HostConfig {}
impl HostConfig {
    pub fn for_test_network(v: std::path::PathBuf, c: u64, o: String) -> Self {
        Self {}
    }
}
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct HostStatus {}
#[derive(Debug, thiserror::Error)]
#[error("x")]
pub struct HostStartError;
#[derive(Clone)]
pub struct HostService;
impl HostService {
    pub async fn start(
        c: &HostConfig,
        f: &std::path::Path,
        k: samara_protocol::signature::SecretKey,
        a: Vec<String>,
        l: crate::light::LightClient,
    ) -> Result<Self, HostStartError> {
        Err(HostStartError)
    }
    pub async fn status(&self) -> HostStatus {
        HostStatus {}
    }
    pub async fn answer(
        &self,
        f: samara_protocol::signature::PublicKey,
        r: samara_protocol::host::message::HostRequest,
    ) -> samara_protocol::host::message::HostResponse {
        unreachable!()
    }
    pub async fn shutdown(self) {}
}
