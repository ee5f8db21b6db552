"""dfsdt: trajectory searches as generators that yield model requests and function calls.

The driver sends a reply for each request and an observation for each call, so that one driver can run thousands of
searches concurrently. With the same replies and observations, a search always makes the same requests. The algorithms
follow section 3.2 of the ToolBench paper (arXiv 2307.16789) and its code:

- `dfsdt`: up to `width` attempts per state, each explored to its end before the next. From the second attempt on, a
  diversity prompt shows the earlier ones and asks for another. After a final answer or a give-up, the parent state gets
  no further attempt, and the search resumes at the grandparent. Otherwise it resumes at the parent.
- `dfs` (with_filter): all attempts of a state first. The model compares them in pairs, in both orders, and the best
  attempt is explored first. A comparison without a letter in the reply counts half for each attempt.
- `chain` (CoT@n): chains from the root, one after the other.

A state is pruned if it reaches `max_turns`, gives up, or ends a chain that cannot continue. An attempt without a usable
reply (an error, or neither thought nor call) counts as a model call and adds no state.

Differences from upstream:

- Depth counts assistant messages. Upstream counts nodes: 2 for a call, 3 with a thought. Its limit of 12 means 4 to 6
  messages.
- The reply to the last of `max_calls` requests is used, and rankings count as calls.
- `dfs` marks only states that lead to a final answer as finished.
- A chain that gives up can be the chosen path, as in the other searches.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from itertools import combinations
from random import Random
from typing import Any

from toolrlef_data.records import Reply
from toolrlef_data.toolbench.histories import diversity_body, messages_of
from toolrlef_data.toolbench.prompts import DIVERSITY, RANKING, opening_messages
from toolrlef_data.toolbench.search.method import (
    FunctionCall,
    Method,
    ModelRequest,
    SearchGenerator,
    SearchResult,
    SearchState,
)
from toolrlef_data.toolbench.search.protocols import parse_reply
from toolrlef_data.toolbench.tree import FINAL_ANSWER, GIVE_UP, State, path_to
from toolrlef_data.tools.functions.execution import Observation, truncate

__all__ = ["search"]

BACKTRACK_LEVELS = 2  # after a final answer or a give-up, as upstream
_leading_letter = re.compile(r"\W{0,9}([ABab])(?:[.,:;)*\n]|$)")
_trailing_letter = re.compile(r"(?<!\w)([ABab])\W*$")


def search(
    query_id: str,
    query: str,
    functions: Sequence[Mapping[str, Any]],
    method: Method,
    protocol: str = "tools",
    greedy: bool = False,
) -> SearchGenerator[SearchResult]:
    """Search for an answer to a query.

    Args:
        query_id: seeds the choice among give-ups.
        query: the user's request.
        functions: schemas, including `Finish`.
        method: algorithm and limits.
        protocol: for parsing replies, one of `protocols.PROTOCOLS`.
        greedy: whether equal requests always receive equal replies; a state then never repeats a request.

    Yields:
        `ModelRequest`, which requires a `Reply` (without a retryable error), and `FunctionCall`, which requires an
        `Observation`.

    Returns:
        The tree and the outcome.

    >>> running = search("q1", "Is it up?", [{"name": "Finish"}], Method())
    >>> [message["role"] for message in next(running).messages]
    ['system', 'user']
    >>> answer = '{"return_type": "give_answer", "final_answer": "It is."}'
    >>> running.send(Reply("", tool_calls=(("Finish", answer),))).name
    'Finish'
    >>> try:
    ...     running.send(Observation("", 3))
    ... except StopIteration as end:
    ...     end.value.stop_reason
    'answers'
    """
    run = SearchState(query, opening_messages(query, functions), method, protocol, greedy)
    result = run.result
    if method.kind == "chain":
        run.visits = 1  # 0 is the root
        for n in range(method.chains):
            yield from _run_chain(run, n)
            if result.stop_reason:
                break
    else:
        yield from _visit(run, result.root, 0)
    result.stop_reason = result.stop_reason or "exhausted"
    if result.answers:
        result.chosen = result.answers[0]
    elif result.give_ups:
        result.chosen = Random(f"{method.seed}:{query_id}").choice(result.give_ups)
    return result


def _visit(run: SearchState, state: State, turns: int) -> SearchGenerator[int]:
    """Explore a state and return the number of levels to backtrack; 1 resumes at its parent."""
    _set_number(run, state)
    if _record_end(run, state):
        return BACKTRACK_LEVELS
    if turns >= run.method.max_turns:
        state.pruned = True
        return 1
    children = []
    for sample in range(run.method.width):
        child = yield from _expand(run, state, sample)
        if child is not None and run.method.kind == "dfs":
            children.append(child)
        elif child is not None:
            levels = yield from _visit(run, child, turns + 1)
            if levels > 1 or run.result.stop_reason:
                return levels - 1
        if run.result.stop_reason:
            return 1
    for child in (yield from _rank(run, state, children)):
        levels = yield from _visit(run, child, turns + 1)
        if levels > 1 or run.result.stop_reason:
            return levels - 1
    return 1


def _run_chain(run: SearchState, n: int) -> SearchGenerator[None]:
    """Expand the root into one chain; `n` is the number of the chain."""
    state = run.result.root
    for _ in range(run.method.max_turns):
        child = yield from _expand(run, state, n)
        if child is None:
            break
        state = child
        _set_number(run, state)
        if _record_end(run, state):
            return
    state.pruned = state is not run.result.root and run.result.stop_reason != "max_calls"


def _set_number(run: SearchState, state: State) -> None:
    state.number = run.visits
    run.visits += 1


def _record_end(run: SearchState, state: State) -> bool:
    """Record a final answer or a give-up, and return whether the state is either."""
    result = run.result
    if state.code == FINAL_ANSWER:
        result.answers.append(state)
        if len(result.answers) >= run.method.answers:
            result.stop_reason = "answers"
    elif state.code == GIVE_UP:
        result.give_ups.append(state)
    return state.code in (FINAL_ANSWER, GIVE_UP)


def _expand(run: SearchState, state: State, sample: int) -> SearchGenerator[State | None]:
    """Request one message in a state, execute its call, and return the new child; None without a usable reply."""
    child = State(parent=state)  # appended to the parent's children only when complete
    body = "" if run.method.kind == "chain" else diversity_body(child)
    if run.greedy and state.children and not body:  # without a diversity prompt, the request would be the same
        return None
    prompts = {id(child): f"{DIVERSITY[0]}{body}{DIVERSITY[1]}"} if body else {}
    messages = messages_of(child, run.opening, prompts, "faithful")[:-1]
    reply = yield from _request_reply(run, ModelRequest(tuple(messages), sample))
    if reply is None:
        return None
    child.thought, child.call = parse_reply(reply, run.protocol)
    if child.thought is None and child.call is None:
        return None
    if child.call is not None:
        observation = yield FunctionCall(*child.call)
        assert isinstance(observation, Observation)
        child.observation, child.code = truncate(observation.text), observation.code
        child.pruned = child.code == GIVE_UP
        if child.code == FINAL_ANSWER:
            _mark_finished(child)
    run.result.prompts.update(prompts)
    return state.add(child)


def _request_reply(run: SearchState, request: ModelRequest) -> SearchGenerator[Reply | None]:
    """Return a reply; None if `max_calls` is reached."""
    result = run.result
    if result.n_calls >= run.method.max_calls:
        result.stop_reason = "max_calls"
        return None
    reply = yield request
    assert isinstance(reply, Reply)
    result.n_calls += 1
    result.total_tokens += (reply.prompt_tokens or 0) + (reply.completion_tokens or 0)
    return reply


def _mark_finished(answer: State) -> None:
    """Mark a final answer and its ancestors up to the second call above, as upstream; the root counts as a call."""
    state: State | None = answer
    remaining = BACKTRACK_LEVELS
    while state is not None and remaining >= 0:
        state.finished = True
        remaining -= state.call is not None or state.parent is None
        state = state.parent


# Rankings -------------------------------------------------------------------------------------------------------------


def _rank(run: SearchState, state: State, children: Sequence[State]) -> SearchGenerator[Sequence[State]]:
    """Return the children of a state, best first; none if `max_calls` is reached."""
    points = [0.0] * len(children)
    path = _render_states(path_to(state))
    for a, b in combinations(range(len(children)), 2):
        balance = 0
        for first, second in ((a, b), (b, a)):
            parts = {"before": path, "a": _render_states([children[first]]), "b": _render_states([children[second]])}
            content = RANKING.format(query=run.query, **parts)
            request = ModelRequest(({"role": "user", "content": content},), 0, ranking=True)
            reply = yield from _request_reply(run, request)
            if reply is None:
                return ()
            balance += {"A": 1, "B": -1}.get(_parse_letter(reply), 0) * (1 if first == a else -1)
        points[a] += 0.5 + 0.5 * ((balance > 0) - (balance < 0))
        points[b] += 0.5 + 0.5 * ((balance < 0) - (balance > 0))
    return [children[n] for n in sorted(range(len(children)), key=lambda n: -points[n])]


def _render_states(states: Sequence[State]) -> str:
    lines = []
    for state in states:
        lines += [f"Thought: {state.thought}"] if state.thought is not None else []
        if state.call is not None:
            lines += [f"Action: {state.call[0]}", f"Action Input: {state.call[1]}", f"Observation: {state.observation}"]
    return "\n".join(lines) or "(nothing)"


def _parse_letter(reply: Reply) -> str:
    """Return "A" or "B" if the reply starts with the letter or ends with it, as upstream parses it; else ""."""
    thought, _ = parse_reply(reply, "tools")
    text = thought or ""
    match = _leading_letter.match(text) or _trailing_letter.search(text[-20:])
    return match[1].upper() if match else ""
