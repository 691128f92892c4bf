//! A store that ends with the process.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Mutex;

use async_trait::async_trait;
use samara_protocol::sync::lock;

use crate::world::{Store, StoreError, Write};

/// An ordered map in memory, for what is not to outlive its user.
#[derive(Default)]
pub(crate) struct MemoryStore(Mutex<BTreeMap<Vec<u8>, Vec<u8>>>);

#[async_trait]
impl Store for MemoryStore {
    async fn read(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        Ok(lock(&self.0).get(key).cloned())
    }

    async fn scan(
        &self,
        prefix: &[u8],
        after: Option<&[u8]>,
        limit: usize,
    ) -> Result<Vec<(Vec<u8>, Vec<u8>)>, StoreError> {
        let from = match after {
            // What comes before the prefix is not asked for.
            Some(after) if after >= prefix => Bound::Excluded(after),
            _ => Bound::Included(prefix),
        };
        let rows = lock(&self.0);
        let wanted = rows.range::<[u8], _>((from, Bound::Unbounded));
        let wanted = wanted.take_while(|(key, _)| key.starts_with(prefix)).take(limit);
        Ok(wanted.map(|(key, value)| (key.clone(), value.clone())).collect())
    }

    async fn commit(&self, writes: Vec<Write>) -> Result<(), StoreError> {
        let mut rows = lock(&self.0);
        for write in writes {
            match write {
                Write::Put(key, value) => rows.insert(key, value),
                Write::Delete(key) => rows.remove(&key),
            };
        }
        Ok(())
    }
}
