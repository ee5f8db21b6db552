"""The model stage: which requests are sent, how often, and how failures are handled."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import pytest
from datasets import Dataset, Value
from datasets.utils import tqdm

from tests.support.api_server import ApiServer
from tests.support.chains import Chains
from tests.support.models import tiny_llama
from toolrlef_data.engines import ENGINES
from toolrlef_data.engines.model_stage import (
    ModelStage,
    _read_replies,
    keyed_request,
    requests_of,
    row_batches,
    run_model_stage,
    send_missing,
)
from toolrlef_data.engines.prompts import row_seed
from toolrlef_data.engines.reply_store import open_store
from toolrlef_data.engines.responses import build_response, split_reasoning
from toolrlef_data.engines.scripted import scripted
from toolrlef_data.engines.spec import EngineSpec, Limits, Request
from toolrlef_data.records import InputError, Reply, ScriptExhausted, ToolrlefError, TooManyFailures, UnknownName
from toolrlef_data.tables.batches.mapping import BACKEND, Backend
from toolrlef_data.tables.stage_cache import read_record


class Server:
    """The requested prompts; class attributes, because a global list would be part of the functions' cache keys."""

    requested: ClassVar[list[str]] = []
    is_down = False


def question(row: Mapping[str, Any], settings: None) -> Request | None:
    return None if row["text"] == "skip" else Request(prompt=row["text"])


def texts(row: Mapping[str, Any], replies: Sequence[Reply], settings: None) -> dict[str, Any]:
    return {"reply": " | ".join(reply.text or f"<{reply.error}>" for reply in replies)}


def echo(request: Request) -> str | Reply:
    Server.requested.append(request.prompt)
    if Server.is_down and request.prompt.startswith("flaky"):
        return Reply(None, error="timeout", error_detail="no answer")
    if request.prompt.startswith("bad"):
        return Reply(None, error="too_long")
    return f"{request.prompt}#{request.sample}"


def table(*prompts: str) -> Dataset:
    return Dataset.from_list([{"id": str(i), "text": prompt} for i, prompt in enumerate(prompts)])


def run(data: Dataset, spec: EngineSpec, samples: int = 1) -> list[str]:
    adds = {"reply": Value("string")}
    stage = ModelStage(question, texts, None, spec, reads=["text"], adds=adds, name="test", samples=samples)
    replies: list[str] = run_model_stage(data, stage)["reply"][:]
    return replies


@pytest.fixture(autouse=True)
def reset_server() -> None:
    Server.requested.clear()
    Server.is_down = False


def echo_spec(**settings: Any) -> EngineSpec:
    return scripted(echo, progress=False, **settings)


def test_repeated_greedy_prompts_are_requested_once() -> None:
    prompts = [f"p{i % 7}" for i in range(1000)]
    assert run(table(*prompts), echo_spec()) == [f"{p}#0" for p in prompts]
    assert sorted(Server.requested) == [f"p{i}" for i in range(7)]


def test_second_stage_reuses_stored_replies() -> None:
    run(table("a", "b"), echo_spec())
    run(table("b", "a", "c"), echo_spec())
    assert Server.requested == ["a", "b", "c"]


def test_row_without_a_request_is_skipped() -> None:
    assert run(table("a", "skip", "b"), echo_spec()) == ["a#0", "", "b#0"]
    assert Server.requested == ["a", "b"]


def test_samples_are_separate_requests_and_need_a_temperature() -> None:
    assert run(table("a", "a"), echo_spec(temperature=0.5), samples=2) == ["a#0 | a#1"] * 2
    assert len(Server.requested) == 4, "each sampled row has a separate seed"
    with pytest.raises(InputError, match="set a temperature above 0"):
        run(table("a"), echo_spec(), samples=2)


def test_seed_of_the_spec_separates_sampled_replies_only() -> None:
    def seeds(**settings: Any) -> list[tuple[str, int | None]]:
        spec = echo_spec(**settings)
        return [(key, request.seed) for key, request in [keyed_request(Request(prompt="a"), "row", 0, spec, {})]]

    first, second = seeds(temperature=0.5, seed=1), seeds(temperature=0.5, seed=2)
    assert first[0][0] != second[0][0], "two reply keys"
    assert None not in (first[0][1], second[0][1])
    assert first[0][1] != second[0][1], "the server receives two seeds"
    assert seeds(temperature=0.5, seed=1) == first
    assert seeds(temperature=0.0, seed=1) == seeds(temperature=0.0, seed=2), "greedy replies need no seed"
    for seed in (1, 2, 1):
        run(table("a"), echo_spec(temperature=0.5, seed=seed))
    assert len(Server.requested) == 2, "one request for each seed"


def test_damaged_reply_is_requested_again(fresh_caches: Path, caplog: pytest.LogCaptureFixture) -> None:
    data = table(*map(str, range(20)))
    expected = run(data, echo_spec())
    path = fresh_caches / "replies.sqlite"
    with open_store(path).writing() as connection:
        connection.execute("UPDATE replies SET reply = SUBSTR(reply, 1, 12) WHERE key = (SELECT MIN(key) FROM replies)")
    shutil.rmtree(fresh_caches / "datasets")
    assert run(data, echo_spec()) == expected
    assert len(Server.requested) == 21
    assert [record.getMessage().startswith(f"{path}: 1 stored replies are damaged") for record in caplog.records] == [
        True
    ]


def test_only_retryable_failures_are_requested_again() -> None:
    Server.is_down = True
    spec = echo_spec(max_failed=0.5)
    assert run(table("a", "flaky", "bad one"), replace(spec, max_failed=0.7)) == ["a#0", "<timeout>", "<too_long>"]
    assert Server.requested == ["a", "flaky", "bad one"]
    Server.is_down = False
    assert run(table("a", "flaky", "bad one"), replace(spec, max_failed=0.7)) == ["a#0", "flaky#0", "<too_long>"]
    assert Server.requested == ["a", "flaky", "bad one", "flaky"], "a permanent error is final"
    run(table("a", "flaky", "bad one"), replace(spec, max_failed=0.7))
    assert len(Server.requested) == 4


def test_too_many_failures_stop_the_run_without_losing_replies() -> None:
    Server.is_down = True
    data = table("a", "b", *(f"flaky {i}" for i in range(8)))
    with pytest.raises(TooManyFailures, match=r"3 of 10 requests .* failed \(timeout 3\), more than max_failed=0.2"):
        run(data, echo_spec())
    with pytest.raises(TooManyFailures):
        run(data, replace(echo_spec(), max_failed=0.0))
    Server.is_down = False
    count = len(Server.requested)
    run(data, echo_spec())
    assert Server.requested[count:] == [f"flaky {i}" for i in range(8)]


def test_stored_failures_count_in_every_run() -> None:
    data = table(*(f"bad {i}" for i in range(6)))
    for _ in range(4):
        with pytest.raises(TooManyFailures, match="too_long"):
            run(data, echo_spec())


@pytest.mark.parametrize("field", [{"label": "GPT"}, {"action": "Translate"}, {"name": "other"}])
def test_names_that_are_only_shown_are_not_in_the_cache_key(field: dict[str, Any]) -> None:
    stage = ModelStage(question, texts, None, echo_spec(), reads=["text"], adds={"reply": Value("string")}, name="test")
    data = table("a")
    fingerprint = run_model_stage(data, stage)._fingerprint
    assert run_model_stage(data, replace(stage, **field))._fingerprint == fingerprint


def test_a_new_request_that_fails_is_sent_again_in_the_next_run() -> None:
    """A final reply is withdrawn, and the new request fails with a retryable error."""
    Server.is_down = True
    data = table("flaky")
    adds = {"reply": Value("string")}
    stage = ModelStage(question, texts, None, echo_spec(max_failed=1.0), reads=["text"], adds=adds, name="test")
    (key, _) = keyed_request(Request(prompt="flaky"), "0", 0, stage.spec, stage.identity)
    open_store().put([(key, Reply(None, error="too_long"))])
    assert run_model_stage(data, stage)["reply"][:] == ["<too_long>"]
    assert run_model_stage(data, replace(stage, ask_again={"too_long"}))["reply"][:] == ["<timeout>"]
    Server.is_down = False
    assert run_model_stage(data, stage)["reply"][:] == ["flaky#0"]
    assert Server.requested == ["flaky", "flaky"]


def test_failure_share_excludes_skipped_rows() -> None:
    Server.is_down = True
    with pytest.raises(TooManyFailures, match="1 of 2 requests"):
        run(table(*["skip"] * 98, "flaky a", "flaky b"), echo_spec())


def test_wrong_engine_type_is_rejected() -> None:
    with pytest.raises(InputError, match="expected an EngineSpec, found str"):
        run(table("a"), "gpt")  # type: ignore[arg-type]


def test_exhausted_script_raises_and_its_replies_stay_stored() -> None:
    with pytest.raises(ScriptExhausted, match="the script has only 1 replies"):
        run(table("a", "b"), scripted(["one"], progress=False))
    assert run(table("a"), scripted(["one"], progress=False)) == ["one"]


def test_mapping_script_matches_words_of_the_prompt() -> None:
    spec = scripted({"first": "1", "second": "2"}, progress=False)
    assert run(table("the second", "the first"), spec) == ["2", "1"]
    with pytest.raises(ScriptExhausted, match="no key of the script"):
        run(table("the third"), spec)


def test_sampling_settings_are_part_of_the_reply_key() -> None:
    run(table("a"), echo_spec())
    run(table("a"), echo_spec(max_tokens=3))
    run(table("a"), echo_spec(stop=("\n",)))
    run(table("a"), echo_spec(timeout=1.0, concurrency=2))
    assert len(Server.requested) == 3


@pytest.mark.parametrize(
    ("text", "reasoning", "remaining"),
    [
        ("The answer is 12.", "", "The answer is 12."),
        ("<think>7+5</think>\n\n12", "7+5", "12"),
        ("7+5</think>12", "7+5", "12"),  # the opening tag is in the prompt
        ("<think>7+5 and then", "7+5 and then", ""),  # truncated
        ("[THINK]a[/THINK]b", "a", "b"),
        (
            "<|channel|>analysis<|message|>hm<|end|><|start|>assistant<|channel|>final<|message|>12<|return|>",
            "hmassistant",
            "12",
        ),
        (  # a call, which precedes the final message or has none
            "<|channel|>analysis<|message|>hm<|end|><|start|>assistant<|channel|>commentary to=functions.sum "
            '<|constrain|>json<|message|>{"x": 1}<|call|>',
            "hm",
            '<|start|>assistant<|channel|>commentary to=functions.sum <|constrain|>json<|message|>{"x": 1}<|call|>',
        ),
        (
            '<|channel|>analysis to=functions.sum<|message|>{"x": 1}<|call|><|channel|>final<|message|>12',
            "",
            '<|channel|>analysis to=functions.sum<|message|>{"x": 1}<|call|><|channel|>final<|message|>12',
        ),
        ("<|channel|>analysis<|message|>hm and", "<|channel|>analysis<|message|>hm and", ""),  # truncated
        ("I think <think> is a tag", "", "I think <think> is a tag"),
    ],
)
def test_reasoning_is_separated_from_the_text(text: str, reasoning: str, remaining: str) -> None:
    assert split_reasoning(text) == (reasoning, remaining)


def test_response_contains_the_raw_reply() -> None:
    response = build_response(Reply(" <think>calculator(1+1)</think> 3 "))
    assert (response["raw"], response["reasoning"], response["text"]) == (
        " <think>calculator(1+1)</think> 3 ",
        "calculator(1+1)",
        "3",
    )
    assert build_response(Reply("<think>a</think>b"), strip_reasoning=False)["text"] == "<think>a</think>b"
    failed = build_response(Reply(None, error="timeout", error_detail="30 s"))
    assert (failed["text"], failed["error"], failed["error_detail"]) == (None, "timeout", "30 s")


# Requests that depend on pending replies ------------------------------------------------------------------------------


API_SETTINGS: dict[str, dict[str, Any]] = {
    "one at a time": {"concurrency": 1},
    "direct": {"concurrency": 2},
    "samples": {"temperature": 1.0, "options": {"n": True}},
    "batch": {"limits": Limits(mode="batch", poll=0.02)},
    "small batches": {"limits": Limits(mode="batch", poll=0.02, batch_rows=2)},
}


@pytest.mark.parametrize("kind", ["scripted", "local", *API_SETTINGS])
def test_dependent_requests_follow_earlier_replies(kind: str, tmp_path: Path, one_thread: None) -> None:
    samples = 2 if kind == "samples" else 1
    with ApiServer() as server:
        if kind == "scripted":
            spec = echo_spec()
        elif kind == "local":
            spec = EngineSpec("local", str(tiny_llama(tmp_path / "m")), max_tokens=3)
        else:
            spec = EngineSpec("openai_api", "m", base_url=server.url, **API_SETTINGS[kind])
        alone = {name: Chains([name], samples=samples).run(spec).texts[name] for name in "ab"}
        chains = Chains("abcd", samples=samples).run(spec)
    assert not chains.is_open()
    assert not chains.ready
    assert {name: chains.texts[name] for name in "ab"} == alone
    assert len({text for texts in chains.texts.values() for text in texts}) > 4, "distinct replies are needed"


@pytest.mark.parametrize("kind", ["scripted", "local"])
def test_engine_waits_for_requests_that_are_not_ready(kind: str, tmp_path: Path, one_thread: None) -> None:
    """For example while a tool runs: no request is in flight, but more follow."""
    pairs = [None, None, ("a", Request(prompt="a")), None, ("b", Request(prompt="b")), None, None]
    spec = echo_spec() if kind == "scripted" else EngineSpec("local", str(tiny_llama(tmp_path / "m")), max_tokens=2)
    tags = [tag for replies in ENGINES[kind](spec).generate(pairs) for tag, _ in replies]
    assert tags == ["a", "b"]
    assert not list(ENGINES[kind](spec).generate([None, None]))


def test_script_ignores_idle_pulls() -> None:
    pairs = [None, ("a", Request(prompt="a")), None, ("b", Request(prompt="b"))]
    replies = list(ENGINES["scripted"](scripted(["one", "two"])).generate(pairs))
    assert [reply.text for ((_, reply),) in replies] == ["one", "two"]


def test_local_window_ends_when_no_request_is_ready(tmp_path: Path, one_thread: None) -> None:
    chains = Chains("ab", steps=2)
    chains.run(EngineSpec("local", str(tiny_llama(tmp_path / "m")), max_tokens=2))
    assert [event[:3] for event in chains.events] == ["a 0", "b 0", "(a ", "(b ", "a 1", "b 1", "(a ", "(b "]
    assert chains.idle_pulls == 2, "one idle pull at the end of each window"


def test_a_stage_whose_reply_store_was_deleted_is_not_computed_again(fresh_caches: Path) -> None:
    """The replies are in the cached table."""
    expected = run(table("a", "b"), echo_spec())
    for path in fresh_caches.glob("replies.sqlite*"):
        path.unlink() if path.is_file() else shutil.rmtree(path)
    assert run(table("a", "b"), echo_spec()) == expected
    assert Server.requested == ["a", "b"]
    assert not list(fresh_caches.glob("replies.sqlite*")), "no empty store is created"


def test_a_mapping_script_answers_by_the_last_key_in_the_prompt() -> None:
    """The order of the mapping is irrelevant, and so are keys in the few-shot examples above the question."""
    keys = {"figs": "about figs", "pears": "about pears", "": "about nothing"}
    prompts = table("figs, then pears", "pears, then figs", "figs pears figs", "plums")
    expected = ["about pears", "about figs", "about figs", "about nothing"]
    for script in (keys, dict(reversed(keys.items()))):
        assert run(prompts, scripted(script, progress=False)) == expected


def test_all_reasoning_of_a_reply_is_kept_and_none_is_parsed() -> None:
    response = build_response(Reply("<think>7+5</think> 12", reasoning="first a sum"))
    assert (response["reasoning"], response["text"]) == ("first a sum\n7+5", "12")
    assert build_response(Reply("12", reasoning="first a sum"))["reasoning"] == "first a sum"
    nested = "<think>I write <think>a</think>, then calculator(1+1)</think>calculator(2+2)"
    assert split_reasoning(nested) == ("I write <think>a</think>, then calculator(1+1)", "calculator(2+2)")
    assert split_reasoning("a</think>b</think>c") == ("a</think>b", "c")


def test_a_reply_that_many_rows_share_is_requested_again_once() -> None:
    """The rows are looked up in batches, and the new reply may have the same error."""
    data = table(*["bad one"] * 600)
    adds = {"reply": Value("string")}
    stage = ModelStage(question, texts, None, echo_spec(max_failed=1.0), reads=["text"], adds=adds, name="test")
    assert run_model_stage(data, stage)["reply"][:] == ["<too_long>"] * 600
    for requests in (2, 3):
        again = run_model_stage(data, replace(stage, ask_again={"too_long"}))
        assert again["reply"][:] == ["<too_long>"] * 600
        assert len(Server.requested) == requests


# Definitions, keys and records ----------------------------------------------------------------------------------------


def stage_of(spec: EngineSpec, **fields: Any) -> ModelStage:
    fixed = {"reads": ["text"], "adds": {"reply": Value("string")}, "name": "test", "render": question}
    return ModelStage(finish=texts, settings=None, spec=spec, **{**fixed, **fields})


@pytest.mark.parametrize(
    ("fields", "kind", "message"),
    [
        ({"spec": "gpt"}, InputError, "test needs a model: expected an EngineSpec, found str"),
        ({"samples": 0}, InputError, "samples must be an integer of at least 1, found 0"),
        ({"samples": 2}, InputError, "samples=2 of 'echo' would all be the same: set a temperature above 0"),
        ({"ask_again": "empty"}, InputError, "ask_again: expected a collection of error kinds, found the text 'empty'"),
        ({"ask_again": 5}, InputError, "ask_again: expected a collection of error kinds, found 5"),
        (
            {"ask_again": ["timeout", "empty"]}, UnknownName,
            "unknown error kind in ask_again: 'timeout'; choose from: bad_request, content_filter, cut_off, empty, refused, too_long",
        ),
    ],
)  # fmt: skip
def test_a_mistake_in_a_stage_is_named(fields: dict[str, Any], kind: type[Exception], message: str) -> None:
    with pytest.raises(kind) as caught:
        stage_of(**{"spec": echo_spec(), **fields})
    assert str(caught.value) == message


def test_a_stage_knows_its_engine_store_and_columns(fresh_caches: Path) -> None:
    kinds = {"bad_request", "content_filter", "cut_off", "empty", "refused", "too_long"}
    stage = stage_of(echo_spec(), reads=["text", "id", "text"], ask_again=kinds)
    assert (stage.reads, stage.store) == (("id", "text"), str(fresh_caches / "replies.sqlite"))
    assert (stage.engine, stage.identity) == (ENGINES["scripted"], ENGINES["scripted"](stage.spec).identity())
    assert stage.in_key() == dict.fromkeys(
        ["adds", "removes", "name", "label", "action", "ask_again", "response_of"]
    ), "`apply` adds the columns"
    engine = lambda spec: ENGINES["scripted"](replace(spec, model="other"))  # noqa: E731
    assert stage_of(echo_spec(), engine=engine).identity["model"] == "other"


SAMPLING: dict[str, tuple[Any, Any]] = {
    "temperature": (0.5, 0.6),
    "top_p": (0.9, 0.8),
    "top_k": (5, 6),
    "num_beams": (2, 3),
    "repetition_penalty": (1.1, 1.2),
    "max_tokens": (8, 9),
    "stop": (("a",), ("b",)),
    "options": ({"a": 1}, {"a": 2}),
}


def test_each_sampling_setting_is_in_the_reply_key_and_nothing_else() -> None:
    def key(spec: EngineSpec, sample: int = 0, row: str = "row", **identity: str) -> str:
        return keyed_request(Request(prompt="a"), row, sample, spec, identity)[0]

    spec = EngineSpec("local", "m")
    keys = [key(spec)] + [key(replace(spec, **{name: value})) for name, pair in SAMPLING.items() for value in pair]
    assert len(set(keys)) == len(keys) == 1 + 2 * len(SAMPLING)
    unkeyed: dict[str, Any] = {
        "model": "n",
        "device": "cpu",
        "concurrency": 1,
        "seed": 5,
        "dtype": "float16",
        "revision": "v",
        "retries": 0,
    }
    assert key(replace(spec, **unkeyed)) == key(spec), "the identity has the model, and greedy replies no seed"
    assert key(spec, sample=1, row="other") == key(spec)
    assert key(spec, model="n") != key(spec)
    script = scripted(["one"])
    assert key(script) == key(replace(script, options=(("replies", ("two",)),))), "the identity has the script"
    sampled = replace(spec, temperature=0.5)
    request = keyed_request(Request(prompt="a"), "row", 3, sampled, {})[1]
    assert (request.sample, request.seed) == (3, row_seed("row", 0))
    assert len({key(sampled, n, row) for n in (0, 1) for row in ("a", "b")}) == 4


def test_published_settings_name_no_server_of_a_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_URL", "http://models.example.com/v1")
    monkeypatch.setenv("OPENAI_BASE_URL", "https://other.example.com/v1")
    urls = {}
    for base_url in (None, "$MY_URL", "https://api.example.com/v1", "http://10.0.0.7/v1"):
        facts = stage_of(EngineSpec("openai_api", "m", base_url=base_url)).published()
        assert not {"adds", "removes", "name", "label", "action", "ask_again", "response_of", "store"} & set(facts)
        assert {"render", "finish", "settings", "spec", "reads", "samples", "engine", "identity"} <= set(facts)
        urls[base_url] = facts["identity"]["url"]
    assert urls == {
        None: "$OPENAI_BASE_URL",
        "$MY_URL": "$MY_URL",
        "https://api.example.com/v1": "https://api.example.com/v1",
        "http://10.0.0.7/v1": "a private server",
    }
    monkeypatch.delenv("OPENAI_BASE_URL")
    assert stage_of(EngineSpec("openai_api", "m")).published()["identity"]["url"] == "https://api.openai.com/v1"


def several(row: Mapping[str, Any], settings: None) -> list[Request]:
    return [Request(prompt=f"{row['text']} {n}") for n in range(int(row["text"][-1]))]


def test_a_row_may_have_several_requests_and_none() -> None:
    stage = stage_of(echo_spec(temperature=0.5), samples=2, render=several, removes=["text"], label="GPT")
    result = run_model_stage(table("a2", "b0", "c1"), stage)
    assert result["reply"][:] == ["a2 0#0 | a2 0#1 | a2 1#0 | a2 1#1", "", "c1 0#0 | c1 0#1"]
    assert result.column_names == ["id", "reply"]
    expected = [("a2 0", 0), ("a2 0", 1), ("a2 1", 0), ("a2 1", 1), ("c1 0", 0), ("c1 0", 1)]
    (requests,) = requests_of(table("a2", "b0", "c1"), stage)
    assert [(request.prompt, request.sample) for _, request in requests] == expected
    assert len(Server.requested) == 6


def test_rows_are_read_in_batches_of_256() -> None:
    batches = list(row_batches(table(*map(str, range(600))), ["text", "id"]))
    assert [len(rows) for rows in batches] == [256, 256, 88]
    assert batches[2][-1] == {"text": "599", "id": "599"}


def test_the_record_of_a_run_has_its_usage_and_failures() -> None:
    Server.is_down = True
    stage = stage_of(echo_spec(max_failed=1.0))
    prepared = send_missing(table("a", "flaky", "bad", "bad"), stage)
    assert prepared.salt
    assert not prepared.is_final
    usage = {"model": "echo", "requests": 4, "prompt_tokens": 0, "completion_tokens": 0}
    assert prepared.record == {"usage": usage, "failed": 3, "withdrawals": 0}
    assert send_missing(table("a", "flaky", "bad", "bad"), stage).salt == prepared.salt
    Server.is_down = False
    done = send_missing(table("a", "flaky", "bad", "bad"), replace(stage, ask_again={"too_long"}))
    assert done.is_final
    assert {name: done.record[name] for name in ("usage", "failed", "withdrawals")} == {
        "usage": usage, "failed": 2, "withdrawals": 0
    }  # fmt: skip
    assert set(done.record) == {"usage", "failed", "withdrawals", "withdrawn"}
    again = send_missing(table("a", "flaky", "bad", "bad"), stage)
    assert (again.salt, again.record["withdrawn"]) == (done.salt, done.record["withdrawn"])
    without = send_missing(table("a"), stage)
    assert (without.salt, without.record["withdrawals"], "withdrawn" in without.record) == ("", 1, False)


def test_replies_that_are_lost_during_a_run_are_an_error(fresh_caches: Path) -> None:
    stage = stage_of(echo_spec())
    rows = {"id": ["0", "1"], "text": ["a", "b"]}
    with pytest.raises(ToolrlefError) as caught:
        _read_replies(rows, stage)
    path = fresh_caches / "replies.sqlite"
    assert str(caught.value) == f"{path}: 2 replies were deleted or damaged during the run: run again"


def response_of(row: Mapping[str, Any], reply: Reply, settings: None) -> dict[str, Any]:
    return {"error": "cut_off" if (reply.text or "").startswith("cut") else None}


def test_only_the_named_errors_of_responses_are_asked_for_again() -> None:
    stage = stage_of(echo_spec(max_failed=1.0), response_of=response_of)
    data = table("cut a", "b", "bad")
    run_model_stage(data, stage)
    assert run_model_stage(data, replace(stage, ask_again=["cut_off"]))["reply"][:] == ["cut a#0", "b#0", "<too_long>"]
    assert Server.requested[3:] == ["cut a"]
    run_model_stage(data, replace(stage, ask_again=["too_long"]))
    assert Server.requested[4:] == ["bad"]
    run_model_stage(data, replace(stage, ask_again=["cut_off"], response_of=None))
    assert len(Server.requested) == 5, "without responses, only the errors of replies count"


def test_a_cached_result_with_withdrawn_replies_is_outdated() -> None:
    data, other = table("bad", "a"), table("bad", "b")
    stage = stage_of(echo_spec(max_failed=1.0))
    first = run_model_stage(data, stage)
    run_model_stage(other, replace(stage, ask_again={"too_long"}))
    assert Server.requested == ["bad", "a", "bad", "b"]
    again = run_model_stage(data, stage)
    assert again._fingerprint != first._fingerprint, "stages after this one compute their rows again"
    assert run_model_stage(data, stage)._fingerprint == again._fingerprint
    assert len(Server.requested) == 4
    apart = run_model_stage(table("a"), stage)._fingerprint
    run_model_stage(other, replace(stage, ask_again={"too_long"}))
    assert run_model_stage(table("a"), stage)._fingerprint == apart, "none of its replies was withdrawn"
    assert stage_records(table("a"), stage)["withdrawals"] == 2, "the next run checks later withdrawals only"


def stage_records(data: Dataset, stage: ModelStage) -> dict[str, Any]:
    record = read_record(run_model_stage(data, stage)._fingerprint)
    assert record is not None
    return dict(record)


@pytest.mark.parametrize(("min_rows", "is_asked"), [(0, True), (3, True), (4, False)])
def test_other_machines_send_the_requests_that_they_can(min_rows: int, is_asked: bool) -> None:
    asked: list[int] = []

    def ask(data: Dataset, stage: ModelStage) -> None:
        """Reply to all requests but the last one, as a machine that is lost."""
        asked.append(len(data))
        pairs = [pair for pairs in requests_of(data, stage) for pair in pairs][:-1]
        assert not open_store().get([key for key, _ in pairs if key not in known])
        open_store().put([(key, Reply(f"from elsewhere {request.prompt}")) for key, request in pairs])

    stage = stage_of(echo_spec(max_failed=1.0))
    known = {keyed_request(Request(prompt="b"), "1", 0, stage.spec, stage.identity)[0]}
    Server.is_down = True
    run_model_stage(table("bad", "b"), stage)
    Server.requested.clear()
    with using(Backend(ask=ask, min_rows=min_rows)):
        replies = run_model_stage(table("bad", "b", "c"), replace(stage, ask_again={"too_long"}))["reply"][:]
    elsewhere = ["from elsewhere bad", "b#0", "c#0"]
    assert replies == (elsewhere if is_asked else ["<too_long>", "b#0", "c#0"])
    assert (asked, Server.requested) == (([3], ["c"]) if is_asked else ([], ["bad", "c"]))


@contextmanager
def using(backend: Backend) -> Iterator[None]:
    token = BACKEND.set(backend)
    try:
        yield
    finally:
        BACKEND.reset(token)


class RecordedBar:
    """A progress bar that records its settings."""

    made: ClassVar[list[dict[str, Any]]] = []

    def __init__(self, **settings: Any) -> None:
        self.made.append(settings)
        self.bar = tqdm(total=settings["total"], disable=True)

    def __enter__(self) -> Any:
        return self.bar

    def __exit__(self, *_: object) -> None:
        self.bar.close()


def test_the_bar_of_a_stage_names_its_action_and_its_model(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("toolrlef_data.engines.model_stage.tqdm", RecordedBar)
    RecordedBar.made.clear()
    data, script = table("a", "b"), {"": "8"}
    send_missing(data, stage_of(scripted(script, progress=True)))
    send_missing(
        data, stage_of(scripted(script, progress=False, temperature=0.5), samples=3, label="GPT", action="Ask again")
    )
    keys = ("total", "desc", "disable")
    assert [tuple(settings[key] for key in keys) for settings in RecordedBar.made] == [
        (2, "Ask mapping", False), (6, "Ask again GPT", True)
    ]  # fmt: skip
    formats = {settings["bar_format"] for settings in RecordedBar.made}
    assert formats == {"{desc}: {percentage:3.0f}%|{bar:10}| {n_fmt}/{total_fmt} [{elapsed}{postfix}]"}
