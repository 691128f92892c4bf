//! Links that the node makes by itself, for mails that tell of a finished archive.
//!
//! One is made when the mail is about to be sent, not before: its secret is in nothing that is kept. Until the
//! mail server has taken the mail the address stays in memory, so that each try sends the same one.

use std::collections::BTreeMap;

use samara_protocol::sync::lock;
use samara_protocol::units::Millis;

use super::{LONGEST, LinkError, LinkId, LinkMade, Links};
use crate::notify::{Link, Linked, Linker, NoticeId};

/// Mails on their way whose links are remembered.
const REMEMBERED: usize = 64;

/// Links of mails that are not delivered yet, by notice.
#[derive(Default)]
pub(super) struct Mailed(BTreeMap<NoticeId, (LinkId, Link)>);

impl Linker for Links {
    fn link(&self, notice: NoticeId, sid: &str, days: u32) -> Linked {
        if let Some((id, link)) = self.remembered(notice) {
            // Somebody has ended it meanwhile, or its time: the mail goes without.
            let works = self.list(Some(sid)).iter().any(|view| view.id == id);
            return if works { Linked::To(link) } else { Linked::Nowhere };
        }
        if !self.0.archives.are_known() {
            return Linked::NotYet;
        }
        let life = Millis::hours(24 * u64::from(days)).min(LONGEST);
        match self.make_for(sid, life, None, true) {
            Ok(LinkMade { view, url }) => {
                let link = Link { url, expires: Some(view.expires) };
                self.remember(notice, view.id, link.clone());
                Linked::To(link)
            }
            Err(LinkError::NotServed) => Linked::NotYet,
            Err(error) => {
                tracing::warn!(backup = sid, %error, "a mail about an archive goes without a link");
                Linked::Nowhere
            }
        }
    }

    fn sent(&self, notice: NoticeId) {
        lock(&self.0.mailed).0.remove(&notice);
    }
}

impl Links {
    fn remembered(&self, notice: NoticeId) -> Option<(LinkId, Link)> {
        lock(&self.0.mailed).0.get(&notice).cloned()
    }

    fn remember(&self, notice: NoticeId, id: LinkId, link: Link) {
        let mut mailed = lock(&self.0.mailed);
        if mailed.0.len() >= REMEMBERED {
            let live = self.list(None);
            mailed.0.retain(|_, (id, _)| live.iter().any(|view| view.id == *id));
            if mailed.0.len() >= REMEMBERED {
                // That mail gets another link at its next try.
                mailed.0.pop_first();
            }
        }
        mailed.0.insert(notice, (id, link));
    }
}
