"""The settings of a search (`Method`), what it asks of its driver, and its result."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass, field
from typing import TypeVar

from toolrlef_data.choices import check_choice
from toolrlef_data.records import InputError, Reply
from toolrlef_data.toolbench.messages import RawMessage
from toolrlef_data.toolbench.tree import State
from toolrlef_data.tools.functions.execution import Observation

__all__ = [
    "FunctionCall",
    "Method",
    "ModelRequest",
    "SearchAction",
    "SearchGenerator",
    "SearchInput",
    "SearchResult",
    "SearchState",
]

KINDS = ("dfsdt", "dfs", "chain")
MAX_TURNS = 100  # a search nests one generator per turn


@dataclass(frozen=True, slots=True)
class ModelRequest:
    """A model request that a search yields; the driver sends back a `Reply`.

    Args:
        messages: the history, in ToolBench's format.
        sample: number of the attempt; sampled replies to equal messages differ by it.
        ranking: whether the request compares two attempts. It then offers no functions.
    """

    messages: tuple[RawMessage, ...]
    sample: int
    ranking: bool = False


@dataclass(frozen=True, slots=True)
class FunctionCall:
    """A function call that a search yields; the driver sends back an `Observation`.

    Args:
        name: name of the function.
        arguments: the model's raw text.
    """

    name: str
    arguments: str


SearchAction = ModelRequest | FunctionCall
SearchInput = Reply | Observation
T = TypeVar("T")
SearchGenerator = Generator[SearchAction, SearchInput, T]


@dataclass(frozen=True)
class Method:
    """Algorithm and limits of a trajectory search.

    Args:
        kind: "dfsdt" (default): depth-first, with a diversity prompt for each further attempt. "dfs": depth-first, with
            attempts ranked by the model. "chain": independent chains.
        width: maximum attempts per state; default: 2. Chains do not use it.
        max_turns: maximum assistant messages on one path; default: 6, at most 100.
        max_calls: maximum model calls per search, including rankings; default: 200.
        answers: number of final answers that ends a search; default: 1.
        chains: number of chains, for kind="chain" only; default: 1.
        seed: for the random choice among give-ups; default: 0.

    Raises:
        UnknownName: an unknown kind.
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
        check_choice("kind of search", self.kind, KINDS)
        for name in ("width", "max_turns", "max_calls", "answers", "chains"):
            if type(value := getattr(self, name)) is not int or value < 1:
                raise InputError(f"{name} must be a whole number of at least 1, found {value!r:.80}")
        if self.max_turns > MAX_TURNS:
            raise InputError(f"max_turns must be at most {MAX_TURNS}, found {self.max_turns}")
        if type(self.seed) is not int:
            raise InputError(f"seed must be a whole number, found {self.seed!r:.80}")

    @property
    def name(self) -> str:
        """Upstream's name of the method in file names."""
        filtered = "wFilter" if self.kind == "dfs" else "woFilter"
        return f"CoT@{self.chains}" if self.kind == "chain" else f"DFS_{filtered}_w{self.width}"


@dataclass
class SearchResult:
    """The tree and the outcome of a search.

    Args:
        root: the root of the search tree; its children are the chains if the kind is "chain".
        prompts: id() of a state -> the diversity prompt that asked for it.
        answers, give_ups: states in the order of visits.
        chosen: end of the chosen path: the first answer, or a give-up drawn by seed and query.
        n_calls: model calls, including rankings.
        total_tokens: of prompts and completions, as far as the engine reports them.
        stop_reason: "answers", "max_calls" or "exhausted".
    """

    root: State = field(default_factory=State)
    prompts: dict[int, str] = field(default_factory=dict)
    answers: list[State] = field(default_factory=list)
    give_ups: list[State] = field(default_factory=list)
    chosen: State | None = None
    n_calls: int = 0
    total_tokens: int = 0
    stop_reason: str = ""


@dataclass
class SearchState:
    """The inputs and the progress of a running search; `visits` is the number of visited states."""

    query: str
    opening: list[RawMessage]
    method: Method
    protocol: str
    greedy: bool
    result: SearchResult = field(default_factory=SearchResult)
    visits: int = 0
