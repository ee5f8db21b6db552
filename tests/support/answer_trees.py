"""Answer files of random trajectory searches in ToolBench's format, with the request of each step.

The searches follow the description of the format and keep their messages step by step. They share no code with the
package, so the tests can compare the two.
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
    """A message of the model, with the messages of its request, and those from which its children's requests start."""

    message: Message = field(default_factory=dict)
    request: list[Message] = field(default_factory=list)
    child_messages: list[Message] = field(default_factory=list)
    name: str = ""  # of the function, as in the tree
    observation: str = ""
    code: int | None = None
    number: int = 0
    place: str = ""
    parent: SearchNode | None = None
    children: list[SearchNode] = field(default_factory=list)

    def path(self) -> list[SearchNode]:
        """Return the nodes from below the root to this one."""
        return [] if self.parent is None else [*self.parent.path(), self]

    def descendants(self) -> Iterator[SearchNode]:
        for child in self.children:
            yield child
            yield from child.descendants()

    @property
    def is_thought(self) -> bool:
        """Return whether the message is a thought without a call."""
        return self.parent is not None and "function_call" not in self.message

    def training_messages(self) -> list[Message]:
        """Return the messages of a training file: all up to this one, but of the hidden prompts only the last."""
        end = next(i for i, message in enumerate(self.child_messages) if message is self.message) + 1
        messages = self.child_messages[:end]
        hidden = [i for i, message in enumerate(messages) if message.get("valid") is False]
        return [message for i, message in enumerate(messages) if i not in hidden[:-1]]

    def histories(self) -> dict[str, list[Message]]:
        """Return kind of history -> the messages of the history, followed by this message."""
        clean = [message for message in self.request if message.get("valid") is not False]
        return {
            "upstream": self.training_messages(),
            "faithful": [*self.request, self.message],
            "clean": [*clean, self.message],
        }


@dataclass
class RandomSearch:
    """A random search; with `ranked`, all children of a node are generated before the first of them is visited."""

    seed: int
    width: int = 2
    turns: int = 4
    ranked: bool = False
    thoughts: float = 0.2  # share of thoughts without a call

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
        children = []
        for _ in range(self.draw.randint(1, self.width)):
            children.append(self._ask(state, turns))
            if not self.ranked:
                self._visit(children[-1], turns - 1)
                if self.answer is not None:
                    return
        if self.ranked:
            self.draw.shuffle(children)
            for child in children:
                if self.answer is None:
                    self._visit(child, turns - 1)

    def _ask(self, state: SearchNode, turns: int) -> SearchNode:
        request = [message for message in state.child_messages if message.get("valid") is not False]
        if calls := list(_first_calls(state)):
            body = json.dumps(calls, indent=2) + "\n"
            body += f"again, your former observation: {state.observation}\n" if state.observation else ""
            state.child_messages.append({"role": "user", "content": PROMPT_START + body + PROMPT_END, "valid": False})
            request.append(state.child_messages[-1])
        child = SearchNode(request=request, parent=state, place=f"{state.place}.{len(state.children)}".lstrip("."))
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
        name = "invalid_hallucination_function_name" if child.code == 1 else child.name
        child.message["function_call"] = {"name": name, "arguments": arguments}
        child.child_messages.append({"role": "function", "name": name, "content": child.observation})
        return child

    def lists(self) -> list[list[Message]]:
        """Return the `train_messages`: one list of messages per step.

        The list of a thought without a call occurs twice if a thought with a call follows.
        """
        lists = []
        for state in self.end.path() if self.end is not None else ():
            parent = state.parent
            if (
                parent is not None
                and parent.is_thought
                and not state.is_thought
                and state.message["content"] is not None
            ):
                lists.append(parent.training_messages())
            lists.append(state.training_messages())
        return lists

    def file(self) -> dict[str, Any]:
        """Return the answer file."""
        generation: dict[str, Any] = {"valid_data": self.end is not None, "query_count": 7, "total_tokens": 900}
        generation |= {
            "final_answer": "",
            "finish_type": "give_answer",
            "function": FUNCTIONS,
            "query": self.query,
            "chain": [],
        }
        if self.end is not None:
            generation |= {"finish_type": "give_answer" if self.answer else "give_up", "train_messages": self.lists()}
        tree = {"size": 1, "max_length": 1, "tree": _node("Action Input", "", self.root, _nodes(self.root))}
        arguments = {"tree_beam_size": self.width, "with_filter": self.ranked}
        file = {"win": self.answer is not None, "tree": tree, "forward_args": arguments, "compare_candidates": []}
        file["answer_generation"] = generation
        loaded: dict[str, Any] = json.loads(json.dumps(file))
        return loaded


def _first_calls(state: SearchNode) -> Iterator[dict[str, Any]]:
    """Yield the first call of each child with its output; skip children without a call."""
    for child in state.children:
        while child.is_thought and child.children:
            child = child.children[0]
        if not child.is_thought:
            arguments = child.message["function_call"]["arguments"]
            call = {"name": child.name, "arguments": arguments, "function_output": child.observation}
            yield {**call, "mento-carlo-action-value": 0.0}


def _nodes(state: SearchNode) -> list[dict[str, Any]]:
    return [node for child in state.children for node in _chain(child)]


def _chain(state: SearchNode) -> list[dict[str, Any]]:
    """Return the tree nodes of a message as a chain; nodes that were not visited have the number 0."""
    children, thought = _nodes(state), state.message["content"]
    if state.is_thought:
        return [_node("Thought", thought, state, children)]
    unvisited = SearchNode()
    nodes = [_node("Action Input", state.message["function_call"]["arguments"], state, children)]
    nodes = [_node("Action", state.name, unvisited, nodes)]
    return nodes if thought is None else [_node("Thought", thought, unvisited, nodes)]


def _node(kind: str, description: str, state: SearchNode, children: list[dict[str, Any]]) -> dict[str, Any]:
    node = {"node_type": kind, "description": description, "expand_num": state.number, "pruned": state.code == 4}
    node |= {"observation": state.observation} if state.observation else {}
    node |= {"observation_code": state.code} if state.code is not None else {}
    return node | {"is_terminal": False, "finished": state.code == 3, "children": children}


def searches(count: int) -> list[RandomSearch]:
    """Return searches of all kinds, with and without an answer."""
    kinds = [(2, 4, False, 0.2), (3, 3, False, 0.5), (2, 5, False, 0.7), (3, 3, True, 0.3), (1, 5, False, 0.1)]
    return [RandomSearch(seed, *kinds[seed % len(kinds)]) for seed in range(count)]


def table(files: Mapping[str, Any]) -> Dataset:
    """Return the table of answer files that a source returns.

    Args:
        files: id -> answer file, or its JSON text.
    """
    return Dataset.from_list([row(name, file) for name, file in files.items()], features=ANSWERS)


def row(name: str, file: Any) -> dict[str, Any]:
    generation = file["answer_generation"] if isinstance(file, dict) else {}
    values = {column: generation.get(column) for column in ("query", "finish_type")}
    values |= {"valid": generation.get("valid_data", True), "win": True, "n_calls": 7, "total_tokens": 900}
    text = json.dumps(file) if isinstance(file, dict) else file
    return {
        "id": name,
        "task": "toolbench",
        "dataset": "toolbench",
        "source_file": f"{name}.json",
        "answer": text,
    } | values
