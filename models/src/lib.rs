//! Model registry: manifests, pull with progress, verify.
