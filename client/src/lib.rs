//! Typed async client for any OpenAI-compatible endpoint.
