"""The official Python SDK against a running server: `sdk_test.py BASE_URL MODEL`.

Run by tests/sdk.rs, which makes the environment and starts the server. Each scenario is a function; all run, and
the exit status says whether any failed.
"""

import sys
import time
import traceback
from typing import Literal

import openai
from pydantic import BaseModel

BASE_URL, MODEL = sys.argv[1], sys.argv[2]
CLIENT = openai.OpenAI(base_url=BASE_URL, api_key="none", timeout=120, max_retries=0)
ASK = [{"role": "user", "content": "Name three colours."}]
BRICK = [{"role": "user", "content": "Describe a brick as JSON."}]


def create(**fields):
    fields = {"model": MODEL, "messages": ASK, "temperature": 0, "max_completion_tokens": 16} | fields
    return CLIENT.chat.completions.create(**fields)


def chat():
    answer = create()
    choice = answer.choices[0]
    assert choice.message.role == "assistant" and choice.message.content, answer
    assert choice.finish_reason in ("stop", "length"), answer
    assert answer.object == "chat.completion" and answer.model == MODEL and answer.id, answer
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens, answer


def stream():
    whole = create()
    chunks = list(create(stream=True))
    assert chunks[0].choices[0].delta.role == "assistant", chunks[0]
    text = "".join(c.choices[0].delta.content or "" for c in chunks)
    assert text == whole.choices[0].message.content, (text, whole)
    assert chunks[-1].choices[0].finish_reason == whole.choices[0].finish_reason
    assert {(c.id, c.created) for c in chunks} == {(chunks[0].id, chunks[0].created)}
    assert all(c.usage is None for c in chunks)


def include_usage():
    chunks = list(create(stream=True, stream_options={"include_usage": True}))
    assert chunks[-1].choices == [] and chunks[-1].usage.completion_tokens > 0, chunks[-1]
    assert all(c.usage is None for c in chunks[:-1])


class Thing(BaseModel):
    colour: Literal["red", "green", "blue"]
    heavy: bool
    size: Literal[1, 2, 3]


def stream_helper():
    """The helper parses as it goes, and wants an answer that ends by itself."""
    fields = {"model": MODEL, "messages": BRICK, "temperature": 0, "max_completion_tokens": 200}
    with CLIENT.chat.completions.stream(response_format=Thing, **fields) as events:
        kinds = {event.type for event in events}
        final = events.get_final_completion()
    assert {"chunk", "content.delta", "content.done"} <= kinds, kinds
    assert isinstance(final.choices[0].message.parsed, Thing), final


def parse():
    answer = CLIENT.chat.completions.parse(
        model=MODEL,
        messages=BRICK,
        response_format=Thing,
        temperature=0,
        max_completion_tokens=200,
        seed=1,
    )
    thing = answer.choices[0].message.parsed
    assert isinstance(thing, Thing), answer


def parse_cut_short():
    try:
        CLIENT.chat.completions.parse(model=MODEL, messages=ASK, response_format=Thing, max_completion_tokens=2)
    except openai.LengthFinishReasonError:
        return
    raise AssertionError("no LengthFinishReasonError")


def json_object():
    answer = create(response_format={"type": "json_object"}, max_completion_tokens=4)
    assert answer.choices[0].message.content.startswith("{"), answer


def errors():
    try:
        create(model="nobody")
        raise AssertionError("no error")
    except openai.NotFoundError as e:
        assert (e.status_code, e.code, e.param) == (404, "model_not_found", "model"), e.body
        assert e.type == "invalid_request_error" and e.request_id, e.body
    for fields, param in [
        ({"n": 2}, "n"),
        ({"temperature": 3}, "temperature"),
        ({"logprobs": True}, "logprobs"),
        ({"tools": [{"type": "function", "function": {"name": "f", "parameters": {}}}]}, "tools"),
        ({"messages": []}, "messages"),
        ({"stream": True, "n": 2}, "n"),
    ]:
        try:
            create(**fields)
            raise AssertionError(f"no error for {fields}")
        except openai.BadRequestError as e:
            assert (e.status_code, e.param) == (400, param), e.body
    try:
        create(messages=[{"role": "user", "content": "word " * 400_000}])
        raise AssertionError("no error")
    except openai.BadRequestError as e:
        assert (e.code, e.param) == ("context_length_exceeded", "messages"), e.body


def stop():
    whole = create().choices[0].message.content
    middle = len(whole) // 2
    mark = whole[middle : middle + 2]
    answer = create(stop=[mark, "\u2603"])
    assert answer.choices[0].message.content == whole[: whole.index(mark)], answer
    assert answer.choices[0].finish_reason == "stop"


def seed():
    def draw(number):
        fields = {"temperature": 1.5, "max_completion_tokens": 24, "extra_body": {"ignore_eos": True}}
        return create(seed=number, **fields).choices[0].message.content

    assert draw(5) == draw(5)
    assert len({draw(n) for n in range(3)}) > 1


def parts_and_extra():
    parts = [{"type": "text", "text": "Name three "}, {"type": "text", "text": "colours."}]
    answer = create(messages=[{"role": "user", "content": parts}], extra_body={"top_k": 1, "frobnicate": 1})
    assert answer.choices[0].message.content == create().choices[0].message.content
    raw = CLIENT.chat.completions.with_raw_response.create(
        model=MODEL, messages=ASK, max_completion_tokens=1, extra_body={"frobnicate": 1}
    )
    assert "frobnicate" in raw.headers["warnings"] and raw.headers["x-request-id"]


def cancel():
    fields = {"max_completion_tokens": 1000, "extra_body": {"ignore_eos": True}, "stream": True}
    answer = create(**fields)
    next(iter(answer))
    answer.close()
    for _ in range(500):
        metrics = CLIENT.with_options(base_url=BASE_URL.removesuffix("/v1")).get("/metrics", cast_to=str)
        running = [l for l in metrics.splitlines() if l.startswith("vllm:num_requests_running{")]
        if running and running[0].endswith(" 0"):
            return
        time.sleep(0.02)
    raise AssertionError("the request still runs")


def models():
    listed = [m.id for m in CLIENT.models.list()]
    assert MODEL in listed, listed
    model = CLIENT.models.retrieve(MODEL)
    assert (model.id, model.object) == (MODEL, "model") and model.created > 0, model


SCENARIOS = [
    chat,
    stream,
    include_usage,
    stream_helper,
    parse,
    parse_cut_short,
    json_object,
    errors,
    stop,
    seed,
    parts_and_extra,
    cancel,
    models,
]

failed = 0
for scenario in SCENARIOS:
    try:
        scenario()
        print(f"ok      {scenario.__name__}")
    except Exception:
        failed += 1
        print(f"FAILED  {scenario.__name__}\n{traceback.format_exc()}")
sys.exit(1 if failed else 0)
