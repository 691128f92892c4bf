//! What a header or certificate must be, against what is trusted and linked already.

use super::LightChain;
use super::error::LightError;
use super::state::Link;
use crate::chain::certificate::{Certificate, CertificateError};
use crate::chain::header::Header;
use crate::chain::query::Finalized;
use crate::units::{ChainTime, Height};

impl LightChain {
    pub(super) fn verify(&self, certificate: &Certificate) -> Result<(), CertificateError> {
        certificate.verify(&self.state.genesis, &self.state.point.validators)
    }

    /// Checks what can be known about a tip before its height is reached.
    pub(super) fn check_tip(&self, tip: &Finalized) -> Result<(), LightError> {
        let header = &tip.header;
        self.check_chain(header)?;
        let (height, hash) = (header.height, header.hash());
        let certified = tip.certificate.height;
        if certified != height || tip.certificate.block != hash {
            return Err(LightError::OtherBlock { height, certified });
        }
        let trusted = self.trusted_link();
        if height == trusted.height {
            return if hash == trusted.hash {
                Ok(())
            } else {
                Err(LightError::Fork { height, trusted: trusted.hash, other: hash })
            };
        }
        if header.time <= trusted.time {
            return Err(LightError::Time { height });
        }
        if self.set_is_known() && header.validators == trusted.next_validators {
            self.verify(&tip.certificate)?;
        }
        Ok(())
    }

    pub(super) fn check_age(
        &self,
        height: Height,
        time: ChainTime,
        now: ChainTime,
    ) -> Result<(), LightError> {
        let (age, ahead) = (now.since(time), time.since(now));
        if age > self.rules.max_age {
            return Err(LightError::Stale { height, age });
        }
        if ahead > Self::MAX_AHEAD {
            return Err(LightError::Ahead { height, ahead });
        }
        Ok(())
    }

    pub(super) fn check_chain(&self, header: &Header) -> Result<(), LightError> {
        let height = header.height;
        if header.version != Header::VERSION {
            return Err(LightError::Version { height, version: header.version });
        }
        if header.genesis != self.state.genesis {
            return Err(LightError::Chain { height, genesis: header.genesis });
        }
        // The largest height has no successor; no honest chain comes near it.
        if height.0 == u64::MAX {
            return Err(LightError::Order { expected: self.linked_height().next(), found: height });
        }
        Ok(())
    }

    pub(super) fn check_link(&self, link: &Link, header: &Header) -> Result<(), LightError> {
        self.check_chain(header)?;
        let (height, expected) = (header.height, link.height.next());
        if height != expected {
            return Err(LightError::Order { expected, found: height });
        }
        if header.parent != link.hash {
            return Err(LightError::Parent { height, parent: header.parent });
        }
        if header.time <= link.time {
            return Err(LightError::Time { height });
        }
        if header.validators != link.next_validators {
            return Err(LightError::Validators { height });
        }
        Ok(())
    }

    /// Whether the set that decides the block after the trusted point is at hand.
    pub(super) fn set_is_known(&self) -> bool {
        let next = self.state.point.tip.as_ref().map(|tip| tip.header.next_validators);
        next.is_none_or(|next| next == self.state.point.validators.hash())
    }

    pub(super) fn linked_height(&self) -> Height {
        let linked = self.state.linked.as_ref().map(|linked| linked.head.height);
        linked.unwrap_or_else(|| self.state.point.height())
    }

    pub(super) fn link(&self) -> Link {
        match &self.state.linked {
            Some(linked) => Link::of(&linked.head),
            None => self.trusted_link(),
        }
    }

    pub(super) fn trusted_link(&self) -> Link {
        match &self.state.point.tip {
            Some(tip) => Link::of(&tip.header),
            // The genesis document itself is the first block's parent.
            None => Link { hash: self.state.genesis, ..Link::of(&self.origin) },
        }
    }
}
