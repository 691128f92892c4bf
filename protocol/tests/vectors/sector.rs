//! Golden vectors of what contracts, hosts and the chain keep about sectors. They never change: a
//! difference means that stored data can no longer be proven.

use samara_protocol::encoding;
use samara_protocol::hash::{Digest, SectorRoot};
use samara_protocol::sector::{
    GROUP, Outboard, SectorEntry, SectorSize, challenge, data_root, prove_chunk, prove_position,
    prove_range, root, verify_range,
};

/// Bytes of the vectors: the low byte of i*i + i/1024.
fn bytes(size: SectorSize) -> Vec<u8> {
    (0..size.len()).map(|i| (i * i + i / 1024) as u8).collect()
}

fn three_sectors() -> [SectorEntry; 3] {
    [(1, 22), (2, 14), (3, 10)].map(|(byte, log2)| SectorEntry {
        root: SectorRoot([byte; 32]),
        size: SectorSize::from_log2(log2).unwrap(),
    })
}

#[test]
fn sector_root_and_range_proof() {
    let size = SectorSize::new(128 << 10).unwrap();
    let bytes = bytes(size);
    let (name, outboard) = Outboard::of(size, &bytes).unwrap();
    assert_eq!(name, root(&bytes));
    assert_eq!(
        name.to_string(),
        "d88e816a3e77fddb93a39ac3844006393c6055ed75fd2ba49585ccac0c70b4f0"
    );
    let range = 2 * GROUP..5 * GROUP;
    let proof = prove_range(&outboard, range.clone()).unwrap();
    let data = &bytes[range.start as usize..range.end as usize];
    assert_eq!(verify_range(&name, size, range, data, &proof), Ok(()));
    let siblings: Vec<String> = proof.siblings.iter().map(hex::encode).collect();
    assert_eq!(
        siblings,
        [
            "33de641d252bd594b8451ba6b9e844d15dade1ebca86a3bcb7dfe2ccda750da4",
            "49916111a35fc56b310fcd304b70b9f6c8b6b371f3210c5396dcdc4c50897138",
            "20d119b2b768642d675bb2a0bb6ddac23ffcb0beb266579c1d102751361f1ecc"
        ]
    );
}

#[test]
fn chunk_proof() {
    let size = SectorSize::new(128 << 10).unwrap();
    let bytes = bytes(size);
    let (_, outboard) = Outboard::of(size, &bytes).unwrap();
    let group = &bytes[4 * GROUP as usize..5 * GROUP as usize];
    let proof = encoding::encode(&prove_chunk(&outboard, group, 77).unwrap());
    assert_eq!(proof.len(), 1_024 + 7 * 32 + 4);
    assert_eq!(
        root(&proof).to_string(),
        "af26f2585a9765bd0f71fe72f697387ab373d60f1b9b9c258f27ba9fe7f33f09"
    );
}

#[test]
fn data_root_of_three_sectors() {
    let (root, total) = data_root(&three_sectors());
    assert_eq!(total, (4 << 20) + (16 << 10) + (1 << 10));
    assert_eq!(
        root.to_string(),
        "ee26bdd33d8c9c98fa0eca7b28cdf050c9563b4f1a50387b3c5bceeeb162216f"
    );
    let proof = prove_position(&three_sectors(), (4 << 20) + 9).unwrap();
    assert_eq!(
        hex::encode(encoding::encode(&proof)),
        "02020202020202020202020202020202020202020202020202020202020202020e02014580270908d2bf4be8bf936e6a38c2418b81d1b119f5004fd9c207d63ff0d3e280808002008e6b4e082c2630e9a6f9b86d43e91929b93d33f3fc1d1cc6fb7192959dede9778008"
    );
}

#[test]
fn storage_challenge() {
    let positions = challenge(&Digest([0x5a; 32]), 1 << 40).unwrap();
    assert_eq!(
        positions.map(|position| position / 1_024),
        [
            271109811, 33728330, 447806065, 462506392, 70084564, 159024173, 548576815, 888818476,
            680246778, 762223671, 48493871, 821174928, 991024302, 692722836, 568421992, 24665391
        ]
    );
}
