//! Cards by their makers' data sheets.

/// A card.
pub struct Card {
    /// What it is called.
    pub name: &'static str,
    /// The same for the head of a column.
    pub short: &'static str,
    /// GiB that its driver reports, about.
    pub gib: f64,
    /// Memory bandwidth, GB/s.
    pub bandwidth: f64,
}

impl Card {
    /// Bytes of its memory.
    pub fn bytes(&self) -> u64 {
        (self.gib * f64::from(1 << 30)) as u64
    }
}

/// Cards for which kernels are built (compute capability 8.0, 8.6, 8.9, 9.0, 12.0), small ones first.
pub const CARDS: [Card; 12] = [
    Card { name: "RTX 4060", short: "4060", gib: 8.0, bandwidth: 272.0 },
    Card { name: "RTX 3060", short: "3060", gib: 12.0, bandwidth: 360.0 },
    Card { name: "RTX 4060 Ti 16 GB", short: "4060Ti", gib: 16.0, bandwidth: 288.0 },
    Card { name: "RTX 4080", short: "4080", gib: 16.0, bandwidth: 717.0 },
    Card { name: "L4", short: "L4", gib: 22.5, bandwidth: 300.0 },
    Card { name: "RTX 3090", short: "3090", gib: 24.0, bandwidth: 936.0 },
    Card { name: "RTX 4090", short: "4090", gib: 24.0, bandwidth: 1008.0 },
    Card { name: "RTX 5090", short: "5090", gib: 32.0, bandwidth: 1792.0 },
    Card { name: "L40S", short: "L40S", gib: 45.0, bandwidth: 864.0 },
    Card { name: "A100 SXM 80 GB", short: "A100", gib: 80.0, bandwidth: 2039.0 },
    Card { name: "H100 SXM", short: "H100", gib: 80.0, bandwidth: 3350.0 },
    Card { name: "H200 SXM", short: "H200", gib: 140.0, bandwidth: 4800.0 },
];
