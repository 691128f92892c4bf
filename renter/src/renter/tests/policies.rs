//! Backups that are made, kept and given up by themselves.

use samara_protocol::journal::UserId;
use samara_protocol::units::{Amount, Millis};
use tokio::sync::broadcast::Receiver;

use super::{fill, recover};
use crate::backup::retention::Retention;
use crate::backup::{
    BackupEdit, BackupKind, BackupRequest, BackupRow, BackupStatus, PolicyRequest, Trigger,
};
use crate::news::News;
use crate::progress::Silent;
use crate::testing::world::{Fault, TestNetwork};
use crate::testing::{Node, config};

const HOUR: Millis = Millis::hours(1);

async fn filled(network: &TestNetwork) -> Node {
    let node = Node::fresh(network).await;
    fill(&node.files);
    node.put("/home", "home").await;
    // To the next full hour, so that slots are in time.
    let past = network.world.chain.time().0 % HOUR.0;
    network.chain.pass(Millis(HOUR.0 - past));
    node
}

fn hourly(name: &str) -> PolicyRequest {
    let vault = Some("home".to_owned());
    PolicyRequest { name: name.into(), vault, every: 3_600, ..PolicyRequest::default() }
}

fn keeping(last: u32, name: &str) -> PolicyRequest {
    PolicyRequest { retention: Retention { last, ..Retention::default() }, ..hourly(name) }
}

fn named(name: &str) -> BackupRequest {
    BackupRequest { name: name.into(), vault: Some("home".into()), ..BackupRequest::default() }
}

/// Waits for the end of a backup.
async fn ended(news: &mut Receiver<News>) -> BackupRow {
    loop {
        if let News::BackupEnded(row) = news.recv().await.unwrap() {
            return *row;
        }
    }
}

/// The next slot, and the backup that a round makes in it, after whose end there is another round.
async fn run_next(network: &TestNetwork, node: &Node) -> BackupRow {
    let mut news = node.renter.news();
    network.chain.pass(HOUR);
    node.renter.upkeep().await;
    let row = ended(&mut news).await;
    node.renter.upkeep().await;
    row
}

/// What was told beside starts and ends.
fn told(news: &mut Receiver<News>) -> Vec<String> {
    let mut told = Vec::new();
    while let Ok(news) = news.try_recv() {
        told.push(match news {
            News::BackupStarted(_) | News::BackupEnded(_) => continue,
            News::BackupDeleted { name, reason, .. } => format!("deleted {name}: {reason}"),
            News::ScheduleMissed { policy, missed, .. } => format!("missed {missed} of {policy}"),
            News::Expiring(row) => format!("expiring {}", row.name),
            News::RecoverableNear(row) => format!("near {}", row.name),
            News::AllowanceLow { poor, unpaid, .. } => format!("low {poor} {unpaid}"),
            News::DrillEnded { id, .. } => format!("drill {id}"),
            News::ScanAdvanced(_) | News::ScanFoundBackup(_) | News::ScanLostBackup { .. } => {
                continue;
            }
        });
    }
    told
}

fn names(node: &Node) -> Vec<String> {
    node.renter.backups().into_iter().map(|row| row.name).collect()
}

#[tokio::test(start_paused = true)]
async fn a_policy_makes_one_backup_in_each_slot_and_one_for_all_that_were_missed() {
    let network = TestNetwork::empty(4).await;
    let node = filled(&network).await;
    let user = UserId([7; 8]);
    let request = PolicyRequest { tags: vec!["auto".into()], ..hourly("hourly") };
    let row = node.renter.acting(Some(user)).create_policy(&request).await.unwrap();
    assert_eq!((row.last, row.missed, row.kept), (None, 0, 0));
    assert_eq!(row.next, Some(network.world.chain.time().0 + HOUR.0));
    node.renter.upkeep().await;
    assert!(names(&node).is_empty(), "it is not its time yet");

    let mut news = node.renter.news();
    let made = run_next(&network, &node).await;
    assert_eq!(made.name, "hourly 1970-01-01 02:00");
    assert_eq!((made.status, made.trigger), (BackupStatus::Completed, Trigger::Schedule));
    assert_eq!(
        (made.schedule.as_deref(), made.created_by),
        (Some("hourly"), Some(user.to_string()))
    );
    assert_eq!(made.tags, ["auto"]);
    let row = node.renter.policy("hourly").await.unwrap();
    assert_eq!((row.last_backup, row.last), (Some(made.sid), Some(made.chain_time)));
    assert_eq!((row.last_status, row.kept), (Some(BackupStatus::Completed), 1));
    node.renter.upkeep().await;
    assert_eq!(names(&node).len(), 1);
    assert!(told(&mut news).is_empty());

    // Nobody was there for three slots; the fourth is in time.
    network.chain.pass(Millis(3 * HOUR.0));
    assert_eq!(node.renter.policy("hourly").await.unwrap().missed, 2);
    run_next(&network, &node).await;
    assert_eq!(told(&mut news), ["missed 3 of hourly"]);
    assert_eq!(names(&node).len(), 2);
    let row = node.renter.policy("hourly").await.unwrap();
    assert_eq!((row.missed, row.missed_since), (3, Some(made.chain_time + HOUR.0)));
    run_next(&network, &node).await;
    assert_eq!(node.renter.policy("hourly").await.unwrap().missed, 0);

    // One that was deleted is not made again.
    for name in names(&node) {
        node.renter.delete_backup(&name).await.unwrap();
    }
    node.renter.upkeep().await;
    assert!(names(&node).is_empty());
}

#[tokio::test(start_paused = true)]
async fn retention_gives_up_scheduled_backups_and_nobody_elses() {
    let network = TestNetwork::empty(4).await;
    let node = filled(&network).await;
    let renter = &node.renter;
    renter.limit_backups(4).await.unwrap();
    renter.create_backup(named("mine"), &Silent).await.unwrap();
    renter.create_policy(&keeping(2, "hourly")).await.unwrap();
    let first = run_next(&network, &node).await.name;
    let pin = BackupEdit { pinned: Some(true), ..BackupEdit::default() };
    renter.edit_backup(&first, &pin).await.unwrap();
    let second = run_next(&network, &node).await.name;
    let third = run_next(&network, &node).await.name;
    let verdicts = renter.preview_policy("hourly", None).unwrap();
    let kept: Vec<bool> = verdicts.iter().map(|verdict| verdict.keep).collect();
    assert_eq!(kept, [true, true, true]);
    let one = Retention { last: 1, ..Retention::default() };
    let verdicts = renter.preview_policy("hourly", Some(&one)).unwrap();
    let verdict = |number: usize| (verdicts[number].name.as_str(), verdicts[number].keep);
    assert_eq!(verdict(0), (third.as_str(), true));
    assert_eq!(
        (verdict(1), &verdicts[1].reasons[0][..]),
        ((&second[..], false), "no rule keeps it")
    );
    assert_eq!((verdict(2), &verdicts[2].reasons[0][..]), ((&first[..], true), "it is pinned"));

    // The limit of four is reached; a person is refused, and the policy takes turns.
    let refused = renter.create_backup(named("more"), &Silent).await.unwrap_err();
    assert_eq!(refused.code(), "limit_reached");
    let mut news = renter.news();
    let fourth = run_next(&network, &node).await;
    assert_eq!(fourth.status, BackupStatus::Completed);
    assert_eq!(names(&node), ["mine", &first, &third, &fourth.name]);
    assert_eq!(told(&mut news), [format!("deleted {second}: policy 'hourly': no rule keeps it")]);

    // Other numbers alone delete nothing.
    renter.set_policy("hourly", &keeping(1, "")).await.unwrap();
    renter.upkeep().await;
    assert_eq!(names(&node).len(), 4);
    let fifth = run_next(&network, &node).await.name;
    assert_eq!(names(&node), ["mine", &first, &fifth]);
}

#[tokio::test(start_paused = true)]
async fn a_policy_that_would_give_up_nothing_is_refused_by_the_limit_and_tells_it_once() {
    let network = TestNetwork::empty(4).await;
    let node = filled(&network).await;
    node.renter.limit_backups(1).await.unwrap();
    node.renter.create_backup(named("mine"), &Silent).await.unwrap();
    node.renter.create_policy(&keeping(1, "hourly")).await.unwrap();
    let row = run_next(&network, &node).await;
    let code = |row: BackupRow| row.error.map(|error| error.code);
    assert_eq!(code(row).as_deref(), Some("limit_reached"));
    let mut news = node.renter.news();
    network.chain.pass(Millis::seconds(700));
    node.renter.upkeep().await;
    assert!(news.try_recv().is_err(), "the same in the same slot");
    assert_eq!(names(&node).len(), 2);
    node.renter.delete_backup("mine").await.unwrap();
    network.chain.pass(Millis::seconds(700));
    node.renter.upkeep().await;
    assert_eq!(ended(&mut news).await.status, BackupStatus::Completed);

    // Failed runs do not grow without end.
    let dear = PolicyRequest { max_price: Some(Amount(1)), ..hourly("dear") };
    node.renter.remove_policy("hourly").await.unwrap();
    node.renter.create_policy(&dear).await.unwrap();
    for _ in 0..13 {
        let row = run_next(&network, &node).await;
        assert_eq!(code(row).as_deref(), Some("limit_reached"));
    }
    assert_eq!(names(&node).iter().filter(|name| name.starts_with("dear")).count(), 10);
}

#[tokio::test(start_paused = true)]
async fn a_price_above_the_policys_is_a_failed_run_until_the_next_slot() {
    let network = TestNetwork::empty(4).await;
    let node = filled(&network).await;
    let dear = PolicyRequest { max_price: Some(Amount(1)), ..hourly("dear") };
    node.renter.create_policy(&dear).await.unwrap();
    let row = run_next(&network, &node).await;
    assert_eq!((row.status, row.cost_actual), (BackupStatus::Error, None));
    let policy = node.renter.policy("dear").await.unwrap();
    assert_eq!(policy.last_error.unwrap().code, "too_expensive");
    assert_eq!((policy.last_status, policy.missed), (Some(BackupStatus::Error), 0));
    network.chain.pass(Millis::seconds(1_200));
    node.renter.upkeep().await;
    assert_eq!(names(&node).len(), 1, "a lasting error is not tried again");
    let error = node.renter.run_policy("dear").await.unwrap_err();
    assert_eq!(error.code(), "too_expensive");
    let cheap = PolicyRequest { max_price: Some(Amount::coins(1_000)), ..hourly("") };
    node.renter.set_policy("dear", &cheap).await.unwrap();
    network.chain.pass(Millis::seconds(2_400));
    let mut news = node.renter.news();
    node.renter.upkeep().await;
    assert_eq!(ended(&mut news).await.status, BackupStatus::Completed);
}

#[tokio::test(start_paused = true)]
async fn hosts_that_come_back_bring_one_backup_not_several() {
    let network = TestNetwork::empty(4).await;
    let node = filled(&network).await;
    node.renter.create_policy(&hourly("hourly")).await.unwrap();
    network.set(0..4, Fault::Dead);
    let row = run_next(&network, &node).await;
    assert_eq!(row.error.unwrap().code, "no_quorum");
    for _ in 0..3 {
        network.chain.pass(Millis::seconds(700));
        node.renter.upkeep().await;
    }
    network.set(0..4, Fault::None);
    node.renter.confirm().await.unwrap();
    node.renter.upkeep().await;
    let rows = node.renter.backups();
    let states: Vec<BackupStatus> = rows.iter().map(|row| row.status).collect();
    assert_eq!(states, [BackupStatus::Completed]);
}

#[tokio::test(start_paused = true)]
async fn a_machine_that_dies_at_any_write_makes_each_backup_once() {
    let network = TestNetwork::empty(4).await;
    let node = filled(&network).await;
    node.renter.create_policy(&keeping(2, "hourly")).await.unwrap();
    let (store, files) = (node.store.clone(), node.files.clone());
    node.renter.shutdown().await;
    for commits in 0..14 {
        network.chain.pass(HOUR);
        let mortal = store.dies_after(commits);
        let dying = Node::with(&network, mortal.clone(), files.clone(), config()).await;
        dying.renter.upkeep().await;
        let in_progress =
            |row: &BackupRow| row.status == BackupStatus::InProgress && !mortal.is_dead();
        while dying.renter.backups().iter().any(in_progress) {
            tokio::task::yield_now().await;
        }
        dying.renter.upkeep().await;
        dying.renter.shutdown().await;

        let node = Node::with(&network, store.clone(), files.clone(), config()).await;
        let mut news = node.renter.news();
        node.renter.confirm().await.unwrap();
        node.renter.upkeep().await;
        while node.renter.backups().iter().any(|row| row.status == BackupStatus::InProgress) {
            news.recv().await.unwrap();
        }
        node.renter.upkeep().await;
        let now = network.world.chain.time().0;
        let rows = node.renter.backups();
        let whole = |row: &&BackupRow| row.status == BackupStatus::Completed;
        let fresh = rows.iter().filter(whole).filter(|row| now - row.chain_time < HOUR.0 / 2);
        assert_eq!(fresh.count(), 1, "after {commits} writes: {rows:#?}");
        assert!(rows.iter().filter(whole).count() <= 2, "after {commits} writes");
        node.renter.shutdown().await;
    }
}

#[tokio::test(start_paused = true)]
async fn backups_expire_by_themselves_unless_they_are_pinned() {
    let network = TestNetwork::empty(4).await;
    let node = filled(&network).await;
    let (renter, chain) = (&node.renter, &network.chain);
    let expiring =
        |name: &str, pinned| BackupRequest { expires_in: Some(100 * 3_600), pinned, ..named(name) };
    renter.create_backup(expiring("short", false), &Silent).await.unwrap();
    renter.create_backup(expiring("pinned", true), &Silent).await.unwrap();
    let mut news = renter.news();
    renter.upkeep().await;
    chain.pass(Millis::hours(89));
    renter.upkeep().await;
    assert_eq!(told(&mut news), Vec::<String>::new());
    // A tenth of its life before, once.
    chain.pass(Millis::hours(1));
    renter.upkeep().await;
    renter.upkeep().await;
    assert_eq!(told(&mut news), ["expiring short"]);
    // It is put off, and so told again when it is near again.
    let edit = |expires_in| BackupEdit { expires_in: Some(expires_in), ..BackupEdit::default() };
    renter.edit_backup("short", &edit(1_000 * 3_600)).await.unwrap();
    renter.upkeep().await;
    renter.edit_backup("short", &edit(2 * 3_600)).await.unwrap();
    renter.upkeep().await;
    assert_eq!(told(&mut news), ["expiring short"]);
    chain.pass(Millis::hours(3));
    renter.upkeep().await;
    assert_eq!(told(&mut news), ["deleted short: it has expired"]);
    chain.pass(Millis::hours(30));
    renter.upkeep().await;
    assert_eq!(names(&node), ["pinned"]);
}

#[tokio::test(start_paused = true)]
async fn people_are_warned_once_of_contracts_and_money_that_run_out() {
    let network = TestNetwork::empty(4).await;
    let node = filled(&network).await;
    node.renter.create_backup(named("mine"), &Silent).await.unwrap();
    let until = node.renter.backup("mine").await.unwrap().row.recoverable_until.unwrap();
    let mut news = node.renter.news();
    let left = until - network.world.chain.time().0;
    let notice = Millis::hours(14 * 24).0;
    // Fourteen days and a bit before.
    network.chain.pass(Millis(left - notice - HOUR.0));
    node.renter.upkeep().await;
    assert_eq!(told(&mut news), Vec::<String>::new());
    network.chain.pass(HOUR);
    node.renter.upkeep().await;
    node.renter.upkeep().await;
    assert_eq!(told(&mut news), ["near mine"]);

    // Nor after a restart.
    let (store, files) = (node.store.clone(), node.files.clone());
    node.renter.shutdown().await;
    let node = Node::with(&network, store, files, config()).await;
    let mut news = node.renter.news();
    node.renter.confirm().await.unwrap();
    node.renter.upkeep().await;
    assert_eq!(told(&mut news), Vec::<String>::new());

    let balance = node.renter.wallet().await.unwrap().balance;
    let fee = network.world.chain.genesis().parameters.minimum_fee;
    let all = balance.saturating_sub(fee);
    node.renter.transfer(crate::testing::world::secret(99).public(), all).await.unwrap();
    node.renter.upkeep().await;
    node.renter.upkeep().await;
    assert_eq!(told(&mut news), ["low 0 4"]);
}

#[tokio::test(start_paused = true)]
async fn policies_are_made_changed_removed_and_come_back_from_the_words() {
    let network = TestNetwork::empty(4).await;
    let node = filled(&network).await;
    let renter = &node.renter;
    let made = renter.create_policy(&keeping(3, "größer/kleiner")).await.unwrap();
    let code = |result: Result<_, crate::backup::BackupError>| result.map(drop).unwrap_err().code();
    assert_eq!(code(renter.create_policy(&hourly("größer/kleiner")).await), "exists");
    assert_eq!(code(renter.create_policy(&hourly("")).await), "bad_policy");
    assert_eq!(code(renter.policy("none").await), "no_policy");
    assert_eq!(code(renter.set_policy("none", &hourly("")).await), "no_policy");
    assert_eq!(code(renter.set_policy("größer/kleiner", &hourly("other")).await), "bad_policy");
    let archive = PolicyRequest { kind: BackupKind::Archive, vault: None, ..hourly("a") };
    assert_eq!(code(renter.create_policy(&archive).await), "no_scope");
    let lost = PolicyRequest { vault: Some("none".into()), ..hourly("a") };
    assert_eq!(code(renter.create_policy(&lost).await), "no_vault");
    let mut news = renter.news();
    renter.run_policy("größer/kleiner").await.unwrap();
    let row = ended(&mut news).await;
    assert!(row.name.starts_with("größer/kleiner 1970-"), "{}", row.name);

    // Other slots count from now on: none was missed.
    network.chain.pass(Millis::hours(30));
    let ahead = network.world.chain.time().0 - network.world.clock.now();
    tokio::time::advance(std::time::Duration::from_millis(ahead)).await;
    let often = PolicyRequest { every: 60, enabled: false, ..made.policy.clone() };
    renter.set_policy("größer/kleiner", &often).await.unwrap();
    assert_eq!(renter.policy("größer/kleiner").await.unwrap().next, None);
    let changed = PolicyRequest { every: 7_200, at: 60, enabled: true, ..often };
    let changed = renter.set_policy("größer/kleiner", &changed).await.unwrap();
    assert_eq!((changed.missed, changed.made), (0, made.made));
    renter.create_policy(&hourly("second")).await.unwrap();
    renter.remove_policy("second").await.unwrap();

    node.lose().await;
    let found = Node::blank(&network).await;
    recover(&found).await;
    let rows = found.renter.policies().await.unwrap();
    assert_eq!(rows.len(), 1);
    assert_eq!((&rows[0].policy, rows[0].last), (&changed.policy, Some(row.chain_time)));
}

#[tokio::test(start_paused = true)]
async fn a_policy_of_a_vault_that_is_gone_fails_and_says_so() {
    let network = TestNetwork::empty(4).await;
    let node = filled(&network).await;
    node.renter.create_policy(&hourly("hourly")).await.unwrap();
    node.renter.remove_vault("home").await.unwrap();
    let row = run_next(&network, &node).await;
    assert_eq!(row.error.unwrap().code, "no_vault");
    let policy = node.renter.policy("hourly").await.unwrap();
    // What is shown can be sent back.
    node.renter.set_policy("hourly", &policy.policy).await.unwrap();
}
