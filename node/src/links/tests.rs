//! Links over archives that come and go, with a clock that the tests set.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt as _;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use samara_protocol::units::ChainTime;
use samara_renter::backup::BackupError;
use samara_renter::error::Coded as _;
use samara_renter::vault::VaultError;

use super::*;
use crate::notify::{Linked, Linker as _, NoticeId};

const START: u64 = 1_700_000_000_000;
const DAY: u64 = 86_400_000;

/// Archives by their ids, with what becomes of them.
struct Shelf {
    archives: Mutex<BTreeMap<String, Result<Option<ChainTime>, BackupError>>>,
    now: AtomicU64,
    known: AtomicBool,
}

impl Shelf {
    fn with(sid: &str) -> Arc<Self> {
        let archives = Mutex::new(BTreeMap::from([(sid.to_owned(), Ok(None))]));
        Arc::new(Self { archives, now: START.into(), known: true.into() })
    }

    fn set(&self, sid: &str, state: Result<Option<ChainTime>, BackupError>) {
        lock(&self.archives).insert(sid.to_owned(), state);
    }

    fn remove(&self, sid: &str) {
        lock(&self.archives).remove(sid);
    }

    fn wait(&self, span: Millis) {
        self.now.fetch_add(span.0, Ordering::Relaxed);
    }
}

impl Archives for Shelf {
    fn are_known(&self) -> bool {
        self.known.load(Ordering::Relaxed)
    }

    fn shareable(&self, name: &str) -> Result<Shareable, BackupError> {
        let none = || Err(BackupError::Vault(VaultError::NoBackup(name.to_owned())));
        let state = lock(&self.archives).get(name).cloned().unwrap_or_else(none);
        state.map(|expires| Shareable { sid: name.to_owned(), expires })
    }

    fn now(&self) -> ChainTime {
        ChainTime(self.now.load(Ordering::Relaxed))
    }
}

fn unfit() -> BackupError {
    BackupError::Unfit { name: "a".to_owned(), is: "is not complete" }
}

struct Place {
    folder: tempfile::TempDir,
    shelf: Arc<Shelf>,
}

impl Place {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap(), shelf: Shelf::with("a") }
    }

    fn open(&self) -> Links {
        let folder = self.folder.path().join(FOLDER);
        let links = Links::open(folder, self.shelf.clone(), None).unwrap();
        links.served_at(([127, 0, 0, 1], 4_123).into());
        links
    }

    /// Names of what lies in the folder.
    fn files(&self) -> Vec<String> {
        let entries = std::fs::read_dir(self.folder.path().join(FOLDER)).unwrap();
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }
}

fn secret(made: &LinkMade) -> &str {
    made.url.reveal().strip_prefix("http://127.0.0.1:4123/v1/download/").unwrap()
}

#[test]
fn a_link_is_shown_once_and_kept_as_a_hash_over_restarts() {
    let place = Place::new();
    let links = place.open();
    let by = Some(UserId([7; 8]));
    let made = links.make("a", USUAL, by).unwrap();
    let expected = (by, false, ChainTime(START), ChainTime(START + 7 * DAY));
    let view = &made.view;
    assert_eq!((view.created_by, view.mailed, view.created, view.expires), expected);
    let file = place.folder.path().join(FOLDER).join(format!("{}.json", view.id));
    let text = std::fs::read_to_string(&file).unwrap();
    assert!(!text.contains(secret(&made)), "{text}");
    assert!(!format!("{made:?}").contains(secret(&made)));
    assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    std::fs::write(file.with_extension("json.7.new"), "{").unwrap();
    std::fs::write(file.with_file_name("0000000000000000.json"), "{").unwrap();
    drop(links);

    let links = place.open();
    assert_eq!(links.list(None), std::slice::from_ref(&made.view));
    assert_eq!(links.find(secret(&made)).as_deref(), Some("a"));
    assert_eq!(place.files().len(), 2, "what was cut is gone, what cannot be read is left alone");
}

#[test]
fn another_digit_leads_nowhere() {
    let place = Place::new();
    let links = place.open();
    let made = links.make("a", USUAL, None).unwrap();
    let right = secret(&made);
    for at in 0..right.len() {
        let mut wrong = right.to_owned();
        let digit = if &right[at..=at] == "0" { "1" } else { "0" };
        wrong.replace_range(at..=at, digit);
        assert_eq!(links.find(&wrong), None, "{at}");
    }
    let longer = format!("{right}0");
    for wrong in ["", &right[1..], &longer, &made.view.id.to_string()] {
        assert_eq!(links.find(wrong), None);
    }
    assert_eq!(links.find(right).as_deref(), Some("a"));
}

#[test]
fn a_link_ends_with_its_time() {
    let place = Place::new();
    let links = place.open();
    for wrong in [Millis(0), Millis(SHORTEST.0 - 1), Millis(LONGEST.0 + 1), Millis(u64::MAX)] {
        assert!(matches!(links.make("a", wrong, None), Err(LinkError::Lifetime)));
    }
    let made = links.make("a", SHORTEST, None).unwrap();
    place.shelf.wait(Millis(SHORTEST.0 - 1));
    assert!(links.find(secret(&made)).is_some());
    place.shelf.wait(Millis(1));
    assert_eq!((links.find(secret(&made)), links.list(None)), (None, Vec::new()));
    assert!(matches!(links.revoke(made.view.id), Err(LinkError::Unknown(_))));
    links.sweep();
    assert!(place.files().is_empty());

    // The archive goes first.
    let soon = ChainTime(place.shelf.now().0 + 1_000);
    place.shelf.set("a", Ok(Some(soon)));
    assert_eq!(links.make("a", USUAL, None).unwrap().view.expires, soon);
}

#[test]
fn a_link_that_is_revoked_is_gone_for_good() {
    let place = Place::new();
    let links = place.open();
    let [one, two] = [0, 1].map(|_| links.make("a", USUAL, None).unwrap());
    links.revoke(one.view.id).unwrap();
    assert!(matches!(links.revoke(one.view.id), Err(LinkError::Unknown(_))));
    let links = place.open();
    assert_eq!(links.find(secret(&one)), None);
    assert_eq!(links.find(secret(&two)).as_deref(), Some("a"));
    assert_eq!(links.list_of("a").unwrap(), [two.view]);
}

#[test]
fn links_end_with_what_they_lead_to_and_are_swept() {
    let place = Place::new();
    let links = place.open();
    assert!(matches!(links.make("b", USUAL, None), Err(LinkError::Backup(_))));
    let made = links.make("a", USUAL, None).unwrap();

    // Where nothing is known yet, nothing counts as gone.
    place.shelf.remove("a");
    place.shelf.known.store(false, Ordering::Relaxed);
    links.sweep();
    assert_eq!(place.files().len(), 1);
    place.shelf.known.store(true, Ordering::Relaxed);
    place.shelf.set("a", Err(BackupError::NoPlace));
    links.sweep();
    assert_eq!((links.find(secret(&made)), place.files().len()), (None, 1), "only out of reach");

    place.shelf.set("a", Err(unfit()));
    assert_eq!((links.find(secret(&made)), links.list(None)), (None, Vec::new()));
    assert!(links.list_of("a").unwrap().is_empty());
    assert_eq!(links.make("a", USUAL, None).unwrap_err().code(), "unfit");
    links.sweep();
    assert!(place.files().is_empty());
    place.shelf.set("a", Ok(None));
    assert_eq!(links.find(secret(&made)), None, "it does not come back");

    links.make("a", USUAL, None).unwrap();
    place.shelf.remove("a");
    assert_eq!(links.list_of("a").unwrap_err().code(), "no_backup");
    links.sweep();
    assert!(place.files().is_empty());
}

#[test]
fn ended_links_make_room_and_live_ones_do_not() {
    let place = Place::new();
    let links = place.open();
    for _ in 0..MOST {
        links.make("a", SHORTEST, None).unwrap();
    }
    assert_eq!(links.make("a", USUAL, None).unwrap_err().code(), "too_many");
    place.shelf.wait(SHORTEST);
    links.make("a", USUAL, None).unwrap();
    assert_eq!(place.files().len(), 1);
}

#[test]
fn addresses_begin_as_the_operator_says() {
    let place = Place::new();
    let folder = place.folder.path().join(FOLDER);
    let unserved = Links::open(folder.clone(), place.shelf.clone(), None).unwrap();
    assert!(matches!(unserved.make("a", USUAL, None), Err(LinkError::NotServed)));
    let public = PublicUrl::try_from("https://example.org/samara/".to_owned()).unwrap();
    let links = Links::open(folder, place.shelf.clone(), Some(public)).unwrap();
    let made = links.make("a", USUAL, None).unwrap();
    assert!(made.url.reveal().starts_with("https://example.org/samara/v1/download/"));
}

#[test]
fn a_mail_has_the_same_link_at_each_try() {
    let place = Place::new();
    let links = place.open();
    let notice = NoticeId([1; 16]);
    let Linked::To(first) = links.link(notice, "a", 30) else { panic!("no link") };
    assert_eq!(first.expires, Some(ChainTime(START + 30 * DAY)));
    assert_eq!(links.link(notice, "a", 30), Linked::To(first.clone()));
    let views = links.list(None);
    assert_eq!((views.len(), views[0].mailed), (1, true));
    // Another mail has one of its own, and so has one that is sent again although it was taken.
    let Linked::To(other) = links.link(NoticeId([2; 16]), "a", 30) else { panic!("no link") };
    assert_ne!(other, first);
    links.sent(notice);
    assert_ne!(links.link(notice, "a", 30), Linked::To(first));

    links.list(None).iter().for_each(|view| links.revoke(view.id).unwrap());
    assert_eq!(links.link(notice, "a", 30), Linked::Nowhere, "somebody did not want it");
    assert_eq!(links.link(NoticeId([3; 16]), "b", 30), Linked::Nowhere);
    place.shelf.known.store(false, Ordering::Relaxed);
    assert_eq!(links.link(NoticeId([4; 16]), "a", 30), Linked::NotYet);
}
