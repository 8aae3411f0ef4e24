//! Benchmarks of the server and of rivals through the same client.
