//! Golden vectors of sealed slabs. They never change: a difference means that stored data can no longer
//! be opened or rebuilt.

use samara_protocol::hash::{SectorRoot, SlabId};
use samara_protocol::sector::{SectorSize, root};
use samara_protocol::signature::PublicKey;
use samara_protocol::slab::{
    FrameCipher, Geometry, ShardDescriptor, SlabBuffer, SlabDescriptor, SlabSealer, encode,
};

const KEY: [u8; 32] = [0x42; 32];
const SLAB: SlabId = SlabId([0x17; 16]);

fn geometry(data: u8, total: u8, bytes: u64) -> Geometry {
    Geometry::with_column(data, total, SectorSize::new(bytes).unwrap()).unwrap()
}

#[test]
fn sealed_frame() {
    let cipher = FrameCipher::new(&KEY, SLAB, geometry(2, 3, 1 << 10));
    let mut frame: Vec<u8> = (0..1_024).map(|i| i as u8).collect();
    cipher.seal(1, &mut frame).unwrap();
    assert_eq!(
        hex::encode(&frame[..32]),
        "26c18047c5b85110ec1e17027b8aaf39bbeeb9c79c0e3c1335200586e0f1b19d"
    );
    assert_eq!(hex::encode(&frame[1_008..]), "fd9af2fe506cf6c3905deeddbaecff8d");
    assert_eq!(
        root(&frame).to_string(),
        "11bfe310a2a4b2f4b6ebf6ff6079334020f080b834e2a9309d44d6fa1930a942"
    );
}

#[test]
fn parity_bytes() {
    let geometry = geometry(10, 30, 1 << 10);
    let data: Vec<Vec<u8>> = (0..10usize)
        .map(|shard| (0..1_024).map(|i| (i * (shard + 3) + i / 7) as u8).collect())
        .collect();
    let data: Vec<&[u8]> = data.iter().map(Vec::as_slice).collect();
    let mut parity = vec![vec![0; 1_024]; 20];
    let mut rows: Vec<&mut [u8]> = parity.iter_mut().map(Vec::as_mut_slice).collect();
    encode(&geometry, &data, &mut rows).unwrap();
    assert_eq!(hex::encode(&parity[0][..16]), "008e011f02ab3efb05414a057d5deb0a");
    assert_eq!(
        root(&parity.concat()).to_string(),
        "2724a5dfc5d39fc2b5e3cd973c8116bb2f06f10e4f6a07036c47f4809c766309"
    );
}

#[test]
fn sealed_slab() {
    let geometry = geometry(2, 4, 128 << 10);
    let plain: Vec<u8> = (0..200_000usize).map(|i| (i / 3) as u8).collect();
    let sealed =
        SlabSealer::new(geometry).seal_into(&KEY, SLAB, &plain, &mut SlabBuffer::new()).unwrap();
    let roots: Vec<String> = sealed.iter().map(|shard| shard.root.to_string()).collect();
    assert_eq!(
        roots,
        [
            "52f41e89e55c2593573f9da81f332442f17e66d4aacccf625b2ccc8eb9468da8",
            "d842040899ecdfb6ef93d5ecb6b76c57683383062be0803bbeb213579a6d1d9e",
            "109ee2144573bd094f42556386afcebc66089440e29181437d5e364a766689d3",
            "b330bfd0378f2736551802ff38075664e55b2cdb82e8bc344e7c24d28c6a9b53"
        ]
    );
}

#[test]
fn sealed_descriptor() {
    let shard =
        |byte| ShardDescriptor { root: SectorRoot([byte; 32]), host: PublicKey([byte + 9; 32]) };
    let shards = vec![shard(1), shard(2)];
    let descriptor = SlabDescriptor::new(SLAB, geometry(1, 2, 16 << 10), shards).unwrap();
    assert_eq!(
        descriptor.hash().to_string(),
        "24e78936df9b9fc2f7471de3c8b2e39b6ca5031b42b183cd2b585a8d360cd984"
    );
    assert_eq!(
        hex::encode(descriptor.seal(&KEY, [3; 24])),
        "0303030303030303030303030303030303030303030303030e964b996064b49cc6b3c2eadcc9652bd5e16c09f3f38fc97a2aff359e9c2efe68e3b3c2af2497cfb530f3224270818dac21ef12f6f169e8a5fded046f7c587e5934eb532d13e53557f0d2d450397bfa8d4e24997ff57a7f6c281693eb9be7b3cf6b9a2bd95b8ea25943b7f4e573f919abe7aabcc49c624c39ecc5fc217336fc662defb752655ac30e2887b600947a72c2cddef15c430643d5074ba6acb7846252b9ca9f93cf"
    );
}
