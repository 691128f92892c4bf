//! `samara notify`.

use std::path::Path;

use zeroize::Zeroizing;

use super::arguments::{AddWebhook, NotifyCommand, SetMail, Switch};
use super::display::{self, Align, Lines, Table};
use super::exit::Exit;
use super::failure::Failure;
use super::session::Session;
use crate::api::{
    Done, MailAnswer, MailRequest, NoticeRow, NotifyAnswer, NotifyRequest, WebhookRequest,
};
use crate::notify::Tested;
use crate::notify::settings::{Secret, Security};
use crate::seed::console::ProcessConsole;
use crate::seed::source::{PassphraseSource, SourceError};

const SETTINGS: &str = "/v1/notifications/settings";
/// The variable that holds the password of the mail server.
const PASSWORD_VARIABLE: &str = "SAMARA_MAIL_PASSWORD";
/// The variable that holds a webhook's secret.
const SECRET_VARIABLE: &str = "SAMARA_WEBHOOK_SECRET";
/// Notices of one page.
const PAGE: u64 = 1_000;
/// Longest certificate that is read, in bytes.
const MAX_CERTIFICATE: u64 = 64 << 10;

/// Runs one of the commands.
pub async fn run(session: &Session, command: NotifyCommand) -> Result<Exit, Failure> {
    match command {
        NotifyCommand::Show => show(session).await,
        NotifyCommand::SetEmail(arguments) => set_mail(session, arguments).await,
        NotifyCommand::AddWebhook(arguments) => add_webhook(session, arguments).await,
        NotifyCommand::RemoveWebhook { id } => remove_webhook(session, &id).await,
        NotifyCommand::Switch { kind, to } => {
            let mut request = shown(session).await?;
            match to {
                Switch::On => request.off.remove(&kind),
                Switch::Off => request.off.insert(kind),
            };
            store(session, &request).await
        }
        NotifyCommand::Test => test(session).await,
        NotifyCommand::List => list(session).await,
        NotifyCommand::Dismiss { number } => {
            let path = format!("/v1/notifications/{number}");
            let answer: Done = session.client()?.delete(&path).await?;
            session.output.answer(&answer, || format!("notice {number} dismissed\n"));
            Ok(Exit::Ok)
        }
    }
}

/// The settings as they are, to be changed.
async fn shown(session: &Session) -> Result<NotifyRequest, Failure> {
    let answer: NotifyAnswer = session.client()?.get(SETTINGS).await?;
    Ok(answer.into())
}

async fn store(session: &Session, request: &NotifyRequest) -> Result<Exit, Failure> {
    let answer: NotifyAnswer = session.client()?.put(SETTINGS, request).await?;
    session.output.answer(&answer, || text(&answer));
    Ok(Exit::Ok)
}

async fn show(session: &Session) -> Result<Exit, Failure> {
    let answer: NotifyAnswer = session.client()?.get(SETTINGS).await?;
    session.output.answer(&answer, || text(&answer));
    Ok(Exit::Ok)
}

const fn security_name(security: Security) -> &'static str {
    match security {
        Security::Tls => "TLS",
        Security::Starttls => "STARTTLS",
        Security::None => "no TLS",
    }
}

fn text(answer: &NotifyAnswer) -> String {
    let mut lines = Lines::default();
    match &answer.mail {
        None => lines.line("e-mail", "off; `samara notify set-email` switches it on"),
        Some(mail) => {
            let MailAnswer { server, port, security, .. } = mail;
            lines.line("e-mail", format!("{server} port {port}, {}", security_name(*security)));
            let user = mail
                .user
                .as_deref()
                .map_or_else(|| "nobody".to_owned(), |user| format!("{user}, with a password"));
            lines.line("login", user);
            lines.line("from", &mail.from);
            lines.line("to", mail.to.join(", "));
            let links = match answer.link_days {
                0 => "none".to_owned(),
                days => format!("to finished archives, for {}", display::count(days.into(), "day")),
            };
            lines.line("links", links);
        }
    }
    let off: Vec<&str> = answer.off.iter().map(|kind| kind.word()).collect();
    lines.line("not sent", if off.is_empty() { "-".to_owned() } else { off.join(", ") });
    let mut table = Table::new(&[
        ("webhook", Align::Left),
        ("state", Align::Left),
        ("kinds", Align::Left),
        ("url", Align::Left),
    ]);
    for hook in &answer.webhooks {
        let kinds: Vec<&str> = hook.kinds.iter().map(|kind| kind.word()).collect();
        table.row([
            hook.id.to_string(),
            if hook.disabled { "off" } else { "on" }.to_owned(),
            if kinds.is_empty() { "all".to_owned() } else { kinds.join(",") },
            hook.url.clone(),
        ]);
    }
    if table.is_empty() {
        lines.line("webhooks", "none");
        lines.render()
    } else {
        lines.render() + &table.render()
    }
}

async fn set_mail(session: &Session, arguments: SetMail) -> Result<Exit, Failure> {
    let mut request = shown(session).await?;
    if arguments.off {
        request.mail = None;
        return store(session, &request).await;
    }
    request.link_days = arguments.link_days.or(request.link_days);
    let before = request.mail.take();
    let source = arguments.password_from.clone();
    let root = arguments.root_certificate.as_deref().map(certificate).transpose()?;
    let (mut mail, same_login) = changed(arguments, before, root)?;
    if mail.user.is_some() && (source.is_some() || !same_login) {
        let source = source.unwrap_or(PassphraseSource::Prompt);
        let password = secret(source, PASSWORD_VARIABLE, "Password of the mail server: ");
        mail.password = Some(password.await?);
    }
    request.mail = Some(mail);
    store(session, &request).await
}

/// The settings of mail with what was named, and whether the password that is kept still fits.
fn changed(
    arguments: SetMail,
    before: Option<MailRequest>,
    root: Option<String>,
) -> Result<(MailRequest, bool), Failure> {
    let missing = |option: &str| {
        Failure::new(Exit::Usage, format!("{option} is needed where no e-mail is set up yet"))
    };
    let old = before.as_ref();
    let server = arguments.server.or_else(|| old.map(|mail| mail.server.clone()));
    let security = arguments.security.or(old.map(|mail| mail.security));
    let security = security.unwrap_or(Security::Tls);
    // Another security has another usual port.
    let kept = old.filter(|mail| mail.security == security).and_then(|mail| mail.port);
    let port = arguments.port.or(kept).unwrap_or_else(|| security.port());
    let user = match arguments.no_login {
        true => None,
        false => arguments.user.or_else(|| old.and_then(|mail| mail.user.clone())),
    };
    let to = match arguments.to.is_empty() {
        true => old.map(|mail| mail.to.clone()),
        false => Some(arguments.to),
    };
    let from = arguments.from.or_else(|| old.map(|mail| mail.from.clone()));
    let mail = MailRequest {
        server: server.ok_or_else(|| missing("--server"))?,
        port: Some(port),
        security,
        user,
        password: None,
        from: from.ok_or_else(|| missing("--from"))?,
        to: to.ok_or_else(|| missing("--to"))?,
        root_certificate: root.or_else(|| old.and_then(|mail| mail.root_certificate.clone())),
    };
    let same_login = old.is_some_and(|old| {
        (&old.server, old.port, &old.user) == (&mail.server, mail.port, &mail.user)
    });
    Ok((mail, same_login))
}

/// A certificate's text.
fn certificate(path: &Path) -> Result<String, Failure> {
    let refuse = |reason: String| {
        Failure::new(Exit::Usage, format!("cannot read {}: {reason}", path.display()))
    };
    let length = std::fs::metadata(path).map_err(|error| refuse(error.to_string()))?.len();
    if length > MAX_CERTIFICATE {
        return Err(refuse(format!("it has more than {MAX_CERTIFICATE} bytes")));
    }
    std::fs::read_to_string(path).map_err(|error| refuse(error.to_string()))
}

/// Reads a secret on a thread that may block. None is ever an argument.
async fn secret(
    source: PassphraseSource,
    variable: &'static str,
    prompt: &'static str,
) -> Result<Secret, Failure> {
    let reading = move || source.read(variable, prompt, &mut ProcessConsole);
    let read = tokio::task::spawn_blocking(reading).await;
    let read: Result<Zeroizing<String>, SourceError> =
        read.map_err(|error| Failure::new(Exit::Failure, error.to_string()))?;
    match read {
        Ok(secret) => Ok(Secret::new(secret)),
        Err(SourceError::Prompt(error)) => {
            let message = format!("cannot ask on a terminal ({error})");
            Err(Failure::new(Exit::Usage, message).with_hint(
                "name a file of mode 0600 with --password-from or --secret-from file:PATH",
            ))
        }
        Err(error) => Err(error.into()),
    }
}

async fn add_webhook(session: &Session, arguments: AddWebhook) -> Result<Exit, Failure> {
    let mut request = shown(session).await?;
    let source = arguments.secret_from.unwrap_or(PassphraseSource::Prompt);
    let secret = secret(source, SECRET_VARIABLE, "Secret that bodies are signed with: ").await?;
    request.webhooks.push(WebhookRequest {
        id: None,
        url: arguments.url,
        secret: Some(secret),
        kinds: arguments.kind.into_iter().collect(),
        disabled: false,
    });
    store(session, &request).await
}

async fn remove_webhook(session: &Session, id: &str) -> Result<Exit, Failure> {
    let mut request = shown(session).await?;
    let named = |hook: &WebhookRequest| hook.id.is_some_and(|found| found.to_string() == id);
    let before = request.webhooks.len();
    request.webhooks.retain(|hook| !named(hook));
    if request.webhooks.len() == before {
        let message = format!("there is no webhook {id}");
        return Err(Failure::new(Exit::NotFound, message)
            .with_hint("`samara notify show` lists those that there are"));
    }
    store(session, &request).await
}

async fn test(session: &Session) -> Result<Exit, Failure> {
    let tested: Vec<Tested> = session.client()?.post("/v1/notifications/test", &()).await?;
    session.output.answer(&tested, || tested_text(&tested));
    let failed = tested.iter().filter(|tested| !tested.delivered).count();
    Ok(match failed {
        0 => Exit::Ok,
        failed if failed == tested.len() => Exit::Failure,
        _ => Exit::Partial,
    })
}

fn tested_text(tested: &[Tested]) -> String {
    if tested.is_empty() {
        return "neither e-mail nor webhooks are set up\n".to_owned();
    }
    let line = |tested: &Tested| {
        let name = tested.webhook.map_or(String::new(), |id| format!(" {id}"));
        let outcome = tested.error.as_deref().map_or_else(
            || "delivered".to_owned(),
            |error| format!("failed: {}", display::plain(error)),
        );
        format!("{}{name} at {}: {outcome}\n", tested.channel, display::plain(&tested.server))
    };
    tested.iter().map(line).collect()
}

async fn list(session: &Session) -> Result<Exit, Failure> {
    let client = session.client()?;
    let mut rows: Vec<NoticeRow> = Vec::new();
    loop {
        let after = rows.last().map_or(0, |row| row.number);
        let path = format!("/v1/notifications?after={after}&limit={PAGE}");
        let page: Vec<NoticeRow> = client.get(&path).await?;
        let is_last = (page.len() as u64) < PAGE;
        rows.extend(page);
        if is_last {
            break;
        }
    }
    session.output.answer(&rows, || listed_text(&rows));
    Ok(Exit::Ok)
}

fn listed_text(rows: &[NoticeRow]) -> String {
    let mut table = Table::new(&[
        ("number", Align::Right),
        ("time", Align::Left),
        ("kind", Align::Left),
        ("sent", Align::Left),
        ("subject", Align::Left),
    ]);
    for row in rows {
        table.row([
            row.number.to_string(),
            display::moment(row.notice.time.0),
            row.notice.kind.to_string(),
            sent(row),
            row.notice.subject.clone(),
        ]);
    }
    if table.is_empty() { "no notices\n".to_owned() } else { table.render() }
}

/// How far the deliveries are, in a word or two: the worst first.
fn sent(row: &NoticeRow) -> String {
    let Some(deliveries) = &row.deliveries else { return "waiting".to_owned() };
    for state in ["given_up", "waiting", "delivered"] {
        let count = deliveries.iter().filter(|delivery| delivery.state == state).count();
        if count > 0 {
            return format!("{} {count}/{}", state.replace('_', " "), deliveries.len());
        }
    }
    "-".to_owned()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::notify::Kind;

    fn before() -> MailRequest {
        MailRequest {
            server: "mail.example".to_owned(),
            port: Some(465),
            security: Security::Tls,
            user: Some("me".to_owned()),
            password: None,
            from: "a@b.c".to_owned(),
            to: vec!["d@e.f".to_owned()],
            root_certificate: None,
        }
    }

    #[test]
    fn what_is_not_named_stays() {
        let named = SetMail { to: vec!["x@y.z".to_owned()], ..SetMail::default() };
        let (mail, same) = changed(named, Some(before()), None).unwrap();
        assert!(same && mail.to == ["x@y.z"] && mail.server == "mail.example");
        let named = SetMail { security: Some(Security::Starttls), ..SetMail::default() };
        let (mail, same) = changed(named, Some(before()), None).unwrap();
        assert_eq!((mail.port, same), (Some(587), false));
        let named = SetMail { no_login: true, ..SetMail::default() };
        let (mail, _) = changed(named, Some(before()), None).unwrap();
        assert_eq!(mail.user, None);
        let failure = changed(SetMail::default(), None, None).unwrap_err();
        assert_eq!(failure.exit, Exit::Usage);
        assert!(failure.message.contains("--server"), "{}", failure.message);
    }

    #[test]
    fn settings_are_shown_without_secrets() {
        let answer = NotifyAnswer {
            mail: Some(MailAnswer {
                server: "mail.example".to_owned(),
                port: 465,
                security: Security::Tls,
                user: Some("me".to_owned()),
                password_set: true,
                from: "a@b.c".to_owned(),
                to: vec!["d@e.f".to_owned(), "g@h.i".to_owned()],
                root_certificate: None,
            }),
            webhooks: Vec::new(),
            off: BTreeSet::from([Kind::BackupStarted]),
            link_days: 7,
        };
        let expected = "e-mail       mail.example port 465, TLS\nlogin        me, with a password\n\
                        from         a@b.c\nto           d@e.f, g@h.i\n\
                        links        to finished archives, for 7 days\n\
                        not sent     backup_started\nwebhooks     none\n";
        assert_eq!(text(&answer), expected);
    }

    #[test]
    fn a_test_says_what_came_of_each() {
        let tested = |delivered, error: Option<&str>| Tested {
            channel: "mail".to_owned(),
            webhook: None,
            server: "a".to_owned(),
            delivered,
            error: error.map(str::to_owned),
        };
        let text = tested_text(&[tested(true, None), tested(false, Some("no\nroute"))]);
        assert_eq!(text, "mail at a: delivered\nmail at a: failed: no\\u{a}route\n");
    }
}
