//! `samara user`.

use super::display::{self, Align, Lines, Table};
use super::exit::Exit;
use super::failure::Failure;
use super::password::{PasswordSource, new_password};
use super::session::Session;
use crate::access::{EditUser, NewUser, Role, UserId, UserView};
use crate::api::{ApiError, Done};

/// Makes, changes and removes users.
#[derive(Debug, clap::Subcommand)]
pub enum UserCommand {
    /// Make a user; without a password it has tokens only
    Add {
        /// To log in with, and to write to
        email: String,
        /// For people [default: the first part of the address]
        #[arg(long)]
        name: Option<String>,
        /// The most that the user may do
        #[arg(long, value_enum, default_value_t = Role::Reader)]
        role: Role,
        /// Where the user's password is: prompt, stdin or file:PATH (mode 0600) [default: none is set]
        #[arg(long, value_name = "SOURCE")]
        password_from: Option<PasswordSource>,
    },
    /// List users
    List,
    /// Show one user
    Show {
        /// E-mail address or id
        user: String,
    },
    /// Give a user another e-mail address, name or role
    Edit {
        /// E-mail address or id
        user: String,
        /// To log in with, and to write to
        #[arg(long)]
        email: Option<String>,
        /// For people
        #[arg(long)]
        name: Option<String>,
        /// The most that the user may do; tokens that may do more are held to it
        #[arg(long, value_enum)]
        role: Option<Role>,
    },
    /// Let nothing of a user's work: neither tokens nor the password
    Disable {
        /// E-mail address or id
        user: String,
    },
    /// Let it work again
    Enable {
        /// E-mail address or id
        user: String,
    },
    /// Give a user another password; logins end, tokens go on
    Password {
        /// E-mail address or id
        user: String,
        /// Where it is: prompt, stdin or file:PATH (mode 0600) [default: prompt on a terminal, else stdin]
        #[arg(long, value_name = "SOURCE")]
        password_from: Option<PasswordSource>,
        /// Take the password away instead
        #[arg(long, conflicts_with = "password_from")]
        remove: bool,
    },
    /// Remove a user with all tokens
    Remove {
        /// E-mail address or id
        user: String,
    },
}

/// Runs one of the commands.
pub async fn run(session: &Session, command: UserCommand) -> Result<Exit, Failure> {
    match command {
        UserCommand::Add { email, name, role, password_from } => {
            let password = match password_from {
                Some(source) => Some(new_password(Some(source)).await?),
                None => None,
            };
            let new = NewUser { email, name, role, password };
            let user: UserView = session.client()?.post("/v1/users", &new).await?;
            session.output.answer(&user, || text(&user));
        }
        UserCommand::List => list(session).await?,
        UserCommand::Show { user } => {
            let path = path(find(session, &user).await?);
            let user: UserView = session.client()?.get(&path).await?;
            session.output.answer(&user, || text(&user));
        }
        UserCommand::Edit { user, email, name, role } => {
            if email.is_none() && name.is_none() && role.is_none() {
                let message = "nothing is to be changed: name --email, --name or --role";
                return Err(Failure::new(Exit::Usage, message));
            }
            let edit = EditUser { email, name, role, ..EditUser::default() };
            change(session, &user, edit).await?;
        }
        UserCommand::Disable { user } => change(session, &user, disabled(true)).await?,
        UserCommand::Enable { user } => change(session, &user, disabled(false)).await?,
        UserCommand::Password { user, password_from, remove } => {
            let password = match remove {
                true => None,
                false => Some(new_password(password_from).await?),
            };
            let edit = EditUser { password, remove_password: remove, ..EditUser::default() };
            change(session, &user, edit).await?;
        }
        UserCommand::Remove { user } => {
            let path = path(find(session, &user).await?);
            let done: Done = session.client()?.delete(&path).await?;
            session.output.answer(&done, || format!("removed user '{}'\n", display::plain(&user)));
        }
    }
    Ok(Exit::Ok)
}

fn disabled(disabled: bool) -> EditUser {
    EditUser { disabled: Some(disabled), ..EditUser::default() }
}

fn path(id: UserId) -> String {
    format!("/v1/users/{id}")
}

async fn change(session: &Session, user: &str, edit: EditUser) -> Result<(), Failure> {
    let path = path(find(session, user).await?);
    let user: UserView = session.client()?.patch(&path, &edit).await?;
    session.output.answer(&user, || text(&user));
    Ok(())
}

/// The id of a user who is named by it or by an e-mail address.
pub async fn find(session: &Session, user: &str) -> Result<UserId, Failure> {
    if let Ok(id) = user.parse() {
        return Ok(id);
    }
    let users: Vec<UserView> = session.client()?.get("/v1/users").await?;
    let wanted = user.to_lowercase();
    let found = users.into_iter().find(|known| known.email.to_lowercase() == wanted);
    let missing = || ApiError::new("no_user", format!("there is no user '{user}'")).into();
    found.map(|user| user.id).ok_or_else(missing)
}

async fn list(session: &Session) -> Result<(), Failure> {
    let users: Vec<UserView> = session.client()?.get("/v1/users").await?;
    session.output.answer(&users, || table(&users));
    Ok(())
}

fn table(users: &[UserView]) -> String {
    let mut table = Table::new(&[
        ("email", Align::Left),
        ("name", Align::Left),
        ("role", Align::Left),
        ("login", Align::Left),
        ("tokens", Align::Right),
        ("id", Align::Left),
    ]);
    for user in users {
        table.row([
            user.email.clone(),
            user.name.clone(),
            user.role.to_string(),
            login(user).to_owned(),
            user.tokens.to_string(),
            user.id.to_string(),
        ]);
    }
    if table.is_empty() { "no users\n".to_owned() } else { table.render() }
}

const fn login(user: &UserView) -> &'static str {
    match (user.disabled, user.has_password) {
        (true, _) => "disabled",
        (false, true) => "password",
        (false, false) => "tokens only",
    }
}

fn text(user: &UserView) -> String {
    let mut lines = Lines::default();
    lines.line("user", &user.email);
    lines.line("name", &user.name);
    lines.line("role", user.role.name());
    lines.line("login", login(user));
    lines.line("tokens", user.tokens.to_string());
    lines.line("made", display::moment(user.created.0));
    lines.line("id", user.id.to_string());
    lines.render()
}

#[cfg(test)]
mod tests {
    use samara_protocol::units::ChainTime;

    use super::*;

    #[test]
    fn users_are_shown_without_orders_to_a_terminal() {
        let user = UserView {
            id: UserId([1; 8]),
            email: "ada@example.org".to_owned(),
            name: "A\u{1b}da".to_owned(),
            role: Role::Operator,
            disabled: false,
            created: ChainTime(0),
            has_password: false,
            tokens: 2,
        };
        let shown = text(&user);
        assert!(shown.starts_with("user         ada@example.org\nname         A"), "{shown}");
        assert!(
            shown.contains("role         operator\nlogin        tokens only\ntokens       2\n")
        );
        assert!(
            !shown.contains('\u{1b}') && !table(std::slice::from_ref(&user)).contains('\u{1b}')
        );
        assert!(table(&[UserView { disabled: true, ..user }]).contains("operator  disabled"));
        assert_eq!(table(&[]), "no users\n");
    }
}
