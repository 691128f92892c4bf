//! Download links in mails about finished archives.
//!
//! A link is for the recipients of the mail and nobody else: the notice that is kept, listed, streamed and
//! posted to webhooks has none. It is asked for when the mail is about to be sent.

use super::news::{Link, News, Work};
use super::notice::{Notice, NoticeId};

/// What comes of asking for a link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Linked {
    /// It leads here.
    To(Link),
    /// There is none: the mail goes without.
    Nowhere,
    /// It is too early to know: the mail waits.
    NotYet,
}

/// Makes links to archives.
pub trait Linker: Send + Sync {
    /// A link to an archive that lives so many days, for the mail of a notice: the same one at each try.
    /// Blocks.
    fn link(&self, notice: NoticeId, sid: &str, days: u32) -> Linked;

    /// The mail of a notice was delivered: nobody asks for its link again.
    fn sent(&self, notice: NoticeId);
}

/// The id of the archive that a notice tells to be finished.
pub(super) fn archive(notice: &Notice) -> Option<String> {
    match news(notice)? {
        News::Completed { work: Work::Archive, about, .. } => Some(about.sid),
        _ => None,
    }
}

/// The same notice with a link, for one mail.
pub(super) fn with_link(notice: &Notice, to: Link) -> Notice {
    match news(notice) {
        Some(News::Completed { work, about, counts, .. }) => {
            let news = News::Completed { work, about, counts, link: Some(to) };
            news.notice(notice.id, notice.time)
        }
        _ => notice.clone(),
    }
}

/// What a notice tells, if it is known.
fn news(notice: &Notice) -> Option<News> {
    serde_json::from_value(notice.data.clone()).ok()
}
