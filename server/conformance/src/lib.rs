//! The suite every executor must pass.
