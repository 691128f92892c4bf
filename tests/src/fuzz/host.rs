//! Papers of contracts, and what hosts are asked and answer.

use samara_protocol::contract::{
    ContractTerms, LeastTerms, Revision, SignedRevision, SignedVoucher, Voucher,
};
use samara_protocol::host::message::{
    ContractCall, ContractStatus, HeadReceipt, HostRequest, HostResponse, SignedSlot,
};
use samara_protocol::host::{EpochClaim, HostAnnouncement, SignedPrices};
use samara_protocol::units::{ChainTime, Millis};

use super::fixtures::{GENESIS, contract, secret};
use super::value;

/// Terms of contracts, and the rules for them.
pub fn terms(data: &[u8]) {
    if let Some(terms) = value::<ContractTerms>(data) {
        let least = LeastTerms { period: Millis(1), window: Millis(1), window_blocks: 1 };
        for start in [ChainTime(0), ChainTime(1_700_000_000_000), ChainTime(u64::MAX)] {
            let _ = terms.check(&least, start);
        }
        let _ = terms.record();
    }
}

/// Revisions, plain and signed.
pub fn revision(data: &[u8]) {
    value::<Revision>(data);
    if let Some(signed) = value::<SignedRevision>(data) {
        let _ = signed.verify(&GENESIS, &secret(2).public());
    }
}

/// Vouchers, plain and signed.
pub fn voucher(data: &[u8]) {
    value::<Voucher>(data);
    if let Some(signed) = value::<SignedVoucher>(data) {
        let _ = signed.verify(&GENESIS);
    }
}

/// Announcements of hosts.
pub fn announcement(data: &[u8]) {
    if let Some(announcement) = value::<HostAnnouncement>(data) {
        let _ = announcement.check();
    }
}

/// What hosts and renters sign for each other.
pub fn host_papers(data: &[u8]) {
    let (contract, host) = (contract().public(), secret(2).public());
    if let Some(prices) = value::<SignedPrices>(data) {
        let _ = prices.verify(&GENESIS);
    }
    if let Some(slot) = value::<SignedSlot>(data) {
        let _ = slot.verify(&GENESIS, &contract);
    }
    if let Some(receipt) = value::<HeadReceipt>(data) {
        let _ = receipt.verify(&GENESIS, &contract, &host);
    }
    value::<EpochClaim>(data);
    value::<ContractStatus>(data);
}

/// Requests to hosts.
pub fn host_request(data: &[u8]) {
    if let Some(request) = value::<HostRequest>(data) {
        let _ = (request.name(), request.payload());
        if let HostRequest::Contract(request) = &request {
            let _ = request.verify(&GENESIS, &secret(2).public());
        }
    }
}

/// Calls of contracts, which are most of a request.
pub fn contract_call(data: &[u8]) {
    value::<ContractCall>(data);
}

/// Answers of hosts.
pub fn host_response(data: &[u8]) {
    if let Some(response) = value::<HostResponse>(data) {
        let _ = response.payload();
        if let HostResponse::Refused(refusal) = &response {
            let _ = refusal.to_string();
        }
    }
}
