//! Slab descriptors, plain and sealed.

use samara_protocol::hash::{SectorRoot, SlabId};
use samara_protocol::sector::SectorSize;
use samara_protocol::slab::{Geometry, ShardDescriptor, SlabDescriptor};

use crate::{Area, secret};

#[test]
fn slab() {
    let mut area = Area::new("slab");
    let shard = |byte: u8| ShardDescriptor {
        root: SectorRoot([byte; 32]),
        host: secret(byte + 60).public(),
    };
    for (name, data, total, column) in
        [("small", 1, 2, 16u64 << 10), ("ten of thirty", 10, 30, 4 << 20)]
    {
        let column = SectorSize::new(column).unwrap();
        let geometry = Geometry::with_column(data, total, column).unwrap();
        let shards = (0..total).map(shard).collect();
        let descriptor = SlabDescriptor::new(SlabId([61; 16]), geometry, shards).unwrap();
        area.value(&format!("geometry: {name}"), &geometry);
        area.bytes(&format!("descriptor: {name}"), &descriptor.to_bytes());
        area.bytes(&format!("descriptor hash: {name}"), descriptor.hash().as_bytes());
        let sealed = descriptor.seal(&[62; 32], [63; 24]);
        area.bytes(&format!("descriptor sealed: {name}"), &sealed);
        assert_eq!(SlabDescriptor::from_bytes(&descriptor.to_bytes()).as_ref(), Ok(&descriptor));
        assert_eq!(SlabDescriptor::open(&[62; 32], &sealed), Ok(descriptor));
    }
    area.finish();
}
