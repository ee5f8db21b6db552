"""What the model of a search receives, and the functions whose results are stored."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.support.api_server import ApiServer
from toolrlef_data import EngineSpec, Method, Reply, generate_trajectories, scripted, trajectories
from toolrlef_data.engines.spec import Request
from toolrlef_data.toolbench.prompts import RANKING
from toolrlef_data.toolbench.search.protocols import FORMAT, STOP

QUERY = "Is a up?"
ANSWER = ("Finish", json.dumps({"return_type": "give_answer", "final_answer": "It is up."}))


def ping(host: str) -> str:
    """Ask a host whether it is up.

    Args:
        host: its name.
    """
    return f"{host} is up"


@pytest.mark.parametrize("protocol", ["tools", "text"])
def test_a_comparison_offers_no_functions_and_every_other_request_all(protocol: str) -> None:
    requests: list[Request] = []

    def model(request: Request) -> Reply:
        requests.append(request)
        if request.messages[-1].content.startswith(RANKING[:30]):
            return Reply("A")
        n = len(requests)
        name, arguments = ("ping", f'{{"host": "{n}"}}') if n < 3 else ANSWER
        if protocol == "text":
            return Reply(f"Thought: I ask.\nAction: {name}\nAction Input: {arguments}")
        return Reply("I ask.", tool_calls=((name, arguments),))

    engine = scripted(model, temperature=1.0, progress=False)
    generate_trajectories([QUERY], [ping], engine, method=Method("dfs", max_turns=3), protocol=protocol)
    comparisons = [request for request in requests if request.messages[-1].content.startswith(RANKING[:30])]
    others = [request for request in requests if request not in comparisons]
    assert len(comparisons) >= 2, "both orders"
    assert len(others) >= 3
    texts = {True: [], False: []}  # type: dict[bool, list[str]]
    for request in requests:
        texts[request in comparisons].append(" ".join(message.content for message in request.messages))
    assert [request.tools for request in comparisons] == [()] * len(comparisons)
    assert not any(FORMAT in text for text in texts[True])
    if protocol == "text":
        assert all(FORMAT in text and '"name": "ping"' in text for text in texts[False])
    else:
        names = [[json.loads(tool)["function"]["name"] for tool in request.tools] for request in others]
        assert names == [["ping", "Finish"]] * len(others)


@pytest.mark.parametrize(("protocol", "stop"), [("tools", ["END"]), ("text", ["END", *STOP])])
def test_the_stop_strings_of_the_engine_are_kept(protocol: str, stop: list[str]) -> None:
    with ApiServer() as server:
        engine = EngineSpec("openai_api", "m", base_url=server.url, stop=("END",), max_tokens=77, progress=False)
        generate_trajectories([QUERY], [ping], engine, method=Method(max_calls=1), protocol=protocol)
        (body,) = [request.body for request in server.requests]
    assert (body["stop"], body.get("max_tokens", body.get("max_completion_tokens"))) == (stop, 77)


def module_with(path: Path, answer: str) -> Any:
    """Return a function `look` of a module, whose result is in a helper of the module."""
    path.write_text(
        f"def _find(host):\n    return host + {answer!r}\n\n\n"
        'def look(host: str) -> str:\n    """Look at a host.\n\n    Args:\n        host: its name.\n    """\n'
        "    return _find(host)\n"
    )
    namespace: dict[str, Any] = {"__name__": path.stem, "__file__": str(path)}
    exec(compile(path.read_text(), str(path), "exec"), namespace)
    return namespace["look"]


def test_a_function_whose_results_change_is_executed_again(tmp_path: Path) -> None:
    """The stored observation of a function is that of its code, with the helpers that the code calls."""

    def model(request: Request) -> Reply:
        first = not any(message.role == "tool" for message in request.messages)
        return Reply("I look.", tool_calls=(("look", '{"host": "a"}') if first else ANSWER,))

    def result_of(name: str, answer: str) -> str:
        look = module_with(tmp_path / f"{name}.py", answer)
        answers = generate_trajectories([QUERY], [look], scripted(model, progress=False))
        return str(trajectories(answers)[1]["messages"][-2]["content"])

    assert [result_of(*case) for case in (("one", " is up"), ("two", " is down"))] == [
        json.dumps({"error": "", "response": f"a is {state}"}) for state in ("up", "down")
    ]
