//! Backups as people manage them: prices, limits, labels, lists, ends.

use samara_protocol::journal::UserId;
use samara_protocol::units::Amount;

use super::{fill, recover};
use crate::backup::{
    BackupEdit, BackupFilter, BackupKind, BackupOrder, BackupQuery, BackupRequest, BackupRow,
    BackupStatus, QuoteRequest,
};
use crate::news::News;
use crate::progress::Silent;
use crate::testing::Node;
use crate::testing::world::{Fault, TestNetwork};

async fn filled(network: &TestNetwork) -> Node {
    let node = Node::fresh(network).await;
    fill(&node.files);
    node.put("/home", "home").await;
    node
}

fn named(name: &str) -> BackupRequest {
    BackupRequest { name: name.into(), vault: Some("home".into()), ..BackupRequest::default() }
}

async fn make(node: &Node, request: BackupRequest) -> Result<BackupRow, String> {
    let made = node.renter.create_backup(request, &Silent).await;
    made.map_err(|error| error.code().to_owned())
}

/// Waits until the checkpoints of all backups are stored, and upkeep has seen it.
async fn accounted(node: &Node, name: &str) -> BackupRow {
    node.renter.compare_backups(name, name, None).await.unwrap();
    node.renter.upkeep().await;
    node.renter.backup(name).await.unwrap().row
}

#[tokio::test(start_paused = true)]
async fn a_quote_is_an_upper_bound_and_is_bound_to_what_was_asked() {
    let network = TestNetwork::empty(8).await;
    let node = filled(&network).await;
    let mut last = Amount::ZERO;
    for round in 0..4 {
        for number in 0..30 {
            node.files.put(&format!("/home/{round}/{number}"), b"something", 10);
        }
        node.put("/home", "home").await;
        let request = QuoteRequest { vault: Some("home".into()), ..QuoteRequest::default() };
        let quote = node.renter.quote_backup(&request).await.unwrap();
        let name = format!("backup {round}");
        let asked = BackupRequest { quote: Some(quote.id), ..named(&name) };
        let row = make(&node, asked).await.unwrap();
        assert_eq!((row.cost_quoted, row.files), (quote.price, quote.files));
        let row = accounted(&node, &name).await;
        let cost = row.cost_actual.unwrap();
        assert!(Amount::ZERO < cost && cost <= quote.price, "{cost} of {}", quote.price);
        assert!(row.stored_size.unwrap() > 0);
        // More files, a higher price.
        assert!(quote.price > last);
        last = quote.price;
    }

    let request = QuoteRequest { vault: Some("home".into()), ..QuoteRequest::default() };
    let quote = node.renter.quote_backup(&request).await.unwrap().id;
    let wrong = [
        BackupRequest { vault: None, quote: Some(quote.clone()), ..named("a") },
        BackupRequest { quote: Some("none".into()), ..named("a") },
        BackupRequest { quote: Some("00000000000éé".into()), ..named("a") },
    ];
    for request in wrong {
        assert_eq!(make(&node, request).await.unwrap_err(), "stale_quote");
    }
    // What came meanwhile costs more than was agreed to: nothing is made, nothing is charged.
    for number in 0..200 {
        node.files.put(&format!("/home/more/{number}"), &[7; 300], 10);
    }
    node.put("/home", "home").await;
    let request = BackupRequest { quote: Some(quote.clone()), ..named("late") };
    assert_eq!(make(&node, request).await.unwrap_err(), "stale_quote");
    assert_eq!(node.renter.backups().len(), 4);
    // A quote lives ten minutes.
    let quote = node.renter.quote_backup(&QuoteRequest::default()).await.unwrap().id;
    tokio::time::advance(std::time::Duration::from_secs(601)).await;
    let request = BackupRequest { vault: None, quote: Some(quote), ..named("late") };
    assert_eq!(make(&node, request).await.unwrap_err(), "stale_quote");
}

#[tokio::test(start_paused = true)]
async fn the_limit_refuses_and_what_failed_does_not_count() {
    let network = TestNetwork::empty(4).await;
    let node = filled(&network).await;
    node.renter.limit_backups(2).await.unwrap();
    make(&node, named("one")).await.unwrap();
    make(&node, named("two")).await.unwrap();
    assert_eq!(make(&node, named("three")).await.unwrap_err(), "limit_reached");
    // About all vaults is another count, and so is another kind.
    make(&node, BackupRequest { vault: None, ..named("all of it") }).await.unwrap();
    let page = node.renter.backups_page(&BackupQuery::default());
    let used: Vec<_> = page.used.iter().map(|u| (u.vault.as_deref(), u.count)).collect();
    assert_eq!((page.limit, used), (2, vec![(None, 1), (Some("home"), 2)]));
    let kept: Vec<String> = node.renter.backups().into_iter().map(|row| row.name).collect();
    assert_eq!(kept, ["one", "two", "all of it"]);

    node.renter.delete_backup("one").await.unwrap();
    network.set(0..4, Fault::Dead);
    assert_eq!(make(&node, named("cut")).await.unwrap_err(), "no_quorum");
    let cut = node.renter.backup("cut").await.unwrap().row;
    assert_eq!((cut.status, cut.error.unwrap().code), (BackupStatus::Error, "no_quorum".into()));
    network.set(0..4, Fault::None);
    make(&node, named("three")).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn labels_change_and_come_back_from_the_words() {
    let network = TestNetwork::empty(4).await;
    let node = filled(&network).await;
    let user = UserId([7; 8]);
    let request = BackupRequest {
        description: "before the move".into(),
        tags: vec!["home".into(), "été".into()],
        pinned: true,
        expires_in: Some(3_600),
        ..named("first")
    };
    let news = node.renter.news();
    let row = node.renter.acting(Some(user)).create_backup(request, &Silent).await.unwrap();
    make(&node, named("second")).await.unwrap();
    let renter = &node.renter;
    let edit = |edit: BackupEdit| async move { renter.edit_backup("first", &edit).await };
    let taken = BackupEdit { name: Some("second".into()), ..BackupEdit::default() };
    assert_eq!(edit(taken).await.unwrap_err().code(), "exists");
    let blank = BackupEdit { name: Some(" ".into()), ..BackupEdit::default() };
    assert_eq!(edit(blank).await.unwrap_err().code(), "bad_name");
    let tags = BackupEdit { tags: Some(vec![String::new()]), ..BackupEdit::default() };
    assert_eq!(edit(tags).await.unwrap_err().code(), "bad_tags");
    let renamed = BackupEdit { name: Some("Erste".into()), ..BackupEdit::default() };
    let changed = edit(renamed).await.unwrap();
    assert_eq!((changed.sid.as_str(), changed.pinned), (row.sid.as_str(), true));
    assert_eq!(changed.date_expired, Some(row.chain_time + 3_600_000));
    assert_eq!(told(news), ["started first", "ended first", "started second", "ended second"]);

    node.lose().await;
    let found = Node::blank(&network).await;
    recover(&found).await;
    let back = found.renter.backup("Erste").await.unwrap().row;
    assert_eq!(back.created_by, Some(user.to_string()));
    assert_eq!((back.tags, back.pinned), (vec!["home".to_owned(), "été".to_owned()], true));
    assert_eq!((back.description.as_str(), back.files), ("before the move", 3));
    assert_eq!((back.cost_quoted, back.date_expired), (row.cost_quoted, changed.date_expired));
    assert_eq!(back.date_created, row.date_created);
}

fn told(mut news: tokio::sync::broadcast::Receiver<News>) -> Vec<String> {
    let mut told = Vec::new();
    while let Ok(news) = news.try_recv() {
        told.push(match news {
            News::BackupStarted(row) => format!("started {}", row.name),
            News::BackupEnded(row) => format!("ended {}", row.name),
            News::BackupDeleted { name, .. } => format!("deleted {name}"),
            other => format!("{other:?}"),
        });
    }
    told
}

#[tokio::test(start_paused = true)]
async fn lists_are_searched_filtered_ordered_and_paged() {
    let network = TestNetwork::empty(4).await;
    let node = filled(&network).await;
    let tagged = |name: &str, tag: &str| BackupRequest { tags: vec![tag.into()], ..named(name) };
    for (name, tag) in [("Beta", "work"), ("alpha", "home"), ("gamma", "work")] {
        make(&node, tagged(name, tag)).await.unwrap();
    }
    let names = |query: BackupQuery| {
        let page = node.renter.backups_page(&query);
        let names: Vec<String> = page.backups.into_iter().map(|row| row.name).collect();
        (names.join(" "), page.total, page.all)
    };
    let searched =
        |search: &str| names(BackupQuery { search: search.into(), ..BackupQuery::default() });
    assert_eq!(searched(""), ("Beta alpha gamma".into(), 3, 3));
    assert_eq!(searched("WORK").0, "Beta gamma");
    assert_eq!(searched("work mma").0, "gamma");
    assert_eq!(searched("nothing"), (String::new(), 0, 3));
    let by_name = BackupQuery { order: BackupOrder::Name, ..BackupQuery::default() };
    assert_eq!(names(by_name.clone()).0, "alpha Beta gamma");
    let page = BackupQuery { descending: true, offset: 1, limit: 1, ..by_name };
    assert_eq!(names(page), ("Beta".into(), 3, 3));
    let errors = BackupQuery { status: BackupFilter::Error, ..BackupQuery::default() };
    assert_eq!(names(errors).1, 0);
    let archives = BackupQuery { kind: Some(BackupKind::Archive), ..BackupQuery::default() };
    assert_eq!(names(archives).1, 0);
}

#[tokio::test(start_paused = true)]
async fn a_backup_in_the_making_is_listed_and_can_be_cancelled() {
    let network = TestNetwork::empty(4).await;
    let node = filled(&network).await;
    network.set(0..4, Fault::Slow(60_000));
    let row = node.renter.begin_backup(named("slow")).await.unwrap();
    assert_eq!(row.status, BackupStatus::InProgress);
    assert_eq!(make(&node, named("slow")).await.unwrap_err(), "exists");
    node.renter.cancel_backup("slow").await.unwrap();
    let ended = async {
        loop {
            let row = node.renter.backup("slow").await.unwrap().row;
            if row.status != BackupStatus::InProgress {
                return row;
            }
            tokio::task::yield_now().await;
        }
    };
    let row = ended.await;
    let cancelled = (BackupStatus::Error, "cancelled".to_owned());
    assert_eq!((row.status, row.error.unwrap().code), cancelled);
    let error = node.renter.cancel_backup("slow").await.unwrap_err();
    assert_eq!(error.code(), "unfit");
    // Its entry was on its way, and hosts come to hold it after all.
    network.set(0..4, Fault::None);
    node.renter.confirm().await.unwrap();
    node.renter.upkeep().await;
    let row = node.renter.backup("slow").await.unwrap().row;
    assert_eq!((row.status, row.error.unwrap().code), cancelled);
    assert!(node.renter.inner.journal.read(|state| state.backups.is_empty()));
}
