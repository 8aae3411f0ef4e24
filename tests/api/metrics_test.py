"""`/metrics` as Prometheus reads it: `metrics_test.py BASE_URL MODEL`, run by tests/metrics.rs.

Every family parses, those that boards know have the types, labels and buckets that vLLM, the FastAPI instrumentator
and llama-server give them, counters only grow, and every query of vLLM's stock board finds its series.
"""

import json
import re
import sys
import time
import urllib.error
import urllib.request

from prometheus_client.parser import text_string_to_metric_families

BASE_URL, MODEL = sys.argv[1], sys.argv[2]
SERVER = BASE_URL.removesuffix("/v1")

TTFT = [.001, .005, .01, .02, .04, .06, .08, .1, .25, .5, .75, 1, 2.5, 5, 7.5, 10, 20, 40, 80, 160, 640, 2560]
BETWEEN = [.01, .025, .05, .075, .1, .15, .2, .3, .4, .5, .75, 1, 2.5, 5, 7.5, 10, 20, 40, 80]
REQUEST = [.3, .5, .8, 1, 1.5, 2, 2.5, 5, 10, 15, 20, 30, 40, 50, 60, 120, 240, 480, 960, 1920, 7680]
STEP = [1, 8] + [2**n for n in range(4, 15)]
TOKENS = [digit * 10**power for power in range(6) for digit in (1, 2, 5)][:-1]
HIGHR = [.01, .025, .05, .075, .1, .25, .5, .75, 1, 1.5, 2, 2.5, 3, 3.5, 4, 4.5, 5, 7.5, 10, 30, 60]

VLLM, ROUTE, NAMED = {"model_name", "engine"}, {"handler", "method"}, {"model_name"}
# Name without _total -> (type, labels, buckets of a histogram).
EXPECTED = {
    **{
        f"vllm:{name}": ("gauge", VLLM | set(more), None)
        for name, *more in [
            ("num_requests_running",), ("num_requests_waiting",), ("num_requests_waiting_by_reason", "reason"),
            ("kv_cache_usage_perc",), ("engine_healthy",), ("gpu_cache_usage_perc",), ("cpu_cache_usage_perc",),
            ("num_requests_swapped",),
        ]
    },
    **{
        f"vllm:{name}": ("counter", VLLM | set(more), None)
        for name, *more in [
            ("prompt_tokens",), ("generation_tokens",), ("prompt_tokens_cached",), ("prompt_tokens_by_source", "source"),
            ("request_success", "finished_reason"), ("num_preemptions",), ("prefix_cache_queries",),
            ("prefix_cache_hits",), ("gpu_prefix_cache_queries",), ("gpu_prefix_cache_hits",),
            ("kv_offload_store_bytes",), ("kv_offload_load_bytes",), ("spec_decode_num_drafts",),
            ("spec_decode_num_draft_tokens",), ("spec_decode_num_accepted_tokens",),
            ("spec_decode_num_accepted_tokens_per_pos", "position"),
        ]
    },
    **{
        f"vllm:{name}": ("histogram", VLLM, buckets)
        for buckets, names in [
            (TTFT, ["time_to_first_token_seconds"]),
            (BETWEEN, ["inter_token_latency_seconds", "request_time_per_output_token_seconds", "time_per_output_token_seconds"]),
            (REQUEST, ["e2e_request_latency_seconds"]),
            (REQUEST, [f"request_{phase}_time_seconds" for phase in ("queue", "inference", "prefill", "decode")]),
            (STEP, ["iteration_tokens_total"]),
            (TOKENS, ["request_prompt_tokens", "request_generation_tokens", "request_max_num_generation_tokens"]),
            (TOKENS, ["request_params_max_tokens", "request_prefill_kv_computed_tokens"]),
            ([1, 2, 5, 10, 20], ["request_params_n"]),
        ]
        for name in names
    },
    "http_requests": ("counter", ROUTE | {"status"}, None),
    "http_request_duration_seconds": ("histogram", ROUTE, [.1, .5, 1]),
    "http_request_duration_highr_seconds": ("histogram", set(), HIGHR),
    "http_request_size_bytes": ("summary", {"handler"}, None),
    "http_response_size_bytes": ("summary", {"handler"}, None),
    "quarry_requests_refused": ("counter", NAMED | {"reason"}, None),
    "quarry_forced_tokens": ("counter", VLLM, None),
    "quarry_swap_out_bytes": ("counter", VLLM, None),
    "quarry_swap_in_bytes": ("counter", VLLM, None),
    "quarry_engine_restarts": ("counter", VLLM, None),
    "quarry_mask_seconds": ("counter", VLLM, None),
    "quarry_host_pool_bytes": ("gauge", VLLM, None),
    "quarry_requests_suspended": ("gauge", VLLM, None),
    **{
        f"llamacpp:{name}": ("counter", NAMED, None)
        for name in [
            "prompt_tokens", "prompt_tokens_cached", "prompt_seconds", "tokens_predicted", "tokens_predicted_seconds",
            "n_decode", "n_tokens_max", "spec_decode_num_drafts", "spec_decode_num_draft_tokens",
            "spec_decode_num_accepted_tokens",
        ]
    },
    **{
        f"llamacpp:{name}": ("gauge", NAMED, None)
        for name in [
            "prompt_tokens_seconds", "predicted_tokens_seconds", "requests_processing", "requests_deferred",
            "n_busy_slots_per_decode",
        ]
    },
}
# What this server has not: a family would be a constant.
ABSENT = ["lora", "mm_cache", "external_prefix", "corrupted", "tool_call", "sleep_state"]

# The stock board's panels: its metrics, with the functions that a panel puts around them.
THIS, EACH = '{model_name="$model_name"}', "[$__rate_interval]"
QUANTILES = ["e2e_request_latency_seconds", "time_to_first_token_seconds", "inter_token_latency_seconds"]
QUERIES = [
    *(f"histogram_quantile(0.99, sum by(le) (rate(vllm:{name}_bucket{THIS}{EACH})))" for name in QUANTILES),
    *(f"rate(vllm:{name}_sum{THIS}{EACH}) / rate(vllm:{name}_count{THIS}{EACH})" for name in QUANTILES),
    f"rate(vllm:prompt_tokens_total{THIS}{EACH})",
    f"rate(vllm:generation_tokens_total{THIS}{EACH})",
    f"vllm:num_requests_running{THIS}",
    f"vllm:num_requests_waiting{THIS}",
    f"vllm:kv_cache_usage_perc{THIS}",
    f"sum by(le) (increase(vllm:request_prompt_tokens_bucket{THIS}{EACH}))",
    f"sum by(le) (increase(vllm:request_generation_tokens_bucket{THIS}{EACH}))",
    f"sum by(finished_reason) (increase(vllm:request_success_total{THIS}{EACH}))",
    f"rate(vllm:request_queue_time_seconds_sum{THIS}{EACH})",
    f"rate(vllm:request_prefill_time_seconds_sum{THIS}{EACH})",
    f"rate(vllm:request_decode_time_seconds_sum{THIS}{EACH})",
    f"rate(vllm:request_max_num_generation_tokens_sum{THIS}{EACH})",
]


def get(path):
    with urllib.request.urlopen(SERVER + path, timeout=60) as answer:
        return answer.read().decode()


def chat(**fields):
    body = {"model": MODEL, "messages": [{"role": "user", "content": "Name three colours, three colours."}]}
    body |= {"temperature": 0, "max_completion_tokens": 24, "ignore_eos": True, "drafts": True} | fields
    request = urllib.request.Request(
        f"{BASE_URL}/chat/completions", json.dumps(body).encode(), {"content-type": "application/json"}
    )
    try:
        with urllib.request.urlopen(request, timeout=120) as answer:
            answer.read()
            return answer.status
    except urllib.error.HTTPError as error:
        error.read()
        return error.code


def load():
    """Requests that are answered, whole and streamed, that quote their prompt, and that are refused."""
    quoting = [{"role": "user", "content": "Repeat: " + "one two three four five six. " * 8}]
    assert chat() == 200 and chat(stream=True) == 200 and chat(messages=quoting, max_completion_tokens=64) == 200
    assert chat(n=2) == 400 and chat(model="nobody's") == 404 and chat(max_completion_tokens=0) == 400


def scrape():
    """Families by name and samples by name and labels, when nothing runs."""
    for _ in range(1000):
        families = {family.name: family for family in text_string_to_metric_families(get("/metrics"))}
        samples = {}
        for family in families.values():
            for sample in family.samples:
                key = sample.name, frozenset(sample.labels.items())
                assert key not in samples, f"twice: {key}"
                samples[key] = sample.value
        busy = ("vllm:num_requests_running", "vllm:num_requests_waiting")
        if not any(value for (name, _), value in samples.items() if name in busy):
            return families, samples
        time.sleep(0.02)
    raise AssertionError("never idle")


def check_family(name, family, expected):
    kind, labels, buckets = expected
    assert family.type == kind, (name, family.type)
    assert family.samples, f"{name} has no samples"
    assert family.documentation, f"{name} has no help"
    for sample in family.samples:
        found = set(sample.labels) - {"le"}
        assert found == labels, (sample, labels)
        if "engine" in labels:
            assert sample.labels["engine"] == "0", sample
    if buckets is not None:
        series = {}
        for sample in family.samples:
            if sample.name.endswith("_bucket"):
                rest = frozenset((key, value) for key, value in sample.labels.items() if key != "le")
                series.setdefault(rest, []).append((float(sample.labels["le"]), sample.value))
        for found in series.values():
            assert [bound for bound, _ in found] == [*map(float, buckets), float("inf")], (name, found)
            counts = [count for _, count in found]
            assert counts == sorted(counts), (name, found)


def check_growth(families, before, after):
    for (name, labels), value in before.items():
        family = next(f for f in families.values() if any(s.name == name for s in f.samples))
        if family.type != "gauge":
            later = after.get((name, labels))
            assert later is not None and later >= value, (name, dict(labels), value, later)


def check_query(query, samples):
    """Each selector has a series of this model, with the labels that are grouped by."""
    grouped = re.findall(r"by\((\w+)\)", query)
    selectors = re.findall(r"(vllm:\w+)\{model_name=\"\$model_name\"\}", query)
    assert selectors, query
    for name in selectors:
        found = [dict(labels) for (one, labels) in samples if one == name and ("model_name", MODEL) in labels]
        assert found, f"{query} finds nothing"
        assert all(label in one for one in found for label in grouped), (query, found)


def value(samples, name, **labels):
    return sum(v for (one, found), v in samples.items() if one == name and labels.items() <= dict(found).items())


def main():
    load()
    first_families, first = scrape()
    load()
    families, second = scrape()
    for name, expected in EXPECTED.items():
        assert name in families, f"{name} is not there"
        check_family(name, families[name], expected)
    for name in families:
        assert name.split(":")[0] in ("vllm", "llamacpp") or name.startswith(("quarry_", "http_")), name
        assert not any(word in name for word in ABSENT), name
    check_growth(first_families, first, second)
    for query in QUERIES:
        check_query(query, second)
    this = {"model_name": MODEL}
    for name, labels, expected in [
        ("vllm:request_success_total", this | {"finished_reason": "length"}, 3),
        ("vllm:e2e_request_latency_seconds_count", this, 3),
        ("vllm:e2e_request_latency_seconds_bucket", this | {"le": "+Inf"}, 3),
        ("quarry_requests_refused_total", this | {"reason": "unsupported_parameter"}, 1),
        ("quarry_requests_refused_total", this | {"reason": "invalid_request"}, 1),
        ("quarry_requests_refused_total", {"model_name": "unknown", "reason": "model_not_found"}, 1),
        ("http_requests_total", {"handler": "/v1/chat/completions", "status": "2xx"}, 3),
        ("http_requests_total", {"handler": "/v1/chat/completions", "status": "4xx"}, 3),
        ("quarry_http_responses_total", {"status": "404"}, 1),
        ("llamacpp:tokens_predicted_total", this, 24 + 24 + 64),
        ("vllm:generation_tokens_total", this, 24 + 24 + 64),
    ]:
        grown = value(second, name, **labels) - value(first, name, **labels)
        assert grown == expected, (name, labels, grown, expected)
    print(f"{len(families)} families, {len(second)} samples, {len(QUERIES)} queries")


main()
