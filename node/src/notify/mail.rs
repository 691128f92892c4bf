//! Notices by mail.
//!
//! The connection is made here and handed to the mail library, so that its addresses are checked before
//! anything is said, and a server that never stops talking is cut off.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, UNIX_EPOCH};

use lettre::Message;
use lettre::message::header::{HeaderName, HeaderValue};
use lettre::message::{Mailbox, MultiPart};
use lettre::transport::smtp::authentication::{Credentials, Mechanism};
use lettre::transport::smtp::client::{
    AsyncSmtpConnection, AsyncTokioStream, Certificate, TlsParameters,
};
use lettre::transport::smtp::extension::ClientId;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::notice::Notice;
use super::settings::{Mail, ONLY_LOOPBACK, Security, SettingsError, mailbox};
use crate::tls::{self, TlsError};

/// Until a connection is there.
const CONNECT: Duration = Duration::from_secs(20);
/// For all of one mail.
const TOTAL: Duration = Duration::from_secs(120);
/// Bytes that a server may say while it takes one mail, certificates among them.
const MAX_HEARD: u64 = 256 << 10;
/// The last moment that a mail's date can name: the end of the year 9999.
const LAST_DATE: u64 = 253_402_300_799;

/// Why a mail was not sent.
#[derive(Debug, thiserror::Error)]
pub enum MailError {
    /// The settings.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// No mail can be made of the notice.
    #[error("no mail can be made of it")]
    Message(#[from] lettre::error::Error),
    /// The server's name.
    #[error("{server} cannot be resolved: check how it is written")]
    Resolve {
        /// The name.
        server: String,
        /// What the system said.
        source: io::Error,
    },
    /// It would go over the network for all to read.
    #[error("{0} is not this machine: {ONLY_LOOPBACK}")]
    NotLoopback(String),
    /// No connection.
    #[error("no connection to {server} port {port}: check both, and that the server runs")]
    Connect {
        /// The server.
        server: String,
        /// Its port.
        port: u16,
        /// What the system said.
        source: io::Error,
    },
    /// TLS.
    #[error(
        "{server} cannot be trusted: check its name, its certificate and whether it speaks TLS on this port"
    )]
    Handshake {
        /// The server.
        server: String,
        /// What is wrong.
        source: io::Error,
    },
    /// Certificates.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The server refused, or said what nobody understands.
    #[error("{server} refused {step}")]
    Refused {
        /// The server.
        server: String,
        /// What was asked.
        step: &'static str,
        /// Its words.
        source: lettre::transport::smtp::Error,
    },
    /// It takes too long.
    #[error("{0} is too slow: the mail was not taken within {total} s", total = TOTAL.as_secs())]
    Slow(String),
}

/// Sends a notice to all recipients.
///
/// # Errors
/// [`MailError`]; then some recipients may have it all the same.
pub async fn send(mail: &Mail, notice: &Notice) -> Result<(), MailError> {
    let message = message(mail, notice)?;
    let slow = |_| MailError::Slow(mail.server.clone());
    timeout(TOTAL, hand_over(mail, &message)).await.map_err(slow)?
}

/// The mail that tells a notice.
fn message(mail: &Mail, notice: &Notice) -> Result<Message, MailError> {
    let from: Mailbox = mailbox("from", &mail.from)?;
    let id = format!("<{}@{}>", notice.id, from.email.domain());
    let date = UNIX_EPOCH + Duration::from_secs((notice.time.0 / 1_000).min(LAST_DATE));
    let automatic = HeaderName::new_from_ascii_str("Auto-Submitted");
    let mut message = Message::builder()
        .from(from)
        .subject(format!("[samara] {}", notice.subject))
        .message_id(Some(id))
        .date(date)
        .raw_header(HeaderValue::new(automatic, "auto-generated".to_owned()));
    for recipient in &mail.to {
        message = message.to(mailbox("to", recipient)?);
    }
    let parts = MultiPart::alternative_plain_html(notice.text.clone(), html(notice));
    Ok(message.multipart(parts)?)
}

/// The text as a page: paragraphs, and links where a line is one.
fn html(notice: &Notice) -> String {
    let line = |line: &str| {
        let text = escaped(line);
        match line.starts_with("https://") || line.starts_with("http://") {
            true => format!("<a href=\"{text}\">{text}</a>"),
            false => text,
        }
    };
    let paragraph = |text: &str| {
        let lines: Vec<String> = text.trim_end().lines().map(line).collect();
        format!("<p>{}</p>\n", lines.join("<br>\n"))
    };
    let body: String = notice.text.split("\n\n").map(paragraph).collect();
    let title = escaped(&notice.subject);
    format!(
        "<!DOCTYPE html>\n<html><head><meta charset=\"utf-8\"><title>{title}</title></head>\n\
         <body>\n<h3>{title}</h3>\n{body}</body></html>\n"
    )
}

fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            c => escaped.push(c),
        }
    }
    escaped
}

async fn hand_over(mail: &Mail, message: &Message) -> Result<(), MailError> {
    let refused = |step| {
        let server = mail.server.clone();
        move |source| MailError::Refused { server, step, source }
    };
    let hello = ClientId::default();
    let stream = connect(mail).await?;
    let stream: Box<dyn AsyncTokioStream> = match mail.security {
        Security::Tls => Box::new(handshake(mail, stream).await?),
        Security::Starttls | Security::None => Box::new(stream),
    };
    let connected = AsyncSmtpConnection::connect_with_transport(stream, &hello).await;
    let mut server = connected.map_err(refused("the connection"))?;
    if mail.security == Security::Starttls {
        let tls = starttls(mail).map_err(refused("STARTTLS"))?;
        server.starttls(tls, &hello).await.map_err(refused("STARTTLS"))?;
    }
    if let Some(login) = &mail.login {
        let password = login.password.reveal().to_owned();
        let credentials = Credentials::new(login.user.clone(), password);
        let known = [Mechanism::Plain, Mechanism::Login];
        server.auth(&known, &credentials).await.map_err(refused("the login"))?;
    }
    let sent = server.send(message.envelope(), &message.formatted()).await;
    sent.map_err(refused("the mail"))?;
    // It has the mail; how it says goodbye changes nothing.
    let _ = server.quit().await;
    Ok(())
}

/// Connects to the first address that answers. Without TLS all addresses must be this machine's.
async fn connect(mail: &Mail) -> Result<Bounded, MailError> {
    let Mail { server, port, .. } = mail;
    let resolving = tokio::net::lookup_host((server.as_str(), *port)).await;
    let failed = |source| MailError::Resolve { server: server.clone(), source };
    let addresses: Vec<SocketAddr> = resolving.map_err(failed)?.collect();
    let is_loopback = |address: &SocketAddr| address.ip().to_canonical().is_loopback();
    if mail.security == Security::None && !addresses.iter().all(is_loopback) {
        return Err(MailError::NotLoopback(server.clone()));
    }
    let mut last = io::Error::other("it has no address");
    for address in addresses {
        match timeout(CONNECT, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => return Ok(Bounded { stream, left: MAX_HEARD }),
            Ok(Err(error)) => last = error,
            Err(_) => last = io::ErrorKind::TimedOut.into(),
        }
    }
    Err(MailError::Connect { server: server.clone(), port: *port, source: last })
}

async fn handshake(mail: &Mail, stream: Bounded) -> Result<Sealed, MailError> {
    let server = mail.server.clone();
    let config = tls::client(&mail.roots()?)?;
    let failed = |source| MailError::Handshake { server: mail.server.clone(), source };
    let name = ServerName::try_from(server).map_err(|error| failed(io::Error::other(error)))?;
    let connector = TlsConnector::from(std::sync::Arc::new(config));
    Ok(Sealed(Box::new(connector.connect(name, stream).await.map_err(failed)?)))
}

fn starttls(mail: &Mail) -> Result<TlsParameters, lettre::transport::smtp::Error> {
    let mut builder = TlsParameters::builder(mail.server.clone());
    if let Some(pem) = &mail.root_certificate {
        builder = builder.add_root_certificate(Certificate::from_pem(pem.as_bytes())?);
    }
    builder.build()
}

/// A connection that ends when the server has said too much.
#[derive(Debug)]
struct Bounded {
    stream: TcpStream,
    left: u64,
}

impl AsyncRead for Bounded {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.left == 0 {
            return Poll::Ready(Err(io::Error::other("the server says too much")));
        }
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(context, buffer);
        let heard = buffer.filled().len().saturating_sub(before) as u64;
        self.left = self.left.saturating_sub(heard);
        read
    }
}

impl AsyncWrite for Bounded {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

impl AsyncTokioStream for Bounded {
    fn peer_addr(&self) -> io::Result<SocketAddr> {
        self.stream.peer_addr()
    }
}

/// The same within TLS.
struct Sealed(Box<TlsStream<Bounded>>);

impl fmt::Debug for Sealed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Sealed").field(&self.0.get_ref().0).finish()
    }
}

impl AsyncRead for Sealed {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(context, buffer)
    }
}

impl AsyncWrite for Sealed {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(context)
    }
}

impl AsyncTokioStream for Sealed {
    fn peer_addr(&self) -> io::Result<SocketAddr> {
        self.0.get_ref().0.peer_addr()
    }
}
