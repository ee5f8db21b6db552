"""The counts of searches, and the table that `search` prints."""

from __future__ import annotations

import pytest

from tests.support.printed import printed_lines
from toolrlef_data import Reply, generate_trajectories, preference_pairs, scripted, trajectories
from toolrlef_data.cli import console, search
from toolrlef_data.cli.console import search_counts
from toolrlef_data.engines.spec import Request
from toolrlef_data.toolbench.flags import FLAGS
from toolrlef_data.toolbench.search.method import Method


def ping(host: str) -> str:
    """Ask a host whether it is up.

    Args:
        host: its name.
    """
    return f"{host} is up"


def finish(return_type: str) -> Reply:
    return Reply("", tool_calls=(("Finish", f'{{"return_type": "{return_type}", "final_answer": "Yes."}}'),))


PING = Reply("I ask.", tool_calls=(("ping", '{"host": "a"}'),))
THOUGHT = Reply("I think.")
ANSWER, GIVE_UP = finish("give_answer"), finish("give_up_and_restart")
REPLIES = {
    "answer": [PING, THOUGHT, ANSWER],
    "answer at once": [ANSWER],
    "give up": [PING, GIVE_UP],
    "stop": [PING, THOUGHT, THOUGHT],
}
NAMES = [
    *("  answered", "  gave up", "  not finished", "  no answer: --max-turns reached", "  no answer: --max-calls reached"),
    *("model requests", "  messages with a call", "  messages without a call"),
]  # fmt: skip


def reply(request: Request) -> Reply:
    """Reply by the query, the first user message, and by the number of assistant messages since."""
    query = next(message.content for message in request.messages if message.role == "user")
    turn = sum(message.role == "assistant" for message in request.messages)
    return REPLIES[query][turn] if query in REPLIES else Reply(None, error="timeout")


@pytest.mark.parametrize(
    ("query", "max_turns", "max_calls", "expected"),
    [
        ("answer at once", 3, 1, [1, 0, 0, 0, 0, 1, 1, 0]),  # an answer at the maximum of calls is an answer
        ("give up", 3, 3, [0, 1, 0, 0, 0, 2, 2, 0]),
        ("give up", 3, 2, [0, 1, 0, 0, 1, 2, 2, 0]),
        ("give up", 2, 3, [0, 1, 0, 0, 0, 2, 2, 0]),  # a give-up at the maximum of turns
        ("stop", 3, 9, [0, 0, 1, 1, 0, 3, 1, 2]),
        ("stop", 3, 3, [0, 0, 1, 1, 1, 3, 1, 2]),
        ("stop", 3, 2, [0, 0, 1, 0, 1, 2, 1, 1]),
    ],
)
def test_counts_of_a_search(query: str, max_turns: int, max_calls: int, expected: list[int]) -> None:
    method = Method("chain", max_turns=max_turns, max_calls=max_calls)
    answers = generate_trajectories([query], [ping], scripted(reply, progress=False), method=method)
    counts = search_counts(answers, method)
    assert list(counts) == NAMES
    assert list(counts.values()) == expected


def test_the_printed_counts_are_those_of_all_searches(capsys: pytest.CaptureFixture[str]) -> None:
    """Of five queries, one has a model error; the others are counted together."""
    method, model = Method("chain", max_turns=3, max_calls=9), scripted(reply, progress=False, max_failed=1.0)
    answers = generate_trajectories([*REPLIES, "error"], [ping], model, method=method)
    assert len(answers) == 4
    tables = {"trajectories": trajectories(answers, steps="all"), "pairs": preference_pairs(answers)}
    search._print_search(5, answers, tables, method)
    lines = printed_lines(capsys.readouterr().out)
    counts = dict(zip(map(str.strip, NAMES), [2, 1, 1, 1, 0, 9, 6, 3], strict=True))
    expected = {
        "queries": 5,
        "dropped: model error": 1,
        **counts,
        console.TOKENS: "unknown",
        "trajectories": 6,
        "pairs": 0,
    }
    assert lines[: len(expected) + 1] == ["Search", *(f"{name}|{count}" for name, count in expected.items())]
    flags = [f"{name}|0|0" for name in FLAGS]
    assert lines[len(expected) + 1 :] == [
        "Flags", "flag|samples|samples on chosen paths", "(all samples)|6|5", *flags, "Dropped rows", "stage|reason|rows",
        "trajectories|thought_only|3", "preference pairs|no_branch|2", "generate trajectories|timeout|1",
        "preference pairs|finish_type|1", "preference pairs|not_valid|1",
        "Searches that reached --max-turns without an answer: 1. Use a --max-turns above 3 to continue them.",
    ]  # fmt: skip
