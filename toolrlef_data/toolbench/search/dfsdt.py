"""dfsdt: the searches as generators, which yield what they need and are sent it: a model's reply, a function's result.

So one driver can run thousands of them at once, and a search that is run again with the same replies asks the same.
What they do is section 3.2 of the ToolBench paper (arXiv 2307.16789) and its code:

- `dfsdt`: from each state up to `width` tries, each followed to its end before the next. From the second on, the model
  is shown the earlier ones and asked for another. What lies behind a try says how far to go back: after a give-up or an
  answer the state above gets no further try, the one above that goes on; everywhere else the state itself goes on.
- `dfs` (with_filter): all tries of a state first; the model compares them two by two, in both orders; the best is
  followed first. Its comparison of two ways counts half for each where the model gives no letter.
- `chain` (CoT@n): chains from the beginning, one after the other.

A state where the turns are used up, that gave up, or that a chain could not go on from, is pruned. A try that the model
gave no reply to (an error, or neither thought nor call) costs a call and leaves no state.

Otherwise than upstream: depth is the number of the model's messages, where upstream counts nodes (a call costs 2, with
a thought 3; its limit of 12 is 4 to 6 messages); the call that reaches `max_calls` is used, and rankings count; `dfs`
marks as finished only what leads to an answer; chains that give up are shown like searches that do.
"""

from __future__ import annotations

import re
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from random import Random
from typing import Any

from toolrlef_data.records import InputError, Reply, UnknownName
from toolrlef_data.toolbench.histories import diversity_body, messages_of
from toolrlef_data.toolbench.messages import Raw
from toolrlef_data.toolbench.prompts import DIVERSITY, RANKING, opening_of
from toolrlef_data.toolbench.search.protocols import message_from
from toolrlef_data.toolbench.tree import FINAL_ANSWER, GIVE_UP, State, path_to
from toolrlef_data.tools.functions.function import Observation, truncate

__all__ = ["Ask", "Call", "Found", "Method", "search"]

KINDS = ("dfsdt", "dfs", "chain")
MOST_TURNS = 100  # a search is as many generators deep
_letter_first = re.compile(r"\W{0,9}([ABab])(?:[.,:;)*\n]|$)")
_letter_last = re.compile(r"(?<!\w)([ABab])\W*$")
BACK = 2  # levels to go back after an answer or a give-up; upstream's constants


@dataclass(frozen=True, slots=True)
class Ask:
    """A search needs a `Reply`.

    Args:
        messages: as ToolBench has them.
        sample: the number of the try, so that sampled replies differ.
        ranking: whether two ways are compared, which takes no functions.
    """

    messages: tuple[Raw, ...]
    sample: int
    ranking: bool = False


@dataclass(frozen=True, slots=True)
class Call:
    """A search needs an `Observation`: of a function called with arguments as the model wrote them."""

    name: str
    arguments: str


@dataclass(frozen=True)
class Method:
    """How to search.

    Args:
        kind: "dfsdt", "dfs" or "chain", see the module.
        width: tries from one state at most, except in a chain.
        max_turns: messages of the model from the beginning to an end.
        max_calls: of the model in one search, rankings included.
        answers: after so many a search ends.
        chains: of the kind "chain" only.
        seed: of the choice among give-ups.

    Raises:
        InputError: a value out of range.

    >>> Method().name, Method("chain", chains=3).name
    ('DFS_woFilter_w2', 'CoT@3')
    """

    kind: str = "dfsdt"
    width: int = 2
    max_turns: int = 6
    max_calls: int = 200
    answers: int = 1
    chains: int = 1
    seed: int = 0

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise UnknownName("kind of search", self.kind, KINDS)
        for name in ("width", "max_turns", "max_calls", "answers", "chains"):
            if type(value := getattr(self, name)) is not int or value < 1:
                raise InputError(f"{name} is a whole number of at least 1, found {value!r:.80}")
        if self.max_turns > MOST_TURNS:
            raise InputError(f"max_turns is {MOST_TURNS} at most, found {self.max_turns}")
        if type(self.seed) is not int:
            raise InputError(f"seed is a whole number, found {self.seed!r:.80}")

    @property
    def name(self) -> str:
        """As upstream calls it in the names of files; its parser takes the filter's name, too."""
        filtered = "wFilter" if self.kind == "dfs" else "woFilter"
        return f"CoT@{self.chains}" if self.kind == "chain" else f"DFS_{filtered}_w{self.width}"


@dataclass
class Found:
    """What a search came to.

    Args:
        root: of all its states; each chain of the kind "chain" begins below it.
        prompts: id() of a state -> the diversity prompt that it was asked with.
        answers, give_ups: states in the order of visits.
        chosen: the state that the answer file shows: the first answer, else a give-up, drawn by seed and query.
        n_calls: of the model, rankings included.
        total_tokens: of prompts and replies, as far as engines know them.
        ended: "answers" (there are enough), "max_calls" or "exhausted".
    """

    root: State = field(default_factory=State)
    prompts: dict[int, str] = field(default_factory=dict)
    answers: list[State] = field(default_factory=list)
    give_ups: list[State] = field(default_factory=list)
    chosen: State | None = None
    n_calls: int = 0
    total_tokens: int = 0
    ended: str = ""


@dataclass
class _Run:
    """A search under way: what it was given, what it has found, and how many states it has visited."""

    query: str
    opening: list[Raw]
    method: Method
    protocol: str
    greedy: bool
    found: Found = field(default_factory=Found)
    visits: int = 0


def search(
    query_id: str,
    query: str,
    functions: Sequence[Mapping[str, Any]],
    method: Method,
    protocol: str = "tools",
    greedy: bool = False,
) -> Generator[Ask | Call, Reply | Observation, Found]:
    """Search for an answer to a query.

    Args:
        query_id: gives each query its own draw among give-ups.
        query: what the user wants.
        functions: schemas, `Finish` included.
        method: how to search.
        protocol: that replies are read in (`protocols.PROTOCOLS`).
        greedy: whether the same request always gets the same reply; it is then not made twice from one state.

    Yields:
        `Ask`, to be sent a `Reply` (with an error only if that is final), and `Call`, to be sent an `Observation`.

    Returns:
        What it came to.

    >>> under_way = search("q1", "Is it up?", [{"name": "Finish"}], Method())
    >>> [message["role"] for message in next(under_way).messages]
    ['system', 'user']
    >>> answer = '{"return_type": "give_answer", "final_answer": "It is."}'
    >>> under_way.send(Reply("", tool_calls=(("Finish", answer),))).name
    'Finish'
    >>> try:
    ...     under_way.send(Observation("", 3))
    ... except StopIteration as end:
    ...     end.value.ended
    'answers'
    """
    run = _Run(query, opening_of(query, functions), method, protocol, greedy)
    found = run.found
    if method.kind == "chain":
        run.visits = 1  # the root's is 0
        for n in range(method.chains):
            yield from _chain(run, n)
            if found.ended:
                break
    else:
        yield from _visit(run, found.root, 0)
    found.ended = found.ended or "exhausted"
    if found.answers:
        found.chosen = found.answers[0]
    elif found.give_ups:
        found.chosen = Random(f"{method.seed}:{query_id}").choice(found.give_ups)
    return found


def _visit(run: _Run, state: State, turns: int) -> Generator[Ask | Call, Reply | Observation, int]:
    """Search from a state, and say how many levels to go back: 1 to its parent, which goes on."""
    _number(run, state)
    if _ends(run, state):
        return BACK
    if turns >= run.method.max_turns:
        state.pruned = True
        return 1
    ways = []
    for sample in range(run.method.width):
        child = yield from _try(run, state, sample)
        if child is not None and run.method.kind == "dfs":
            ways.append(child)
        elif child is not None:
            back = yield from _visit(run, child, turns + 1)
            if back > 1 or run.found.ended:
                return back - 1
        if run.found.ended:
            return 1
    for child in (yield from _ranked(run, state, ways)):
        back = yield from _visit(run, child, turns + 1)
        if back > 1 or run.found.ended:
            return back - 1
    return 1


def _chain(run: _Run, n: int) -> Generator[Ask | Call, Reply | Observation, None]:
    state = run.found.root
    for _ in range(run.method.max_turns):
        child = yield from _try(run, state, n)
        if child is None:
            break
        state = child
        _number(run, state)
        if _ends(run, state):
            return
    state.pruned = state is not run.found.root and run.found.ended != "max_calls"


def _number(run: _Run, state: State) -> None:
    state.number = run.visits
    run.visits += 1


def _ends(run: _Run, state: State) -> bool:
    """Whether a state is an answer or a give-up; it is then among those found."""
    found = run.found
    if state.code == FINAL_ANSWER:
        found.answers.append(state)
        if len(found.answers) >= run.method.answers:
            found.ended = "answers"
    elif state.code == GIVE_UP:
        found.give_ups.append(state)
    return state.code in (FINAL_ANSWER, GIVE_UP)


def _try(run: _Run, state: State, sample: int) -> Generator[Ask | Call, Reply | Observation, State | None]:
    """Ask for one message in a state and execute its call: a child, or None where there came none."""
    child = State(parent=state)  # not among the parent's children before it has come
    body = "" if run.method.kind == "chain" else diversity_body(child)
    if run.greedy and state.children and not body:  # only a thought came before, of which the model is not told
        return None
    prompts = {id(child): f"{DIVERSITY[0]}{body}{DIVERSITY[1]}"} if body else {}
    messages = messages_of(child, run.opening, prompts, "faithful")[:-1]
    reply = yield from _ask(run, Ask(tuple(messages), sample))
    if reply is None:
        return None
    child.thought, child.call = message_from(reply, run.protocol)
    if child.thought is None and child.call is None:
        return None
    if child.call is not None:
        seen = yield Call(*child.call)
        assert isinstance(seen, Observation)
        child.observation, child.code = truncate(seen.text), seen.code
        child.pruned = child.code == GIVE_UP
        if child.code == FINAL_ANSWER:
            _finish(child)
    run.found.prompts.update(prompts)
    return state.add(child)


def _ask(run: _Run, ask: Ask) -> Generator[Ask | Call, Reply | Observation, Reply | None]:
    """A reply; None where no more may be asked."""
    found = run.found
    if found.n_calls >= run.method.max_calls:
        found.ended = "max_calls"
        return None
    reply = yield ask
    assert isinstance(reply, Reply)
    found.n_calls += 1
    found.total_tokens += (reply.prompt_tokens or 0) + (reply.completion_tokens or 0)
    return reply


def _finish(answer: State) -> None:
    """Mark an answer and what led to it, up to the second call above, as upstream does; the root counts as a call."""
    state: State | None = answer
    left = BACK
    while state is not None and left >= 0:
        state.finished = True
        left -= state.call is not None or state.parent is None
        state = state.parent


# Rankings -------------------------------------------------------------------------------------------------------------


def _ranked(
    run: _Run, state: State, ways: Sequence[State]
) -> Generator[Ask | Call, Reply | Observation, Sequence[State]]:
    """Ways of going on from a state, the best first; none where no more may be asked."""
    points = [0.0] * len(ways)
    before = _told(path_to(state))
    for a, b in combinations(range(len(ways)), 2):
        balance = 0
        for first, second in ((a, b), (b, a)):
            shown = {"before": before, "a": _told([ways[first]]), "b": _told([ways[second]])}
            content = RANKING.format(query=run.query, **shown)
            reply = yield from _ask(run, Ask(({"role": "user", "content": content},), 0, ranking=True))
            if reply is None:
                return ()
            balance += {"A": 1, "B": -1}.get(_letter(reply), 0) * (1 if first == a else -1)
        points[a] += 0.5 + 0.5 * ((balance > 0) - (balance < 0))
        points[b] += 0.5 + 0.5 * ((balance < 0) - (balance > 0))
    return [ways[n] for n in sorted(range(len(ways)), key=lambda n: -points[n])]


def _told(states: Sequence[State]) -> str:
    lines = []
    for state in states:
        lines += [f"Thought: {state.thought}"] if state.thought is not None else []
        if state.call is not None:
            lines += [f"Action: {state.call[0]}", f"Action Input: {state.call[1]}", f"Observation: {state.observation}"]
    return "\n".join(lines) or "(nothing)"


def _letter(reply: Reply) -> str:
    """A or B, where a reply says one of them: alone, before a sign, or as its last word (as upstream reads it)."""
    thought, _ = message_from(reply, "tools")
    text = thought or ""
    found = _letter_first.match(text) or _letter_last.search(text[-20:])
    return found[1].upper() if found else ""
