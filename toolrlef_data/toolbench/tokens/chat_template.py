"""chat_template: a model's tokenizer and chat template, found and digested without its weights.

A template is a program of somebody else's: it may refuse messages, and it may leave parts of them out in silence, which
`find_omitted_parts` finds.

Not covered: images, documents, templates that are no Jinja. `apply_chat_template` gives a template the date of today;
where one writes it, pass its variable in `options` (Llama 3.2: "date_string").
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

from toolrlef_data.engines.local.template_check import Part, find_omitted_parts
from toolrlef_data.engines.local.weights import Weights, cached_digest, resolve_weights, silence_transformers
from toolrlef_data.records import InputError, UnusableRow, is_text
from toolrlef_data.toolbench.messages import Turn

__all__ = ["Chat", "TokenizerSource", "find_chat_tokenizer", "left_out", "load_chat_tokenizer"]

# What decides a tokenizer and its template, among the files of a model folder.
_SUFFIXES = frozenset({".json", ".txt", ".model", ".spm", ".bpe", ".tiktoken", ".jinja", ".py"})
_NOT_OF_IT = frozenset({"generation_config.json", "model.safetensors.index.json", "trainer_state.json"})
_TOKENIZER = ("tokenizer_config.json", "tokenizer.json", "tokenizer.model")


@dataclass(frozen=True)
class TokenizerSource:
    """Where a tokenizer is, and what determines it.

    Args:
        place, commit: what it is loaded from; no cache key and no record holds them.
        identity: digests of what determines it, and versions.
        model: its name to others: a Hub id, package:NAME, or the last name of a path.
        template: SHA-256 of the chat template.
    """

    place: str
    commit: str | None
    identity: Mapping[str, Any]
    model: str = ""
    template: str = ""

    def in_key(self) -> dict[str, Any]:
        return {"place": "", "commit": None}

    def published(self) -> dict[str, Any]:
        """What others may read."""
        return {"model": self.model, "template_sha256": self.template, "identity": dict(self.identity)}


def find_chat_tokenizer(model: str, revision: str | None = None) -> TokenizerSource:
    """Find a tokenizer with a chat template.

    Args:
        model: folder (weights need not be in it), `.gguf` file, `package:NAME` or Hub id.
        revision: of a Hub id.

    Raises:
        InputError: there is no such model, or it has no chat template that can be read.
        MissingExtra: a package that it needs is not installed.
    """
    folder = Path(model).expanduser()
    if any((folder / name).is_file() for name in _TOKENIZER):
        weights = Weights("folder", str(folder.absolute()))
    else:
        weights = resolve_weights(model, revision)
    identity = _folder_identity(Path(weights.place)) if weights.kind == "folder" else weights.identity()
    versions = {name: importlib.metadata.version(name) for name in ("transformers", "tokenizers")}
    source = TokenizerSource(*weights.pretrained_args(), {**identity, **versions})
    chat = load_chat_tokenizer(source)
    if not chat.tokenizer.chat_template:
        raise InputError(f"{model!r} has no chat template: name an instruction-tuned model, or save one beside it")
    _check_syntax(model, chat)
    named = (
        model if weights.kind == "hub" or model.startswith("package:") else Path(os.path.abspath(weights.place)).name
    )
    found = chat.tokenizer.chat_template
    text = found if isinstance(found, str) else json.dumps(found, sort_keys=True)  # some models have several, by name
    return replace(source, model=named, template=hashlib.sha256(text.encode()).hexdigest())


def _folder_identity(folder: Path) -> dict[str, str]:
    files = [path for path in folder.iterdir() if path.suffix in _SUFFIXES and path.name not in _NOT_OF_IT]
    files += (folder / "additional_chat_templates").glob("*.jinja")
    named = {path.relative_to(folder).as_posix(): cached_digest(path) for path in files if path.is_file()}
    return {"tokenizer": hashlib.sha256(json.dumps(named, sort_keys=True).encode()).hexdigest()}


def _check_syntax(model: str, chat: Chat) -> None:
    import jinja2

    try:
        chat.tokenizer.apply_chat_template([{"role": "user", "content": "Hi"}], tokenize=False)
    except jinja2.TemplateSyntaxError as error:
        raise InputError(f"the chat template of {model!r} is no Jinja template: {error}") from None
    except (jinja2.TemplateError, *_FAULTS):
        pass  # it may want a system message, tools or variables: the rows will tell


def load_chat_tokenizer(source: TokenizerSource) -> Chat:
    """The tokenizer of a source, loaded once in a process."""
    return _loaded(source.place, source.commit, json.dumps(source.identity, sort_keys=True))


@lru_cache(maxsize=2)
def _loaded(place: str, commit: str | None, identity: str) -> Chat:
    """`identity` is among the arguments, so that an edited folder is loaded anew."""
    from transformers import AutoTokenizer

    with silence_transformers():
        try:
            tokenizer = AutoTokenizer.from_pretrained(place, revision=commit)
        except (OSError, ValueError) as error:
            raise InputError(f"no tokenizer can be loaded from {place!r}: {error}") from error
    added = {token: str(each.content) for token, each in tokenizer.added_tokens_decoder.items() if each.special}
    added |= dict(zip(tokenizer.all_special_ids, map(str, tokenizer.all_special_tokens), strict=True))
    texts = sorted(filter(None, added.values()), key=len, reverse=True)
    return Chat(tokenizer, frozenset(added), re.compile("|".join(map(re.escape, texts)) or "(?!)"))


# What a template can raise beside errors of its own: it indexes, adds and splits what it is given.
_FAULTS = (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError)


@dataclass(frozen=True)
class Chat:
    """A tokenizer; the ids of its special tokens, and a pattern of their texts."""

    tokenizer: Any
    special_ids: frozenset[int]
    special_texts: re.Pattern[str]

    def render(self, turns: Sequence[Turn], tools: Sequence[Turn], options: Mapping[str, Any], *, ask: bool) -> str:
        """The text that the template makes of a chat, with `ask` up to where the model answers."""
        import jinja2

        try:
            text: str = self.tokenizer.apply_chat_template(
                list(turns), tools=list(tools) or None, tokenize=False, add_generation_prompt=ask, **options
            )
        except (jinja2.TemplateError, *_FAULTS) as error:
            raise UnusableRow("template_refused", f"{type(error).__name__}: {error}"[:200]) from None
        if not is_text(text):
            raise UnusableRow("lone_surrogate", "an escape in the messages stands for no character")
        return text

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """Token ids of rendered texts, nothing added and nothing cut."""
        ids: list[list[int]] = self.tokenizer(list(texts), add_special_tokens=False, verbose=False).input_ids
        return ids

    def text_of(self, tokens: Sequence[int]) -> str:
        text: str = self.tokenizer.decode(list(tokens), clean_up_tokenization_spaces=False)
        return text

    def without_blanks(self, tokens: Sequence[int]) -> int:
        """How many tokens there are up to the last one that is no blank."""
        count = len(tokens)
        while (
            count and tokens[count - 1] not in self.special_ids and not self.text_of(tokens[count - 1 : count]).strip()
        ):
            count -= 1
        return count


# What it leaves out ---------------------------------------------------------------------------------------------------


def left_out(
    chat: Chat, turns: Sequence[Turn], tools: Sequence[Turn], options: Mapping[str, Any]
) -> UnusableRow | None:
    """What a template does not render of a chat whose last turn is the target; None where it renders all of it.

    Texts of the model in the history do not count: many templates take old reasoning off, as the model was trained.
    """
    last = len(turns) - 1
    read = {n for n, turn in enumerate(turns) if turn["role"] != "assistant" or n == last}
    contents = {n: turns[n]["content"] for n in read if turns[n]["content"].strip()}
    lost = find_omitted_parts(turns, tools, contents, partial(chat.render, options=options, ask=False))
    return _untrainable(lost[0], turns[lost[0].turn]["role"]) if lost else None


def _untrainable(part: Part, role: str) -> UnusableRow:
    if part.kind == "function":
        kind, what = "tools", f"the function {part.name}"
    elif part.kind == "content":
        kind = {"assistant": "content", "tool": "results"}.get(role, "messages")
        what = f"the content of message {part.turn + 1}, of the role {role}"
    else:
        kind, what = "calls", "calls"
    return UnusableRow(f"template_without_{kind}", f"the chat template leaves out {what}")
