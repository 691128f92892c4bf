//! A small mail server: takes what it is sent, asks for a login if it has one, speaks TLS if it can.

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::io::{AsyncBufReadExt as _, AsyncRead, AsyncWrite, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio_rustls::TlsAcceptor;

use super::super::settings::Security;

/// What a client has said, and the mails among it.
#[derive(Clone, Debug, Default)]
pub struct Heard {
    /// Commands, those within TLS after `(TLS)`.
    pub commands: Vec<String>,
    /// The mail, with the dots that the transport adds taken away.
    pub mail: String,
}

/// How the server behaves.
#[derive(Clone)]
pub struct Behaviour {
    pub security: Security,
    /// What a client must show, in base64; none for no login.
    pub login: Option<&'static str>,
    /// What is said to a recipient.
    pub recipient: &'static str,
    pub tls: Option<Arc<rustls::ServerConfig>>,
}

pub struct MailServer {
    pub address: SocketAddr,
    heard: mpsc::Receiver<Heard>,
}

impl MailServer {
    pub async fn new(behaviour: Behaviour) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (sender, heard) = mpsc::channel(16);
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let mut heard = Heard::default();
                // A client that distrusts the server hangs up.
                let _ = serve(stream, &behaviour, &mut heard).await;
                sender.send(heard).await.unwrap();
            }
        });
        Self { address, heard }
    }

    /// What the next client has said.
    pub async fn next(&mut self) -> Heard {
        self.heard.recv().await.unwrap()
    }
}

async fn serve(stream: TcpStream, behaviour: &Behaviour, heard: &mut Heard) -> std::io::Result<()> {
    let acceptor = behaviour.tls.clone().map(TlsAcceptor::from);
    match (behaviour.security, acceptor) {
        (Security::Tls, Some(acceptor)) => {
            let stream = acceptor.accept(stream).await?;
            heard.commands.push("(TLS)".to_owned());
            talk(stream, behaviour, heard, true).await.map(drop)
        }
        (Security::Starttls, Some(acceptor)) => {
            let Some(stream) = talk(stream, behaviour, heard, true).await? else { return Ok(()) };
            let stream = acceptor.accept(stream).await?;
            heard.commands.push("(TLS)".to_owned());
            talk(stream, behaviour, heard, false).await.map(drop)
        }
        _ => talk(stream, behaviour, heard, true).await.map(drop),
    }
}

/// Talks until the client leaves, or begins TLS.
async fn talk<S: AsyncRead + AsyncWrite + Unpin>(
    stream: S,
    behaviour: &Behaviour,
    heard: &mut Heard,
    greets: bool,
) -> std::io::Result<Option<S>> {
    let mut stream = BufReader::new(stream);
    if greets {
        stream.write_all(b"220 mail.example ESMTP\r\n").await?;
    }
    let mut said = behaviour.login.is_none();
    let mut line = String::new();
    loop {
        line.clear();
        if stream.read_line(&mut line).await? == 0 {
            return Ok(None);
        }
        let command = line.trim_end().to_owned();
        heard.commands.push(command.clone());
        let answer = match command.split(' ').next().unwrap_or_default() {
            "EHLO" if behaviour.security == Security::Starttls && greets => {
                "250-mail.example\r\n250-8BITMIME\r\n250 STARTTLS"
            }
            "EHLO" => "250-mail.example\r\n250-8BITMIME\r\n250-SMTPUTF8\r\n250 AUTH PLAIN",
            "STARTTLS" => {
                stream.write_all(b"220 go on\r\n").await?;
                return Ok(Some(stream.into_inner()));
            }
            "AUTH" if command.strip_prefix("AUTH PLAIN ") == behaviour.login => {
                said = true;
                "235 welcome"
            }
            "AUTH" => "535 5.7.8 wrong user or password",
            "MAIL" if !said => "530 5.7.0 log in first",
            "MAIL" => "250 ok",
            "RCPT" => behaviour.recipient,
            "DATA" => {
                stream.write_all(b"354 go on\r\n").await?;
                heard.mail = mail(&mut stream).await?;
                "250 taken"
            }
            "QUIT" => "221 bye",
            _ => "500 what?",
        };
        stream.write_all(format!("{answer}\r\n").as_bytes()).await?;
        if command == "QUIT" {
            return Ok(None);
        }
    }
}

async fn mail<S: AsyncRead + Unpin>(stream: &mut BufReader<S>) -> std::io::Result<String> {
    let mut mail = String::new();
    loop {
        let mut line = String::new();
        stream.read_line(&mut line).await?;
        if line == ".\r\n" || line.is_empty() {
            return Ok(mail);
        }
        mail.push_str(line.strip_prefix('.').unwrap_or(&line));
    }
}
