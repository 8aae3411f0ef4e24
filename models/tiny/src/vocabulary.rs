//! A small working byte-level BPE vocabulary: 256 bytes, one token per merge, then the special tokens.

/// Tokens in all; deliberately no multiple of a register's or a mask word's width.
pub const VOCAB: usize = 256 + MERGES.len() + SPECIALS.len();
/// End of a text.
pub const ENDOFTEXT: u32 = (256 + MERGES.len()) as u32;
/// Begins a message.
pub const IM_START: u32 = ENDOFTEXT + 1;
/// Ends a message, and an answer.
pub const IM_END: u32 = ENDOFTEXT + 2;

const SPECIALS: [&str; 7] =
    ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<think>", "</think>", "<tool_call>", "</tool_call>"];

/// Merges by rank; a `_` stands for the space's spelling.
const MERGES: [&str; 67] = [
    "_ t", "h e", "i n", "_ a", "r e", "o n", "_t he", "e r", "_ s", "a t", "_ w", "_ o", "e n", "_ c",
    "i t", "i s", "a n", "o r", "e s", "_ b", "e d", "_ f", "in g", "_ p", "o u", "_a n", "a l", "a r",
    "_t o", "_ m", "_o f", "_ in", "_ d", "_ h", "_an d", "i c", "a s", "l e", "_t h", "i on", "o m", "l l",
    "en t", "_ n", "_ l", "s t", "_ re", "v e", "_ e", "r o", "l y", "_b e", "_ g", "_ is", "_ J", "o b",
    "_J ob", "\" :", "{ \"", "\" ,", "\" }", "u s", "er s", "s y", "sy st", "e m", "as s",
];

/// GPT-2's spelling of bytes: printable ones are themselves, the others follow from U+0100.
fn spelled(byte: u8) -> char {
    let printable = |b: u8| matches!(b, b'!'..=b'~' | 0xa1..=0xac | 0xae..=0xff);
    if printable(byte) {
        return char::from(byte);
    }
    let before = (0..byte).filter(|&b| !printable(b)).count() as u32;
    char::from_u32(0x100 + before).expect("below the surrogates")
}

/// Merges as GGUF spells them: two parts and a space.
pub fn merges() -> Vec<String> {
    MERGES.iter().map(|merge| merge.replace('_', &spelled(b' ').to_string())).collect()
}

/// Spellings of all tokens.
pub fn tokens() -> Vec<String> {
    let bytes = (0..=255).map(|byte| spelled(byte).to_string());
    let merged = merges().into_iter().map(|merge| merge.replace(' ', ""));
    bytes.chain(merged).chain(SPECIALS.iter().map(|&s| s.to_owned())).collect()
}

/// Token types as GGUF numbers them: 1 normal, 3 control.
pub fn token_types() -> Vec<i64> {
    (0..VOCAB).map(|id| if id < ENDOFTEXT as usize { 1 } else { 3 }).collect()
}

/// The usual format of the Qwen models, without tools.
pub const CHAT_TEMPLATE: &str = "{% for message in messages %}{{ '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>\\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}";

/// How Qwen2, Qwen2.5 and Qwen3 split text (source: their tokenizer.json).
pub const QWEN2_SPLIT: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
