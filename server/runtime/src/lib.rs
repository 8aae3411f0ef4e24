//! Engine loop, model host and swapper: the only place with threads and clocks.
