//! The decoders of the engine's messages: for the fuzz targets, which are in another crate.

use arc_malachitebft_app_channel::app::consensus::{
    LivenessMsg, ProposedValue, SignedConsensusMsg,
};
use arc_malachitebft_app_channel::app::streaming::StreamMessage;
use arc_malachitebft_app_channel::app::types::codec::Codec;
use arc_malachitebft_app_channel::app::types::core::{PolkaCertificate, ValidatorProof};
use arc_malachitebft_app_channel::app::types::sync;
use bytes::Bytes;

use super::codec::EngineCodec;
use super::context::ChainContext;
use super::proposals::Part;

/// Gives each decoder the bytes. What decodes encodes to bytes that read back the same.
///
/// # Panics
/// If one does not.
pub fn decode_all(bytes: &[u8]) {
    let bytes = Bytes::copy_from_slice(bytes);
    let read = [
        again::<Part>,
        again::<SignedConsensusMsg<ChainContext>>,
        again::<LivenessMsg<ChainContext>>,
        again::<StreamMessage<Part>>,
        again::<ValidatorProof<ChainContext>>,
        again::<ProposedValue<ChainContext>>,
        again::<PolkaCertificate<ChainContext>>,
        again::<sync::Status<ChainContext>>,
        again::<sync::Request<ChainContext>>,
        again::<sync::Response<ChainContext>>,
    ];
    read.iter().for_each(|read| read(bytes.clone()));
}

fn again<T>(bytes: Bytes)
where
    EngineCodec: Codec<T>,
{
    let Ok(message) = EngineCodec.decode(bytes) else { return };
    let Ok(once) = EngineCodec.encode(&message) else { panic!("a message cannot be encoded") };
    let Ok(message) = EngineCodec.decode(once.clone()) else { panic!("a message reads once only") };
    assert!(EngineCodec.encode(&message).is_ok_and(|twice| twice == once));
}
