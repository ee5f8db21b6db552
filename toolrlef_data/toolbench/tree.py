"""tree: a search tree as states, and as the nodes of ToolBench's answer files.

A `State` is one message of the model and what it led to: a thought, a call with its observation, or both. The files
hold the same as a chain of nodes, Thought, Action, Action Input. A thought that was visited (`expand_num` above 0), or
that nothing follows, was a message of its own; one that was not visited shares its message with the call below it.

Not covered: chains of `CoT@n` files do not count their visits, so a thought there is always read as sharing the message
of a call that follows; their `train_messages` tell more.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from toolrlef_data.records import InputError

__all__ = [
    "FINAL_ANSWER",
    "GIVE_UP",
    "State",
    "path_to",
    "read_file_tree",
    "read_tree",
    "states_of",
    "write_tree",
]

# Codes of an observation that end a chain; the others are in the specification of ToolBench's executor.
FINAL_ANSWER, GIVE_UP = 3, 4


@dataclass(eq=False, slots=True)
class State:
    """One message of the model, and what it led to; the root stands for the opening messages.

    Args:
        thought: the message's content; None where it had none.
        call: (function name, arguments as raw text); None for a thought alone.
        observation: what the call gave.
        code: of the observation; None where there is no call.
        number: the place in the order of visits; 0 for a state that was never visited.
        pruned: whether the search left it for good.
        finished: whether an answer was found below it, or near it.
    """

    thought: str | None = None
    call: tuple[str, str] | None = None
    observation: str = ""
    code: int | None = None
    number: int = 0
    pruned: bool = False
    finished: bool = False
    parent: State | None = field(default=None, repr=False)
    children: list[State] = field(default_factory=list, repr=False)

    def add(self, child: State) -> State:
        """Make a state a child of this one."""
        child.parent = self
        self.children.append(child)
        return child

    @property
    def place(self) -> str:
        """Where it stands in the tree: at which child each state on the way to it, "0.1.0"; the root's is "".

        >>> State().add(State("first")).parent.add(State("second")).place
        '1'
        """
        steps = []
        for state in path_to(self):
            assert state.parent is not None
            steps.append(str(next(i for i, child in enumerate(state.parent.children) if child is state)))
        return ".".join(steps)


def path_to(state: State) -> list[State]:
    """The states from below the root to this one."""
    path: list[State] = []
    while state.parent is not None:
        path.append(state)
        state = state.parent
    return path[::-1]


def states_of(root: State) -> Iterator[State]:
    """All states below the root, each before its children, children in order."""
    left = root.children[::-1]
    while left:
        state = left.pop()
        yield state
        left += state.children[::-1]


# The nodes of a file --------------------------------------------------------------------------------------------------


def read_tree(node: Any) -> State:
    """The states of a tree of nodes.

    Args:
        node: the root node of an answer file (`tree.tree`).

    Raises:
        InputError: a node is no node, or an action stands without its input.

    >>> leaf = {"node_type": "Action Input", "description": "{}", "observation": "ok", "observation_code": 0}
    >>> action = {"node_type": "Action", "description": "ping", "children": [leaf]}
    >>> root = read_tree({"node_type": "Action Input", "description": "", "children": [action]})
    >>> root.children[0].call, root.children[0].observation
    (('ping', '{}'), 'ok')
    """
    root = State(number=_number(_checked(node, "")))
    left = [(child, root) for child in reversed(_children(node))]
    while left:
        node, parent = left.pop()
        state = State()
        if _checked(node, "")["node_type"] == "Thought":
            state.thought = node["description"]
            below = _children(node)
            if len(below) == 1 and not _number(node) and _checked(below[0], "")["node_type"] == "Action":
                node = below[0]
        if node["node_type"] == "Action":
            below = _children(node)
            if len(below) != 1:
                raise InputError(f"an action of the tree has {len(below)} nodes below it, not the one of its input")
            name, node = node["description"], _checked(below[0], "Action Input")
            state.call = (name, node["description"])
            state.observation = str(node.get("observation") or "")
            code = node.get("observation_code")
            state.code = code if isinstance(code, int) else None
        state.number = _number(node)
        state.pruned, state.finished = node.get("pruned") is True, node.get("finished") is True
        parent.add(state)
        left += [(child, state) for child in reversed(_children(node))]
    return root


def read_file_tree(file: Any) -> State:
    """The tree of an answer file; the chains of a `CoT@n` file (`trys`) are the children of one root.

    Raises:
        InputError: the file holds neither.
    """
    tree, chains = file.get("tree"), file.get("trys")
    if isinstance(tree, Mapping) and "tree" in tree:
        return read_tree(tree["tree"])
    if not isinstance(chains, list):
        raise InputError("the file holds no tree and no chains")
    below = []
    for chain in chains:
        nodes = chain.get("chain") if isinstance(chain, Mapping) else None
        if not isinstance(nodes, list) or not all(isinstance(node, dict) for node in nodes):
            raise InputError("a chain of the file is no list of nodes")
        nested: list[Any] = []
        for node in reversed(nodes):
            nested = [{**node, "children": nested}]
        below += nested
    return read_tree({"node_type": "Action Input", "description": "", "children": below})


def _checked(node: Any, kind: str) -> Mapping[str, Any]:
    expected = [kind] if kind else ["Thought", "Action", "Action Input"]
    found = node.get("node_type") if isinstance(node, Mapping) else type(node).__name__
    if found not in expected or not isinstance(node.get("description"), str):
        raise InputError(f"expected a node of the kind {' or '.join(expected)} with a description, found {found!r:.80}")
    return node


def _children(node: Mapping[str, Any]) -> list[Any]:
    below = node.get("children") or []
    if not isinstance(below, list):
        raise InputError(f"the children of a node are a list, found {type(below).__name__}")
    return below


def _number(node: Mapping[str, Any]) -> int:
    number = node.get("expand_num")
    return number if isinstance(number, int) else 0


def write_tree(root: State) -> dict[str, Any]:
    """States as the nodes of an answer file: its size, the length of its longest chain, and the root node.

    >>> root = State()
    >>> _ = root.add(State("I look.", ("ping", "{}"), "ok", 0, number=1))
    >>> written = write_tree(root)
    >>> written["size"], written["max_length"], read_tree(written["tree"]).children[0].call
    (4, 4, ('ping', '{}'))
    """
    top = _node("Action Input", "", root, 0)
    size, deepest = 1, 0
    left = [(root, top)]
    while left:
        state, above = left.pop()
        for child in state.children:
            below = above
            parts = [("Thought", child.thought)] if child.thought is not None else []
            parts += [("Action", child.call[0]), ("Action Input", child.call[1])] if child.call else []
            for kind, description in parts:
                last = (kind, description) == parts[-1]
                node = _node(
                    kind, str(description), child if last else State(finished=child.finished), below["depth"] + 1
                )
                below["children"].append(node)
                below["child_count"] = len(below["children"])
                below = node
                size += 1
            deepest = max(deepest, below["depth"])
            left.append((child, below))
    return {"size": size, "max_length": deepest + 1, "tree": top}


def _node(kind: str, description: str, state: State, depth: int) -> dict[str, Any]:
    node: dict[str, Any] = {"is_terminal": False, "pruned": state.pruned, "finished": state.finished, "depth": depth}
    node |= {"node_type": kind, "description": description, "Elo": 1000.0}
    if kind == "Action Input" and state.observation:
        node["observation"] = state.observation
    if state.code is not None:
        node["observation_code"] = state.code
    node |= {"child_count": 0, "expand_num": state.number}
    if kind == "Action Input":
        node["io_state"] = {}
    return node | {"children": []}
