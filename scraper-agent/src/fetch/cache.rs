//! Pages kept for the next run, asked for again only if they changed. Rebuildable, hence in sled and bounded.
//!
//! Two trees: `pages` by address, and `order` by a rising number, which is the order of eviction.

use std::sync::{Mutex, PoisonError};

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use url::Url;

use crate::error::AgentError;
use crate::fetch::rebuildable::{join, split};

/// A body with its validators.
#[derive(Clone, Debug, PartialEq)]
pub struct CachedPage {
    /// For If-None-Match.
    pub etag: Option<String>,
    /// For If-Modified-Since.
    pub modified: Option<String>,
    /// As sent.
    pub content_type: Option<String>,
    /// When the body came.
    pub fetched_at: DateTime<Utc>,
    /// Decompressed.
    pub bytes: Vec<u8>,
}

/// Stored before the body.
#[derive(Serialize, Deserialize)]
struct Head {
    number: u64,
    etag: Option<String>,
    modified: Option<String>,
    content_type: Option<String>,
    fetched_at: DateTime<Utc>,
}

/// The cache.
pub struct PageCache {
    db: sled::Db,
    pages: sled::Tree,
    order: sled::Tree,
    bytes_max: u64,
    bytes: Mutex<u64>,
}

impl PageCache {
    /// Of this database.
    ///
    /// # Errors
    /// The database's.
    pub fn open(db: &sled::Db, bytes_max: u64) -> Result<Self, AgentError> {
        let db = db.clone();
        let (pages, order) = (db.open_tree("pages")?, db.open_tree("order")?);
        let mut bytes = 0;
        for entry in pages.iter().values() {
            bytes += entry?.len() as u64;
        }
        Ok(Self { db, pages, order, bytes_max, bytes: Mutex::new(bytes) })
    }

    /// The kept page, if there is one; one that cannot be read is as good as none.
    pub fn get(&self, url: &Url) -> Option<CachedPage> {
        let value = self.pages.get(url.as_str()).ok()??;
        let (head, bytes) = split::<Head>(&value)?;
        Some(CachedPage {
            etag: head.etag,
            modified: head.modified,
            content_type: head.content_type,
            fetched_at: head.fetched_at,
            bytes: bytes.to_vec(),
        })
    }

    /// Keeps a page; the oldest make room. A page larger than the whole cache is not kept.
    pub fn put(&self, url: &Url, page: &CachedPage) -> Result<(), AgentError> {
        let head = Head {
            number: self.db.generate_id()?,
            etag: page.etag.clone(),
            modified: page.modified.clone(),
            content_type: page.content_type.clone(),
            fetched_at: page.fetched_at,
        };
        let number = head.number;
        let value = join(&head, &page.bytes)?;
        if value.len() as u64 > self.bytes_max {
            return Ok(());
        }
        // One writer at a time keeps the sum true.
        let mut total = self.bytes.lock().unwrap_or_else(PoisonError::into_inner);
        self.forget(url.as_str().as_bytes(), &mut total)?;
        while *total + value.len() as u64 > self.bytes_max {
            let Some((_, oldest)) = self.order.first()? else { break };
            self.forget(&oldest, &mut total)?;
        }
        *total += value.len() as u64;
        self.pages.insert(url.as_str(), value)?;
        self.order.insert(number.to_be_bytes(), url.as_str())?;
        Ok(())
    }

    fn forget(&self, key: &[u8], total: &mut u64) -> Result<(), AgentError> {
        if let Some(old) = self.pages.remove(key)? {
            *total = total.saturating_sub(old.len() as u64);
            if let Some((head, _)) = split::<Head>(&old) {
                self.order.remove(head.number.to_be_bytes())?;
                return Ok(());
            }
        }
        // The order names a page that is not there or cannot be read: drop every such entry, or eviction would not end.
        for entry in self.order.iter() {
            let (number, name) = entry?;
            if name == key {
                self.order.remove(number)?;
            }
        }
        Ok(())
    }

    /// Bytes kept.
    pub fn bytes(&self) -> u64 {
        *self.bytes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fetch::rebuildable;

    fn page(bytes: usize, etag: &str) -> CachedPage {
        CachedPage {
            etag: Some(etag.to_owned()),
            modified: None,
            content_type: None,
            fetched_at: Utc::now(),
            bytes: vec![7; bytes],
        }
    }

    #[test]
    fn the_oldest_go_first_and_the_bound_holds() {
        let folder = tempfile::tempdir().unwrap();
        let cache = PageCache::open(&rebuildable::open(folder.path()).unwrap(), 4000).unwrap();
        let url = |n: usize| Url::parse(&format!("http://a.example/{n}")).unwrap();
        for n in 0..10 {
            cache.put(&url(n), &page(1000, "a")).unwrap();
            assert!(cache.bytes() <= 4000);
        }
        assert!(cache.get(&url(0)).is_none());
        assert_eq!(cache.get(&url(9)).unwrap().bytes.len(), 1000);
        cache.put(&url(9), &page(10, "b")).unwrap();
        assert_eq!(cache.get(&url(9)).unwrap().etag.as_deref(), Some("b"));
        cache.put(&url(11), &page(5000, "c")).unwrap();
        assert!(cache.get(&url(11)).is_none(), "larger than the cache");
        let bytes = cache.bytes();
        drop(cache);
        let again = rebuildable::open(folder.path()).unwrap();
        assert_eq!(PageCache::open(&again, 4000).unwrap().bytes(), bytes);
    }
}
