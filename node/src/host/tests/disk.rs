//! Volumes, the host over them, group commit, configuration.

use std::collections::BTreeSet;
use std::fs;
use std::sync::atomic::{AtomicUsize, Ordering};

use samara_protocol::hash::BlockHash;
use samara_protocol::host::HostStoreError;
use samara_protocol::host::message::Refusal;
use samara_protocol::host::store::{HostStore as _, Space};
use samara_protocol::units::{Amount, Millis};

use super::{World, data, open, secret, volumes};
use crate::database::tests::FaultyDisk;
use crate::host::config::{ByteCount, HostConfig, HostConfigError};
use crate::host::group::Group;
use crate::host::store::{DiskStore, OpenStoreError};
use crate::host::volumes::{OpenVolumeError, Owner, Volumes};

const GENESIS: BlockHash = BlockHash([9; 32]);

#[test]
fn a_sector_is_a_file_named_by_its_hash() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path(), &[1 << 20]);
    let (entry, bytes) = data(1, 16 << 10);
    store.put_sector(&entry, &bytes, b"outboard").unwrap();
    let path = store.volumes().path(&entry.root).unwrap();
    assert_eq!(path.file_name().unwrap().to_str().unwrap(), entry.root.to_string());
    let file = fs::read(&path).unwrap();
    assert_eq!(blake3::hash(&file).as_bytes(), &entry.root.0);
    assert_eq!(store.outboard(&entry.root), Ok(Some(b"outboard".to_vec())));
    assert_eq!(store.read_sector(&entry.root, 5, 10), Ok(Some(bytes[5..15].to_vec())));
    let temporary = fs::read_dir(folder.path().join("volume 0/tmp")).unwrap();
    assert_eq!(temporary.count(), 0);
    store.remove_sector(&entry.root).unwrap();
    assert!(!path.exists());
    assert_eq!(store.read_sector(&entry.root, 0, 10), Ok(None));
    assert_eq!(store.outboard(&entry.root), Ok(None));
}

#[test]
fn volumes_keep_their_limits_and_fill_the_emptiest_first() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path(), &[2_048, 4_096]);
    for number in 0..6 {
        let (entry, bytes) = data(number, 1_024);
        store.put_sector(&entry, &bytes, &[]).unwrap();
    }
    let (entry, bytes) = data(6, 1_024);
    let full = HostStoreError::Full { needed: 1_024, free: 0 };
    assert_eq!(store.put_sector(&entry, &bytes, &[]), Err(full));
    assert_eq!(store.stored().unwrap().len(), 6);
    let (present, bytes) = data(3, 1_024);
    store.put_sector(&present, &bytes, &[]).unwrap();
    store.remove_sector(&present.root).unwrap();
    assert_eq!(store.space(), Space { capacity: 6_144, free: 1_024 });
    drop(store);
    let store = open(folder.path(), &[2_048, 4_096]);
    assert_eq!(store.space(), Space { capacity: 6_144, free: 1_024 });
    assert_eq!(store.stored().unwrap().len(), 5);
}

#[test]
fn torn_files_and_leftovers_are_removed_at_the_start() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path(), &[1 << 20]);
    let (torn, bytes) = data(1, 1_024);
    let (whole, whole_bytes) = data(2, 1_024);
    store.put_sector(&torn, &bytes, &[]).unwrap();
    store.put_sector(&whole, &whole_bytes, &[]).unwrap();
    let path = store.volumes().path(&torn.root).unwrap();
    drop(store);
    fs::write(&path, &bytes[..1_000]).unwrap();
    let leftover = folder.path().join("volume 0/tmp/7");
    fs::write(&leftover, b"half a sector").unwrap();
    let store = open(folder.path(), &[1 << 20]);
    assert_eq!(store.stored(), Ok(vec![whole]));
    assert!(!path.exists() && !leftover.exists());
}

#[test]
fn a_foreign_a_missing_or_no_volume_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    drop(open(folder.path(), &[1 << 20]));
    let configs = volumes(folder.path(), &[1 << 20]);
    let other = Owner { host: secret(9).public(), store: [0; 16] };
    let other = Volumes::open(&configs, &other, &BTreeSet::new());
    assert!(matches!(other, Err(OpenVolumeError::Foreign { .. })), "{other:?}");
    fs::remove_dir_all(&configs[0].path).unwrap();
    let host = folder.path().join("host");
    let unmounted = DiskStore::open(&host, &configs, &secret(1).public());
    assert!(
        matches!(unmounted, Err(OpenStoreError::Volume(OpenVolumeError::Missing { .. }))),
        "{unmounted:?}"
    );
    let twice = [configs[0].clone(), configs[0].clone()];
    let twice = DiskStore::open(&host, &twice, &secret(1).public());
    assert!(
        matches!(twice, Err(OpenStoreError::Volume(OpenVolumeError::Twice { .. }))),
        "{twice:?}"
    );
    let none = DiskStore::open(&host, &[], &secret(1).public());
    assert!(matches!(none, Err(OpenStoreError::Volume(OpenVolumeError::None))), "{none:?}");
}

#[test]
fn sectors_without_the_rows_that_know_them_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    drop(open(folder.path(), &[1 << 20]));
    let (host, configs) = (folder.path().join("host"), volumes(folder.path(), &[1 << 20]));
    let file = host.join("host.redb");
    let refused = |what: &str| {
        let error = DiskStore::open(&host, &configs, &secret(1).public()).unwrap_err();
        let OpenStoreError::Lost { what: found, .. } = &error else { panic!("{error}") };
        assert_eq!(*found, what);
        assert!(error.to_string().contains("delete the file samara-volume"), "{error}");
    };
    let kept = fs::read(&file).unwrap();
    // Lost, and lost again after the first refusal has made an empty one.
    fs::remove_file(&file).unwrap();
    refused("new");
    refused("new");
    fs::write(&file, b"").unwrap();
    refused("new");
    // Another host folder's file, with the same key.
    let other = tempfile::tempdir().unwrap();
    drop(open(other.path(), &[1 << 20]));
    fs::copy(other.path().join("host/host.redb"), &file).unwrap();
    refused("another store");
    // The ways to go on.
    fs::write(&file, kept).unwrap();
    drop(open(folder.path(), &[1 << 20]));
    fs::remove_file(&file).unwrap();
    fs::remove_file(configs[0].path.join("samara-volume")).unwrap();
    drop(open(folder.path(), &[1 << 20]));
}

#[test]
fn a_newer_store_is_refused_and_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    drop(open(folder.path(), &[1 << 20]));
    let path = folder.path().join("host/host.redb");
    let meta: redb::TableDefinition<'_, &str, &[u8]> = redb::TableDefinition::new("meta");
    let database = redb::Database::create(&path).unwrap();
    let write = database.begin_write().unwrap();
    let newer = samara_protocol::encoding::encode(&2u32);
    write.open_table(meta).unwrap().insert("version", newer.as_slice()).unwrap();
    write.commit().unwrap();
    drop(database);
    let configs = volumes(folder.path(), &[1 << 20]);
    for _ in 0..2 {
        let refused = DiskStore::open(&folder.path().join("host"), &configs, &secret(1).public());
        assert!(matches!(refused, Err(OpenStoreError::Version { found: 2, .. })), "{refused:?}");
    }
}

/// A host whose rows are on a disk that can be made full.
fn on_faulty_disk(folder: &std::path::Path, disk: &FaultyDisk) -> DiskStore {
    let configs = volumes(folder, &[1 << 30]);
    let database = disk.database().unwrap();
    DiskStore::on(database, folder.join("host.redb"), &configs, &secret(1).public()).unwrap()
}

#[test]
fn a_full_disk_under_the_rows_is_a_typed_refusal_and_no_end() {
    let (folder, disk) = (tempfile::tempdir().unwrap(), FaultyDisk::default());
    let world = World::over(GENESIS, on_faulty_disk(folder.path(), &disk));
    let before = world.store(1, 64 << 10).unwrap();
    world.commit(vec![before]);
    disk.set_full(true);
    let refused: Vec<_> = (10..40).filter_map(|number| world.store(number, 1_024).err()).collect();
    let full = |refusal: &Refusal| matches!(refusal, Refusal::Full { needed: 1.., free: 0 });
    assert!(refused.first().is_some_and(full), "{:?}", refused.first());
    disk.set_full(false);
    let after = world.store(2, 1_024).unwrap();
    // What was acknowledged before and after is on the disk, whatever was refused between.
    let world = world.restart(|| on_faulty_disk(folder.path(), &disk));
    for (number, entry) in [(1, before), (2, after)] {
        let bytes = data(number, entry.size.bytes() as usize).1;
        assert_eq!(world.read(entry.root, entry.size.bytes()).unwrap(), bytes);
    }
    assert!(world.host.damaged_sectors().is_empty());
}

#[test]
fn a_full_disk_under_the_sectors_is_a_typed_refusal_and_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = open(folder.path(), &[1 << 20]);
    let (kept, bytes) = data(1, 1_024);
    store.put_sector(&kept, &bytes, &[]).unwrap();
    let free = store.space().free;
    store.volumes_mut().write_files_with(|_, path, data| {
        fs::write(path, &data[..data.len() / 2])?;
        Err(std::io::Error::from_raw_os_error(libc::ENOSPC))
    });
    let (refused, more) = data(2, 1_024);
    let full = store.put_sector(&refused, &more, &[]);
    assert!(matches!(full, Err(HostStoreError::Full { needed: 1_024, .. })), "{full:?}");
    assert_eq!(store.space().free, free);
    assert_eq!(store.stored(), Ok(vec![kept]));
    let temporary = fs::read_dir(folder.path().join("volume 0/tmp")).unwrap();
    assert_eq!(temporary.count(), 0);
    store.volumes_mut().write_files_with(|_, path, data| fs::write(path, data));
    store.put_sector(&refused, &more, &[]).unwrap();
    assert_eq!(store.read_sector(&refused.root, 0, 1_024), Ok(Some(more)));
}

#[test]
fn a_sector_whose_folder_is_not_synced_is_refused_and_counted() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = open(folder.path(), &[1 << 20]);
    let free = store.space().free;
    for code in [libc::EIO, libc::ENOSPC] {
        store.volumes_mut().sync_folders_with(match code {
            libc::EIO => |_| Err(std::io::Error::from_raw_os_error(libc::EIO)),
            _ => |_| Err(std::io::Error::from_raw_os_error(libc::ENOSPC)),
        });
        let (entry, bytes) = data(1, 1_024);
        store.put_sector(&entry, &bytes, &[]).unwrap_err();
        assert_eq!(store.space().free, free - 1_024);
    }
    drop(store);
    assert_eq!(open(folder.path(), &[1 << 20]).space().free, free - 1_024);
}

#[test]
fn acknowledged_sectors_are_there_after_a_restart() {
    let world = World::new(GENESIS);
    let committed = world.store(1, 64 << 10).unwrap();
    world.commit(vec![committed]);
    let waiting = world.store(2, 1_024).unwrap();
    let world = world.reopen();
    assert_eq!(world.read(committed.root, 64 << 10).unwrap(), data(1, 64 << 10).1);
    assert_eq!(world.read(waiting.root, 1_024).unwrap(), data(2, 1_024).1);
    assert!(world.host.damaged_sectors().is_empty());
}

#[test]
fn a_flipped_byte_is_damage_and_a_lost_outboard_is_not() {
    let world = World::new(GENESIS);
    let entry = world.store(1, 64 << 10).unwrap();
    world.commit(vec![entry]);
    world.host.store().put_sector(&entry, &data(1, 64 << 10).1, b"nonsense").unwrap();
    assert!(world.read(entry.root, 16 << 10).is_ok());
    let path = world.host.store().volumes().path(&entry.root).unwrap();
    let mut bytes = fs::read(&path).unwrap();
    bytes[20 << 10] ^= 1;
    fs::write(&path, &bytes).unwrap();
    assert_eq!(world.read(entry.root, 64 << 10), Err(Refusal::Damaged(entry.root)));
    let world = world.reopen();
    assert_eq!(world.host.damaged_sectors(), [entry.root]);
    assert_eq!(world.host.check_sector(&entry), Ok(false));
    world.store(1, 64 << 10).unwrap();
    assert!(world.read(entry.root, 64 << 10).is_ok());
    fs::remove_file(&path).unwrap();
    assert_eq!(world.read(entry.root, 64 << 10), Err(Refusal::Damaged(entry.root)));
}

#[test]
fn a_sector_lost_while_the_host_was_down_is_found_damaged() {
    let world = World::new(GENESIS);
    let entry = world.store(1, 1_024).unwrap();
    world.commit(vec![entry]);
    fs::remove_file(world.host.store().volumes().path(&entry.root).unwrap()).unwrap();
    let world = world.reopen();
    assert_eq!(world.host.damaged_sectors(), [entry.root]);
}

#[test]
fn parallel_stores_are_all_kept() {
    let world = World::new(GENESIS);
    let roots: Vec<_> = std::thread::scope(|scope| {
        let world = &world;
        // Every second sector is stored by two threads at once.
        let threads: Vec<_> = (0..8u64)
            .map(|thread| {
                scope.spawn(move || {
                    let number = |step| if step % 2 == 0 { step } else { 100 * thread + step };
                    let store = |step| world.store(number(step), 1_024).unwrap();
                    (0..12).map(store).collect::<Vec<_>>()
                })
            })
            .collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    });
    let world = world.reopen();
    for entry in &roots {
        assert!(world.read(entry.root, 1_024).is_ok());
    }
    let distinct: BTreeSet<_> = roots.iter().map(|entry| entry.root).collect();
    assert_eq!(distinct.len(), 8 * 6 + 6);
    assert_eq!(world.host.store().stored().unwrap().len(), distinct.len());
}

#[test]
fn rounds_are_shared_and_their_errors_go_to_all() {
    let group = Group::<u32, String>::new();
    let (rounds, items) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let failures = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..32)
            .map(|number| {
                let (group, rounds, items) = (&group, &rounds, &items);
                scope.spawn(move || {
                    group.join(number, "broken".into(), |batch| {
                        rounds.fetch_add(1, Ordering::Relaxed);
                        items.fetch_add(batch.len(), Ordering::Relaxed);
                        if batch.contains(&7) { Err(batch.len().to_string()) } else { Ok(()) }
                    })
                })
            })
            .collect();
        let results = threads.into_iter().map(|thread| thread.join().unwrap());
        results.filter_map(Result::err).collect::<Vec<_>>()
    });
    assert_eq!(items.into_inner(), 32);
    assert!(rounds.into_inner() <= 32);
    assert_eq!(failures.len().to_string(), failures[0], "one error for each of the round");
}

#[test]
fn settings_in_human_units_become_grains() {
    let config = HostConfig {
        storage_per_terabyte_month: "7.3".into(),
        upload_per_terabyte: "1".into(),
        maximum_duration_days: 2,
        ..HostConfig::default()
    };
    let prices = config.prices().unwrap();
    assert_eq!(prices.storage, Amount(10_000));
    assert_eq!(prices.upload, Amount(1_000_000));
    assert_eq!(prices.maximum_duration, Millis::hours(48));
    let wrong = HostConfig { request: "cheap".into(), ..HostConfig::default() };
    assert!(matches!(wrong.prices(), Err(HostConfigError::Amount { key: "request", .. })));
    let long = HostConfig { operator: "x".repeat(65), ..HostConfig::default() };
    assert_eq!(long.announcement(Vec::new()), Err(HostConfigError::Operator(65)));
    for (text, bytes) in [
        ("5", 5),
        ("2 TB", 2_000_000_000_000),
        ("3KiB", 3_072),
        ("1 B", 1),
        ("1.5 tb", 1_500_000_000_000),
        ("0.5G", 500_000_000),
    ] {
        assert_eq!(text.parse(), Ok(ByteCount(bytes)));
    }
    for text in ["", "TB", ".5 TB", "1. TB", "1.2.3 B", "1 XB", "-1", "99999999 TiB"] {
        assert!(text.parse::<ByteCount>().is_err(), "{text}");
    }
}

#[test]
fn a_configuration_reads_from_text() {
    let text = "operator = 'me'\n[[volumes]]\npath = '/srv/samara'\nlimit = '4 TB'\n";
    let config: HostConfig = toml::from_str(text).unwrap();
    assert_eq!(config.volumes[0].limit, ByteCount(4_000_000_000_000));
    assert_eq!(config.announcement(Vec::new()).unwrap().capacity, 4_000_000_000_000);
    assert_eq!(toml::from_str::<HostConfig>(&toml::to_string(&config).unwrap()).unwrap(), config);
    assert!(toml::from_str::<HostConfig>("prise = 1").is_err());
}
