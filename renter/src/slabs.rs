//! The uploader and downloader in use, which change when the allowance changes its redundancy.

use std::collections::BTreeSet;
use std::sync::{Arc, RwLock};

use samara_protocol::hash::SlabId;
use samara_protocol::journal::StoredFile;
use samara_protocol::sync::{read, write};

use crate::contract::{Budget, ContractBook};
use crate::garbage::Leases;
use crate::transfer::{Downloader, Redundancy, SlabClass, TransferOptions, Uploader};

/// Slabs in and out. A cheap clone.
#[derive(Clone)]
pub(crate) struct Slabs {
    book: ContractBook,
    leases: Leases,
    inner: Arc<RwLock<Inner>>,
    unreadable: Arc<RwLock<Arc<BTreeSet<SlabId>>>>,
    /// What transfers through this handle may spend.
    budget: Option<Budget>,
}

struct Inner {
    options: TransferOptions,
    uploader: Uploader,
    files: Downloader,
    names: Downloader,
}

impl Slabs {
    /// Transfers over the contracts of a book.
    pub(crate) fn new(book: ContractBook, options: TransferOptions) -> Self {
        let leases = Leases::default();
        let inner = Arc::new(RwLock::new(Inner::new(&book, options, &leases)));
        Self { book, leases, inner, unreadable: Arc::default(), budget: None }
    }

    /// Transfers of the same kind over other contracts.
    pub(crate) fn over(&self, book: ContractBook) -> Self {
        Self::new(book, read(&self.inner).options)
    }

    /// The same transfers, paid out of this budget.
    pub(crate) fn within(&self, budget: Budget) -> Self {
        Self { budget: Some(budget), ..self.clone() }
    }

    /// Slabs in use by this process.
    pub(crate) fn leases(&self) -> &Leases {
        &self.leases
    }

    /// The contracts that slabs lie under.
    pub(crate) fn book(&self) -> &ContractBook {
        &self.book
    }

    /// The same contracts, whose calls come out of the budget of this handle.
    pub(crate) fn paying_book(&self) -> ContractBook {
        match &self.budget {
            Some(budget) => self.book.within(budget.clone()),
            None => self.book.clone(),
        }
    }

    /// Notes the slabs that cannot be read, as the last look at their health found.
    pub(crate) fn set_unreadable(&self, slabs: Arc<BTreeSet<SlabId>>) {
        *write(&self.unreadable) = slabs;
    }

    /// Whether a file's bytes can be read, as far as is known.
    pub(crate) fn can_read(&self, file: &StoredFile) -> bool {
        let unreadable = read(&self.unreadable).clone();
        !file.content.extents().iter().any(|extent| unreadable.contains(&extent.slab))
    }

    /// Cuts slabs to another redundancy from now on.
    pub(crate) fn set_redundancy(&self, redundancy: Redundancy) {
        let mut inner = write(&self.inner);
        if inner.options.redundancy != redundancy {
            let options = TransferOptions { redundancy, ..inner.options };
            *inner = Inner::new(&self.book, options, &self.leases);
        }
    }

    /// k, n and margin of the slabs that are cut now.
    pub(crate) fn redundancy(&self) -> Redundancy {
        read(&self.inner).options.redundancy
    }

    pub(crate) fn uploader(&self) -> Uploader {
        let uploader = read(&self.inner).uploader.clone();
        match &self.budget {
            Some(budget) => uploader.within(budget.clone()),
            None => uploader,
        }
    }

    pub(crate) fn downloader(&self, class: SlabClass) -> Downloader {
        let inner = read(&self.inner);
        let downloader = match class {
            SlabClass::Data => inner.files.clone(),
            SlabClass::Metadata => inner.names.clone(),
        };
        match &self.budget {
            Some(budget) => downloader.within(budget.clone()),
            None => downloader,
        }
    }
}

impl Inner {
    fn new(book: &ContractBook, options: TransferOptions, leases: &Leases) -> Self {
        Self {
            options,
            uploader: Uploader::new(book.clone(), options, leases.clone()),
            files: Downloader::new(book.clone(), options),
            names: Downloader::for_names(book.clone(), options),
        }
    }
}
