//! Vaults.
mod error;
mod types;

pub use error::{GetError, PutError, VaultError};
pub use types::{
    Conflict, FileRow, GetReport, GetRequest, ItemReport, ListOptions, ListRow, PutReport,
    PutRequest, PutStreamRequest, VaultRow, VersionRow,
};
