//! Native CPU executor.
