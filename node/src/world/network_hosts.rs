//! Hosts behind the network.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use libp2p::Multiaddr;
use samara_protocol::host::message::{HostRequest, HostResponse};
use samara_protocol::ledger::state::StateKey;
use samara_protocol::signature::PublicKey;
use samara_protocol::sync::lock;
use samara_protocol::wire::{NodeRequest, NodeResponse};
use samara_renter::world::{HostCallError, HostClient, Lane};

use crate::light::LightClient;
use crate::transport::{Channel, RequestError, Transport};

/// Longest wait for an answer on the control lane.
const CONTROL_DEADLINE: Duration = Duration::from_secs(15);
/// Longest wait for an answer on the bulk lane: 4 MiB over a slow line.
const BULK_DEADLINE: Duration = Duration::from_secs(60);

/// Calls hosts through the transport, at the addresses that they announce on the chain.
#[derive(Clone)]
pub struct NetworkHosts {
    transport: Transport,
    light: LightClient,
    // Hosts whose announced addresses the transport knows already.
    known: Arc<Mutex<BTreeSet<PublicKey>>>,
}

impl NetworkHosts {
    /// Hosts as the chain announces them.
    #[must_use]
    pub fn new(transport: Transport, light: LightClient) -> Self {
        Self { transport, light, known: Arc::default() }
    }

    fn is_known(&self, host: &PublicKey) -> bool {
        lock(&self.known).contains(host)
    }

    fn set_known(&self, host: &PublicKey, known: bool) {
        let mut hosts = lock(&self.known);
        if known {
            hosts.insert(*host);
        } else {
            hosts.remove(host);
        }
    }

    /// Looks a host's addresses up on the chain.
    async fn find(&self, host: &PublicKey) -> Result<(), HostCallError> {
        let unreachable = |reason: String| HostCallError::Unreachable { host: *host, reason };
        let announced = self
            .light
            .value::<samara_protocol::host::HostAnnouncement>(StateKey::Host(*host))
            .await
            .map_err(|error| unreachable(error.to_string()))?
            .ok_or_else(|| unreachable("it is not announced on the chain".to_owned()))?;
        let addresses: Vec<Multiaddr> =
            announced.addresses.iter().filter_map(|text| text.parse().ok()).collect();
        if addresses.is_empty() {
            return Err(unreachable("it announces no usable address".to_owned()));
        }
        self.transport.replace_addresses(*host, addresses);
        self.set_known(host, true);
        Ok(())
    }
}

#[async_trait]
impl HostClient for NetworkHosts {
    async fn call(
        &self,
        host: &PublicKey,
        lane: Lane,
        request: HostRequest,
    ) -> Result<HostResponse, HostCallError> {
        if !self.is_known(host) {
            self.find(host).await?;
        }
        let (channel, deadline) = match lane {
            Lane::Control => (Channel::Control, CONTROL_DEADLINE),
            Lane::Bulk => (Channel::Bulk, BULK_DEADLINE),
        };
        let body = NodeRequest::Host(request).to_parts();
        let answer = match self.transport.request(*host, channel, body, deadline).await {
            Ok(answer) => answer,
            Err(RequestError::TimedOut { .. }) => {
                return Err(HostCallError::TimedOut { host: *host });
            }
            Err(error) => {
                // It may have moved: the next call looks its addresses up again.
                self.set_known(host, false);
                return Err(HostCallError::Unreachable { host: *host, reason: error.to_string() });
            }
        };
        match NodeResponse::from_bytes(&answer) {
            Ok(NodeResponse::Host(response)) => Ok(response),
            Ok(NodeResponse::Refused(reason)) => {
                Err(HostCallError::Unreachable { host: *host, reason })
            }
            Ok(NodeResponse::Chain(_)) => Err(HostCallError::False {
                host: *host,
                reason: "it answered another question".to_owned(),
            }),
            Err(error) => Err(HostCallError::False { host: *host, reason: error.to_string() }),
        }
    }
}
