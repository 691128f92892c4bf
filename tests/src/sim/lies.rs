//! What hosts lie about, in answers that are otherwise true.

use std::sync::Arc;

use bytes::BytesMut;
use samara_protocol::hash::ContractNonce;
use samara_protocol::host::EpochClaim;
use samara_protocol::host::core::{ChainFacts, Host};
use samara_protocol::host::message::{
    ContractCall, ContractStatus, HostRequest, HostResponse, Refusal,
};
use samara_protocol::signature::{PublicKey, Signature};
use samara_protocol::units::Epoch;

use super::disk::SimDisk;

/// What a host lies about, until it is started again.
#[derive(Clone)]
pub(super) enum Lie {
    Nothing,
    /// It says that it promised the last epoch there is, with a claim that nobody signed.
    Claims,
    /// It shows the heads that it had at an earlier moment.
    Heads(Arc<Host<SimDisk>>),
    /// It keeps heads on a disk that it will throw away, and signs that it has them.
    Receipts(Arc<Host<SimDisk>>),
    /// It answers reads with other bytes.
    Bytes,
}

/// What a host answers while it lies, and whether that is false.
pub(super) fn answer(
    host: &Host<SimDisk>,
    lie: &Lie,
    facts: &ChainFacts,
    from: &PublicKey,
    request: HostRequest,
) -> (HostResponse, bool) {
    let tell = || host.handle(facts, from, request.clone());
    match lie {
        Lie::Nothing => (tell(), false),
        Lie::Claims => (forged(&request, tell()), false),
        Lie::Heads(old) => {
            let truth = tell();
            (with_head_of(&old.handle(facts, from, request), truth), false)
        }
        Lie::Receipts(other) => {
            if writes_head(&request) {
                let answer = other.handle(facts, from, request);
                let signed = matches!(answer, HostResponse::HeadWritten(_));
                return (answer, signed);
            }
            let truth = tell();
            (with_head_of(&other.handle(facts, from, request), truth), false)
        }
        Lie::Bytes => match tell() {
            HostResponse::Range { data, proof } if !data.is_empty() => {
                let mut data = BytesMut::from(&data[..]);
                let middle = data.len() / 2;
                data[middle] ^= 1;
                (HostResponse::Range { data: data.freeze(), proof }, true)
            }
            truth => (truth, false),
        },
    }
}

fn writes_head(request: &HostRequest) -> bool {
    let HostRequest::Contract(request) = request else { return false };
    matches!(request.call, ContractCall::HeadAppend { .. } | ContractCall::HeadPut { .. })
}

/// The same answer under a promise that nobody has claimed.
fn forged(request: &HostRequest, truth: HostResponse) -> HostResponse {
    let epoch = Epoch { counter: u64::MAX, writer: [0xff; 16] };
    let lie = EpochClaim { nonce: ContractNonce([7; 16]), epoch, signature: Signature([9; 64]) };
    match (request, truth) {
        (_, HostResponse::Latest(status)) => {
            HostResponse::Latest(Box::new(ContractStatus { promised: lie, ..*status }))
        }
        (HostRequest::Contract(request), HostResponse::Head { status, head }) => {
            if matches!(request.call, ContractCall::Promise) {
                let (given, promised) = (request.claim.epoch, Box::new(lie));
                return HostResponse::Refused(Refusal::Fenced { given, promised });
            }
            let status = Box::new(ContractStatus { promised: lie, ..*status });
            HostResponse::Head { status, head }
        }
        (HostRequest::Contract(request), HostResponse::HeadWritten(_) | HostResponse::Stored) => {
            let (given, promised) = (request.claim.epoch, Box::new(lie));
            HostResponse::Refused(Refusal::Fenced { given, promised })
        }
        (_, truth) => truth,
    }
}

/// The same answer with the head that the host had before: slot and receipt are truly signed.
fn with_head_of(old: &HostResponse, truth: HostResponse) -> HostResponse {
    match (old, truth) {
        (HostResponse::Head { status: old, head }, HostResponse::Head { status, .. }) => {
            let status = ContractStatus { slot: old.slot, receipt: old.receipt, ..*status };
            HostResponse::Head { status: Box::new(status), head: head.clone() }
        }
        (_, truth) => truth,
    }
}
