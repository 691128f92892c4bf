//! The steps of the story, in order.

use std::path::{Path, PathBuf};
use std::time::Duration;

use samara_protocol::keys::Phrase;
use samara_renter::backup::{BackupPage, BackupRequest, BackupRow, RestoreReport, RestoreRequest};
use samara_renter::recovery::{RecoveryOptions, RecoveryPhase, RecoveryReport};
use samara_renter::rows::{ContractRow, RenterStatus};
use samara_renter::vault::{Conflict, ListRow, PutReport, PutRequest};
use serde_json::json;

use super::folder::{self, Comparison, Inventory};
use super::teller::{Teller, Told};
use super::{Script, validator};
use crate::api::client::Client;
use crate::cli::display;
use crate::cli::exit::Exit;
use crate::cli::failure::Failure;
use crate::seed::store;
use crate::testnet::{Network, Role};

/// The vault that the folder goes to.
const VAULT: &str = "home";
/// The backup that is made.
const BACKUP: &str = "before the loss";
/// The machine that is lost.
const LOST: &str = "renter-0";

/// How the story ends.
#[derive(Debug)]
pub struct Outcome {
    /// What came back, against what was there.
    pub comparison: Comparison,
    /// Bytes of the folder.
    pub bytes: u64,
    /// How long it was.
    pub took: Duration,
}

/// One telling.
pub struct Story<'a> {
    script: &'a Script,
    teller: &'a Teller,
    network: &'a mut Network,
    restored: PathBuf,
    /// Most memory of the renter that stored.
    peak_before: Option<u64>,
}

impl<'a> Story<'a> {
    /// A story on a network that has not started yet.
    pub fn new(
        script: &'a Script,
        teller: &'a Teller,
        network: &'a mut Network,
        folder: &Path,
    ) -> Self {
        Self { script, teller, network, restored: folder.join("restored"), peak_before: None }
    }

    /// Plays it through.
    pub async fn tell(mut self) -> Result<Outcome, Failure> {
        self.teller.say(
            "A folder is stored on many hosts, the machine it came from is lost,\n\
             and twelve words on an empty machine bring everything back.\n",
        );
        let original = self.look().await?;
        self.start_network().await?;
        self.store(&original).await?;
        self.back_up().await?;
        self.count_disks(&original);
        let words = self.lose_machine().await?;
        self.lose_hosts().await?;
        if self.script.kill_validator {
            validator::lose_and_return(self.teller, self.network).await?;
        }
        let client = self.start_empty(&words).await?;
        self.scan(&client).await?;
        self.list(&client).await?;
        self.restore(&client).await?;
        let comparison = self.compare(&original).await?;
        self.tell_memory();
        Ok(Outcome { comparison, bytes: original.bytes(), took: self.teller.elapsed() })
    }

    async fn look(&self) -> Result<Inventory, Failure> {
        let step = self.teller.begin("folder", "hashing every file");
        let (source, left_out) = (self.script.source.clone(), self.script.left_out.clone());
        let inventory = blocking(move || Inventory::read(&source, &left_out)).await?;
        if inventory.files.is_empty() {
            let message = format!("{} holds no files to store", self.script.source.display());
            return Err(Failure::new(Exit::Usage, message));
        }
        let (files, bytes) = (inventory.files.len() as u64, inventory.bytes());
        let text = format!(
            "{}, {} in {}",
            display::count(files, "file"),
            display::size(bytes),
            tail(&self.script.source)
        );
        let fields = json!({
            "path": self.script.source, "files": files, "bytes": bytes, "not_stored": inventory.other
        });
        self.teller.end(step, Told::new(text, fields).moving(bytes));
        Ok(inventory)
    }

    async fn start_network(&mut self) -> Result<(), Failure> {
        let step = self.teller.begin("network", "starting");
        self.network.start(|text| step.progress.say(text)).await?;
        let processes = self.network.layout().nodes.len();
        let text = format!(
            "{}, {}, 1 renter: {processes} processes",
            display::count(self.script.validators as u64, "validator"),
            display::count(self.script.hosts as u64, "host"),
        );
        let fields = json!({
            "validators": self.script.validators, "hosts": self.script.hosts, "processes": processes
        });
        self.teller.end(step, Told::new(text, fields));

        let step = self.teller.begin("contracts", "forming contracts");
        self.network.equip(LOST, Some(self.script.redundancy)).await?;
        let client = self.network.client(LOST)?;
        let contracts: Vec<ContractRow> = client.get("/v1/contracts").await?;
        let text = format!(
            "{}; any {} of {} hosts bring a file back",
            display::count(contracts.len() as u64, "contract"),
            self.script.redundancy.data,
            self.script.redundancy.total
        );
        let fields = json!({ "contracts": contracts.len(), "redundancy": self.script.redundancy.to_string() });
        self.teller.end(step, Told::new(text, fields));
        Ok(())
    }

    async fn store(&self, original: &Inventory) -> Result<(), Failure> {
        let mut step = self.teller.begin("store", "storing");
        let request = PutRequest {
            source: self.script.source.clone(),
            vault: VAULT.to_owned(),
            create_vault: true,
            target: String::new(),
            exclude: self.script.left_out.iter().map(|path| folder::pattern(path)).collect(),
            checksum: false,
        };
        let client = self.network.client(LOST)?;
        let report: PutReport =
            client.run("/v1/put", &request, |event| step.progress.take(event)).await?;
        if let Some(first) = report.failed.first() {
            let message = format!(
                "{} could not be stored; the first: {}: {}",
                display::count(report.failed.len() as u64, "file"),
                first.path,
                first.reason
            );
            return Err(Failure::new(Exit::Partial, message));
        }
        let text = format!(
            "{}, {} sealed and acknowledged",
            display::count(report.stored_files, "file"),
            display::size(report.stored_bytes)
        );
        let fields = json!({
            "files": report.stored_files,
            "bytes": report.stored_bytes,
            "skipped": report.skipped.len(),
            "peak_memory": self.peak_memory(LOST),
        });
        self.teller.end(step, Told::new(text, fields).moving(report.stored_bytes));
        if original.other > 0 {
            let count = display::count(original.other as u64, "link");
            let text = format!("{count} or other special entries are left out");
            self.teller.note("", &text, json!({ "left_out": original.other }));
        }
        Ok(())
    }

    async fn back_up(&self) -> Result<(), Failure> {
        let mut step = self.teller.begin("back up", "settling on hosts");
        let request = BackupRequest {
            name: BACKUP.to_owned(),
            description: "made by samara demo".to_owned(),
            ..BackupRequest::default()
        };
        let client = self.network.client(LOST)?;
        let row: BackupRow =
            client.run("/v1/backups", &request, |event| step.progress.take(event)).await?;
        let text = format!("'{}', on {} of {} hosts", row.name, row.hosts_ok, row.hosts_total);
        let fields = json!({
            "backup": row.name, "status": row.status,
            "hosts_ok": row.hosts_ok, "hosts_needed": row.hosts_needed, "hosts_total": row.hosts_total,
        });
        self.teller.end(step, Told::new(text, fields));
        Ok(())
    }

    /// What it costs: bytes on the hosts' disks against the folder's.
    fn count_disks(&self, original: &Inventory) {
        let places = self.network.layout().of(Role::Host);
        let stored: u64 = places.map(|place| folder::disk_usage(&place.sectors())).sum();
        let shape = self.script.redundancy;
        let ideal = f64::from(shape.total) / f64::from(shape.data);
        let factor = stored as f64 / original.bytes().max(1) as f64;
        let text = format!(
            "{} in sectors: {factor:.2} times the folder ({}/{} is {ideal:.2})",
            display::size(stored),
            shape.total,
            shape.data
        );
        self.teller.note(
            "disks",
            &text,
            json!({ "bytes": stored, "factor": factor, "ideal": ideal }),
        );
    }

    /// The renter is killed and its folder deleted. What stays is what a person has on paper.
    async fn lose_machine(&mut self) -> Result<Phrase, Failure> {
        let peak = self.peak_memory(LOST);
        let place = self.network.place(LOST)?;
        let words = store::load_plain(&place.words())
            .map_err(|error| Failure::of(Exit::Failure, &error))?;
        let step = self.teller.begin("lose", "killing the renter");
        self.network.kill(LOST).await?;
        remove(&place.folder)?;
        self.peak_before = peak;
        let text = "the renter is killed and its folder deleted".to_owned();
        self.teller.end(step, Told::new(text, json!({ "peak_memory": peak })));
        Ok(words)
    }

    /// The last hosts are killed, and their disks with them.
    async fn lose_hosts(&mut self) -> Result<(), Failure> {
        if self.script.kill_hosts == 0 {
            return Ok(());
        }
        let step = self.teller.begin("lose hosts", "killing hosts");
        let first = self.script.hosts - self.script.kill_hosts;
        let lost: Vec<_> = self.network.layout().of(Role::Host).skip(first).cloned().collect();
        for place in &lost {
            self.network.kill(&place.name()).await?;
        }
        for place in &lost {
            remove(&place.folder)?;
        }
        let text = format!(
            "{} killed, their folders deleted; {} left",
            display::count(lost.len() as u64, "host"),
            first
        );
        self.teller.end(step, Told::new(text, json!({ "killed": lost.len(), "left": first })));
        Ok(())
    }

    async fn start_empty(&mut self, words: &Phrase) -> Result<Client, Failure> {
        let step = self.teller.begin("start anew", "starting an empty node");
        let place = self.network.layout_mut().add_renter(words)?;
        let client = self.network.start_node(&place.name()).await?;
        let status: RenterStatus = client.get("/v1/renter").await?;
        let text = format!(
            "an empty node with the words: it knows {}",
            display::count(status.files, "file")
        );
        self.teller.end(step, Told::new(text, json!({ "files": status.files })));
        Ok(client)
    }

    async fn scan(&self, client: &Client) -> Result<(), Failure> {
        let mut step = self.teller.begin("scan", "scanning the chain");
        let report: RecoveryReport = client
            .run("/v1/recovery", &RecoveryOptions::default(), |event| step.progress.take(event))
            .await?;
        let text = format!(
            "{} checked, {} found, {} answered",
            display::count(report.blocks, "block"),
            display::count(report.contracts_found, "contract"),
            display::count(report.hosts_answered.len() as u64, "host"),
        );
        let fields = json!({
            "outcome": report.outcome,
            "blocks": report.blocks,
            "peers": report.peers,
            "contracts_found": report.contracts_found,
            "hosts_answered": report.hosts_answered.len(),
            "hosts_silent": report.hosts_silent.len(),
            "hosts_behind": report.hosts_behind.len(),
            "files": report.files,
        });
        self.teller.end(step, Told::new(text, fields));
        if report.outcome == RecoveryPhase::ReadOnly {
            self.tell_read_only(&report);
        }
        Ok(())
    }

    fn tell_read_only(&self, report: &RecoveryReport) {
        let text = format!(
            "{} are silent: it reads, and does not write",
            display::count(report.hosts_silent.len() as u64, "host")
        );
        self.teller.note("", &text, json!({ "may_be_missing": report.may_be_missing }));
    }

    async fn list(&self, client: &Client) -> Result<(), Failure> {
        let step = self.teller.begin("names", "listing");
        let route = format!("/v1/vaults/{VAULT}/files?recursive=true");
        let rows: Vec<ListRow> = client.get(&route).await?;
        let backups: BackupPage = client.get("/v1/backups").await?;
        let backups = backups.backups;
        let files = rows.iter().filter(|row| matches!(row, ListRow::File(_))).count();
        let text = format!(
            "{} and {} are listed again",
            display::count(files as u64, "file"),
            display::count(backups.len() as u64, "backup")
        );
        self.teller.end(step, Told::new(text, json!({ "files": files, "backups": backups.len() })));
        Ok(())
    }

    async fn restore(&self, client: &Client) -> Result<(), Failure> {
        let mut step = self.teller.begin("restore", "restoring");
        let request = RestoreRequest {
            backup: BACKUP.to_owned(),
            vault: Some(VAULT.to_owned()),
            path: String::new(),
            destination: Some(self.restored.clone()),
            into_vault: false,
            conflict: Conflict::Keep,
            dry_run: false,
        };
        let report: RestoreReport =
            client.run("/v1/restore", &request, |event| step.progress.take(event)).await?;
        let files = report.files;
        let peak = self.peak_after();
        let text = format!(
            "{}, {} fetched and verified",
            display::count(files.restored_files, "file"),
            display::size(files.restored_bytes)
        );
        let fields = json!({
            "files": files.restored_files,
            "bytes": files.restored_bytes,
            "failed": files.failed,
            "peak_memory": peak,
        });
        self.teller.end(step, Told::new(text, fields).moving(files.restored_bytes));
        if let Some(first) = files.failed.first() {
            let text = format!(
                "{} failed; the first: {}: {}",
                display::count(files.failed.len() as u64, "file"),
                first.path,
                first.reason
            );
            self.teller.note("", &text, json!({}));
        }
        Ok(())
    }

    async fn compare(&self, original: &Inventory) -> Result<Comparison, Failure> {
        let step = self.teller.begin("compare", "hashing what came back");
        let (expected, source, restored) =
            (original.clone(), self.script.source.clone(), self.restored.clone());
        let comparison = blocking(move || expected.compare(&source, &restored)).await?;
        let text = format!(
            "{} of {} equal to the original",
            display::thousands(comparison.equal),
            display::count(original.files.len() as u64, "file")
        );
        let fields = json!({ "equal": comparison.equal, "missing": comparison.missing.len() });
        self.teller.end(step, Told::new(text, fields).moving(original.bytes()));
        Ok(comparison)
    }

    fn tell_memory(&self) {
        let after = self.peak_after();
        if let (Some(before), Some(after)) = (self.peak_before, after) {
            let text = format!(
                "the renter held {} at most to store, {} to restore",
                display::size(before),
                display::size(after)
            );
            self.teller.note("memory", &text, json!({ "before": before, "after": after }));
        }
    }

    /// Most memory of the renter that restores.
    fn peak_after(&self) -> Option<u64> {
        let place = self.network.layout().of(Role::Renter).last()?;
        self.peak_memory(&place.name())
    }

    fn peak_memory(&self, name: &str) -> Option<u64> {
        self.network.pid(name).and_then(folder::peak_memory)
    }
}

fn remove(folder: &Path) -> Result<(), Failure> {
    std::fs::remove_dir_all(folder).map_err(|error| {
        Failure::new(Exit::Failure, format!("cannot delete {}: {error}", folder.display()))
    })
}

/// The last two parts of a path.
fn tail(path: &Path) -> String {
    let parts: Vec<_> = path.components().collect();
    if parts.len() <= 3 {
        return path.display().to_string();
    }
    let end: PathBuf = parts[parts.len() - 2..].iter().collect();
    format!("…/{}", end.display())
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> std::io::Result<T> + Send + 'static,
) -> Result<T, Failure> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|error| Failure::new(Exit::Failure, error.to_string()))?
        .map_err(|error| Failure::new(Exit::Failure, error.to_string()))
}
