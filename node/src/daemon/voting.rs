//! When a validator may vote.
//!
//! The engine's log is the only guard against voting twice at one height. It has a name, drawn at the
//! first vote and kept in two places: beside the log (`consensus/log-id`) and in the chain's store. A
//! validator votes at once only
//!
//! - with the log that its chain names, sound and of the height that the chain decides, or
//! - with a key that never voted: the file `new-validator`, written where words are drawn, says so, or
//! - in a network without any block, as enough of the other chain nodes tell.
//!
//! Every other one has lost what it signed: the log, the chain or both. It follows as a full node until
//! the chain is [`MARGIN`] blocks past the tip that enough other nodes told after it started. It may have
//! voted at most one height above what any signer of the last block it knew has decided.
//!
//! ```text
//! log named by the chain? --yes--------------------------------------------> votes
//!    | no                                                                      ^
//! key is new? --yes----------------------------------------------------------->|
//!    | no                                                                      |
//! ask the others --too few answer--> follows, asks again, says so              |
//!    | enough answer    ^______________|                                       |
//!    |--none has a block, none of ours is known------------------------------->|
//!    '--tip T----------> follows until own tip is T + 2 ---------------------->|
//! ```
//!
//! "Enough" is more than half of the other chain nodes in the network file: more than a third of the
//! others' votes wherever that file lists the validators, with room for a few that lie.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use samara_protocol::chain::query::{ChainRequest, ChainResponse};
use samara_protocol::signature::PublicKey;
use samara_protocol::units::Height;

use crate::chain::{Chain, StoreError, VoteLog};
use crate::consensus::{check_log, log_path, put_log_aside};
use crate::data::write_private;
use crate::disk::{folder_of, make_folder, remove_if_there, sync_folder};
use crate::light::ChainPeer;

/// Blocks past the told tip after which a validator without its log votes.
pub(super) const MARGIN: u64 = 2;
/// How long a chain peer may take to tell its tip.
const TELL: Duration = Duration::from_secs(5);
/// Time between two rounds of questions while too few answer.
const ASK_AGAIN: Duration = Duration::from_secs(3);
/// Version of the file that names the log.
const VERSION: u32 = 1;

/// Why it cannot be told whether the validator may vote.
#[derive(Debug, thiserror::Error)]
pub enum VotingError {
    /// The file that names the log, or the marker.
    #[error("cannot {action} {path}", path = .path.display())]
    File {
        /// What was attempted.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// The system's word.
        source: io::Error,
    },
    /// Written by a newer release.
    #[error("{path} has version '{found}', this release knows {VERSION}: use a newer samara", path = .path.display())]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its version.
        found: String,
    },
    /// The chain's store.
    #[error("cannot read who votes")]
    Store(#[from] StoreError),
    /// No name for a log can be drawn.
    #[error("the system gives no random bytes: {0}")]
    Random(getrandom::Error),
}

/// What is known about the votes of this node's key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    /// Its log is here.
    Kept,
    /// It never voted.
    New,
    /// Nothing tells that it ever voted, and nothing that it did not.
    Unknown,
    /// It voted, and the log is gone.
    Lost,
}

/// Whether to vote.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Admission {
    /// At once.
    Now,
    /// When the chain has this height.
    At(Height),
    /// Not known: too few of the other chain nodes answered.
    Unheard {
        /// Those that did.
        answered: usize,
        /// Those that must.
        needed: usize,
    },
}

/// The guard of one validator key.
pub(super) struct Voting {
    chain: Arc<Chain>,
    key: PublicKey,
    /// The engine's folder.
    consensus: PathBuf,
    /// The file that says that the key is new.
    marker: PathBuf,
    standing: Standing,
    /// Its own chain tells that it votes with it, and so is no copy of another node's.
    voted_here: bool,
    /// The only validator of the set: nobody else makes blocks that it could wait for.
    alone: bool,
}

impl Voting {
    /// Finds out what is known about the key's votes.
    ///
    /// # Errors
    /// [`VotingError`].
    pub(super) fn open(
        chain: Arc<Chain>,
        key: PublicKey,
        consensus: PathBuf,
        marker: PathBuf,
    ) -> Result<Self, VotingError> {
        let named = chain.vote_log(&key)?;
        let log = log_is_sound(&consensus, chain.height())?;
        let kept = log_name(&consensus)?.filter(|_| log.is_some());
        let standing = match (named, kept) {
            // Whatever else says that the key is new, it has made a log.
            _ if log == Some(false) => Standing::Lost,
            (Some(named), Some(kept)) if named == kept => Standing::Kept,
            // The log is made before the first vote, so the marker is right as long as there is none.
            (_, None) if marker.exists() => Standing::New,
            (None, None) => Standing::Unknown,
            _ => Standing::Lost,
        };
        if standing == Standing::Lost {
            forget(&consensus, &marker, log == Some(false))?;
        }
        let validators = chain.next_validators()?;
        let alone = validators.as_slice().iter().all(|validator| validator.key == key);
        let voted_here = named.is_some();
        Ok(Self { chain, key, consensus, marker, standing, voted_here, alone })
    }

    /// Decides, with the word of the other chain nodes if it is needed.
    pub(super) async fn admission(&self, others: &[Arc<dyn ChainPeer>]) -> Admission {
        match self.standing {
            Standing::Kept | Standing::New => return Admission::Now,
            // Its own chain is the longest there is: it made every block, and proposes again what it
            // proposed.
            Standing::Lost if self.alone && self.voted_here => {
                return Admission::Now;
            }
            Standing::Unknown | Standing::Lost => {}
        }
        let told = join_all(others.iter().map(|peer| told_tip(peer.as_ref()))).await;
        let told: Vec<Option<Height>> = told.into_iter().flatten().collect();
        let view = View {
            unknown: self.standing == Standing::Unknown,
            alone: self.alone,
            own: self.chain.height(),
        };
        view.conclude(&told, others.len())
    }

    /// Waits until the key may vote, asking as often as need be. `first` is the first answer.
    pub(super) async fn wait(&self, first: Admission, others: &[Arc<dyn ChainPeer>]) {
        let mut admission = first;
        let mut said = None;
        loop {
            match admission {
                Admission::Now => return,
                Admission::At(height) => {
                    tracing::warn!(
                        %height,
                        "what this validator signed is not known here: it follows, and votes from \
                         that height on"
                    );
                    let mut tips = self.chain.subscribe();
                    // The chain outlives this wait, so it ends with the height only.
                    let _ = tips
                        .wait_for(|tip| tip.as_ref().is_some_and(|tip| tip.header.height >= height))
                        .await;
                    return;
                }
                Admission::Unheard { answered, needed } => {
                    if said != Some(admission) {
                        said = Some(admission);
                        tracing::warn!(
                            answered,
                            needed,
                            "what this validator signed is not known here, and too few of the network's \
                         chain nodes answer: it does not vote; on a key that never voted, stop the \
                         node and make the file {}",
                            self.marker.display()
                        );
                    }
                    tokio::time::sleep(ASK_AGAIN).await;
                    admission = self.admission(others).await;
                }
            }
        }
    }

    /// Notes, durably and before the engine may vote, which log the key votes with.
    ///
    /// # Errors
    /// [`VotingError`]; the key must not vote then.
    pub(super) fn begin(&self) -> Result<(), VotingError> {
        if self.standing == Standing::Kept {
            return Ok(());
        }
        if self.standing == Standing::Lost && self.alone {
            tracing::warn!("the only validator's log of votes is lost: it goes on with its chain");
        }
        let mut id = [0; 16];
        getrandom::fill(&mut id).map_err(VotingError::Random)?;
        let path = name_path(&self.consensus);
        make_folder(&self.consensus)
            .and_then(|()| {
                write_private(&path, format!("{VERSION}\n{}\n", hex::encode(id)).as_bytes())
            })
            .map_err(|source| VotingError::File { action: "write", path, source })?;
        Ok(self.chain.set_vote_log(&self.key, VoteLog(id))?)
    }

    /// The engine runs and has its log: the key is no longer new.
    ///
    /// # Errors
    /// [`VotingError::File`].
    pub(super) fn begun(&self) -> Result<(), VotingError> {
        remove(&self.marker)
    }
}

/// What a validator without its log knows by itself.
struct View {
    /// It has no trace of a vote.
    unknown: bool,
    alone: bool,
    /// Height of its own chain.
    own: Height,
}

impl View {
    /// What follows from the tips that were told, of `others` asked.
    fn conclude(&self, told: &[Option<Height>], others: usize) -> Admission {
        let at_start = self.unknown && self.own == Height(0);
        if others == 0 && self.alone && at_start {
            // Nobody else could know of a block.
            return Admission::Now;
        }
        let needed = others / 2 + 1;
        if told.len() < needed {
            return Admission::Unheard { answered: told.len(), needed };
        }
        if at_start && told.iter().all(Option::is_none) {
            return Admission::Now;
        }
        let mut heights: Vec<Height> = told.iter().map(|tip| tip.unwrap_or(Height(0))).collect();
        heights.sort();
        // The highest, but for as many as may lie: a height that nobody reaches would silence this
        // validator for good.
        let liars = (heights.len() - 1) / 3;
        let highest = heights[heights.len() - 1 - liars].max(self.own);
        Admission::At(Height(highest.0.saturating_add(MARGIN)))
    }
}

/// What a chain node tells: nothing if it does not answer, else its tip, if it has one.
async fn told_tip(peer: &dyn ChainPeer) -> Option<Option<Height>> {
    match peer.ask(ChainRequest::Tip { above: None }, TELL).await {
        Ok(ChainResponse::Tip(tip)) => Some(tip.map(|tip| tip.header.height)),
        _ => None,
    }
}

/// Whether the engine's log can be relied on; nothing if there is none.
fn log_is_sound(consensus: &Path, tip: Height) -> Result<Option<bool>, VotingError> {
    let checked = check_log(consensus, tip).map_err(|source| VotingError::File {
        action: "read",
        path: log_path(consensus),
        source,
    })?;
    if let Some(Err(damage)) = &checked {
        tracing::error!(%damage, "the engine's log of votes cannot be relied on");
    }
    Ok(checked.map(|checked| checked.is_ok()))
}

/// Puts a damaged log aside, with all that would make the next start believe in the log that the engine
/// makes instead: its name and the marker of a new key, which go first.
fn forget(consensus: &Path, marker: &Path, damaged: bool) -> Result<(), VotingError> {
    for path in [marker, &name_path(consensus)] {
        remove(path)?;
    }
    if damaged { set_log_aside(consensus) } else { Ok(()) }
}

/// Puts a log aside that the engine would not open.
///
/// # Errors
/// [`VotingError::File`].
pub(super) fn mend_log(consensus: &Path, tip: Height) -> Result<(), VotingError> {
    match log_is_sound(consensus, tip)? {
        Some(false) => set_log_aside(consensus),
        _ => Ok(()),
    }
}

fn set_log_aside(consensus: &Path) -> Result<(), VotingError> {
    let aside = put_log_aside(consensus).map_err(|source| VotingError::File {
        action: "put aside",
        path: log_path(consensus),
        source,
    })?;
    tracing::warn!(aside = %aside.display(), "the damaged log of votes is put aside; a new one is made");
    Ok(())
}

/// Removes a file, durably, if it is there.
fn remove(path: &Path) -> Result<(), VotingError> {
    let removed = remove_if_there(path).and_then(|was_there| match was_there {
        true => sync_folder(folder_of(path)),
        false => Ok(()),
    });
    removed.map_err(|source| VotingError::File { action: "remove", path: path.to_owned(), source })
}

fn name_path(consensus: &Path) -> PathBuf {
    consensus.join("log-id")
}

/// The name beside the log. One that is torn names no log.
fn log_name(consensus: &Path) -> Result<Option<VoteLog>, VotingError> {
    let path = name_path(consensus);
    let text = match std::fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(VotingError::File { action: "read", path, source }),
    };
    let (version, name) = text.split_once('\n').unwrap_or((text.as_str(), ""));
    if version.parse::<u32>().is_ok_and(|version| version > VERSION) {
        return Err(VotingError::Newer { path, found: version.to_owned() });
    }
    let mut id = [0; 16];
    Ok(hex::decode_to_slice(name.trim(), &mut id).ok().map(|()| VoteLog(id)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const FRESH: View = View { unknown: true, alone: false, own: Height(0) };

    fn tips(heights: &[u64]) -> Vec<Option<Height>> {
        heights.iter().map(|height| (*height > 0).then_some(Height(*height))).collect()
    }

    #[test]
    fn silence_is_no_proof_of_a_new_network() {
        assert_eq!(FRESH.conclude(&[], 3), Admission::Unheard { answered: 0, needed: 2 });
        assert_eq!(FRESH.conclude(&tips(&[0]), 3), Admission::Unheard { answered: 1, needed: 2 });
        assert_eq!(FRESH.conclude(&tips(&[0, 0]), 3), Admission::Now);
        // Others exist, but nobody is listed to be asked.
        assert_eq!(FRESH.conclude(&[], 0), Admission::Unheard { answered: 0, needed: 1 });
    }

    #[test]
    fn one_block_anywhere_makes_it_wait() {
        assert_eq!(FRESH.conclude(&tips(&[0, 7]), 3), Admission::At(Height(9)));
        assert_eq!(FRESH.conclude(&tips(&[0, 7, 8]), 3), Admission::At(Height(10)));
    }

    #[test]
    fn a_few_that_lie_neither_hurry_nor_silence_it() {
        let told = tips(&[u64::MAX, 50, 51, 0]);
        assert_eq!(FRESH.conclude(&told, 4), Admission::At(Height(53)));
    }

    #[test]
    fn a_lost_log_beside_a_chain_waits_past_its_own_tip_too() {
        let lost = View { unknown: false, alone: false, own: Height(20) };
        assert_eq!(lost.conclude(&tips(&[18, 18]), 2), Admission::At(Height(22)));
        let lost_at_start = View { own: Height(0), ..lost };
        assert_eq!(lost_at_start.conclude(&tips(&[0, 0]), 2), Admission::At(Height(2)));
    }

    #[test]
    fn the_first_validator_of_all_needs_nobody() {
        let alone = View { alone: true, ..FRESH };
        assert_eq!(alone.conclude(&[], 0), Admission::Now);
        // A full node that has its blocks knows better.
        assert_eq!(alone.conclude(&tips(&[4]), 1), Admission::At(Height(6)));
    }

    #[test]
    fn a_newer_log_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(log_name(folder.path()).unwrap(), None);
        std::fs::write(name_path(folder.path()), "2\nwhatever\n").unwrap();
        let error = log_name(folder.path()).unwrap_err();
        assert!(matches!(error, VotingError::Newer { ref found, .. } if found == "2"), "{error}");
    }
}
