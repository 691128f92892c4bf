//! Requests of other nodes, handed to the role they are for.

use std::sync::{Arc, OnceLock};

use async_trait::async_trait;
use bytes::Bytes;
use samara_protocol::signature::PublicKey;
use samara_protocol::wire::{NodeRequest, NodeResponse};

use crate::chain::Chain;
use crate::host::HostRole;
use crate::transport::{Body, Channel, RequestHandler};

/// Knows which roles this node has. Roles are added as they start; until then the node says that it
/// does not have them.
#[derive(Default)]
pub struct Dispatcher {
    chain: OnceLock<Arc<Chain>>,
    host: OnceLock<HostRole>,
}

impl Dispatcher {
    /// Serves the chain from here on. Only the first call counts.
    pub fn serve_chain(&self, chain: Arc<Chain>) {
        let _ = self.chain.set(chain);
    }

    /// Serves as a host from here on. Only the first call counts.
    pub fn serve_host(&self, host: HostRole) {
        let _ = self.host.set(host);
    }
}

#[async_trait]
impl RequestHandler for Dispatcher {
    async fn handle(&self, from: PublicKey, _channel: Channel, body: Bytes) -> Body {
        let refused = |reason: String| Body::from(NodeResponse::Refused(reason).to_bytes());
        let request = match NodeRequest::from_bytes(&body) {
            Ok(request) => request,
            Err(error) => return refused(error.to_string()),
        };
        // A sector in the request keeps the body's memory; anything else needs it no longer.
        drop(body);
        match request {
            NodeRequest::Chain(request) => match self.chain.get() {
                Some(chain) => {
                    NodeResponse::encoded_chain(&chain.answer_peer(from, request).await).into()
                }
                None => refused("this node holds no chain".to_owned()),
            },
            NodeRequest::Host(request) => match self.host.get() {
                Some(host) => {
                    let response = host.answer(from, request).await;
                    NodeResponse::Host(response).to_parts().into()
                }
                None => refused("this node is no host".to_owned()),
            },
        }
    }
}
