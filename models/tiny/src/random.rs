//! Weights by formula: integers until the last step, which is exact, so that every language gets the same bits.
//!
//! ```text
//! key   = fnv1a64(name) ^ seed
//! z     = splitmix64's finaliser of key + (index + 1) * 0x9e3779b97f4a7c15   (Steele et al. 2014)
//! value = (z >> 40) / 2^23 - 1                                               in [-1, 1), a multiple of 2^-23
//! ```

/// Value `index` of the stream `name`, in `[-1, 1)`.
pub fn value(seed: u64, name: &str, index: u64) -> f32 {
    let top = mix(key(seed, name), index) >> 40;
    (top as i32 - (1 << 23)) as f32 / (1 << 23) as f32
}

/// `count` values of the stream `name`.
pub fn values(seed: u64, name: &str, count: usize) -> Vec<f32> {
    (0..count as u64).map(|index| value(seed, name, index)).collect()
}

/// `count` token ids below `vocab`: the stream `prompt-COUNT`, as `golden.py` makes its prompts.
pub fn prompt(seed: u64, vocab: usize, count: usize) -> Vec<u32> {
    let key = key(seed, &format!("prompt-{count}"));
    (0..count as u64).map(|index| ((mix(key, index) >> 40) % vocab as u64) as u32).collect()
}

fn key(seed: u64, name: &str) -> u64 {
    let fnv = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    name.bytes().fold(0xcbf2_9ce4_8422_2325, fnv) ^ seed
}

fn mix(key: u64, index: u64) -> u64 {
    let mut z = key.wrapping_add((index + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
