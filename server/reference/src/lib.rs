//! Reference executor on candle-core in f32: the oracle of the conformance suite.
