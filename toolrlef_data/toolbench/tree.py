"""tree: search trees, as states and as the nodes of ToolBench answer files.

A `State` is one assistant message and its result: a thought, a call with its observation, or both. An answer file
stores it as a chain of nodes: Thought, Action, Action Input. A Thought node is a separate message if it was visited
(`expand_num` above 0) or has no single Action below it. Otherwise it shares its message with that Action.

`CoT@n` files do not count visits. There the `train_messages` decide which thoughts of the chosen chain are separate
messages. Not covered: the other chains, whose thoughts are always joined to a following call.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
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

# Observation codes of ToolBench's executor that end a path.
FINAL_ANSWER, GIVE_UP = 3, 4


@dataclass(eq=False, slots=True)
class State:
    """One assistant message and its result; the root represents the opening messages.

    Args:
        thought: content of the message; None if it has none.
        call: (function name, arguments as raw text); None for a thought only.
        observation: result of the call.
        code: of the observation; None without a call.
        number: index in the order of visits; 0 for a state that was never visited.
        pruned: whether the search abandoned the state.
        finished: whether the state is a final answer, or at most two calls above one.
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
        """Append a child and return it."""
        child.parent = self
        self.children.append(child)
        return child

    @property
    def place(self) -> str:
        """The child indices on the path from the root, such as "0.1.0"; "" for the root.

        >>> State().add(State("first")).parent.add(State("second")).place
        '1'
        """
        indices = []
        for state in path_to(self):
            assert state.parent is not None
            indices.append(str(next(i for i, child in enumerate(state.parent.children) if child is state)))
        return ".".join(indices)


def path_to(state: State) -> list[State]:
    """Return the states from the root (excluded) to this one."""
    path: list[State] = []
    while state.parent is not None:
        path.append(state)
        state = state.parent
    return path[::-1]


def states_of(root: State) -> Iterator[State]:
    """Yield all states below the root in preorder."""
    stack = root.children[::-1]
    while stack:
        state = stack.pop()
        yield state
        stack += state.children[::-1]


# Nodes of answer files ------------------------------------------------------------------------------------------------


def read_tree(node: Any) -> State:
    """Convert a tree of nodes to states.

    Args:
        node: the root node of an answer file (`tree.tree`).

    Raises:
        InputError: a malformed node, or an action without its input.

    >>> leaf = {"node_type": "Action Input", "description": "{}", "observation": "ok", "observation_code": 0}
    >>> action = {"node_type": "Action", "description": "ping", "children": [leaf]}
    >>> root = read_tree({"node_type": "Action Input", "description": "", "children": [action]})
    >>> root.children[0].call, root.children[0].observation
    (('ping', '{}'), 'ok')
    """
    root = State(number=_number(_checked(node, "")))
    stack = [(child, root) for child in reversed(_children(node))]
    while stack:
        node, parent = stack.pop()
        state = State()
        if _checked(node, "")["node_type"] == "Thought":
            state.thought = node["description"]
            children = _children(node)
            if len(children) == 1 and not _number(node) and _checked(children[0], "")["node_type"] == "Action":
                node = children[0]
        if node["node_type"] == "Action":
            children = _children(node)
            if len(children) != 1:
                raise InputError(f"expected one Action Input node below an Action node, found {len(children)} nodes")
            name, node = node["description"], _checked(children[0], "Action Input")
            state.call = (name, node["description"])
            state.observation = str(node.get("observation") or "")
            code = node.get("observation_code")
            state.code = code if isinstance(code, int) else None
        state.number = _number(node)
        state.pruned, state.finished = node.get("pruned") is True, node.get("finished") is True
        parent.add(state)
        stack += [(child, state) for child in reversed(_children(node))]
    return root


def read_file_tree(file: Any, train_messages: Sequence[Sequence[Mapping[str, Any]]] = ()) -> State:
    """Return the search tree of an answer file; the chains of a `CoT@n` file (`trys`) become children of one root.

    Args:
        file: the parsed file.
        train_messages: its checked `train_messages`, which `CoT@n` files need for thoughts in a message of their own.

    Raises:
        InputError: the tree or a chain is malformed, or the file has neither.
    """
    tree, chains = file.get("tree"), file.get("trys")
    if isinstance(tree, Mapping) and "tree" in tree:
        return read_tree(tree["tree"])
    if not isinstance(chains, list):
        raise InputError("the file has no tree and no chains")
    children = []
    replies = [message for message in train_messages[-1] if message["role"] == "assistant"] if train_messages else []
    for chain in chains:
        nodes = chain.get("chain") if isinstance(chain, Mapping) else None
        if not isinstance(nodes, list) or not all(isinstance(node, dict) for node in nodes):
            raise InputError("expected every chain of the file as a list of nodes")
        separate = _separate_thoughts(nodes, replies)
        nested: list[Any] = []
        for n, node in reversed([*enumerate(nodes)]):
            nested = [{**node, **({"expand_num": 1} if n in separate else {}), "children": nested}]
        children += nested
    return read_tree({"node_type": "Action Input", "description": "", "children": children})


def _separate_thoughts(nodes: Sequence[Mapping[str, Any]], replies: Sequence[Mapping[str, Any]]) -> set[int]:
    """Return the indices of a chain's thoughts that are separate messages, if the replies are those of the chain.

    Args:
        nodes: of the chain, in order.
        replies: the assistant messages of the chosen path.
    """
    separate: set[int] = set()
    thought: Any = None  # that shares its message with the next call
    n_replies = 0
    for n, node in enumerate(nodes):
        kind, text = node.get("node_type"), node.get("description") or None
        if kind == "Action":
            continue
        if n_replies == len(replies):
            return set()
        reply = replies[n_replies]
        call, content = reply.get("function_call"), reply.get("content") or None
        if kind == "Thought" and call is not None:
            thought = text
            continue
        if content != (text if kind == "Thought" else thought) or ((call or {}).get("arguments", text) or None) != text:
            return set()
        if kind == "Thought":
            separate.add(n)
        thought = None
        n_replies += 1
    return separate if n_replies == len(replies) else set()


def _checked(node: Any, kind: str) -> Mapping[str, Any]:
    """Return a node; raise InputError unless it has the kind (any kind if "") and a description."""
    kinds = [kind] if kind else ["Thought", "Action", "Action Input"]
    found = node.get("node_type") if isinstance(node, Mapping) else type(node).__name__
    if found not in kinds or not isinstance(node.get("description"), str):
        raise InputError(f"expected a node of type {' or '.join(kinds)} with a description, found {found!r:.80}")
    return node


def _children(node: Mapping[str, Any]) -> list[Any]:
    children = node.get("children") or []
    if not isinstance(children, list):
        raise InputError(f"expected the children of a node as a list, found {type(children).__name__}")
    return children


def _number(node: Mapping[str, Any]) -> int:
    number = node.get("expand_num")
    return number if isinstance(number, int) else 0


def write_tree(root: State) -> dict[str, Any]:
    """Convert states to the tree of an answer file, {size, max_length, tree}.

    `size` is the number of nodes, `max_length` the number of nodes on the longest path, and `tree` the root node.

    >>> root = State()
    >>> _ = root.add(State("I look.", ("ping", "{}"), "ok", 0, number=1))
    >>> tree = write_tree(root)
    >>> tree["size"], tree["max_length"], read_tree(tree["tree"]).children[0].call
    (4, 4, ('ping', '{}'))
    """
    root_node = _node("Action Input", "", root, 0)
    size, max_depth = 1, 0
    stack = [(root, root_node)]
    while stack:
        state, state_node = stack.pop()
        for child in state.children:
            parent = state_node
            parts = [("Thought", child.thought)] if child.thought is not None else []
            parts += [("Action", child.call[0]), ("Action Input", child.call[1])] if child.call else []
            for kind, description in parts:
                is_last = (kind, description) == parts[-1]
                content = child if is_last else State(finished=child.finished)
                node = _node(kind, str(description), content, parent["depth"] + 1)
                parent["children"].append(node)
                parent["child_count"] = len(parent["children"])
                parent = node
                size += 1
            max_depth = max(max_depth, parent["depth"])
            stack.append((child, parent))
    return {"size": size, "max_length": max_depth + 1, "tree": root_node}


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
