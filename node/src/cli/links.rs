//! `samara backup link`.

use super::address::segment;
use super::arguments::LinkArguments;
use super::backups;
use super::display::{self, Align, Table};
use super::exit::Exit;
use super::failure::Failure;
use super::session::Session;
use super::span::parse_span;
use crate::api::{Done, LinkRequest};
use crate::links::{LinkMade, LinkView};

/// Runs the command.
pub async fn run(session: &Session, arguments: LinkArguments) -> Result<Exit, Failure> {
    match (arguments.revoke, arguments.name, arguments.list) {
        (Some(id), _, _) => revoke(session, &id).await,
        (None, Some(name), false) => create(session, &name, arguments.expires.as_deref()).await,
        (None, Some(name), true) => list(session, &backups::path(&name, "/links")?).await,
        (None, None, _) => list(session, "/v1/links").await,
    }
}

async fn create(session: &Session, name: &str, expires: Option<&str>) -> Result<Exit, Failure> {
    let request = LinkRequest { expires_in: expires.map(parse_span).transpose()? };
    let path = backups::path(name, "/links")?;
    let made: LinkMade = session.client()?.post(&path, &request).await?;
    session.output.answer(&made, || {
        format!(
            "{}\n  whoever has it can download until {}; `samara backup link --revoke {}` ends it\n",
            display::plain(made.url.reveal()),
            display::moment(made.view.expires.0),
            made.view.id
        )
    });
    Ok(Exit::Ok)
}

async fn list(session: &Session, path: &str) -> Result<Exit, Failure> {
    let links: Vec<LinkView> = session.client()?.get(path).await?;
    session.output.answer(&links, || listed_text(&links));
    Ok(Exit::Ok)
}

fn listed_text(links: &[LinkView]) -> String {
    let mut table = Table::new(&[
        ("link", Align::Left),
        ("archive", Align::Left),
        ("made", Align::Left),
        ("works until", Align::Left),
        ("for", Align::Left),
    ]);
    for link in links {
        table.row([
            link.id.to_string(),
            link.sid.clone(),
            display::moment(link.created.0),
            display::moment(link.expires.0),
            if link.mailed { "a mail" } else { "" }.to_owned(),
        ]);
    }
    if table.is_empty() { "no links\n".to_owned() } else { table.render() }
}

async fn revoke(session: &Session, id: &str) -> Result<Exit, Failure> {
    let answer: Done = session.client()?.delete(&format!("/v1/links/{}", segment(id)?)).await?;
    session.output.answer(&answer, || format!("link {id} leads nowhere any more\n"));
    Ok(Exit::Ok)
}
