use super::super::entry::Made;
use super::*;

fn entry(change: Change) -> Entry {
    Entry { time: 5, salt: [1; 16], change }
}

fn vault(number: u64, event: VaultEvent) -> Entry {
    entry(Change::Vault { vault: VaultId([1; 16]), number, made: Made::default(), event })
}

fn path(text: &str) -> StoredPath {
    StoredPath::new(text).unwrap()
}

fn file(bytes: &[u8]) -> StoredFile {
    StoredFile {
        size: bytes.len() as u64,
        modified: 0,
        executable: false,
        hash: Digest(*blake3::hash(bytes).as_bytes()),
        content: Content::Inline(bytes.to_vec()),
    }
}

#[test]
fn a_file_moves_with_its_history_and_a_deleted_one_keeps_its_versions() {
    let mut state = JournalState::default();
    let put = |text: &str, bytes| VaultEvent::Put { path: path(text), file: file(bytes) };
    let events = [
        VaultEvent::Created { name: "home".into() },
        put("a", b"1"),
        put("a", b"2"),
        VaultEvent::Moved { from: path("a"), to: path("b") },
        VaultEvent::Deleted { path: path("b") },
    ];
    for (number, event) in events.into_iter().enumerate() {
        state.apply(&vault(number as u64, event)).unwrap();
    }
    let home = state.vault_named("home").unwrap().1;
    assert_eq!(home.listed().count(), 0);
    assert_eq!(home.files[&path("b")].versions.len(), 2);
    assert_eq!(state.point.position, 5);
}

#[test]
fn a_file_that_moves_is_listed_above_later_versions_of_a_deleted_one() {
    let mut state = JournalState::default();
    let put = |text: &str, bytes| VaultEvent::Put { path: path(text), file: file(bytes) };
    let events = [
        VaultEvent::Created { name: "home".into() },
        put("a", b"moved"),
        put("b", b"deleted"),
        VaultEvent::Deleted { path: path("b") },
        VaultEvent::Moved { from: path("a"), to: path("b") },
    ];
    for (number, event) in events.into_iter().enumerate() {
        state.apply(&vault(number as u64, event)).unwrap();
    }
    let home = state.vault_named("home").unwrap().1;
    let listed: Vec<_> = home.listed().map(|(path, version)| (path, &version.file)).collect();
    assert_eq!(listed, [(&path("b"), &file(b"moved"))]);
    assert_eq!(home.files[&path("b")].versions.len(), 2);
}

fn stored(id: u8, length: u32) -> StoredFile {
    let extent = Extent { slab: SlabId([id; 16]), offset: 0, length };
    let content = Content::Extents(vec![extent]);
    StoredFile { size: u64::from(length), content, ..file(b"") }
}

fn slab(id: u8) -> Entry {
    entry(Change::SlabsStored(vec![SlabRecord {
        id: SlabId([id; 16]),
        data: 1,
        column: 10,
        frame: 10,
        hosts: vec![],
        descriptor: Digest([id; 32]),
    }]))
}

fn release(id: u8) -> Entry {
    entry(Change::SlabsReleased(vec![SlabId([id; 16])]))
}

fn backup(id: u8, scope: Option<VaultId>) -> Entry {
    let name = format!("backup {id}");
    let id = BackupId([id; 16]);
    let label = BackupLabel { name, ..BackupLabel::default() };
    entry(Change::BackupCreated { id, scope, label: label.into(), origin: Box::default() })
}

fn live(state: &JournalState, id: u8) -> (u64, u64) {
    let slab = &state.slabs[&SlabId([id; 16])];
    (slab.live, slab.held)
}

#[test]
fn backups_hold_what_they_were_made_in_time_to_see() {
    let mut state = JournalState::default();
    let put = |id, length| VaultEvent::Put { path: path("a"), file: stored(id, length) };
    let gone = |version| VaultEvent::VersionRemoved { path: path("a"), version };
    for entry in [
        slab(1),
        slab(2),
        vault(0, VaultEvent::Created { name: "home".into() }),
        backup(1, None),
        vault(1, put(1, 100)),
        backup(2, Some(VaultId([1; 16]))),
        backup(3, Some(VaultId([9; 16]))),
        vault(2, put(2, 600)),
    ] {
        state.apply(&entry).unwrap();
    }
    assert_eq!((live(&state, 1), live(&state, 2)), ((100, 0), (600, 0)));
    assert!(state.thin.contains(&SlabId([1; 16])) && state.thin.len() == 1);
    state.apply(&vault(3, gone(1))).unwrap();
    state.apply(&vault(4, gone(2))).unwrap();
    // The first version is in the second backup alone, the second version in none.
    assert_eq!((live(&state, 1), live(&state, 2)), ((100, 100), (0, 0)));
    let refused = state.apply(&release(1)).unwrap_err();
    assert!(matches!(refused, FoldError::InUse { .. }), "{refused}");
    state.apply(&release(2)).unwrap();
    state.apply(&entry(Change::BackupDeleted(BackupId([1; 16])))).unwrap();
    state.apply(&entry(Change::BackupDeleted(BackupId([3; 16])))).unwrap();
    assert_eq!((live(&state, 1), state.held.len()), ((100, 100), 1));
    state.apply(&entry(Change::BackupDeleted(BackupId([2; 16])))).unwrap();
    assert_eq!((live(&state, 1), state.held.len()), ((0, 0), 0));
    state.apply(&release(1)).unwrap();
    assert!(state.slabs.is_empty() && state.dead.is_empty() && state.thin.is_empty());
}

#[test]
fn bytes_that_moved_stay_where_a_backup_looks_for_them() {
    let mut state = JournalState::default();
    let place = |id: u8, length| vec![Extent { slab: SlabId([id; 16]), offset: 7, length }];
    let moved = |id, length, version| {
        let (path, extents) = (path("a"), place(id, length));
        VaultEvent::Relocated { path, version, extents }
    };
    for entry in [
        slab(1),
        slab(2),
        slab(3),
        vault(0, VaultEvent::Created { name: "home".into() }),
        vault(1, VaultEvent::Put { path: path("a"), file: stored(1, 100) }),
    ] {
        state.apply(&entry).unwrap();
    }
    let before = state.clone();
    for wrong in [moved(2, 99, 1), moved(2, 100, 0), moved(4, 100, 1)] {
        state.apply(&vault(2, wrong)).unwrap_err();
        assert_eq!(state, before);
    }
    state.apply(&vault(2, moved(2, 100, 1))).unwrap();
    assert_eq!((live(&state, 1), live(&state, 2)), ((0, 0), (100, 0)));
    state.apply(&backup(1, None)).unwrap();
    state.apply(&vault(3, moved(3, 100, 1))).unwrap();
    // The backup shows the second place, and nobody the first.
    assert_eq!((live(&state, 2), live(&state, 3)), ((100, 100), (100, 0)));
    state.apply(&release(1)).unwrap();
    state.apply(&entry(Change::BackupDeleted(BackupId([1; 16])))).unwrap();
    state.apply(&vault(4, VaultEvent::Removed)).unwrap();
    assert_eq!((live(&state, 2), live(&state, 3)), ((0, 0), (0, 0)));
}

#[test]
fn folders_are_kept_and_given_up_however_often_they_are_named() {
    let mut state = JournalState::default();
    let made = || VaultEvent::FolderMade { path: path("a/b") };
    let gone = || VaultEvent::FolderRemoved { path: path("a/b") };
    state.apply(&vault(0, VaultEvent::Created { name: "home".into() })).unwrap();
    state.apply(&vault(1, made())).unwrap();
    state.apply(&vault(2, made())).unwrap();
    let folders = |state: &JournalState| state.vault_named("home").unwrap().1.folders.len();
    assert_eq!(folders(&state), 1);
    state.apply(&vault(3, gone())).unwrap();
    state.apply(&vault(4, gone())).unwrap();
    assert_eq!(folders(&state), 0);
}

#[test]
fn texts_over_their_bounds_are_refused_in_a_replay() {
    let mut state = JournalState::default();
    state.apply(&vault(0, VaultEvent::Created { name: "x".repeat(64) })).unwrap();
    let backup = |name: usize, description: usize| Change::BackupCreated {
        id: BackupId([name as u8; 16]),
        scope: None,
        label: Box::new(BackupLabel {
            name: "n".repeat(name),
            description: "d".repeat(description),
            ..BackupLabel::default()
        }),
        origin: Box::default(),
    };
    let labelled = |tags: usize, tag: usize| {
        let (name, tags) = ("n".to_owned(), vec!["t".repeat(tag); tags]);
        let label = BackupLabel { name, tags, ..BackupLabel::default() };
        Change::BackupLabelled { id: BackupId([96; 16]), label: label.into() }
    };
    let setting = |name: usize, value: usize| Change::Setting {
        name: "s".repeat(name),
        value: vec![1; value],
    };
    let set = |name: usize, value: usize| VaultEvent::Set {
        name: "s".repeat(name),
        value: vec![1; value],
    };
    state.apply(&entry(backup(96, 4_096))).unwrap();
    state.apply(&entry(labelled(16, 64))).unwrap();
    state.apply(&entry(setting(64, 64 << 10))).unwrap();
    state.apply(&vault(1, set(64, 4 << 10))).unwrap();
    let before = state.clone();
    let refused = [
        vault(2, VaultEvent::Renamed { name: "x".repeat(65) }),
        vault(2, VaultEvent::Renamed { name: String::new() }),
        vault(2, set(65, 1)),
        vault(2, set(1, (4 << 10) + 1)),
        vault(2, VaultEvent::Noted { text: "x".repeat(1_025) }),
        entry(backup(97, 0)),
        entry(backup(0, 0)),
        entry(backup(1, 4_097)),
        entry(setting(65, 1)),
        entry(setting(1, (64 << 10) + 1)),
        entry(labelled(17, 1)),
        entry(labelled(1, 65)),
        entry(labelled(1, 0)),
    ];
    for refused in refused {
        let error = state.apply(&refused).unwrap_err();
        assert!(matches!(error, FoldError::Length { .. }), "{error}");
        assert_eq!(state, before);
    }
}

#[test]
fn a_vault_is_named_as_a_folder_can_be() {
    let mut state = JournalState::default();
    for name in [".", "..", "a/b", "a\\b", "a:b", "a\nb"] {
        let refused = vault(0, VaultEvent::Created { name: name.into() });
        let error = state.apply(&refused).unwrap_err();
        assert_eq!(error, FoldError::Name { position: 0, name: name.into() });
    }
    for (number, name) in ["...", ".a", "a b", "vault"].into_iter().enumerate() {
        let name = name.to_owned();
        let event = match number {
            0 => VaultEvent::Created { name },
            _ => VaultEvent::Renamed { name },
        };
        state.apply(&vault(number as u64, event)).unwrap();
    }
}

#[test]
fn a_moved_slab_keeps_its_uses_and_its_shape() {
    let record = |id: u8, hosts: &[u16]| SlabRecord {
        id: SlabId([id; 16]),
        data: 1,
        column: 14,
        frame: 14,
        hosts: hosts.iter().copied().map(HostIndex).collect(),
        descriptor: Digest([id; 32]),
    };
    let mut state = JournalState::default();
    state.apply(&entry(Change::SlabsStored(vec![record(1, &[0, 1])]))).unwrap();
    state.apply(&vault(0, VaultEvent::Created { name: "home".into() })).unwrap();
    let extent = crate::journal::entry::Extent { slab: SlabId([1; 16]), offset: 0, length: 9 };
    let file = StoredFile { content: Content::Extents(vec![extent]), ..file(b"") };
    state.apply(&vault(1, VaultEvent::Put { path: path("a"), file })).unwrap();
    let moved = SlabRecord { descriptor: Digest([7; 32]), ..record(1, &[0, 5]) };
    state.apply(&entry(Change::SlabsMoved(vec![moved.clone()]))).unwrap();
    let known = state.slabs[&SlabId([1; 16])].clone();
    assert_eq!((known.record, known.live), (moved, 9));
    let before = state.clone();
    for (refused, shape) in [
        (record(1, &[0, 1, 2]), true),
        (SlabRecord { data: 2, ..record(1, &[0, 1]) }, true),
        (SlabRecord { column: 15, ..record(1, &[0, 1]) }, true),
        (record(2, &[0, 1]), false),
    ] {
        let refused = entry(Change::SlabsMoved(vec![record(1, &[0, 6]), refused]));
        let error = state.apply(&refused).unwrap_err();
        assert_eq!(matches!(error, FoldError::Shape { .. }), shape, "{error}");
        assert_eq!(state, before);
    }
}

#[test]
fn what_does_not_follow_changes_nothing() {
    let mut state = JournalState::default();
    state.apply(&vault(0, VaultEvent::Created { name: "home".into() })).unwrap();
    let before = state.clone();
    for refused in [
        vault(0, VaultEvent::Deleted { path: path("a") }),
        vault(1, VaultEvent::Deleted { path: path("a") }),
        vault(1, VaultEvent::Renamed { name: "home".into() }),
        vault(1, VaultEvent::Renamed { name: "..".into() }),
        entry(Change::HostAdded { index: HostIndex(1), host: PublicKey([0; 32]) }),
        entry(Change::BackupDeleted(BackupId([0; 16]))),
        entry(Change::SlabsReleased(vec![SlabId([0; 16])])),
    ] {
        assert!(state.apply(&refused).is_err(), "{refused:?}");
        assert_eq!(state, before);
    }
}

#[test]
fn settings_come_and_go_and_a_vault_has_so_many() {
    let mut state = JournalState::default();
    state.apply(&vault(0, VaultEvent::Created { name: "v".into() })).unwrap();
    let set = |name: u64, value: &[u8]| VaultEvent::Set {
        name: format!("{name}"),
        value: value.to_vec(),
    };
    for number in 0..64 {
        state.apply(&vault(number + 1, set(number, b"x"))).unwrap();
    }
    let error = state.apply(&vault(65, set(64, b"x"))).unwrap_err();
    assert!(matches!(error, FoldError::Length { most: 64, .. }), "{error}");
    // One that is there takes another value, and room comes with one that goes.
    state.apply(&vault(65, set(1, b"y"))).unwrap();
    state.apply(&vault(66, set(0, b""))).unwrap();
    state.apply(&vault(67, set(64, b"x"))).unwrap();
    let settings = &state.vaults[&VaultId([1; 16])].settings;
    assert_eq!((settings.len(), settings.get("0")), (64, None));
    assert_eq!(settings["1"], b"y");
}

#[test]
fn a_vault_on_its_way_keeps_the_name_that_it_is_given_here() {
    let mut state = JournalState::default();
    let other = Change::Vault {
        vault: VaultId([2; 16]),
        number: 0,
        made: Made::default(),
        event: VaultEvent::Created { name: "home".into() },
    };
    state.apply(&entry(other)).unwrap();
    let (id, owner) = (VaultId([1; 16]), Some(UserId([9; 8])));
    let reserve = |name: &str| Change::VaultReserved { vault: id, name: name.into() };
    let error = state.apply(&entry(reserve("home"))).unwrap_err();
    assert!(matches!(error, FoldError::Exists { .. }), "{error}");
    let error = state.apply(&entry(reserve("a/b"))).unwrap_err();
    assert!(matches!(error, FoldError::Name { .. }), "{error}");
    let open = entry(Change::VaultOpened { vault: id, owner });
    state.apply(&open).unwrap_err();
    state.apply(&entry(reserve("clone"))).unwrap();

    // Its own history says otherwise, also with names that others have here.
    let put = VaultEvent::Put { path: path("a"), file: file(b"x") };
    let events = [
        VaultEvent::Created { name: "home".into() },
        VaultEvent::Renamed { name: "home".into() },
        put,
    ];
    for (number, event) in (0..).zip(events) {
        state.apply(&vault(number, event)).unwrap();
    }
    assert!(state.vault_named("clone").is_none(), "it is not listed before it is whole");
    assert_eq!(state.listed_vaults().count(), 1);
    state.apply(&open).unwrap();
    let (found, vault_state) = state.vault_named("clone").unwrap();
    assert_eq!((found, vault_state.owner, vault_state.next), (id, owner, 3));
    state.apply(&open).unwrap_err();
    state.apply(&vault(3, VaultEvent::Renamed { name: "home".into() })).unwrap_err();
    state.apply(&vault(3, VaultEvent::Renamed { name: "other".into() })).unwrap();
    assert!(state.vault_named("other").is_some());
}

#[test]
fn what_was_brought_in_keeps_its_time() {
    let mut state = JournalState::default();
    let made = Made { first: Some(5), ..Made::default() };
    for (number, event) in [
        (0, VaultEvent::Created { name: "v".into() }),
        (
            1,
            VaultEvent::Put {
                path: path("a"),
                file: StoredFile { content: Content::Erased, ..file(b"x") },
            },
        ),
    ] {
        state
            .apply(&entry(Change::Vault { vault: VaultId([1; 16]), number, made, event }))
            .unwrap();
    }
    let vault = &state.vaults[&VaultId([1; 16])];
    assert_eq!((vault.created, vault.files[&path("a")].versions[0].time), (5, 5));
}
