//! Asking a model for what the structure lacks.
//!
//! `prompt.rs` builds the requests (pure), `kind.rs` asks what a page is, `try_page.rs` tries to extract it, `cloud.rs` speaks
//! the paid model's dialect, `sections.rs` cuts pages that are too long (pure).

pub mod cloud;
mod kind;
pub mod prompt;
pub mod resources;
pub mod sections;
pub mod try_page;

pub use kind::ask_kind;

use std::sync::Arc;

use tokio::sync::OnceCell;

use crate::chat::Chat;
use crate::tokens::TokenCounter;

pub use resources::Resources;

/// The models of a run.
#[derive(Clone)]
pub struct Models {
    /// The local one; absent where nothing shall be asked but the structure.
    pub local: Option<LocalModel>,
    /// The paid one; absent where it is switched off.
    pub cloud: Option<Arc<dyn Chat>>,
}

/// The local model behind its server.
#[derive(Clone)]
pub struct LocalModel {
    /// Its name, as the server knows it.
    pub name: String,
    /// Asks it.
    pub chat: Arc<dyn Chat>,
    /// Counts its prompts.
    pub counter: Arc<dyn TokenCounter>,
    /// Whether it can tell kinds of pages apart; found out when it is first to be asked.
    pub can_judge: Arc<OnceCell<bool>>,
}
