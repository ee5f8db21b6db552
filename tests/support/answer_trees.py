"""Answer files of random searches, in ToolBench's form, with a note beside each step of what the model was asked with.

Written from the description of the form, as a search that goes on step by step and keeps its messages, and not from
what the package makes of a file: so that the one can be held against the other.
"""

from __future__ import annotations

import itertools
import json
import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from datasets import Dataset

from toolrlef_data.columns import ANSWERS

Message = dict[str, Any]

NAMES = ("lakes", "depth_for_lakes", "ferries")
FUNCTIONS: list[Message] = [
    {"name": name, "description": f"Tells {name}.", "parameters": {"type": "object"}, "optional": []} for name in NAMES
]
FUNCTIONS.append({"name": "Finish", "description": "Ends.", "parameters": {"type": "object", "properties": {}}})
PROMPT_START, PROMPT_END = "You were here, and did this:\n", "\nDo something [\n  new."
ARGUMENTS = ("{}", '{"lake": "Inari"}', '{\n  "lake": "Ä",\n "n": 1.0}', '{"lake": ', "[1]", "")
OBSERVATIONS = ('{"depth": 92}', "", "no such lake \u2028 \U0001f41f", "[\n  {\n", "x" * 1024 + "...", "x" * 1027, "\0")
THOUGHTS = ("I look.", "I look.\nAgain.", "", "Perhaps not.")


@dataclass(eq=False)
class SearchNode:
    """A message of the model; `request` is what it was asked with, `child_messages` what its own children are asked with."""

    message: Message = field(default_factory=dict)
    request: list[Message] = field(default_factory=list)
    child_messages: list[Message] = field(default_factory=list)
    name: str = ""  # of the function, as the tree has it
    observation: str = ""
    code: int | None = None
    number: int = 0
    place: str = ""
    parent: SearchNode | None = None
    children: list[SearchNode] = field(default_factory=list)

    def path(self) -> list[SearchNode]:
        return [] if self.parent is None else [*self.parent.path(), self]

    def descendants(self) -> Iterator[SearchNode]:
        for child in self.children:
            yield child
            yield from child.descendants()

    @property
    def is_thought(self) -> bool:
        """Whether it is a thought alone."""
        return self.parent is not None and "function_call" not in self.message

    def list_of(self) -> list[Message]:
        """What a training file shows of it: of the hidden prompts, the last one."""
        upto = self.child_messages[
            : next(i for i, message in enumerate(self.child_messages) if message is self.message) + 1
        ]
        hidden = [i for i, message in enumerate(upto) if message.get("valid") is False]
        return [message for i, message in enumerate(upto) if i not in hidden[:-1]]

    def histories(self) -> dict[str, list[Message]]:
        """History and message, by kind."""
        clean = [message for message in self.request if message.get("valid") is not False]
        return {"upstream": self.list_of(), "faithful": [*self.request, self.message], "clean": [*clean, self.message]}


@dataclass
class RandomSearch:
    """A random search; with `ranked`, all children of a state are there before the first of them is visited."""

    seed: int
    width: int = 2
    turns: int = 4
    ranked: bool = False
    thoughts: float = 0.2  # share of messages that only think

    def __post_init__(self) -> None:
        self.draw = random.Random(f"answer trees {self.seed}")
        self.query = f"How deep is lake {self.seed}?"
        system, user = {"role": "system", "content": "Think, then call."}, {"role": "user", "content": self.query}
        self.root = SearchNode(child_messages=[system, user])
        self.visits = itertools.count()
        self.answer: SearchNode | None = None
        self._visit(self.root, self.turns)
        gave_up = [state for state in self.root.descendants() if state.code == 4]
        self.end = self.answer or (self.draw.choice(gave_up) if gave_up else None)

    def _visit(self, state: SearchNode, turns: int) -> None:
        state.number = next(self.visits)
        if state.code in (3, 4) or not turns:
            self.answer = state if state.code == 3 else self.answer
            return
        born = []
        for _ in range(self.draw.randint(1, self.width)):
            born.append(self._ask(state, turns))
            if not self.ranked:
                self._visit(born[-1], turns - 1)
                if self.answer is not None:
                    return
        if self.ranked:
            self.draw.shuffle(born)
            for child in born:
                if self.answer is None:
                    self._visit(child, turns - 1)

    def _ask(self, state: SearchNode, turns: int) -> SearchNode:
        saw = [message for message in state.child_messages if message.get("valid") is not False]
        if tried := list(_first_calls(state)):
            body = json.dumps(tried, indent=2) + "\n"
            body += f"again, your former observation: {state.observation}\n" if state.observation else ""
            state.child_messages.append({"role": "user", "content": PROMPT_START + body + PROMPT_END, "valid": False})
            saw.append(state.child_messages[-1])
        child = SearchNode(request=saw, parent=state, place=f"{state.place}.{len(state.children)}".lstrip("."))
        child.message = {"role": "assistant", "content": self.draw.choice([None, *THOUGHTS])}
        child.child_messages = [*state.child_messages, child.message]
        state.children.append(child)
        if self.draw.random() < self.thoughts:
            child.message["content"] = self.draw.choice(THOUGHTS)
            return child
        child.name = self.draw.choice([*NAMES, "made_up", *["Finish"] * (2 if turns > 1 else 6)])
        arguments, child.observation, child.code = self.draw.choice(ARGUMENTS), self.draw.choice(OBSERVATIONS), 0
        if child.name == "Finish":
            child.code = self.draw.choice([3, 4, 4, 4])
            kind = "give_answer" if child.code == 3 else "give_up_and_restart"
            arguments = json.dumps({"return_type": kind, "final_answer": f"{self.seed}"})
        elif child.name == "made_up":
            child.code = 1
        said = "invalid_hallucination_function_name" if child.code == 1 else child.name
        child.message["function_call"] = {"name": said, "arguments": arguments}
        child.child_messages.append({"role": "function", "name": said, "content": child.observation})
        return child

    def lists(self) -> list[list[Message]]:
        """The `train_messages`; a thought that shares its message, behind one of its own, repeats that one's list."""
        found = []
        for state in self.end.path() if self.end is not None else ():
            parent = state.parent
            if (
                parent is not None
                and parent.is_thought
                and not state.is_thought
                and state.message["content"] is not None
            ):
                found.append(parent.list_of())
            found.append(state.list_of())
        return found

    def file(self) -> dict[str, Any]:
        """The answer file."""
        made: dict[str, Any] = {"valid_data": self.end is not None, "query_count": 7, "total_tokens": 900}
        made |= {
            "final_answer": "",
            "finish_type": "give_answer",
            "function": FUNCTIONS,
            "query": self.query,
            "chain": [],
        }
        if self.end is not None:
            made |= {"finish_type": "give_answer" if self.answer else "give_up", "train_messages": self.lists()}
        tree = {"size": 1, "max_length": 1, "tree": _node("Action Input", "", self.root, _nodes(self.root))}
        arguments = {"tree_beam_size": self.width, "with_filter": self.ranked}
        whole = {"win": self.answer is not None, "tree": tree, "forward_args": arguments, "compare_candidates": []}
        whole["answer_generation"] = made
        loaded: dict[str, Any] = json.loads(json.dumps(whole))
        return loaded


def _first_calls(state: SearchNode) -> Iterator[dict[str, Any]]:
    """Each child's first call, and what it gave; a child that has come to none is left out."""
    for child in state.children:
        while child.is_thought and child.children:
            child = child.children[0]
        if not child.is_thought:
            arguments = child.message["function_call"]["arguments"]
            own = {"name": child.name, "arguments": arguments, "function_output": child.observation}
            yield {**own, "mento-carlo-action-value": 0.0}


def _nodes(state: SearchNode) -> list[dict[str, Any]]:
    return [node for child in state.children for node in _chain(child)]


def _chain(state: SearchNode) -> list[dict[str, Any]]:
    """A state as the one node it begins with; nodes that were not visited themselves have the number 0."""
    descendants, thought = _nodes(state), state.message["content"]
    if state.is_thought:
        return [_node("Thought", thought, state, descendants)]
    unvisited = SearchNode()
    nodes = [_node("Action Input", state.message["function_call"]["arguments"], state, descendants)]
    nodes = [_node("Action", state.name, unvisited, nodes)]
    return nodes if thought is None else [_node("Thought", thought, unvisited, nodes)]


def _node(kind: str, description: str, state: SearchNode, children: list[dict[str, Any]]) -> dict[str, Any]:
    node = {"node_type": kind, "description": description, "expand_num": state.number, "pruned": state.code == 4}
    node |= {"observation": state.observation} if state.observation else {}
    node |= {"observation_code": state.code} if state.code is not None else {}
    return node | {"is_terminal": False, "finished": state.code == 3, "children": children}


def searches(count: int) -> list[RandomSearch]:
    """Searches of all kinds; some of them come to nothing."""
    kinds = [(2, 4, False, 0.2), (3, 3, False, 0.5), (2, 5, False, 0.7), (3, 3, True, 0.3), (1, 5, False, 0.1)]
    return [RandomSearch(seed, *kinds[seed % len(kinds)]) for seed in range(count)]


def table(files: Mapping[str, Any]) -> Dataset:
    """Answer files, or their texts, by id, as the table that a source makes of them."""
    return Dataset.from_list([row(name, file) for name, file in files.items()], features=ANSWERS)


def row(name: str, file: Any) -> dict[str, Any]:
    made = file["answer_generation"] if isinstance(file, dict) else {}
    known = {column: made.get(key) for column, key in (("query", "query"), ("finish_type", "finish_type"))}
    known |= {"valid": made.get("valid_data", True), "win": True, "n_calls": 7, "total_tokens": 900}
    text = json.dumps(file) if isinstance(file, dict) else file
    return {
        "id": name,
        "task": "toolbench",
        "dataset": "toolbench",
        "source_file": f"{name}.json",
        "answer": text,
    } | known
