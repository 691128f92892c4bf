//! Frames on a substream.
//!
//! A substream carries request and response pairs, one pair at a time, for as long as both sides
//! keep it. Integers are little-endian.
//!
//! | frame | bytes |
//! | --- | --- |
//! | request | `u32` length, body |
//! | response | `u8` status, `u32` length, body |
//!
//! Status 0 carries the body; every other status has length 0 and may arrive before the request is
//! written out, after which the substream is not used again.

use std::io;
use std::pin::pin;

use bytes::{BufMut as _, Bytes, BytesMut};
use futures::future::{Either, select};
use futures::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

use super::Channel;
use super::body::Body;
use super::buffer::BufferPool;

/// Parts share a write up to this size (bytes); longer ones are written as they are.
const COALESCED: usize = 16 << 10;

/// What a response says about its request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Status {
    /// The body is the handler's answer.
    Answered,
    /// Too many requests of this peer, or of all peers, are being handled.
    Overloaded,
    /// The request is longer than the channel allows.
    RequestTooLarge,
    /// The handler gave no answer that could be sent.
    Failed,
}

impl Status {
    fn to_byte(self) -> u8 {
        match self {
            Self::Answered => 0,
            Self::Overloaded => 1,
            Self::RequestTooLarge => 2,
            Self::Failed => 3,
        }
    }

    fn from_byte(byte: u8) -> Option<Self> {
        match byte {
            0 => Some(Self::Answered),
            1 => Some(Self::Overloaded),
            2 => Some(Self::RequestTooLarge),
            3 => Some(Self::Failed),
            _ => None,
        }
    }
}

/// Why an exchange on a substream gave no answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum ExchangeError {
    /// The substream ended before the request was written out: the peer cannot have handled it.
    #[error("the substream ended before the request was sent")]
    NotSent(#[source] io::Error),
    /// The substream ended after the request: the peer may have handled it.
    #[error("the substream ended before the response")]
    Closed(#[source] io::Error),
    /// The peer answered with a status other than [`Status::Answered`].
    #[error("the peer refused the request: {0:?}")]
    Refused(Status),
    /// The response is longer than the channel allows.
    #[error("the response of {size} bytes is over the limit")]
    ResponseTooLarge { size: usize },
    /// The peer broke the frame format.
    #[error("the peer sent a malformed response")]
    Malformed,
}

/// Sends one request and reads its response. After an error the substream must be dropped.
pub(super) async fn exchange(
    stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
    channel: Channel,
    body: &Body,
    buffers: &BufferPool,
) -> Result<Bytes, ExchangeError> {
    let (mut reader, mut writer) = stream.split();
    let [status, length @ ..] = send(&mut reader, &mut writer, body).await?;
    match Status::from_byte(status).ok_or(ExchangeError::Malformed)? {
        Status::Answered => {}
        status => return Err(ExchangeError::Refused(status)),
    }
    let size = usize::try_from(u32::from_le_bytes(length)).unwrap_or(usize::MAX);
    if size > channel.max_response() {
        return Err(ExchangeError::ResponseTooLarge { size });
    }
    buffers.read(&mut reader, size).await.map_err(ExchangeError::Closed)
}

/// Writes the request and reads the response's header, both at once: a peer that refuses early does
/// not read the rest of the body.
async fn send(
    reader: &mut (impl AsyncRead + Unpin),
    writer: &mut (impl AsyncWrite + Unpin),
    body: &Body,
) -> Result<[u8; 5], ExchangeError> {
    let header = length_field(body).ok_or(ExchangeError::Refused(Status::RequestTooLarge))?;
    let write = pin!(write_frame(writer, &header, body));
    let read = pin!(read_header(reader));
    let is_refusal = |head: &[u8; 5]| head[0] != Status::Answered.to_byte();
    match select(write, read).await {
        Either::Left((Ok(()), read)) => read.await.map_err(ExchangeError::Closed),
        Either::Left((Err(error), read)) => match read.await {
            Ok(head) if is_refusal(&head) => Ok(head),
            _ => Err(ExchangeError::NotSent(error)),
        },
        Either::Right((Ok(head), _)) if is_refusal(&head) => Ok(head),
        Either::Right((Ok(head), write)) => {
            // The answer overtook our notice that the last bytes have gone out.
            write.await.map_err(ExchangeError::Closed)?;
            Ok(head)
        }
        Either::Right((Err(error), _)) => Err(ExchangeError::NotSent(error)),
    }
}

/// Reads the length of the next request, or `None` if the peer ended the substream between requests.
pub(super) async fn read_request_length(
    stream: &mut (impl AsyncRead + Unpin),
) -> io::Result<Option<usize>> {
    let mut length = [0; 4];
    if stream.read(&mut length[..1]).await? == 0 {
        return Ok(None);
    }
    stream.read_exact(&mut length[1..]).await?;
    Ok(Some(usize::try_from(u32::from_le_bytes(length)).unwrap_or(usize::MAX)))
}

/// Writes a response with a body.
pub(super) async fn write_response(
    stream: &mut (impl AsyncWrite + Unpin),
    body: &Body,
) -> io::Result<()> {
    let Some(length) = length_field(body) else {
        return write_refusal(stream, Status::Failed).await;
    };
    let mut header = [0; 5];
    header[0] = Status::Answered.to_byte();
    header[1..].copy_from_slice(&length);
    write_frame(stream, &header, body).await
}

/// Writes a response without a body.
pub(super) async fn write_refusal(
    stream: &mut (impl AsyncWrite + Unpin),
    status: Status,
) -> io::Result<()> {
    write_frame(stream, &[status.to_byte(), 0, 0, 0, 0], &Body::default()).await
}

fn length_field(body: &Body) -> Option<[u8; 4]> {
    u32::try_from(body.len()).ok().map(u32::to_le_bytes)
}

async fn read_header(reader: &mut (impl AsyncRead + Unpin)) -> io::Result<[u8; 5]> {
    let mut header = [0; 5];
    reader.read_exact(&mut header).await?;
    Ok(header)
}

async fn write_frame(
    writer: &mut (impl AsyncWrite + Unpin),
    header: &[u8],
    body: &Body,
) -> io::Result<()> {
    let mut small = BytesMut::with_capacity(COALESCED);
    small.put_slice(header);
    for part in body.parts() {
        if small.len() + part.len() <= COALESCED {
            small.put_slice(part);
            continue;
        }
        writer.write_all(&small).await?;
        small.clear();
        if part.len() <= COALESCED {
            small.put_slice(part);
        } else {
            writer.write_all(part).await?;
        }
    }
    writer.write_all(&small).await?;
    writer.flush().await
}

#[cfg(test)]
pub(super) mod tests {
    use std::io;
    use std::pin::Pin;
    use std::sync::{Arc, Mutex};
    use std::task::{Context, Poll};

    use bytes::Bytes;
    use futures::executor::block_on;
    use futures::{AsyncRead, AsyncWrite};
    use proptest::prelude::{any, prop_assert_eq, proptest};

    use super::{ExchangeError, Status, exchange, read_request_length, write_frame};
    use super::{write_refusal, write_response};
    use crate::transport::buffer::BufferPool;
    use crate::transport::{Body, Channel};

    /// A peer that says what it was told to say, and then nothing more.
    pub(crate) struct Script {
        says: Vec<u8>,
        said: usize,
        /// Whether the stream ends after its words, or stays silent.
        ends: bool,
        pub(crate) heard: Arc<Mutex<Vec<u8>>>,
        /// Bytes that the peer takes before it stops listening.
        patience: usize,
        /// After so many bytes said it waits until so many are heard.
        pub(crate) pauses: Vec<(usize, usize)>,
    }

    impl Script {
        pub(crate) fn new(says: Vec<u8>, ends: bool) -> Self {
            Self {
                says,
                said: 0,
                ends,
                heard: Arc::default(),
                patience: usize::MAX,
                pauses: vec![],
            }
        }
    }

    impl AsyncRead for Script {
        fn poll_read(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
            buffer: &mut [u8],
        ) -> Poll<io::Result<usize>> {
            let heard = self.heard.lock().unwrap().len();
            let pause = self.pauses.iter().find(|(_, until)| heard < *until);
            let end = pause.map_or(self.says.len(), |(said, _)| *said);
            if pause.is_some() && self.said == end {
                return Poll::Pending;
            }
            let rest = &self.says[self.said..end];
            let count = rest.len().min(buffer.len());
            buffer[..count].copy_from_slice(&rest[..count]);
            self.said += count;
            if count == 0 && !self.ends { Poll::Pending } else { Poll::Ready(Ok(count)) }
        }
    }

    impl AsyncWrite for Script {
        fn poll_write(
            self: Pin<&mut Self>,
            _: &mut Context<'_>,
            bytes: &[u8],
        ) -> Poll<io::Result<usize>> {
            let mut heard = self.heard.lock().unwrap();
            let count = bytes.len().min(self.patience - heard.len());
            heard.extend_from_slice(&bytes[..count]);
            if count == 0 { Poll::Pending } else { Poll::Ready(Ok(count)) }
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    fn ask(script: &mut Script, body: &Bytes) -> Result<Bytes, ExchangeError> {
        block_on(exchange(script, Channel::Control, &body.clone().into(), &BufferPool::new(0)))
    }

    #[test]
    fn the_bytes_of_the_frames() {
        let mut script = Script::new(vec![0, 2, 0, 0, 0, 8, 9], true);
        let answer = ask(&mut script, &Bytes::from_static(&[7, 7, 7])).unwrap();
        assert_eq!(answer, [8, 9].as_slice());
        assert_eq!(*script.heard.lock().unwrap(), [3, 0, 0, 0, 7, 7, 7]);
        let mut refusal = Vec::new();
        block_on(write_refusal(&mut refusal, Status::Overloaded)).unwrap();
        assert_eq!(refusal, [1, 0, 0, 0, 0]);
    }

    #[test]
    fn a_refusal_is_heard_before_the_request_is_out() {
        for (byte, status) in
            [(1, Status::Overloaded), (2, Status::RequestTooLarge), (3, Status::Failed)]
        {
            let mut script = Script::new(vec![byte, 0, 0, 0, 0], false);
            script.patience = 1000;
            let error = ask(&mut script, &Bytes::from(vec![0; 100_000])).unwrap_err();
            assert!(matches!(error, ExchangeError::Refused(refused) if refused == status));
        }
    }

    #[test]
    fn an_end_tells_whether_the_request_was_out() {
        let mut script = Script::new(vec![], true);
        script.patience = 1000;
        let error = ask(&mut script, &Bytes::from(vec![0; 100_000])).unwrap_err();
        assert!(matches!(error, ExchangeError::NotSent(_)));
        for says in [vec![], vec![0, 1], vec![0, 2, 0, 0, 0, 7]] {
            let error = ask(&mut Script::new(says, true), &Bytes::new()).unwrap_err();
            assert!(matches!(error, ExchangeError::Closed(_)));
        }
    }

    #[test]
    fn claims_over_the_limit_and_unknown_statuses_are_errors() {
        let error = ask(&mut Script::new(vec![0, 255, 255, 255, 255], false), &Bytes::new());
        let size = u32::MAX as usize;
        assert!(matches!(error, Err(ExchangeError::ResponseTooLarge { size: s }) if s == size));
        let error = ask(&mut Script::new(vec![4, 0, 0, 0, 0], false), &Bytes::new());
        assert!(matches!(error, Err(ExchangeError::Malformed)));
    }

    proptest! {
        #[test]
        fn frames_round_trip(body in proptest::collection::vec(any::<u8>(), 0..100_000)) {
            let body = Bytes::from(body);
            let mut response = Vec::new();
            // In three parts, as sectors travel.
            let cut = body.len() / 3;
            let parts = vec![body.slice(..cut), body.slice(cut..2 * cut), body.slice(2 * cut..)];
            block_on(write_response(&mut response, &parts.into())).unwrap();
            let mut script = Script::new(response, true);
            prop_assert_eq!(ask(&mut script, &body).unwrap(), body.clone());

            let request = script.heard.lock().unwrap().clone();
            let mut reader = request.as_slice();
            let length = block_on(read_request_length(&mut reader)).unwrap();
            prop_assert_eq!(length, Some(body.len()));
            prop_assert_eq!(reader, body.as_ref());
        }

        #[test]
        fn no_response_panics(says in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = ask(&mut Script::new(says, true), &Bytes::new());
        }
    }

    #[test]
    fn a_substream_may_end_between_requests_only() {
        assert_eq!(block_on(read_request_length(&mut [].as_slice())).unwrap(), None);
        let mut frame = Vec::new();
        block_on(write_frame(&mut frame, &[1, 0], &Body::default())).unwrap();
        assert!(block_on(read_request_length(&mut frame.as_slice())).is_err());
    }
}
