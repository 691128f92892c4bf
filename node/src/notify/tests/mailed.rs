//! Mail as a server gets it.

use super::super::mail::{MailError, send};
use super::super::settings::{Login, Security, tests::secret};
use super::super::{Counts, Link};
use super::mail_server::{Behaviour, Heard, MailServer};
use super::*;

/// `\0me\0right` in base64.
const LOGIN: &str = "AG1lAHJpZ2h0";

fn open(security: Security) -> Behaviour {
    Behaviour { security, login: None, recipient: "250 ok", tls: None }
}

/// Settings for a server.
fn to(server: &MailServer, security: Security) -> Mail {
    Mail {
        server: "127.0.0.1".to_owned(),
        port: server.address.port(),
        security,
        login: None,
        ..mail()
    }
}

fn with_login(password: &str) -> Option<Login> {
    Some(Login { user: "me".to_owned(), password: secret(password) })
}

/// Head and body of a mail, the body's lines as long as they were.
fn parts(mail: &str) -> (&str, String) {
    let (head, body) = mail.split_once("\r\n\r\n").unwrap();
    (head, body.replace("=\r\n", "").replace("=3D", "="))
}

/// Sends a notice without TLS and login, and gives what the server heard.
async fn heard(notice: &Notice) -> Heard {
    let mut server = MailServer::new(open(Security::None)).await;
    send(&to(&server, Security::None), notice).await.unwrap();
    server.next().await
}

fn finished(name: &str) -> Notice {
    let link = Link { url: secret("https://a.example/b?c=1&d=2"), expires: None };
    let news = News::Completed {
        work: Work::Archive,
        about: about(name),
        counts: Counts { files: 2, bytes: 30 },
        link: Some(link),
    };
    news.notice(NoticeId([7; 16]), ChainTime(START))
}

#[tokio::test]
async fn a_mail_says_what_the_notice_says() {
    let Heard { commands, mail } = heard(&finished("photos")).await;
    assert!(commands.contains(&"MAIL FROM:<samara@example.org>".to_owned()), "{commands:?}");
    let recipients: Vec<_> = commands.iter().filter(|line| line.starts_with("RCPT")).collect();
    assert_eq!(recipients, ["RCPT TO:<me@example.org>", "RCPT TO:<zoe@example.org>"]);
    let (head, body) = parts(&mail);
    for line in [
        "Subject: [samara] Archive 'photos' is complete",
        "From: Samara <samara@example.org>",
        "Message-ID: <07070707070707070707070707070707@example.org>",
        "Auto-Submitted: auto-generated",
    ] {
        assert!(head.lines().any(|l| l == line), "no {line:?} in {head}");
    }
    assert!(head.contains("\r\nDate: Tue, 14 Nov 2023 22:13:20 +0000"), "{head}");
    assert!(head.contains("multipart/alternative"), "{head}");
    assert!(body.contains("The archive 'photos' is complete: 2 files, 30 B."), "{body}");
    assert!(body.contains("\r\nhttps://a.example/b?c=1&d=2\r\n"), "{body}");
    assert!(
        body.contains("<p>The archive &#39;photos&#39; is complete: 2 files, 30 B.</p>"),
        "{body}"
    );
    let link = r#"<a href="https://a.example/b?c=1&amp;d=2">https://a.example/b?c=1&amp;d=2</a>"#;
    assert!(body.contains(link), "{body}");
}

#[tokio::test]
async fn names_in_every_writing_arrive() {
    let Heard { mail, .. } = heard(&finished("Fotos von Zoë 写真")).await;
    let (head, _) = mail.split_once("\r\n\r\n").unwrap();
    assert!(head.is_ascii());
    // Encoded words, as RFC 2047 says.
    assert!(head.contains("Subject: [samara] Archive 'Fotos von =?utf-8?b?"), "{head}");
}

#[tokio::test]
async fn nobody_adds_headers_or_markup() {
    let evil = "a\r\nBcc: evil@example.org\r\n\r\n<script>alert(1)</script>\u{2028}.\r\nQUIT";
    for notice in [finished(evil), Notice { subject: evil.to_owned(), ..finished("b") }] {
        let Heard { commands, mail } = heard(&notice).await;
        let (head, body) = parts(&mail);
        assert!(!head.lines().any(|line| line.starts_with("Bcc")), "{head}");
        let page = &body[body.find("<!DOCTYPE").unwrap()..];
        assert!(!page.contains("<script>"), "{page}");
        assert!(body.contains("2 files"), "{body}");
        assert!(!commands.iter().any(|line| line.contains("evil")), "{commands:?}");
    }
}

#[tokio::test]
async fn a_login_is_needed_where_the_server_asks_for_one() {
    let behaviour = Behaviour { login: Some(LOGIN), ..open(Security::None) };
    let mut server = MailServer::new(behaviour).await;
    let open = to(&server, Security::None);
    let error = send(&open, &notice("daily")).await.unwrap_err();
    assert!(matches!(error, MailError::Refused { step: "the mail", .. }), "{error}");
    let wrong = Mail { login: with_login("wrong"), ..open.clone() };
    let error = send(&wrong, &notice("daily")).await.unwrap_err();
    let told = crate::causes::with_causes(&error);
    assert!(told.contains("refused the login") && told.contains("535"), "{told}");
    assert!(told.contains("wrong user or password") && !told.contains("AG1l"), "{told}");
    let right = Mail { login: with_login("right"), ..open };
    send(&right, &notice("daily")).await.unwrap();
    for taken in [false, false, true] {
        assert_eq!(server.next().await.mail.is_empty(), !taken);
    }
}

#[tokio::test]
async fn a_recipient_that_is_refused_is_told() {
    let recipient = "550 5.1.1 no such user";
    let mut server = MailServer::new(Behaviour { recipient, ..open(Security::None) }).await;
    let error = send(&to(&server, Security::None), &notice("daily")).await.unwrap_err();
    let told = crate::causes::with_causes(&error);
    assert!(told.contains("550") && told.contains("no such user"), "{told}");
    assert!(server.next().await.mail.is_empty());
}

#[tokio::test]
async fn mail_goes_within_tls_to_a_server_that_is_trusted() {
    for security in [Security::Tls, Security::Starttls] {
        let (config, root) = crate::tls::tests::server();
        let behaviour =
            Behaviour { login: Some(LOGIN), tls: Some(Arc::new(config)), ..open(security) };
        let mut server = MailServer::new(behaviour).await;
        let other = Some(crate::tls::tests::server().1);
        let distrusted =
            Mail { login: with_login("right"), root_certificate: other, ..to(&server, security) };
        let error = send(&distrusted, &notice("daily")).await.unwrap_err();
        let told = crate::causes::with_causes(&error);
        assert!(told.to_lowercase().contains("certificate"), "{told}");
        // Nothing was said that others may not hear.
        let commands = server.next().await.commands;
        assert!(!commands.iter().any(|line| line.starts_with("AUTH")), "{commands:?}");
        let trusted = Mail { root_certificate: Some(root), ..distrusted };
        send(&trusted, &notice("daily")).await.unwrap();
        let Heard { commands, mail } = server.next().await;
        let at = |word: &str| commands.iter().position(|line| line.starts_with(word)).unwrap();
        assert!(at("(TLS)") < at("AUTH") && at("AUTH") < at("MAIL"), "{commands:?}");
        assert!(mail.contains("Backup 'daily' has started"));
    }
}

#[tokio::test]
async fn a_server_without_starttls_gets_nothing() {
    let mut server = MailServer::new(open(Security::None)).await;
    let mail = Mail { login: with_login("right"), ..to(&server, Security::Starttls) };
    let error = send(&mail, &notice("daily")).await.unwrap_err();
    assert!(matches!(error, MailError::Refused { step: "STARTTLS", .. }), "{error}");
    let commands = server.next().await.commands;
    assert!(
        !commands.iter().any(|l| l.starts_with("AUTH") || l.starts_with("MAIL")),
        "{commands:?}"
    );
}

#[tokio::test]
async fn without_tls_nothing_leaves_this_machine() {
    let mail = Mail { server: "192.0.2.1".to_owned(), ..mail() };
    let error = send(&mail, &notice("daily")).await.unwrap_err();
    assert!(matches!(error, MailError::NotLoopback(_)), "{error}");
}

#[tokio::test]
async fn a_server_that_never_ends_its_answer_is_left() {
    use tokio::io::AsyncWriteExt as _;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        while stream.write_all(&[b'2'; 4_096]).await.is_ok() {}
    });
    let mail = Mail { port, login: None, server: "127.0.0.1".to_owned(), ..mail() };
    let error = send(&mail, &notice("daily")).await.unwrap_err();
    let told = crate::causes::with_causes(&error);
    assert!(told.contains("the server says too much"), "{told}");
}
