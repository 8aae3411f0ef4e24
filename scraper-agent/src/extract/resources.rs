//! What a page's way needs beside the page.

use std::sync::Arc;

use crate::config::AgentConfig;
use crate::extract::Models;
use crate::store::Store;

/// Configuration, store and models: what the agent hands to each page's way.
#[derive(Clone)]
pub struct Resources {
    /// As the agent was told.
    pub config: AgentConfig,
    /// Where costs are counted.
    pub store: Arc<Store>,
    /// Whom to ask.
    pub models: Models,
}
