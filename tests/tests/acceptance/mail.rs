//! A mail server of another make (`mailin`) on a free port of this machine. It wants STARTTLS and a login, and
//! what it takes is read by another's parser (`mailparse`).

use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::sync::Arc;

use mailin::{Action, AuthMechanism, Handler, Response, Session, SessionBuilder, response};
use mailparse::MailHeaderMap as _;
use rcgen::{BasicConstraints, CertificateParams, IsCa, KeyPair};
use rustls::ServerConfig;
use rustls::pki_types::PrivateKeyDer;
use tokio::io::{AsyncBufReadExt as _, AsyncRead, AsyncWrite, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio_rustls::TlsAcceptor;

use crate::network::{background, text};
use crate::story::{Story, private};

const USER: &str = "samara";
const PASSWORD: &str = "only for this test";
/// Who gets the mails.
pub const RECIPIENT: &str = "ada@example.org";

/// A mail as its reader sees it.
#[derive(Debug)]
pub struct Mail {
    pub from: String,
    pub to: Vec<String>,
    pub subject: String,
    /// The part for people who read plain text.
    pub text: String,
    /// The part for the others.
    pub html: String,
}

impl Mail {
    fn parse(from: &str, to: &[String], bytes: &[u8]) -> Self {
        let parsed = mailparse::parse_mail(bytes).unwrap();
        let part = |kind: &str| {
            let mut parts = parsed.parts().filter(|part| part.ctype.mimetype == kind);
            parts.next().map(|part| part.get_body().unwrap()).unwrap_or_default()
        };
        Self {
            from: from.to_owned(),
            to: to.to_vec(),
            subject: parsed.headers.get_first_value("subject").unwrap(),
            text: part("text/plain").replace("\r\n", "\n"),
            html: part("text/html"),
        }
    }

    /// The download link in it.
    pub fn link(&self) -> Option<&str> {
        self.text.lines().find(|line| line.contains("/v1/download/"))
    }
}

/// One connection to the server, as far as mails are concerned.
struct Mailbox {
    known: bool,
    from: String,
    to: Vec<String>,
    bytes: Vec<u8>,
    taken: mpsc::Sender<Mail>,
}

impl Handler for Mailbox {
    fn auth_plain(&mut self, _: &str, user: &str, password: &str) -> Response {
        self.known = (user, password) == (USER, PASSWORD);
        if self.known { response::AUTH_OK } else { response::INVALID_CREDENTIALS }
    }

    fn mail(&mut self, _: IpAddr, _: &str, _: &str) -> Response {
        if self.known { response::OK } else { response::AUTHENTICATION_REQUIRED }
    }

    fn data_start(&mut self, _: &str, from: &str, _: bool, to: &[String]) -> Response {
        (self.from, self.to) = (from.to_owned(), to.to_vec());
        self.bytes.clear();
        response::OK
    }

    fn data(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.bytes.extend_from_slice(bytes);
        Ok(())
    }

    fn data_end(&mut self) -> Response {
        let mail = Mail::parse(&self.from, &self.to, &self.bytes);
        // A test that has ended reads no mail.
        let _ = self.taken.try_send(mail);
        response::OK
    }
}

/// The server.
pub struct MailServer {
    port: u16,
    /// The certificate that vouches for it, as PEM.
    root: String,
    mails: mpsc::Receiver<Mail>,
}

impl MailServer {
    /// Starts one.
    pub async fn start() -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (config, root) = certified();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let (taken, mails) = mpsc::channel(64);
        background(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (acceptor, taken) = (acceptor.clone(), taken.clone());
                // A client that hangs up says no more.
                background(async move { serve(stream, acceptor, taken).await.unwrap_or_default() });
            }
        });
        Self { port, root, mails }
    }

    /// Starts one that a renter sends its notices to.
    pub async fn of(story: &Story) -> Self {
        let server = Self::start().await;
        let (root, password) = (story.path("root.pem"), story.path("mail-password"));
        std::fs::write(&root, &server.root).unwrap();
        private(&password, PASSWORD);
        let (port, from) = (server.port.to_string(), file(&password));
        let set = [
            ["--server", "localhost"],
            ["--port", &port],
            ["--security", "starttls"],
            ["--user", USER],
            ["--password-from", &from],
            ["--from", "Samara <samara@example.org>"],
            ["--to", RECIPIENT],
            ["--root-certificate", text(&root)],
        ];
        story.ok(&[&["notify", "set-email"][..], set.as_flattened()].concat()).await;
        server
    }

    /// The next mail whose subject has these words; those before it are passed over.
    pub async fn next(&mut self, subject: &str) -> Mail {
        loop {
            let mail = self.mails.recv().await.expect("the server runs");
            if mail.subject.contains(subject) {
                return mail;
            }
        }
    }
}

/// A file as a source of secrets.
pub fn file(path: &Path) -> String {
    format!("file:{}", path.display())
}

async fn serve(
    stream: TcpStream,
    acceptor: TlsAcceptor,
    taken: mpsc::Sender<Mail>,
) -> std::io::Result<()> {
    let address = stream.peer_addr()?.ip();
    let (from, to) = (String::new(), Vec::new());
    let mailbox = Mailbox { known: false, from, to, bytes: Vec::new(), taken };
    let mut builder = SessionBuilder::new("mail.example.org");
    builder.enable_start_tls().enable_auth(AuthMechanism::Plain);
    let mut session = builder.build(address, mailbox);
    let mut stream = BufReader::new(stream);
    stream.write_all(&session.greeting().buffer()?).await?;
    if talk(&mut stream, &mut session).await? {
        let mut sealed = BufReader::new(acceptor.accept(stream.into_inner()).await?);
        session.tls_active();
        talk(&mut sealed, &mut session).await?;
    }
    Ok(())
}

/// Talks until the client leaves, or wants TLS: then the answer is yes.
async fn talk<S: AsyncRead + AsyncWrite + Unpin>(
    stream: &mut BufReader<S>,
    session: &mut Session<Mailbox>,
) -> std::io::Result<bool> {
    let mut line = Vec::new();
    loop {
        line.clear();
        if stream.read_until(b'\n', &mut line).await? == 0 {
            return Ok(false);
        }
        let answer = session.process(&line);
        stream.write_all(&answer.buffer()?).await?;
        stream.flush().await?;
        match answer.action {
            Action::UpgradeTls => return Ok(true),
            Action::Close => return Ok(false),
            Action::Reply | Action::NoReply => {}
        }
    }
}

/// A server's configuration for `localhost`, and the root that vouches for it.
fn certified() -> (ServerConfig, String) {
    let authority_key = KeyPair::generate().unwrap();
    let mut authority = CertificateParams::new(Vec::new()).unwrap();
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = authority.self_signed(&authority_key).unwrap();
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    let certificate = params.signed_by(&key, &authority, &authority_key).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(
            vec![certificate.der().clone()],
            PrivateKeyDer::Pkcs8(key.serialize_der().into()),
        )
        .unwrap();
    (config, authority.pem())
}
