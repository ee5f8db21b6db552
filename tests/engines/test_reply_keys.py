"""Reply keys are stable across versions, so that an upgrade never pays again for a stored reply.

Each test stores a reply under a literal reply key and runs a stage that would otherwise send a request. If a test
fails, all users lose their stored replies: restore the key, or announce the change in CHANGELOG.md.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from datasets import Dataset

from toolrlef_data import EngineSpec, Reply, Responder, answer, generate_trajectories, respond, scripted
from toolrlef_data.columns import QUESTIONS, STAGE1
from toolrlef_data.engines.reply_store import open_store, store_path

# No server listens there: a request would fail, and so would the stage.
UNREACHABLE_URL = "http://127.0.0.1:9/v1"
FAIL_FAST: dict[str, Any] = {"retries": 0, "timeout": 0.1, "max_failed": 0.0, "progress": False}


def questions() -> Dataset:
    row = {"id": "sums-1", "task": "math", "dataset": "sums", "question": "What is 3 times 12?", "answers": ["36"]}
    return Dataset.from_list([{**dict.fromkeys(QUESTIONS, ""), **row}], features=QUESTIONS)


def store(replies: dict[str, Reply]) -> None:
    open_store(store_path()).put(list(replies.items()))


def test_reply_key_of_a_scripted_engine() -> None:
    store({"8e7803267af306a6537507769225ac2e": Reply("from the store")})
    answered = answer(questions(), scripted(["asked"], progress=False))
    assert answered[0]["response"]["text"] == "from the store"


def test_reply_key_of_a_chat_model() -> None:
    store({"fa1c6c2843ddae90706d69cd28acd9db": Reply("from the store")})
    spec = EngineSpec("openai_api", "some-model", base_url=UNREACHABLE_URL, temperature=0.7, seed=3, **FAIL_FAST)
    assert answer(questions(), spec)[0]["response"]["text"] == "from the store"


def test_reply_key_of_a_request_with_a_tool() -> None:
    store(
        {
            "302367d876482564095671649238b8b1": Reply(
                "", tool_calls=(("calculator", '{"expression": "3*12"}'),), finish_reason="tool_calls"
            )
        }
    )
    row = {"instruction": "Use calculator(expression).", "input": "3 times 12?", "output": "36", "source": "student"}
    row |= {"id": "sums-1", "task": "math", "dataset": "sums"}
    stage1 = Dataset.from_list([{**dict.fromkeys(STAGE1), **row, "answers": ["36"]}], features=STAGE1)
    spec = EngineSpec(
        "openai_api", "some-model", base_url=UNREACHABLE_URL, options={"extra_body": {"k": 1}}, **FAIL_FAST
    )
    responded = respond(stage1, [Responder("caller", spec, protocol="tools")])
    assert responded[0]["caller"]["text"] == "calculator(3*12)"


def test_reply_key_of_a_local_model(tmp_path: Path) -> None:
    store({"84b1657745fb5892f5b03cd96f22252e": Reply("from the store")})
    files = {"config.json": "{}", "model.safetensors": "weights", "tokenizer.json": "{}", "tokenizer_config.json": "{}"}
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    spec = EngineSpec("local", str(tmp_path), dtype="float32", stop=("\n",), progress=False)
    assert answer(questions(), spec)[0]["response"]["text"] == "from the store"


def ping(host: str) -> str:
    """Ask a host whether it is up.

    Args:
        host: its name.
    """
    return f"{host} is up"


def test_reply_keys_of_a_trajectory_search() -> None:
    """The later keys depend on the function's output and on the error text for a wrong argument."""
    store(
        {
            "4a4285b98cea75e15eb9e44ffdff912a": Reply(
                "I look.", tool_calls=(("ping", '{"host": 5}'),), finish_reason="tool_calls"
            ),
            "104d31c83c97b9cc1a3134a9e19ce816": Reply(
                "Again.", tool_calls=(("ping", '{"host": "a"}'),), finish_reason="tool_calls"
            ),
            "7366066772317b456db365c8cd199584": Reply(
                "Done.",
                tool_calls=(("Finish", '{"return_type": "give_answer", "final_answer": "It is up."}'),),
                finish_reason="tool_calls",
            ),
        }
    )
    spec = EngineSpec("openai_api", "some-model", base_url=UNREACHABLE_URL, **FAIL_FAST)
    answers = generate_trajectories(["Is a up?"], [ping], spec)
    assert answers[0]["finish_type"] == "give_answer"
    assert "a is up" in answers[0]["answer"]
