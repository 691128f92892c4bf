//! Slabs to real hosts and back.

use std::sync::Arc;

use samara_protocol::sector::SectorSize;
use samara_protocol::slab::{Geometry, SlabBuffer};
use samara_protocol::units::{Amount, Millis};

use proptest::prelude::{ProptestConfig, any, prop_assert, proptest};

use super::buffers::largest_column;
use super::{
    DownloadError, Downloader, ExtentReader, Redundancy, SlabClass, TransferOptions, UploadError,
    Uploader,
};
use crate::contract::LineRates;
use crate::garbage::Leases;
use crate::testing::world::{Fault, TestNetwork, epoch};

const THREE_OF_SIX: Redundancy = Redundancy { data: 3, total: 6, margin: 1 };

fn options() -> TransferOptions {
    TransferOptions {
        maximum_column: SectorSize::new(64 << 10).unwrap(),
        frame: 16 << 10,
        ..TransferOptions::new(THREE_OF_SIX)
    }
}

fn plaintext(length: usize) -> Vec<u8> {
    (0..length).map(|index| (index * 31 + index / 251) as u8).collect()
}

fn transfer(network: &TestNetwork) -> (Uploader, Downloader) {
    let uploader = Uploader::new(network.book.clone(), options(), Leases::default());
    (uploader, Downloader::new(network.book.clone(), options()))
}

#[tokio::test(start_paused = true)]
async fn a_slab_comes_back_with_any_of_its_parity_hosts_dead() {
    let network = TestNetwork::new(6).await;
    let (uploader, _) = transfer(&network);
    let plain = plaintext(uploader.capacity(SlabClass::Data).unwrap() as usize);
    let stored = uploader.upload_slab(plain.clone(), SlabClass::Data).await.unwrap();
    assert_eq!(stored.settled.clone().wait().await.committed.len(), 6);
    for first in 0..6 {
        for second in first..6 {
            for third in second..6 {
                let dead = [first, second, third];
                network.set(0..6, Fault::None);
                network.set(dead, Fault::Dead);
                // No cache of a descriptor either.
                let downloader = Downloader::new(network.book.clone(), options());
                let length = plain.len() as u32;
                let whole = downloader.read(&stored.record, 0..length).await.unwrap();
                assert!(whole == plain, "dead: {dead:?}");
                let part = downloader.read(&stored.record, 70_000..70_500).await.unwrap();
                assert_eq!(part, plain[70_000..70_500], "dead: {dead:?}");
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_small_range_asks_exactly_one_host() {
    let network = TestNetwork::new(6).await;
    let (uploader, downloader) = transfer(&network);
    let plain = plaintext(100_000);
    let stored = uploader.upload_slab(plain.clone(), SlabClass::Data).await.unwrap();
    stored.settled.clone().wait().await;
    for range in [0..10, 40_000..40_016, 99_990..100_000] {
        let before: Vec<u64> = network.hosts.iter().map(|host| host.all_calls()).collect();
        let read = downloader.read(&stored.record, range.clone()).await.unwrap();
        assert_eq!(read, plain[range.start as usize..range.end as usize]);
        let asked = network.hosts.iter().zip(before).filter(|(host, b)| host.all_calls() > *b);
        assert_eq!(asked.count(), 1, "{range:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn flipped_bytes_are_noticed_reported_and_made_good() {
    let network = TestNetwork::new(6).await;
    let (uploader, downloader) = transfer(&network);
    let plain = plaintext(100_000);
    let stored = uploader.upload_slab(plain.clone(), SlabClass::Data).await.unwrap();
    stored.settled.clone().wait().await;
    let liars = [stored.record.hosts[0], stored.record.hosts[2]];
    network.set(liars.map(|index| usize::from(index.0)), Fault::Flips);
    let read = downloader.read(&stored.record, 0..100_000).await.unwrap();
    assert!(read == plain);
    for liar in liars {
        let host = network.book.host(liar).unwrap();
        assert!(network.book.reports().health(&host).false_answers > 0);
    }
    assert!(network.book.reports().incidents().iter().any(|i| i.what.contains("false answer")));
}

#[tokio::test(start_paused = true)]
async fn a_slow_host_is_hedged() {
    let network = TestNetwork::new(6).await;
    let (uploader, downloader) = transfer(&network);
    let plain = plaintext(100_000);
    let stored = uploader.upload_slab(plain.clone(), SlabClass::Data).await.unwrap();
    stored.settled.clone().wait().await;
    let slow = usize::from(stored.record.hosts[0].0);
    network.set([slow], Fault::Slow(1_000_000));
    let before = network.world.clock.now();
    let read = downloader.read(&stored.record, 0..100_000).await.unwrap();
    assert!(read == plain);
    assert_eq!(downloader.read(&stored.record, 5..6).await.unwrap(), plain[5..6]);
    assert!(network.world.clock.now() - before < 10_000);
}

#[tokio::test(start_paused = true)]
async fn fewer_than_k_hosts_are_named() {
    let network = TestNetwork::new(6).await;
    let (uploader, downloader) = transfer(&network);
    let stored = uploader.upload_slab(plaintext(50_000), SlabClass::Data).await.unwrap();
    stored.settled.clone().wait().await;
    downloader.slab_descriptor(&stored.record).await.unwrap();
    let dead: Vec<usize> = stored.record.hosts[..4].iter().map(|i| usize::from(i.0)).collect();
    network.set(dead, Fault::Dead);
    let error = downloader.read(&stored.record, 0..50_000).await.unwrap_err();
    assert!(
        matches!(&error, DownloadError::TooFewHosts { needed: 3, missing, .. } if missing.len() == 4),
        "{error}"
    );
    assert!(error.to_string().contains(&stored.record.id.to_string()));
}

#[tokio::test(start_paused = true)]
async fn a_dead_host_is_replaced_by_a_spare() {
    let network = TestNetwork::new(8).await;
    let (uploader, downloader) = transfer(&network);
    network.set([1, 4], Fault::Dead);
    let plain = plaintext(100_000);
    let stored = uploader.upload_slab(plain.clone(), SlabClass::Data).await.unwrap();
    let settled = stored.settled.clone().wait().await;
    assert_eq!(settled.committed.len(), 6);
    assert_eq!(settled.failed, []);
    assert!(downloader.read(&stored.record, 0..100_000).await.unwrap() == plain);
}

#[tokio::test(start_paused = true)]
async fn without_spares_a_slab_needs_its_margin_and_names_the_rest() {
    let network = TestNetwork::new(6).await;
    let (uploader, downloader) = transfer(&network);
    network.set([1, 4], Fault::Deaf);
    let plain = plaintext(100_000);
    let stored = uploader.upload_slab(plain.clone(), SlabClass::Data).await.unwrap();
    let settled = stored.settled.clone().wait().await;
    assert_eq!((settled.committed.len(), settled.failed.len()), (4, 2));
    assert!(downloader.read(&stored.record, 0..100_000).await.unwrap() == plain);
    network.set([2], Fault::Deaf);
    let error = uploader.upload_slab(plain, SlabClass::Data).await.unwrap_err();
    assert!(matches!(error, UploadError::TooFewHosts { reached: 3, needed: 4, .. }), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_slow_host_does_not_hold_an_acknowledgement_up() {
    let network = TestNetwork::new(6).await;
    let (uploader, downloader) = transfer(&network);
    network.set([3], Fault::Slow(5_000));
    let before = network.world.clock.now();
    let plain = plaintext(100_000);
    let stored = uploader.upload_slab(plain.clone(), SlabClass::Data).await.unwrap();
    assert!(network.world.clock.now() - before < 10_000);
    assert!(stored.settled.now().committed.len() >= 4);
    assert_eq!(stored.settled.clone().wait().await.committed.len(), 6);
    network.set([3], Fault::None);
    assert!(downloader.read(&stored.record, 0..100_000).await.unwrap() == plain);
}

#[tokio::test(start_paused = true)]
async fn a_host_that_never_answers_gives_the_budget_back() {
    let network = TestNetwork::new(6).await;
    let (uploader, _) = transfer(&network);
    let all = uploader.budget_left();
    network.set([3], Fault::Slow(1_000_000_000));
    let before = network.world.clock.now();
    let stored = uploader.upload_slab(plaintext(100_000), SlabClass::Data).await.unwrap();
    let settled = stored.settled.clone().wait().await;
    assert_eq!(settled.failed.iter().map(|index| index.0).collect::<Vec<_>>(), [3]);
    assert_eq!(settled.committed.len(), 5);
    assert_eq!(uploader.budget_left(), all);
    assert!(network.world.clock.now() - before < 60_000);
}

#[tokio::test(start_paused = true)]
async fn a_sector_damaged_on_disk_is_rebuilt() {
    let network = TestNetwork::new(6).await;
    let (uploader, downloader) = transfer(&network);
    let plain = plaintext(100_000);
    let stored = uploader.upload_slab(plain.clone(), SlabClass::Data).await.unwrap();
    stored.settled.clone().wait().await;
    let descriptor = downloader.slab_descriptor(&stored.record).await.unwrap();
    let host = usize::from(stored.record.hosts[1].0);
    assert!(network.hosts[host].disk.corrupt(&descriptor.shards[1].root, 17));
    assert!(downloader.read(&stored.record, 0..100_000).await.unwrap() == plain);
    let key = network.hosts[host].key.public();
    assert_eq!(network.book.reports().health(&key).refused, 1);
}

#[tokio::test(start_paused = true)]
async fn hosts_that_fail_to_commit_are_replaced_before_the_acknowledgement() {
    let network = TestNetwork::new(8).await;
    let (uploader, downloader) = transfer(&network);
    let plain = plaintext(100_000);
    network.set([0, 1, 2], Fault::DropsCommits(100));
    let stored = uploader.upload_slab(plain.clone(), SlabClass::Data).await.unwrap();
    let settled = stored.settled.clone().wait().await;
    assert!(settled.committed.len() >= 4, "{settled:?}");
    network.set(settled.failed.iter().map(|index| usize::from(index.0)), Fault::Dead);
    assert!(downloader.read(&stored.record, 0..100_000).await.unwrap() == plain);
}

#[tokio::test(start_paused = true)]
async fn lost_commit_answers_leave_every_sector_once() {
    let network = TestNetwork::new(6).await;
    let (uploader, downloader) = transfer(&network);
    network.set(0..6, Fault::LosesCommits(1));
    let plain = plaintext(100_000);
    let stored = uploader.upload_slab(plain.clone(), SlabClass::Data).await.unwrap();
    assert_eq!(stored.settled.clone().wait().await.committed.len(), 6);
    for contract in network.book.live() {
        assert_eq!(contract.revision().revision.number, 1);
    }
    assert!(downloader.read(&stored.record, 0..100_000).await.unwrap() == plain);
}

#[tokio::test(start_paused = true)]
async fn too_few_contracts_and_a_fence_stop_an_upload() {
    let network = TestNetwork::new(3).await;
    let (uploader, _) = transfer(&network);
    for class in [SlabClass::Data, SlabClass::Metadata] {
        let error = uploader.upload_slab(plaintext(10), class).await.unwrap_err();
        assert!(matches!(error, UploadError::TooFewContracts { live: 3, needed: 4, .. }));
    }
    let network = TestNetwork::new(6).await;
    let (uploader, _) = transfer(&network);
    // Hosts that lie about a promise have failed, however many they are. One true claim is proof.
    network.set(0..2, Fault::Fences);
    let stored = uploader.upload_slab(plaintext(10), SlabClass::Data).await.unwrap();
    assert_eq!(stored.settled.clone().wait().await.committed.len(), 4);
    assert_eq!(network.writer.fenced(), None);
    network.book.live()[3].promise(epoch(9)).await.unwrap();
    let error = uploader.upload_slab(plaintext(10), SlabClass::Data).await.unwrap_err();
    assert!(matches!(error, UploadError::Fenced { promised } if promised == epoch(9)), "{error}");
}

#[tokio::test(start_paused = true)]
async fn contracts_without_money_are_passed_over() {
    let network = TestNetwork::empty(7).await;
    for index in 0..7 {
        let funds = if index == 5 { Amount(10) } else { Amount(1_000_000_000_000) };
        network.form(index, funds).await;
    }
    let (uploader, downloader) = transfer(&network);
    let plain = plaintext(30_000);
    for _ in 0..4 {
        let stored = uploader.upload_slab(plain.clone(), SlabClass::Data).await.unwrap();
        assert_eq!(stored.settled.clone().wait().await.committed.len(), 6);
        assert!(downloader.read(&stored.record, 0..30_000).await.unwrap() == plain);
    }
    assert_eq!(network.hosts[5].calls("store"), 0);
}

#[tokio::test(start_paused = true)]
async fn metadata_survives_more_losses_and_small_slabs_have_small_columns() {
    let network = TestNetwork::new(6).await;
    let (uploader, downloader) = transfer(&network);
    let plain = plaintext(1_000);
    let stored = uploader.upload_slab(plain.clone(), SlabClass::Metadata).await.unwrap();
    stored.settled.clone().wait().await;
    assert_eq!((stored.record.data, stored.record.hosts.len()), (1, 6));
    assert_eq!((stored.record.column, stored.record.frame), (14, 14));
    network.set(0..5, Fault::Dead);
    assert_eq!(downloader.read(&stored.record, 0..1_000).await.unwrap(), plain);
}

#[tokio::test(start_paused = true)]
async fn parallel_uploads_share_revisions_and_come_back() {
    let network = TestNetwork::new(6).await;
    let (uploader, downloader) = transfer(&network);
    let plains: Vec<Vec<u8>> = (1..12).map(|number| plaintext(number * 5_000)).collect();
    let uploads = plains.iter().map(|plain| uploader.upload_slab(plain.clone(), SlabClass::Data));
    for (stored, plain) in futures::future::join_all(uploads).await.into_iter().zip(&plains) {
        let record = stored.unwrap().record;
        let length = plain.len() as u32;
        assert!(downloader.read(&record, 0..length).await.unwrap() == *plain);
    }
}

#[tokio::test(start_paused = true)]
async fn a_pipeline_packs_streams_and_stays_within_its_budget() {
    let network = TestNetwork::new(6).await;
    let options = options();
    let column = SectorSize::new(64 << 10).unwrap();
    let geometry = Geometry::new(3, 6, column, options.frame).unwrap();
    let slab = (SlabBuffer::memory_for(&geometry) as u64).next_multiple_of(4 << 10);
    let uploader = Uploader::new(network.book.clone(), options, Leases::default());
    let downloader = Downloader::new(network.book.clone(), options);
    network.set(0..6, Fault::Slow(50));
    let plain = plaintext(uploader.capacity(SlabClass::Data).unwrap() as usize * 5 / 2);
    let fill = async {
        let mut pipeline = uploader.pipeline(SlabClass::Data);
        let mut pieces = Vec::new();
        for part in plain.chunks(7_777) {
            pieces.extend(pipeline.write(part).await.unwrap());
        }
        (pipeline.finish().await.unwrap(), pieces)
    };
    let all = uploader.budget_left();
    let mut least = all;
    let watch = async {
        loop {
            network.world.clock.sleep(Millis(10)).await;
            least = least.min(uploader.budget_left());
        }
    };
    let (packed, pieces) = tokio::select! {
        biased;
        filled = fill => filled,
        () = watch => unreachable!(),
    };
    assert_eq!(packed.slabs.len(), 3);
    assert_eq!(least, all - 2 * slab, "two slabs are in flight, never three");
    for stored in &packed.slabs {
        stored.settled.clone().wait().await;
    }
    assert_eq!(uploader.budget_left(), all);

    let ranges = pieces.iter().map(|piece| packed.range(piece)).collect();
    let mut stream = ExtentReader::new(downloader.clone(), ranges);
    let mut read = Vec::new();
    while let Some(bytes) = stream.next().await.unwrap() {
        read.extend_from_slice(&bytes);
    }
    assert!(read == plain);
}

#[tokio::test(start_paused = true)]
async fn slabs_of_any_shape_fit_into_the_budget() {
    let network = TestNetwork::new(1).await;
    for (data, total) in [(1, 2), (10, 30), (29, 30), (1, 255), (128, 255), (254, 255)] {
        let redundancy = Redundancy { data, total, margin: 1 };
        let options = TransferOptions::new(redundancy);
        let column = u64::from(largest_column(&options, redundancy).bytes());
        let (data, total) = (u64::from(data), u64::from(total));
        assert!(2 * (data + total) * column <= options.upload_budget, "{data} of {total}");
        assert!(column == 4 << 20 || 16 * total * column > options.upload_budget);
        let uploader = Uploader::new(network.book.clone(), options, Leases::default());
        assert_eq!(uploader.budget_left(), options.upload_budget);
    }
}

/// A budget that is too small for two files at once: each gets its bytes through all the same.
#[tokio::test(start_paused = true)]
async fn pipelines_that_wait_for_each_others_plaintext_send_what_they_have() {
    let network = TestNetwork::new(2).await;
    let redundancy = Redundancy { data: 1, total: 2, margin: 0 };
    let options = TransferOptions { upload_budget: 16 << 20, ..TransferOptions::new(redundancy) };
    let uploader = Uploader::new(network.book.clone(), options, Leases::default());
    let all = uploader.budget_left();
    assert_eq!(uploader.capacity(SlabClass::Data).unwrap() >> 20, 1);
    let plain = plaintext(5 << 20);
    let mut idle = Vec::new();
    for _ in 0..6 {
        // Somebody who sends a part and then nothing for a long time.
        let mut pipeline = uploader.pipeline(SlabClass::Data);
        pipeline.write(&plain[..3 << 19]).await.unwrap();
        idle.push(pipeline);
    }
    let mut pipeline = uploader.pipeline(SlabClass::Data);
    let pieces = pipeline.write(&plain).await.unwrap();
    let packed = pipeline.finish().await.unwrap();
    let downloader = Downloader::new(network.book.clone(), options);
    let ranges = pieces.iter().map(|piece| packed.range(piece)).collect();
    let mut stream = ExtentReader::new(downloader, ranges);
    let mut read = Vec::new();
    while let Some(bytes) = stream.next().await.unwrap() {
        read.extend_from_slice(&bytes);
    }
    assert!(read == plain);
    drop(idle);
    for stored in &packed.slabs {
        stored.settled.clone().wait().await;
    }
    rest(&network).await;
    assert_eq!(uploader.budget_left(), all);
}

/// Lets every task run that can.
async fn rest(network: &TestNetwork) {
    network.world.clock.sleep(Millis(1)).await;
}

#[tokio::test(start_paused = true)]
async fn a_dropped_put_stops_its_requests_and_gives_its_memory_back() {
    let network = TestNetwork::new(6).await;
    let (uploader, _) = transfer(&network);
    let all = uploader.budget_left();
    let plain = plaintext(uploader.capacity(SlabClass::Data).unwrap() as usize * 7 / 2);
    // Acknowledged slabs whose last sector is late, slabs on their way, and one that fills.
    for faults in [vec![0], (0..6).collect()] {
        network.set(0..6, Fault::None);
        network.set(faults, Fault::Slow(1_000_000));
        let mut pipeline = uploader.pipeline(SlabClass::Data);
        let write = async {
            pipeline.write(&plain).await.unwrap();
        };
        tokio::select! {
            biased;
            () = write => {}
            () = network.world.clock.sleep(Millis(5_000)) => {}
        }
        assert!(uploader.budget_left() < all);
        drop(pipeline);
        rest(&network).await;
        assert_eq!(uploader.budget_left(), all);
    }
    let calls: u64 = network.hosts.iter().map(|host| host.all_calls()).sum();
    network.world.clock.sleep(Millis::hours(1)).await;
    let later: u64 = network.hosts.iter().map(|host| host.all_calls()).sum();
    assert_eq!(calls, later, "nobody is called any more");
}

#[tokio::test(start_paused = true)]
async fn a_dropped_download_stops_its_requests_and_gives_its_memory_back() {
    let network = TestNetwork::new(6).await;
    let (uploader, downloader) = transfer(&network);
    let length = uploader.capacity(SlabClass::Data).unwrap();
    let plain = plaintext(length as usize);
    let stored = uploader.upload_slab(plain.clone(), SlabClass::Data).await.unwrap();
    stored.settled.clone().wait().await;
    let range = super::SlabRange { record: Arc::new(stored.record), offset: 0, length };
    let ranges = || vec![range.clone(), range.clone(), range.clone()];
    let all = downloader.budget_left();
    // One that nobody reads from goes on holding what it asked for, and others go on reading.
    let mut paused = ExtentReader::new(downloader.clone(), ranges());
    let first = paused.next().await.unwrap().unwrap();
    assert!(first == plain[..first.len()]);
    assert!(downloader.budget_left() < all);
    let mut other = ExtentReader::new(downloader.clone(), ranges());
    let mut read = 0;
    while let Some(bytes) = other.next().await.unwrap() {
        read += bytes.len();
    }
    assert_eq!(read, 3 * plain.len());
    drop(paused);
    network.set(0..6, Fault::Slow(1_000_000));
    let mut late = ExtentReader::new(downloader.clone(), ranges());
    tokio::select! {
        biased;
        _ = late.next() => unreachable!(),
        () = network.world.clock.sleep(Millis(100)) => {}
    }
    drop(late);
    rest(&network).await;
    assert_eq!(downloader.budget_left(), all);
    let calls: u64 = network.hosts.iter().map(|host| host.all_calls()).sum();
    network.world.clock.sleep(Millis::hours(1)).await;
    assert_eq!(calls, network.hosts.iter().map(|host| host.all_calls()).sum::<u64>());
}

#[tokio::test(start_paused = true)]
async fn streams_without_room_in_the_budget_go_on_in_small_pieces() {
    let network = TestNetwork::new(6).await;
    let (uploader, _) = transfer(&network);
    let downloader = Downloader::new(
        network.book.clone(),
        TransferOptions { download_budget: 4 << 10, ..options() },
    );
    let length = uploader.capacity(SlabClass::Data).unwrap();
    let plain = plaintext(length as usize);
    let stored = uploader.upload_slab(plain.clone(), SlabClass::Data).await.unwrap();
    let range = super::SlabRange { record: Arc::new(stored.record), offset: 0, length };
    let mut stream = ExtentReader::new(downloader.clone(), vec![range]);
    let mut read = Vec::new();
    while let Some(bytes) = stream.next().await.unwrap() {
        read.extend_from_slice(&bytes);
    }
    assert!(read == plain);
}

/// Many small reads whose hosts are dead take k times their bytes: they take turns.
#[tokio::test(start_paused = true)]
async fn rebuilding_takes_turns_within_its_budget() {
    let network = TestNetwork::new(6).await;
    let (uploader, _) = transfer(&network);
    // Room for one cell of 16 KiB with k = 3.
    let options = TransferOptions { rebuild_budget: 9 * (16 << 10), ..options() };
    let downloader = Downloader::new(network.book.clone(), options);
    let all = downloader.budget_left();
    let length = uploader.capacity(SlabClass::Data).unwrap();
    let plain = plaintext(length as usize);
    let stored = uploader.upload_slab(plain.clone(), SlabClass::Data).await.unwrap();
    stored.settled.clone().wait().await;
    network.set(stored.record.hosts[..2].iter().map(|i| usize::from(i.0)), Fault::Dead);
    network.set([usize::from(stored.record.hosts[2].0)], Fault::Slow(1_000_000));
    let record = Arc::new(stored.record);
    let reads = (0..40u32).map(|part| {
        let offset = part * (length / 40);
        let range = super::SlabRange { record: record.clone(), offset, length: 4_000 };
        let mut stream = ExtentReader::new(downloader.clone(), vec![range]);
        let plain = &plain;
        async move {
            let mut read = Vec::new();
            while let Some(bytes) = stream.next().await.unwrap() {
                read.extend_from_slice(&bytes);
            }
            assert!(read == plain[offset as usize..offset as usize + 4_000], "part {part}");
        }
    });
    // One that stops reading does not keep the others from being rebuilt.
    let whole = super::SlabRange { record: record.clone(), offset: 0, length };
    let mut stopped = ExtentReader::new(downloader.clone(), vec![whole.clone(), whole]);
    stopped.next().await.unwrap().unwrap();
    futures::future::join_all(reads).await;
    drop(stopped);
    rest(&network).await;
    assert_eq!(downloader.budget_left(), all);
}

#[tokio::test(start_paused = true)]
async fn whole_sectors_are_rebuilt_for_repair() {
    let network = TestNetwork::new(6).await;
    let (uploader, downloader) = transfer(&network);
    let stored = uploader.upload_slab(plaintext(100_000), SlabClass::Data).await.unwrap();
    stored.settled.clone().wait().await;
    let descriptor = downloader.slab_descriptor(&stored.record).await.unwrap();
    let lost = [0u8, 5];
    let dead = lost.map(|shard| usize::from(stored.record.hosts[usize::from(shard)].0));
    network.set(dead, Fault::Dead);
    let sectors = downloader.sectors(&stored.record, &lost).await.unwrap();
    for (shard, bytes) in lost.iter().zip(sectors) {
        let root = samara_protocol::sector::root(&bytes);
        assert_eq!(root, descriptor.shards[usize::from(*shard)].root);
    }
}

#[tokio::test(start_paused = true)]
async fn a_stream_ends_with_the_error_that_stopped_it() {
    let network = TestNetwork::new(6).await;
    let (uploader, downloader) = transfer(&network);
    let stored = uploader.upload_slab(plaintext(50_000), SlabClass::Data).await.unwrap();
    stored.settled.clone().wait().await;
    network.set(0..6, Fault::Dead);
    let record = Arc::new(stored.record);
    let mut stream = ExtentReader::new(
        downloader.clone(),
        vec![super::SlabRange { record, offset: 0, length: 50_000 }],
    );
    assert!(stream.next().await.is_err());
    assert!(stream.next().await.unwrap().is_none());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn any_range_comes_back_whatever_n_minus_k_hosts_do(
        data in 1u8..5,
        parity in 1u8..4,
        length in 1usize..300_000,
        from in 0.0f64..1.0,
        part in 0.0f64..=1.0,
        first in any::<u8>(),
        fault in 0usize..3,
    ) {
        let total = data + parity;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .unwrap();
        let outcome: Result<(), proptest::test_runner::TestCaseError> = runtime.block_on(async {
            let network = TestNetwork::new(total).await;
            let redundancy = Redundancy { data, total, margin: parity };
            let options = TransferOptions { redundancy, ..options() };
            let uploader = Uploader::new(network.book.clone(), options, Leases::default());
            let downloader = Downloader::new(network.book.clone(), options);
            let length = length.min(uploader.capacity(SlabClass::Data).unwrap() as usize);
            let plain = plaintext(length);
            let stored = uploader.upload_slab(plain.clone(), SlabClass::Data).await.unwrap();
            let fault = [Fault::Dead, Fault::Flips, Fault::Slow(1_000_000)][fault];
            let faulty = (0..parity).map(|i| usize::from(first.wrapping_add(i) % total));
            network.set(faulty.collect::<std::collections::BTreeSet<_>>(), fault);
            let start = ((length as f64 * from) as usize).min(length - 1);
            let end = start + 1 + ((length - start - 1) as f64 * part) as usize;
            let range = start as u32..end as u32;
            let read = downloader.read(&stored.record, range).await.unwrap();
            prop_assert!(read == plain[start..end], "{start}..{end} of {length}");
            Ok(())
        });
        outcome?;
    }
}

#[tokio::test(start_paused = true)]
async fn the_line_is_shared_and_waiting_for_it_is_no_fault_of_hosts() {
    let network = TestNetwork::new(6).await;
    let (uploader, downloader) = transfer(&network);
    let clock = network.world.clock.clone();
    let plain = plaintext(uploader.capacity(SlabClass::Data).unwrap() as usize);
    // A sector takes longer than the patience with slow hosts.
    let sector = 64 << 10;
    network.book.line().set(LineRates { upload: sector / 20, download: sector / 10 });
    let started = clock.now();
    let uploads = (0..2).map(|_| uploader.upload_slab(plain.clone(), SlabClass::Data));
    let uploads = futures::future::join_all(uploads);
    // Names go at once, and are made up for.
    let name = async {
        clock.sleep(Millis(1)).await;
        uploader.upload_slab(plaintext(100), SlabClass::Metadata).await.unwrap();
        clock.now() - started
    };
    let (stored, named) = futures::future::join(uploads, name).await;
    assert!(named < 1_000, "{named}");
    let mut slabs = Vec::new();
    for stored in stored {
        let stored = stored.unwrap();
        let settled = stored.settled.clone().wait().await;
        assert_eq!((settled.committed.len(), settled.failed.len()), (6, 0));
        slabs.push(stored.record);
    }
    // The first of twelve sectors goes at once.
    let passed = clock.now() - started;
    assert!((11 * 20_000..14 * 20_000).contains(&passed), "{passed}");
    let calls = |kind: &'static str| -> u64 { network.hosts.iter().map(|h| h.calls(kind)).sum() };
    let reads = calls("read");
    let started = clock.now();
    let whole = downloader.read(&slabs[0], 0..plain.len() as u32).await.unwrap();
    assert!(whole == plain);
    let passed = clock.now() - started;
    assert!((2 * 10_000 - 100..3 * 10_000).contains(&passed), "{passed}");
    // Nobody was asked in the place of one who had to wait.
    assert_eq!(calls("read") - reads, 3);
    // The heads do not wait.
    network.book.line().set(LineRates { upload: 1, download: 1 });
    let started = clock.now();
    for contract in network.book.live() {
        contract.head().await.unwrap();
    }
    assert_eq!(clock.now(), started);
}
