//! Local networks in this process.

use samara_protocol::chain::Validator;
use serde_json::json;

use super::{Layout, Network, Plan, Runner};
use crate::api::{Included, SignedChange, ValidatorsAnswer};
use crate::config::NodeConfig;
use crate::daemon::validator_key;
use crate::validators::SetChange;

#[tokio::test(flavor = "multi_thread")]
async fn the_validator_set_is_changed_by_its_validators() {
    let folder = tempfile::tempdir().unwrap();
    let layout = Layout::create(&Plan::local(folder.path().join("network"), 1, 0, 0)).unwrap();
    let mut network = Network::new(layout, Runner::Tasks);
    network.start(|_| ()).await.unwrap();
    let place = network.place("validator-0").unwrap();
    network.fund("validator-0").await.unwrap();
    let client = network.client("validator-0").unwrap();
    let config = NodeConfig::read(&place.folder.join("samara.toml")).unwrap();
    let key = validator_key(&config, &place.folder, None).unwrap();

    let before: ValidatorsAnswer = client.get("/v1/chain/validators").await.unwrap();
    assert!(before.validators[0].own && before.validators[0].validator.key == key.public());
    let wanted = json!({ "validators": [Validator { key: key.public(), power: 5 }] });
    let propose = "/v1/chain/validators/propose";
    let document: SignedChange = client.post(propose, &wanted).await.unwrap();
    let submit = "/v1/chain/validators/submit";
    let error = client.post::<_, Included>(submit, &document).await.unwrap_err();
    assert_eq!(error.code, "refused");

    let mut change = SetChange::read(&document).unwrap();
    change.sign(&key).unwrap();
    let included: Included = client.post(submit, &change.document()).await.unwrap();
    let after: ValidatorsAnswer = client.get("/v1/chain/validators").await.unwrap();
    assert_eq!((before.power, after.power), (1, 5));
    // Handed in again it is the same transaction, and changes nothing more.
    let again: Included = client.post(submit, &change.document()).await.unwrap();
    assert_eq!(again.transaction, included.transaction);
    network.stop().await.unwrap();
}

#[test]
fn a_deleted_folder_hides_no_other_node() {
    let folder = tempfile::tempdir().unwrap();
    let layout = Layout::create(&Plan::local(folder.path().join("network"), 1, 11, 1)).unwrap();
    std::fs::remove_dir_all(layout.folder.join("host-0")).unwrap();
    std::fs::create_dir(layout.folder.join("host-01")).unwrap();
    let found = Layout::find(&layout.folder).unwrap();
    let numbers: Vec<usize> = found.of(super::Role::Host).map(|place| place.number).collect();
    assert_eq!(numbers, (1..11).collect::<Vec<_>>());
    assert_eq!(found.nodes.len(), 12);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_network_that_loses_a_node_goes_on_without_it() {
    let folder = tempfile::tempdir().unwrap();
    let layout = Layout::create(&Plan::local(folder.path().join("network"), 1, 1, 0)).unwrap();
    let path = layout.folder.clone();
    let mut network = Network::new(layout, Runner::Tasks);
    network.start(|_| ()).await.unwrap();
    let host = network.client("host-0").unwrap();
    host.post::<_, crate::api::Done>("/v1/shutdown", &crate::api::Done {}).await.unwrap();
    let death = network.next_death().await;
    assert_eq!((death.place.name().as_str(), network.running()), ("host-0", 1));
    assert!(death.in_order, "{}", death.said);
    let states = super::status(&path).await.unwrap();
    let shown: Vec<_> = states.iter().map(|report| (&*report.name, report.state)).collect();
    let expected =
        [("validator-0", super::NodeState::Running), ("host-0", super::NodeState::Stopped)];
    assert_eq!(shown, expected);
    network.stop().await.unwrap();
}
