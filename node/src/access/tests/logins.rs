//! Logins, and how little they tell.

use samara_renter::error::Coded as _;

use super::{Bench, HOUR, PASSWORD, secret};
use crate::access::{AccessError, Actor, EditUser, LoginError, NewUser, Role};

#[tokio::test]
async fn a_login_ends_by_time_by_logout_and_with_the_password() {
    let bench = Bench::new();
    let ada = bench.user("Ada@Example.org", Role::Operator).await;
    let login = bench.login(" ada@example.ORG ", PASSWORD).await.unwrap();
    let actor = bench.access.actor(&login).await.unwrap();
    assert_eq!((actor.user, actor.role), (Some(ada.id), Role::Operator));
    bench.access.logout(&actor).unwrap();
    assert!(!bench.works(&login).await);
    assert!(matches!(bench.access.logout(&actor), Err(AccessError::NoLogin)));
    assert!(matches!(bench.access.logout(&Actor::local()), Err(AccessError::NoLogin)));

    let login = bench.login("ada@example.org", PASSWORD).await.unwrap();
    bench.pass(12 * HOUR - 1);
    assert!(bench.works(&login).await);
    bench.pass(1);
    assert!(!bench.works(&login).await);

    let login = bench.login("ada@example.org", PASSWORD).await.unwrap();
    let other = Some(secret("another horse battery"));
    bench.edit(ada.id, EditUser { password: other, ..EditUser::default() }).await;
    assert!(!bench.works(&login).await);
    assert!(bench.access.tokens(&Actor::local()).unwrap().is_empty(), "it is not listed");
    let refused = bench.login("ada@example.org", PASSWORD).await;
    assert!(matches!(refused, Err(LoginError::Wrong)));
    bench.login("ada@example.org", "another horse battery").await.unwrap();
    let password = Some(secret(PASSWORD));
    let both = EditUser { password, remove_password: true, ..EditUser::default() };
    assert_eq!(bench.access.edit_user(ada.id, both).await.unwrap_err().code(), "invalid");
    assert_eq!(bench.access.tokens(&Actor::local()).unwrap().len(), 1);
    let shown = bench.edit(ada.id, EditUser { remove_password: true, ..EditUser::default() }).await;
    assert!(!shown.has_password);
    assert!(bench.access.tokens(&Actor::local()).unwrap().is_empty());
    let refused = bench.login("ada@example.org", "another horse battery").await;
    assert!(matches!(refused, Err(LoginError::Wrong)));
}

#[tokio::test]
async fn an_unknown_user_costs_and_answers_as_a_wrong_password() {
    let bench = Bench::new();
    bench.user("ada@example.org", Role::Operator).await;
    let new =
        NewUser { email: "bob@example.org".into(), name: None, role: Role::Reader, password: None };
    bench.access.add_user(new).await.unwrap();
    for email in ["ada@example.org", "bob@example.org", "nobody@example.org"] {
        let mut held = Vec::new();
        while let Some(place) =
            futures::FutureExt::now_or_never(bench.access.passwords_hasher.place())
        {
            held.push(place.unwrap());
        }
        let mut login = Box::pin(bench.login(email, "not the password"));
        // It waits for its hash, whoever is meant.
        assert!(futures::poll!(login.as_mut()).is_pending(), "{email}");
        held.clear();
        let error = login.await.unwrap_err();
        assert_eq!(error.to_string(), "the e-mail address or the password is wrong");
        assert_eq!(error.code(), "unauthorized");
    }
}

#[tokio::test]
async fn guessing_is_slow_whoever_is_guessed_at() {
    let bench = Bench::new();
    bench.user("ada@example.org", Role::Operator).await;
    for email in ["ada@example.org", "nobody@example.org"] {
        for _ in 0..5 {
            let wrong = bench.login(email, "not the password").await;
            assert!(matches!(wrong, Err(LoginError::Wrong)));
        }
        let error = bench.login(email, PASSWORD).await.unwrap_err();
        assert!(matches!(error, LoginError::Wait(_)), "{email}: {error}");
    }
    bench.pass(1_000);
    bench.login("ada@example.org", PASSWORD).await.unwrap();
}

#[tokio::test]
async fn what_was_never_compared_counts_as_no_try() {
    let bench = Bench::new();
    bench.user("ada@example.org", Role::Operator).await;
    let mut held = Vec::new();
    while let Some(place) = futures::FutureExt::now_or_never(bench.access.passwords_hasher.place())
    {
        held.push(place.unwrap());
    }
    for _ in 0..10 {
        let mut login = Box::pin(bench.login("ada@example.org", PASSWORD));
        assert!(futures::poll!(login.as_mut()).is_pending());
    }
    held.clear();
    bench.login("ada@example.org", PASSWORD).await.unwrap();
}
