//! Drills on a local network in this process.

use std::path::Path;

use serde_json::{Value, json};

use samara_protocol::units::Amount;
use samara_renter::backup::Trigger;

use super::{DrillReport, DrillRow, DrillScheduleRow, WORK};
use crate::api::client::Client;
use crate::testnet::{Layout, Network, Plan, Runner};

const RENTER: &str = "renter-0";

/// A network with a renter that has stored some files.
async fn network(root: &Path) -> (Network, Client) {
    let layout = Layout::create(&Plan::local(root.join("network"), 1, 3, 1)).unwrap();
    // What a crash leaves of a drill is removed at the next start.
    let left = layout.folder.join(RENTER).join(WORK);
    std::fs::create_dir(&left).unwrap();
    std::fs::write(left.join("file"), "secret").unwrap();
    let mut network = Network::new(layout, Runner::Tasks);
    network.start(|_| ()).await.unwrap();
    assert!(!left.exists());
    network.equip(RENTER, None).await.unwrap();
    let source = root.join("source");
    std::fs::create_dir_all(source.join("sub")).unwrap();
    for number in 0..10_u8 {
        let bytes = vec![number; 1 + 3_000 * usize::from(number)];
        std::fs::write(source.join("sub").join(number.to_string()), bytes).unwrap();
    }
    let client = network.client(RENTER).unwrap();
    put(&client, &source).await;
    (network, client)
}

async fn put(client: &Client, source: &Path) {
    let put = json!({ "source": source, "vault": "home", "target": "", "exclude": [], "checksum": false });
    let report: Value = client.run("/v1/put", &put, |_| ()).await.unwrap();
    assert_eq!(report["failed"], json!([]), "{report}");
}

async fn drill(client: &Client, options: Value) -> DrillReport {
    client.run("/v1/drills", &options, |_| ()).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drill_brings_everything_back_beside_the_node_that_runs() {
    let root = tempfile::tempdir().unwrap();
    let (mut network, client) = network(root.path()).await;
    let folder = network.place(RENTER).unwrap().folder;
    let made: Value = client.run("/v1/backups", &json!({ "name": "daily" }), |_| ()).await.unwrap();
    assert_eq!(made["name"], "daily");
    let before: Value = client.get("/v1/renter").await.unwrap();

    let report = drill(&client, json!({ "share": 1_000 })).await;
    assert!(report.row.passed, "{report:?}");
    // Ten files, their vault, the backup.
    assert_eq!((report.row.names_expected, report.row.names_found), (12, 12));
    assert_eq!((report.row.files, report.row.bytes), (10, 10 + 3_000 * 45));
    assert_eq!((report.contracts, report.hosts), (3, 3));
    assert!(report.row.cost <= report.row.price && report.row.cost.0 > 0, "{report:?}");
    assert!(report.phases.len() >= 4, "{:?}", report.phases);
    assert!(!folder.join(WORK).exists());
    let kept: DrillReport = client.get(&format!("/v1/drills/{}", report.row.id)).await.unwrap();
    assert_eq!(kept, report);

    // The renter that runs was not fenced, and goes on.
    let after: Value = client.get("/v1/renter").await.unwrap();
    assert_eq!((&after["state"], &after["epoch"]), (&json!("active"), &before["epoch"]));
    std::fs::write(root.path().join("source/more"), "more").unwrap();
    put(&client, &root.path().join("source")).await;

    // The smallest share is one file.
    let report = drill(&client, json!({ "share": 0 })).await;
    assert_eq!((report.row.passed, report.row.files), (true, 1), "{report:?}");

    // What costs too much is not begun, and that is told.
    let poor = drill(&client, json!({ "max_price": Amount(1) })).await;
    assert_eq!((poor.row.passed, poor.row.cost.0), (false, 0));
    assert_eq!(poor.row.problem.unwrap().code, "quote_exceeded");
    let rows: Vec<DrillRow> = client.get("/v1/drills").await.unwrap();
    let passed: Vec<bool> = rows.iter().map(|row| row.passed).collect();
    assert_eq!(passed, [false, true, true]);
    let error = client.get::<DrillReport>("/v1/drills/0000000000000").await.unwrap_err();
    assert_eq!(error.code, "no_drill");
    network.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drill_without_enough_hosts_fails_and_says_so() {
    let root = tempfile::tempdir().unwrap();
    let (mut network, client) = network(root.path()).await;
    let folder = network.place(RENTER).unwrap().folder;
    for host in ["host-0", "host-1", "host-2"] {
        network.stop_node(host).await.unwrap();
    }
    let report = drill(&client, json!({})).await;
    assert!(!report.row.passed);
    let problem = report.row.problem.unwrap();
    assert_eq!(problem.code, "no_host_answers", "{problem:?}");
    assert!(!folder.join(WORK).exists());

    let rows: Vec<DrillRow> = client.get("/v1/drills").await.unwrap();
    assert_eq!((rows.len(), rows[0].passed), (1, false));
    network.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_schedule_makes_drills_by_itself() {
    let root = tempfile::tempdir().unwrap();
    let (mut network, client) = network(root.path()).await;
    let none: DrillScheduleRow = client.get("/v1/drill-schedule").await.unwrap();
    assert_eq!((none.every, none.share, none.next), (0, 50, None));
    let daily = json!({ "every": 86_400, "share": 100 });
    let change = |body: Value| {
        let client = client.clone();
        async move { client.put::<_, DrillScheduleRow>("/v1/drill-schedule", &body).await.unwrap() }
    };
    let row = change(daily).await;
    assert_eq!((row.every, row.share, row.last), (86_400, 100, None));
    assert!(row.next.is_some());
    let never = change(json!({ "every": 0 })).await;
    assert_eq!((never.every, never.next), (0, None));
    let list = || client.get::<Vec<DrillRow>>("/v1/drills");
    assert_eq!(list().await.unwrap(), []);
    let often = json!({ "every": 1 });
    let refused = client.put::<_, DrillScheduleRow>("/v1/drill-schedule", &often).await;
    assert_eq!(refused.unwrap_err().code, "invalid");

    // Once the chain's time has come, the next look makes one.
    let due = change(json!({ "every": 2 })).await.next.unwrap();
    loop {
        let chain: Value = client.get("/v1/chain").await.unwrap();
        if chain["time"].as_u64().unwrap() >= due {
            break;
        }
        let _: Value = client.post("/v1/wallet/faucet", &json!({ "amount": "1" })).await.unwrap();
    }
    change(json!({ "every": 2, "share": 1_000 })).await;
    let rows = loop {
        let rows = list().await.unwrap();
        if !rows.is_empty() {
            break rows;
        }
    };
    assert_eq!((rows[0].trigger, rows[0].passed), (Trigger::Schedule, true), "{rows:?}");
    assert!(change(json!({ "every": 2 })).await.last.is_some());
    network.stop().await.unwrap();
}
