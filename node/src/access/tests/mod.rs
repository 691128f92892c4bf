//! The rules, over settings in memory.

mod logins;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use samara_protocol::keys::sealed::Argon2Parameters;
use samara_protocol::units::ChainTime;
use samara_renter::archive::ArchivedUser;
use samara_renter::error::Coded as _;
use zeroize::Zeroizing;

use super::record::USERS;
use super::{
    AccessControl, AccessError, Actor, EditUser, LocalTokens, LoginError, MemorySettings, NewToken,
    NewUser, NoSettings, Refusal, Role, Secret, Settings, SettingsError, TokenId, TokenKind,
    UserId, UserView,
};

const PASSWORD: &str = "correct horse battery";
const HOUR: u64 = 60 * 60 * 1000;

/// An access control whose time the test moves.
struct Bench {
    access: AccessControl,
    settings: Arc<MemorySettings>,
    now: Arc<AtomicU64>,
    local: String,
}

/// An access control with cheap hashes, and its local token.
pub(crate) fn access_over(
    settings: Arc<dyn Settings>,
    now: &Arc<AtomicU64>,
) -> (AccessControl, String) {
    let folder = tempfile::tempdir().unwrap();
    let local = LocalTokens::open(folder.path()).unwrap();
    let token = local.of_this_start().reveal().to_owned();
    let cheap = Argon2Parameters::new(8, 1, 1).unwrap();
    let (clock, elapsed) = (Arc::clone(now), Arc::clone(now));
    let access = AccessControl::new(
        settings,
        local,
        cheap,
        Arc::new(move || ChainTime(clock.load(Ordering::Relaxed))),
        Arc::new(move || Duration::from_millis(elapsed.load(Ordering::Relaxed))),
    );
    (access, token)
}

impl Bench {
    fn new() -> Self {
        Self::over(Arc::new(MemorySettings::default()))
    }

    /// A node that starts on settings that there are.
    fn over(settings: Arc<MemorySettings>) -> Self {
        let now = Arc::new(AtomicU64::new(1_000_000));
        let (access, local) = access_over(settings.clone(), &now);
        Self { access, settings, now, local }
    }

    fn pass(&self, milliseconds: u64) {
        self.now.fetch_add(milliseconds, Ordering::Relaxed);
    }

    async fn user(&self, email: &str, role: Role) -> UserView {
        let password = Some(secret(PASSWORD));
        let new = NewUser { email: email.to_owned(), name: None, role, password };
        self.access.add_user(new).await.unwrap()
    }

    async fn token(&self, user: Option<UserId>, role: Option<Role>) -> (TokenId, String) {
        let new = NewToken { name: "t".to_owned(), user, role, expires_in: None };
        let made = self.access.create_token(new).await.unwrap();
        (made.view.id, made.token.reveal().to_owned())
    }

    async fn works(&self, token: &str) -> bool {
        match self.access.actor(token).await {
            Ok(_) => true,
            Err(Refusal::Unknown) => false,
            Err(error) => panic!("{error}"),
        }
    }

    async fn edit(&self, id: UserId, edit: EditUser) -> UserView {
        self.access.edit_user(id, edit).await.unwrap()
    }

    async fn login(&self, email: &str, password: &str) -> Result<String, LoginError> {
        let made = self.access.login(email, &secret(password)).await?;
        Ok(made.token.reveal().to_owned())
    }
}

fn secret(text: &str) -> Secret {
    Secret::new(Zeroizing::new(text.to_owned()))
}

fn disabled(disabled: bool) -> EditUser {
    EditUser { disabled: Some(disabled), ..EditUser::default() }
}

#[tokio::test]
async fn a_token_acts_as_the_lesser_of_itself_and_its_user() {
    let bench = Bench::new();
    let ada = bench.user("ada@example.org", Role::Operator).await;
    let (_, as_user) = bench.token(Some(ada.id), None).await;
    let (id, reader) = bench.token(Some(ada.id), Some(Role::Reader)).await;
    let role = async |token: &str| bench.access.actor(token).await.unwrap().role;
    assert_eq!((role(&as_user).await, role(&reader).await), (Role::Operator, Role::Reader));
    let actor = bench.access.actor(&reader).await.unwrap();
    let expected =
        Actor { user: Some(ada.id), token: Some(id), name: "ada".to_owned(), role: Role::Reader };
    assert_eq!(actor, expected);

    let above = NewToken {
        name: "t".to_owned(),
        user: Some(ada.id),
        role: Some(Role::Administrator),
        expires_in: None,
    };
    assert!(matches!(bench.access.create_token(above).await, Err(AccessError::Role { .. })));

    // Also once the user's role has changed.
    bench.edit(ada.id, EditUser { role: Some(Role::Reader), ..EditUser::default() }).await;
    assert_eq!(role(&as_user).await, Role::Reader);
    bench.edit(ada.id, EditUser { role: Some(Role::Administrator), ..EditUser::default() }).await;
    assert_eq!((role(&as_user).await, role(&reader).await), (Role::Operator, Role::Reader));
}

#[tokio::test]
async fn a_token_of_nobody_reads_unless_more_is_said() {
    let bench = Bench::new();
    let (_, reader) = bench.token(None, None).await;
    let (id, administrator) = bench.token(None, Some(Role::Administrator)).await;
    assert_eq!(bench.access.actor(&reader).await.unwrap().role, Role::Reader);
    let actor = bench.access.actor(&administrator).await.unwrap();
    assert_eq!((actor.role, actor.user, actor.token), (Role::Administrator, None, Some(id)));
}

#[tokio::test]
async fn wrong_expired_and_revoked_tokens_are_nobodys() {
    let bench = Bench::new();
    let (id, token) = bench.token(None, None).await;
    assert!(bench.works(&token).await);
    let mut wrong = token.clone();
    let last = if wrong.pop() == Some('0') { '1' } else { '0' };
    wrong.push(last);
    assert!(!bench.works(&wrong).await, "wrong after it was right");
    assert!(bench.works(&token).await);
    let unknown = Secret::draw(TokenId([7; 8])).unwrap();
    assert!(!bench.works(unknown.reveal()).await);
    assert!(!bench.works("").await && !bench.works("samara_local_").await);

    let new = NewToken { name: "short".into(), user: None, role: None, expires_in: Some(10) };
    let short = bench.access.create_token(new).await.unwrap().token;
    bench.pass(9_999);
    assert!(bench.works(short.reveal()).await);
    bench.pass(1);
    assert!(!bench.works(short.reveal()).await);

    bench.access.revoke(&Actor::local(), id).await.unwrap();
    assert!(!bench.works(&token).await);
    let again = bench.access.revoke(&Actor::local(), id).await;
    assert!(matches!(again, Err(AccessError::NoToken(gone)) if gone == id));
}

#[tokio::test]
async fn tokens_cost_one_hash_and_further_requests_none() {
    let bench = Bench::new();
    let (_, token) = bench.token(None, None).await;
    assert!(bench.works(&token).await);
    // Nobody can work out a hash now, and none is needed.
    let mut held = Vec::new();
    while let Some(place) = futures::FutureExt::now_or_never(bench.access.tokens_hasher.place()) {
        held.push(place.unwrap());
    }
    assert!(bench.works(&token).await);
    let (_, other) = {
        held.clear();
        bench.token(None, None).await
    };
    while let Some(place) = futures::FutureExt::now_or_never(bench.access.tokens_hasher.place()) {
        held.push(place.unwrap());
    }
    let mut first = Box::pin(bench.access.actor(&other));
    let mut second = Box::pin(bench.access.actor(&other));
    assert!(futures::poll!(first.as_mut()).is_pending());
    assert!(futures::poll!(second.as_mut()).is_pending());
    held.clear();
    assert!(first.await.is_ok() && second.await.is_ok());
}

#[tokio::test]
async fn nothing_of_a_disabled_user_works_until_enabled() {
    let bench = Bench::new();
    let ada = bench.user("ada@example.org", Role::Administrator).await;
    let (_, token) = bench.token(Some(ada.id), None).await;
    let login = bench.login("ada@example.org", PASSWORD).await.unwrap();
    assert!(bench.works(&token).await && bench.works(&login).await);
    // She is the last administrator among the users: the local one is still there.
    assert!(bench.edit(ada.id, disabled(true)).await.disabled);
    assert!(!bench.works(&token).await && !bench.works(&login).await);
    let refused = bench.login("ada@example.org", PASSWORD).await;
    assert!(matches!(refused, Err(LoginError::Wrong)));
    assert_eq!(bench.access.actor(&bench.local).await.unwrap(), Actor::local());

    bench.edit(ada.id, disabled(false)).await;
    assert!(bench.works(&token).await);
    assert!(!bench.works(&login).await, "logins ended");
    bench.login("ada@example.org", PASSWORD).await.unwrap();
}

#[tokio::test]
async fn a_removed_user_takes_the_tokens_along() {
    let bench = Bench::new();
    let ada = bench.user("ada@example.org", Role::Reader).await;
    let (_, token) = bench.token(Some(ada.id), None).await;
    let (_, other) = bench.token(None, None).await;
    assert!(bench.works(&token).await);
    assert_eq!(bench.access.user(ada.id).unwrap().tokens, 1);
    bench.access.remove_user(ada.id).await.unwrap();
    assert!(!bench.works(&token).await && bench.works(&other).await);
    assert_eq!(bench.access.tokens(&Actor::local()).unwrap().len(), 1);
    assert!(matches!(bench.access.user(ada.id), Err(AccessError::NoUser(_))));
    // The address is free again.
    bench.user("ada@example.org", Role::Reader).await;
}

#[tokio::test]
async fn what_is_taken_away_in_an_outage_is_gone_at_once() {
    let bench = Bench::new();
    let ada = bench.user("ada@example.org", Role::Reader).await;
    let (_, hers) = bench.token(Some(ada.id), None).await;
    let (id, token) = bench.token(None, None).await;
    assert!(bench.works(&hers).await && bench.works(&token).await);
    bench.settings.fail_with(Some("no_quorum"));
    let failed = bench.access.revoke(&Actor::local(), id).await.unwrap_err();
    assert_eq!(failed.code(), "no_quorum");
    assert!(!bench.works(&token).await);
    assert!(!bench.access.tokens(&Actor::local()).unwrap().iter().any(|token| token.id == id));
    bench.access.edit_user(ada.id, disabled(true)).await.unwrap_err();
    assert!(!bench.works(&hers).await);
    assert!(bench.access.user(ada.id).unwrap().disabled);
    // It is asked for again, or with something else, and goes through.
    bench.settings.fail_with(None);
    bench.access.revoke(&Actor::local(), id).await.unwrap();
    let named = EditUser { name: Some("Ada L.".into()), ..EditUser::default() };
    assert!(bench.edit(ada.id, named).await.disabled);
    let later = Bench::over(bench.settings.clone());
    assert!(!later.works(&token).await && !later.works(&hers).await);
    bench.edit(ada.id, disabled(false)).await;
    assert!(bench.works(&hers).await);
}

#[tokio::test]
async fn users_and_tokens_come_back_with_the_settings_and_logins_do_not() {
    let bench = Bench::new();
    let ada = bench.user("ada@example.org", Role::Operator).await;
    let (_, token) = bench.token(Some(ada.id), None).await;
    let login = bench.login("ada@example.org", PASSWORD).await.unwrap();
    assert!(bench.works(&login).await);
    let later = Bench::over(bench.settings.clone());
    assert!(later.works(&token).await && !later.works(&login).await);
    assert_eq!(later.access.users().unwrap(), bench.access.users().unwrap());
    assert!(!later.works(&bench.local).await, "the local token of another start");
}

#[tokio::test]
async fn own_tokens_are_seen_and_revoked_and_no_others() {
    let bench = Bench::new();
    let ada = bench.user("ada@example.org", Role::Reader).await;
    let bob = bench.user("bob@example.org", Role::Operator).await;
    let (one, hers) = bench.token(Some(ada.id), None).await;
    let (two, _) = bench.token(Some(ada.id), None).await;
    let (his, _) = bench.token(Some(bob.id), None).await;
    let (program, of_nobody) = bench.token(None, None).await;
    let login = bench.login("ada@example.org", PASSWORD).await.unwrap();
    let actor = bench.access.actor(&hers).await.unwrap();
    let seen = bench.access.tokens(&actor).unwrap();
    assert_eq!(seen.len(), 3);
    assert!(seen.iter().all(|token| token.user == Some(ada.id)));
    assert_eq!(seen.iter().filter(|token| token.kind == TokenKind::Login).count(), 1);
    let used = seen.iter().find(|token| token.id == one).unwrap().last_used;
    assert_eq!(used, Some(ChainTime(1_000_000)));
    for foreign in [his, program] {
        let refused = bench.access.revoke(&actor, foreign).await;
        assert!(matches!(refused, Err(AccessError::NoToken(_))));
    }
    bench.access.revoke(&actor, two).await.unwrap();
    let login_id = seen.iter().find(|token| token.kind == TokenKind::Login).unwrap().id;
    bench.access.revoke(&actor, login_id).await.unwrap();
    assert!(!bench.works(&login).await);

    let nobody = bench.access.actor(&of_nobody).await.unwrap();
    let seen: Vec<_> =
        bench.access.tokens(&nobody).unwrap().into_iter().map(|token| token.id).collect();
    assert_eq!(seen, [program], "the own, and none of others without a user");
    assert_eq!(bench.access.tokens(&Actor::local()).unwrap().len(), 3);
}

#[tokio::test]
async fn users_have_sound_addresses_names_and_passwords_and_share_none() {
    let bench = Bench::new();
    let ada = bench.user("ada@example.org", Role::Reader).await;
    let bob = bench.user("bob@example.org", Role::Reader).await;
    let code = async |email: &str, name: Option<&str>, password: Option<&str>| {
        let new = NewUser {
            email: email.to_owned(),
            name: name.map(str::to_owned),
            role: Role::Reader,
            password: password.map(secret),
        };
        bench.access.add_user(new).await.unwrap_err().code()
    };
    assert_eq!(code("ADA@example.org", None, None).await, "exists");
    assert_eq!(code("ada", None, None).await, "bad_email");
    assert_eq!(code("c@d", Some(""), None).await, "bad_name");
    assert_eq!(code("c@d", Some("a\nb"), None).await, "bad_name");
    assert_eq!(code("c@d", None, Some("elevenchars")).await, "bad_password");
    assert_eq!(code("c@d", None, Some(&"x".repeat(1_025))).await, "bad_password");
    let taken = EditUser { email: Some(ada.email.clone()), ..EditUser::default() };
    let taken = bench.access.edit_user(bob.id, taken).await;
    assert!(matches!(taken, Err(AccessError::Taken)));
    // The own address in other letters is no other's.
    let edit = EditUser {
        email: Some("Ada@example.org".into()),
        name: Some("Ada L.".into()),
        ..EditUser::default()
    };
    let shown = bench.edit(ada.id, edit).await;
    assert_eq!((shown.email.as_str(), shown.name.as_str()), ("Ada@example.org", "Ada L."));
    assert!(shown.has_password);
    let emails: Vec<_> = bench.access.users().unwrap().into_iter().map(|user| user.email).collect();
    assert_eq!(emails, ["Ada@example.org", "bob@example.org"]);
}

#[tokio::test]
async fn the_users_of_an_archive_are_known_by_their_addresses_or_made_once() {
    let bench = Bench::new();
    let ada = bench.user("ada@example.org", Role::Operator).await;
    let archived = [
        (1, " Ada@example.ORG"),
        (2, "bob@example.org"),
        (3, "BOB@example.org "),
        (4, "nobody"),
        (5, "carol@example.org"),
    ];
    let archived =
        archived.map(|(id, email)| ArchivedUser { id: UserId([id; 8]), email: email.to_owned() });
    let (known, settings) = bench.access.newcomers(&archived);
    let here = |id| known.get(&UserId([id; 8])).copied();
    assert_eq!((here(1), here(4)), (Some(ada.id), None));
    assert!(here(2).is_some() && here(2) == here(3) && here(5).is_some() && here(5) != here(2));
    bench.settings.store(settings).await.unwrap();
    let users = bench.access.users().unwrap();
    let emails: Vec<_> = users.iter().map(|user| user.email.as_str()).collect();
    assert_eq!(emails, ["ada@example.org", "bob@example.org", "carol@example.org"]);
    let new = users.iter().filter(|user| user.id != ada.id);
    assert!({ new }.all(|user| user.disabled && user.role == Role::Reader && !user.has_password));
    // Another archive meets them.
    let (again, settings) = bench.access.newcomers(&archived);
    assert_eq!((again, settings.len()), (known.clone(), 0));
}

#[tokio::test]
async fn a_user_has_so_many_tokens_and_expired_ones_make_room() {
    let bench = Bench::new();
    let ada = bench.user("ada@example.org", Role::Reader).await;
    let create = async |expires_in| {
        let new = NewToken { name: "t".into(), user: Some(ada.id), role: None, expires_in };
        bench.access.create_token(new).await
    };
    for _ in 0..99 {
        create(None).await.unwrap();
    }
    create(Some(1)).await.unwrap();
    let full = create(None).await.unwrap_err();
    assert_eq!(full.code(), "too_many");
    bench.token(None, None).await;
    bench.pass(1_000);
    create(None).await.unwrap();
    assert_eq!(bench.access.user(ada.id).unwrap().tokens, 100);
    assert_eq!(create(Some(0)).await.unwrap_err().code(), "invalid");
}

#[tokio::test]
async fn so_many_users_there_are_and_no_more() {
    let bench = Bench::new();
    let add = async |number: usize| {
        let email = format!("{number}@example.org");
        let new = NewUser { email, name: None, role: Role::Reader, password: None };
        bench.access.add_user(new).await
    };
    // Copies of one, as it is stored.
    let user = add(0).await.unwrap();
    let (_, bytes) = bench.settings.load(USERS).unwrap().remove(0);
    for number in 1..1_000u64 {
        let id = UserId(number.to_be_bytes());
        let mut bytes = bytes.clone();
        bytes[1..9].copy_from_slice(&id.0);
        bench.settings.store(vec![(format!("{USERS}{id}"), bytes)]).await.unwrap();
    }
    assert_eq!(bench.access.users().unwrap().len(), 1_000);
    assert_eq!(add(1).await.unwrap_err().code(), "too_many");
    bench.access.remove_user(user.id).await.unwrap();
    add(1).await.unwrap();
}

#[tokio::test]
async fn a_record_that_cannot_be_read_works_for_nobody_and_stays() {
    let bench = Bench::new();
    let ada = bench.user("ada@example.org", Role::Administrator).await;
    let (_, token) = bench.token(Some(ada.id), None).await;
    let (name, mut bytes) = bench.settings.load(USERS).unwrap().remove(0);
    bytes[0] = 9;
    bench.settings.store(vec![(name, bytes.clone())]).await.unwrap();
    assert!(!bench.works(&token).await);
    assert!(bench.access.users().unwrap().is_empty());
    assert_eq!(bench.settings.load(USERS).unwrap()[0].1, bytes);
}

#[tokio::test]
async fn a_node_that_keeps_no_settings_knows_the_local_administrator_only() {
    let bench = Bench::new();
    let (_, token) = bench.token(None, None).await;
    let (access, local) = access_over(Arc::new(NoSettings), &bench.now);
    assert_eq!(access.actor(&local).await.unwrap(), Actor::local());
    assert!(matches!(access.actor(&token).await, Err(Refusal::Unknown)));
    let unknown = access.login("ada@example.org", &secret(PASSWORD)).await.unwrap_err();
    assert_eq!(unknown.code(), "no_role");
    assert!(matches!(access.users(), Err(AccessError::Settings(SettingsError::NoRenter))));
    let new = NewToken { name: "t".into(), user: None, role: None, expires_in: None };
    assert_eq!(access.create_token(new).await.unwrap_err().code(), "no_role");
}

#[tokio::test]
async fn no_secret_is_in_what_is_printed_or_stored() {
    let bench = Bench::new();
    let new = NewUser {
        email: "ada@example.org".into(),
        name: None,
        role: Role::Reader,
        password: Some(secret(PASSWORD)),
    };
    assert!(!format!("{new:?}").contains(PASSWORD));
    bench.access.add_user(new).await.unwrap();
    let made = bench
        .access
        .create_token(NewToken { name: "t".into(), user: None, role: None, expires_in: None })
        .await
        .unwrap();
    let hidden = &made.token.reveal()[24..];
    assert!(!format!("{made:?}").contains(hidden));
    let stored: Vec<u8> =
        bench.settings.load("").unwrap().into_iter().flat_map(|(_, value)| value).collect();
    let raw = hex::decode(hidden).unwrap();
    for secret in [PASSWORD.as_bytes(), hidden.as_bytes(), &raw[..]] {
        assert!(!stored.windows(secret.len()).any(|window| window == secret));
    }
}
