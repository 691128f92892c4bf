//! The frame readers over bytes that are all there: for the fuzz targets, which are in another crate.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures::executor::block_on;
use futures::{AsyncRead, AsyncWrite};

use super::buffer::BufferPool;
use super::wire::{exchange, read_request_length};
use super::{Body, Channel};

/// The requests that are read from a substream with these bytes.
#[must_use]
pub fn requests(channel: Channel, stream: &[u8]) -> Vec<Bytes> {
    let buffers = BufferPool::new(0);
    let (mut reader, mut requests) = (stream, Vec::new());
    block_on(async {
        while let Ok(Some(length)) = read_request_length(&mut reader).await {
            if length > channel.max_request() {
                break;
            }
            let Ok(body) = buffers.read(&mut reader, length).await else { break };
            requests.push(body);
        }
    });
    requests
}

/// The response that is read from a substream with these bytes.
#[must_use]
pub fn response(channel: Channel, stream: &[u8]) -> Option<Bytes> {
    let mut peer = Peer { says: stream };
    let (body, buffers) = (Body::default(), BufferPool::new(0));
    block_on(exchange(&mut peer, channel, &body, &buffers)).ok()
}

/// A peer that has said all that it says, and takes whatever it is told.
struct Peer<'a> {
    says: &'a [u8],
}

impl AsyncRead for Peer<'_> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.says).poll_read(context, buffer)
    }
}

impl AsyncWrite for Peer<'_> {
    fn poll_write(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
