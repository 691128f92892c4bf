//! Download links: addresses under which whoever knows them gets an archive, without a login.
//!
//! An archive is a file of one node, and so is a link: `links/ID.json` in the data folder. `record` is a link
//! as it is kept and shown, `archives` what links ask of the node, `mail` makes those that go into mails.
//! [`Links`] owns them all.
//!
//! Invariants: the secret of a link is shown once, and only its hash is kept. A link works while its time (the
//! chain's) has not come, nobody has revoked it, and its archive is whole, not expired, and of a vault that
//! is there. That is asked each time that it is used, so a link ends with what it leads to; sweeping only
//! tidies up. It is durable before anybody is told of it, and removed durably when it is revoked.

mod archives;
mod error;
mod mail;
mod record;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};
use std::time::Duration;

pub use archives::{Archives, RenterArchives, Shareable};
pub use error::LinkError;
pub use record::{LinkId, LinkMade, LinkView, ParseLinkIdError};
use samara_protocol::journal::UserId;
use samara_protocol::sync::lock;
use samara_protocol::units::Millis;
use samara_renter::news::News;
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use zeroize::Zeroizing;

use self::mail::Mailed;
use self::record::{Record, digest, draw_secret};
use crate::config::PublicUrl;
use crate::data::{make_private_folder, write_private};
use crate::disk::{remove_if_there, sync_folder};
use crate::notify::settings::Secret;

/// Name of their folder in the data folder.
pub const FOLDER: &str = "links";
/// What stands between the node's address and the secret.
pub const PATH: &str = "/v1/download/";
/// Links that are kept.
pub const MOST: usize = 1_000;
/// Shortest and longest life of a link.
pub const SHORTEST: Millis = Millis::seconds(60);
/// See [`SHORTEST`].
pub const LONGEST: Millis = Millis::hours(24 * 365);
/// How long one lives if nothing is said.
pub const USUAL: Millis = Millis::hours(24 * 7);
/// Downloads by link at a time: those without a login leave most of the API's connections to the others.
pub const DOWNLOADS: usize = 64;
/// Longest file of a link that is read.
const LONGEST_FILE: u64 = 64 << 10;
/// How often ended links are swept without a reason.
const SWEEP: Duration = Duration::from_secs(60);

/// The links of a node. A cheap clone.
#[derive(Clone)]
pub struct Links(Arc<Inner>);

struct Inner {
    folder: PathBuf,
    archives: Arc<dyn Archives>,
    /// What their addresses begin with, if the operator says so.
    public: Option<PublicUrl>,
    /// Where the API listens, once it does.
    listens: OnceLock<SocketAddr>,
    links: Mutex<BTreeMap<LinkId, Kept>>,
    /// Those in mails that are not delivered yet.
    mailed: Mutex<Mailed>,
    downloads: Arc<Semaphore>,
}

/// A link, and whether it was ended although its file is still there.
struct Kept {
    record: Record,
    revoked: bool,
}

impl Links {
    /// Reads those that are kept.
    ///
    /// # Errors
    /// The system's.
    pub fn open(
        folder: PathBuf,
        archives: Arc<dyn Archives>,
        public: Option<PublicUrl>,
    ) -> std::io::Result<Self> {
        make_private_folder(&folder)?;
        let mut links = BTreeMap::new();
        for entry in std::fs::read_dir(&folder)? {
            let path = entry?.path();
            match path.extension().and_then(|ending| ending.to_str()) {
                // A write that was cut.
                Some("new") => std::fs::remove_file(path)?,
                Some("json") => match Record::read(&read_bounded(&path)?) {
                    Some(record) => {
                        links.insert(record.id, Kept { record, revoked: false });
                    }
                    None => {
                        tracing::warn!(path = %path.display(), "a link cannot be read: it does not work")
                    }
                },
                _ => {}
            }
        }
        Ok(Self(Arc::new(Inner {
            folder,
            archives,
            public,
            listens: OnceLock::new(),
            links: Mutex::new(links),
            mailed: Mutex::default(),
            downloads: Arc::new(Semaphore::new(DOWNLOADS)),
        })))
    }

    /// Says where the API listens: what links begin with where the operator has named no other address.
    pub fn served_at(&self, address: SocketAddr) {
        // Told once, at the start.
        let _ = self.0.listens.set(address);
    }

    /// Makes a link to an archive, by its id or name. Blocks on the disk.
    ///
    /// # Errors
    /// [`LinkError`].
    pub fn make(
        &self,
        name: &str,
        life: Millis,
        by: Option<UserId>,
    ) -> Result<LinkMade, LinkError> {
        self.make_for(name, life, by, false)
    }

    fn make_for(
        &self,
        name: &str,
        life: Millis,
        by: Option<UserId>,
        mailed: bool,
    ) -> Result<LinkMade, LinkError> {
        if life < SHORTEST || life > LONGEST {
            return Err(LinkError::Lifetime);
        }
        let base = self.base().ok_or(LinkError::NotServed)?;
        let archive = self.0.archives.shareable(name)?;
        self.sweep();
        let now = self.0.archives.now();
        let expires = archive.expires.map_or(now.plus(life), |time| time.min(now.plus(life)));
        let secret = draw_secret()?;
        let record = Record::new(archive.sid, (by, mailed), (now, expires), digest(&secret))?;
        let view = record.view();
        {
            let mut links = self.links();
            if links.len() >= MOST {
                return Err(LinkError::Full);
            }
            let text = serde_json::to_vec(&record).map_err(std::io::Error::other)?;
            write_private(&self.file(record.id), &text)?;
            links.insert(record.id, Kept { record, revoked: false });
        }
        tracing::info!(link = %view.id, backup = view.sid, mailed, "a download link was made");
        // Room made beforehand: a text that grows would leave copies behind.
        let mut url = Zeroizing::new(String::with_capacity(base.len() + PATH.len() + secret.len()));
        for part in [base.as_str(), PATH, &secret] {
            url.push_str(part);
        }
        Ok(LinkMade { view, url: Secret::new(url) })
    }

    /// The links that work, the newest first: all, or those to one archive.
    #[must_use]
    pub fn list(&self, sid: Option<&str>) -> Vec<LinkView> {
        let links = self.links();
        let wanted = |kept: &&Kept| sid.is_none_or(|sid| kept.record.sid == sid);
        let live = links.values().filter(wanted).filter(|kept| self.is_live(kept));
        let mut views: Vec<LinkView> = live.map(|kept| kept.record.view()).collect();
        views.sort_by_key(|view| std::cmp::Reverse((view.created, view.id)));
        views
    }

    /// The links to an archive, by its id or name. To what none can lead there are none.
    ///
    /// # Errors
    /// [`LinkError::Backup`] when there is no such backup.
    pub fn list_of(&self, name: &str) -> Result<Vec<LinkView>, LinkError> {
        match self.0.archives.shareable(name) {
            Ok(archive) => Ok(self.list(Some(&archive.sid))),
            Err(samara_renter::backup::BackupError::Unfit { .. }) => Ok(Vec::new()),
            Err(error) => Err(error.into()),
        }
    }

    /// Ends a link. From here on it does not work, even if its file cannot be removed. Blocks on the disk.
    ///
    /// # Errors
    /// [`LinkError::Unknown`]; [`LinkError::Disk`] when a restart might bring it back: try again.
    pub fn revoke(&self, id: LinkId) -> Result<(), LinkError> {
        let mut links = self.links();
        if !links.get(&id).is_some_and(|kept| kept.revoked || self.is_live(kept)) {
            return Err(LinkError::Unknown(id));
        }
        self.end(&mut links, id)?;
        tracing::info!(link = %id, "a download link was revoked");
        Ok(())
    }

    /// Id of the archive that a secret leads to, if its link works.
    #[must_use]
    pub fn find(&self, secret: &str) -> Option<String> {
        let wanted = digest(secret);
        let links = self.links();
        let found = links.values().find(|kept| kept.record.hash == wanted)?;
        self.is_live(found).then(|| found.record.sid.clone())
    }

    /// A place for one more download, if there is one.
    #[must_use]
    pub fn place(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.0.downloads).try_acquire_owned().ok()
    }

    /// Removes links that have ended. Blocks on the disk.
    pub fn sweep(&self) {
        if !self.0.archives.are_known() {
            return;
        }
        let mut links = self.links();
        let ended = links.values().filter(|kept| kept.revoked || self.has_ended(&kept.record));
        let mut ended: Vec<LinkId> = ended.map(|kept| kept.record.id).collect();
        ended.retain(|id| match self.cut(&mut links, *id) {
            Ok(()) => true,
            Err(error) => {
                tracing::warn!(link = %id, %error, "an ended link is not removed");
                false
            }
        });
        if ended.is_empty() {
            return;
        }
        // Once for all of them.
        if let Err(error) = sync_folder(&self.0.folder) {
            tracing::warn!(%error, "ended links may not be removed for good");
            return;
        }
        for id in ended {
            links.remove(&id);
            tracing::info!(link = %id, "a download link has ended");
        }
    }

    /// Sweeps when a backup goes, and now and then, for as long as the renter lives.
    pub async fn keep(self, mut news: Receiver<News>) {
        loop {
            let links = self.clone();
            let swept = tokio::task::spawn_blocking(move || links.sweep()).await;
            if let Some(panic) = swept.err().and_then(|error| error.try_into_panic().ok()) {
                std::panic::resume_unwind(panic);
            }
            let gone = async {
                loop {
                    match news.recv().await {
                        Ok(News::BackupDeleted { .. }) | Err(RecvError::Lagged(_)) => return true,
                        Ok(_) => {}
                        Err(RecvError::Closed) => return false,
                    }
                }
            };
            if let Ok(false) = tokio::time::timeout(SWEEP, gone).await {
                return;
            }
        }
    }

    fn links(&self) -> MutexGuard<'_, BTreeMap<LinkId, Kept>> {
        lock(&self.0.links)
    }

    fn file(&self, id: LinkId) -> PathBuf {
        self.0.folder.join(format!("{id}.json"))
    }

    fn base(&self) -> Option<String> {
        let own = || self.0.listens.get().map(|address| format!("http://{address}"));
        self.0.public.as_ref().map(|url| url.as_str().to_owned()).or_else(own)
    }

    fn is_live(&self, kept: &Kept) -> bool {
        let archives = &self.0.archives;
        !kept.revoked
            && archives.now() < kept.record.expires
            && archives.shareable(&kept.record.sid).is_ok()
    }

    /// Whether a link will not work again.
    fn has_ended(&self, record: &Record) -> bool {
        let archives = &self.0.archives;
        let gone = || archives.shareable(&record.sid).is_err_and(|e| archives::is_gone(&e));
        record.expires <= archives.now() || gone()
    }

    /// Ends a link at once, and removes its file.
    fn cut(&self, links: &mut BTreeMap<LinkId, Kept>, id: LinkId) -> std::io::Result<()> {
        if let Some(kept) = links.get_mut(&id) {
            kept.revoked = true;
        }
        remove_if_there(&self.file(id)).map(drop)
    }

    /// Ends a link at once, and for good when its file is gone.
    fn end(&self, links: &mut BTreeMap<LinkId, Kept>, id: LinkId) -> std::io::Result<()> {
        self.cut(links, id)?;
        sync_folder(&self.0.folder)?;
        links.remove(&id);
        Ok(())
    }
}

fn read_bounded(path: &Path) -> std::io::Result<Vec<u8>> {
    use std::io::Read as _;
    let mut bytes = Vec::new();
    std::fs::File::open(path)?.take(LONGEST_FILE).read_to_end(&mut bytes)?;
    Ok(bytes)
}
