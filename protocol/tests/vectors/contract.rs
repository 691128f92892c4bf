//! Terms, revisions, vouchers, and what is signed of them.

use samara_protocol::contract::{ContractTerms, Revision, SignedRevision, SignedVoucher, Voucher};
use samara_protocol::hash::{BlockHash, ContractNonce, Digest, RecordTag};
use samara_protocol::units::{Amount, Epoch, Millis};

use crate::{Area, secret};

pub const GENESIS: BlockHash = BlockHash([7; 32]);

pub fn epoch() -> Epoch {
    Epoch { counter: 3, writer: [4; 16] }
}

pub fn terms() -> ContractTerms {
    ContractTerms {
        contract: secret(1).public(),
        nonce: ContractNonce([11; 16]),
        tag: RecordTag([12; 16]),
        host: secret(2).public(),
        refund: secret(3).public(),
        period: Millis::hours(24),
        periods: 30,
        window: Millis::hours(2),
        window_blocks: 20,
        storage_price: Amount(1_000),
        collateral_rate: Amount(2_000),
        proof_fee: Amount(3_000),
        funds: Amount(u128::from(u64::MAX) + 1),
        collateral: Amount(5_000_000),
    }
}

pub fn revision() -> Revision {
    Revision {
        contract: secret(1).public(),
        number: 300,
        size: 4 << 20,
        data_root: Digest([9; 32]),
        epoch: epoch(),
    }
}

pub fn signed_revision() -> SignedRevision {
    let revision = revision();
    let message = revision.sign_bytes(&GENESIS);
    let (renter, host) = (secret(1).sign(message.as_bytes()), secret(2).sign(message.as_bytes()));
    SignedRevision { revision, renter, host }
}

pub fn voucher() -> SignedVoucher {
    let contract = secret(1).public();
    let voucher = Voucher { contract, total: Amount(123_456_789), epoch: epoch() };
    SignedVoucher::sign(&GENESIS, voucher, &secret(1))
}

#[test]
fn contracts() {
    let mut area = Area::new("contract");
    area.value("terms", &terms());
    area.value("revision", &revision());
    area.bytes("revision sign bytes", revision().sign_bytes(&GENESIS).as_bytes());
    area.value("signed revision", &signed_revision());
    area.value("revision formed empty", &SignedRevision::initial(secret(1).public()));
    let carried = Revision::carried(secret(5).public(), &revision());
    area.value("revision carried over", &SignedRevision::formed(carried));
    area.value("signed voucher", &voucher());
    assert!(signed_revision().verify(&GENESIS, &secret(2).public()));
    assert!(voucher().verify(&GENESIS));
    area.finish();
}
