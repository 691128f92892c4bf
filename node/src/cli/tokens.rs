//! `samara token` and `samara whoami`.

use std::path::PathBuf;

use zeroize::Zeroizing;

use super::display::{self, Align, Lines, Table};
use super::exit::Exit;
use super::failure::Failure;
use super::session::Session;
use super::users::find;
use crate::access::{Actor, NewToken, Role, TokenId, TokenMade, TokenView};
use crate::api::Done;
use crate::seed::private_file;

/// Seconds of a day.
const DAY: u64 = 24 * 60 * 60;

/// Makes, lists and revokes tokens.
#[derive(Debug, clap::Subcommand)]
pub enum TokenCommand {
    /// Make a token and show it, once
    Create {
        /// For people: what it is for
        name: String,
        /// Whose it is to be, by e-mail address or id [default: nobody's]
        #[arg(long)]
        user: Option<String>,
        /// The most that it may do [default: as the user, and reader without one]
        #[arg(long, value_enum)]
        role: Option<Role>,
        /// For how many days it is valid [default: until it is revoked]
        #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(u64).range(1..=36_500))]
        days: Option<u64>,
        /// Write it into this new file, for you alone, instead of showing it
        #[arg(long, short, value_name = "FILE")]
        out: Option<PathBuf>,
    },
    /// List your tokens; an administrator's are all
    List,
    /// Let a token work no longer
    Revoke {
        /// Its id in the list
        id: TokenId,
    },
}

/// Runs one of the commands.
pub async fn run(session: &Session, command: TokenCommand) -> Result<Exit, Failure> {
    match command {
        TokenCommand::Create { name, user, role, days, out } => {
            let user = match user {
                Some(user) => Some(find(session, &user).await?),
                None => None,
            };
            let expires_in = days.map(|days| days.saturating_mul(DAY));
            create(session, NewToken { name, user, role, expires_in }, out).await?;
        }
        TokenCommand::List => {
            let tokens: Vec<TokenView> = session.client()?.get("/v1/tokens").await?;
            session.output.answer(&tokens, || table(&tokens));
        }
        TokenCommand::Revoke { id } => {
            let done: Done = session.client()?.delete(&format!("/v1/tokens/{id}")).await?;
            session.output.answer(&done, || format!("revoked token {id}\n"));
        }
    }
    Ok(Exit::Ok)
}

async fn create(session: &Session, new: NewToken, out: Option<PathBuf>) -> Result<(), Failure> {
    let failed = |error| Failure::of(Exit::Failure, &error);
    if let Some(path) = &out {
        private_file::check_absent(path).map_err(failed)?;
    }
    let made: TokenMade = session.client()?.post("/v1/tokens", &new).await?;
    let Some(path) = out else {
        session.output.answer(&made, || {
            let token = made.token.reveal();
            format!("{}token        {token}\n  it is not shown again\n", text(&made.view))
        });
        return Ok(());
    };
    let line = Zeroizing::new([made.token.reveal(), "\n"].concat());
    private_file::create(&path, line.as_bytes()).map_err(|error| {
        let hint =
            format!("`samara token revoke {}` takes back the one that was made", made.view.id);
        failed(error).with_hint(hint)
    })?;
    session.output.answer(&made.view, || {
        format!(
            "{}written to   {}\n",
            text(&made.view),
            display::plain(&path.display().to_string())
        )
    });
    Ok(())
}

/// `samara whoami`.
pub async fn whoami(session: &Session) -> Result<Exit, Failure> {
    let actor: Actor = session.client()?.get("/v1/whoami").await?;
    session.output.answer(&actor, || {
        let mut lines = Lines::default();
        lines.line("name", &actor.name);
        lines.line("role", actor.role.name());
        if let Some(user) = actor.user {
            lines.line("user", user.to_string());
        }
        if let Some(token) = actor.token {
            lines.line("token", token.to_string());
        }
        lines.render()
    });
    Ok(Exit::Ok)
}

fn table(tokens: &[TokenView]) -> String {
    let mut table = Table::new(&[
        ("id", Align::Left),
        ("name", Align::Left),
        ("user", Align::Left),
        ("role", Align::Left),
        ("made", Align::Left),
        ("expires", Align::Left),
        ("last used", Align::Left),
    ]);
    let moment = |time: Option<samara_protocol::units::ChainTime>, none: &str| {
        time.map_or_else(|| none.to_owned(), |time| display::moment(time.0))
    };
    for token in tokens {
        table.row([
            token.id.to_string(),
            token.name.clone(),
            token.email.clone().unwrap_or_else(|| "-".to_owned()),
            token.role.to_string(),
            display::moment(token.created.0),
            moment(token.expires, "never"),
            moment(token.last_used, "-"),
        ]);
    }
    if table.is_empty() { "no tokens\n".to_owned() } else { table.render() }
}

fn text(token: &TokenView) -> String {
    let mut lines = Lines::default();
    lines.line("name", &token.name);
    if let Some(email) = &token.email {
        lines.line("user", email);
    }
    lines.line("role", token.role.name());
    if let Some(expires) = token.expires {
        lines.line("expires", display::moment(expires.0));
    }
    lines.line("id", token.id.to_string());
    lines.render()
}

#[cfg(test)]
mod tests {
    use samara_protocol::units::ChainTime;

    use super::*;
    use crate::access::TokenKind;

    #[test]
    fn tokens_are_shown_with_whose_they_are_and_until_when() {
        let token = TokenView {
            id: TokenId([1; 8]),
            kind: TokenKind::Token,
            user: None,
            email: None,
            name: "nightly".to_owned(),
            role: Role::Reader,
            created: ChainTime(0),
            expires: None,
            last_used: None,
        };
        let shown = table(std::slice::from_ref(&token));
        assert!(shown.contains("0101010101010101  nightly  -     reader"), "{shown}");
        assert!(shown.trim_end().ends_with("never    -"), "{shown}");
        assert_eq!(
            text(&token),
            "name         nightly\nrole         reader\nid           0101010101010101\n"
        );
        assert_eq!(table(&[]), "no tokens\n");
    }
}
