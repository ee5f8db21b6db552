"""chat_template: a model's tokenizer and chat template, loaded without its weights.

A chat template is third-party code. It may reject messages, or silently omit parts of them, which `find_omitted_parts`
detects.

Not covered: images, documents, templates other than Jinja. `apply_chat_template` passes today's date to a template. If
the template renders the date, set its variable in `options` to a fixed date (Llama 3.2: "date_string").
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

from toolrlef_data.engines.local.loading import require_vocabulary
from toolrlef_data.engines.local.template_check import Part, find_omitted_parts
from toolrlef_data.engines.local.weights import Weights, cached_digest, resolve_weights, silence_transformers
from toolrlef_data.engines.rules import NAME
from toolrlef_data.records import InputError, UnusableRow, is_text
from toolrlef_data.toolbench.messages import Turn

__all__ = [
    "ChatTokenizer",
    "TokenizerSource",
    "find_chat_tokenizer",
    "find_omitted_part",
    "find_tokenizer",
    "load_chat_tokenizer",
]

# The files of a model folder that determine its tokenizer and template.
_SUFFIXES = frozenset({".json", ".txt", ".model", ".spm", ".bpe", ".tiktoken", ".jinja", ".py"})
_OTHER_FILES = frozenset({"generation_config.json", "model.safetensors.index.json", "trainer_state.json"})
_TOKENIZER_FILES = ("tokenizer_config.json", "tokenizer.json", "tokenizer.model")


@dataclass(frozen=True)
class TokenizerSource:
    """A tokenizer's location and identity.

    Args:
        place, commit: location to load it from; excluded from cache keys and records.
        identity: digests of its files, and package versions.
        model: its public name: a Hub id, package:NAME, or the last name of a path.
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
        """Return the fields for publication."""
        return {"model": self.model, "template_sha256": self.template, "identity": dict(self.identity)}


def find_chat_tokenizer(model: str, revision: str | None = None) -> TokenizerSource:
    """Find a tokenizer with a chat template.

    Args:
        model: folder (weights are not needed), `.gguf` file, `package:NAME` or Hub id.
        revision: of a Hub id.

    Raises:
        InputError: an unknown model, or one without a readable chat template.
        MissingExtra: a required package is not installed.
    """
    source = find_tokenizer(model, revision)
    chat = load_chat_tokenizer(source)
    if not chat.tokenizer.chat_template:
        raise InputError(
            f"{model!r} has no chat template: use an instruction-tuned model, or add a template to its folder"
        )
    _check_syntax(model, chat)
    template = chat.tokenizer.chat_template  # a text, or several by name
    text = template if isinstance(template, str) else json.dumps(template, sort_keys=True)
    return replace(source, template=hashlib.sha256(text.encode()).hexdigest())


def find_tokenizer(model: str, revision: str | None = None) -> TokenizerSource:
    """Find a tokenizer, with or without a chat template; see `find_chat_tokenizer`."""
    folder = Path(NAME.check("the model of the tokenizer", model)).expanduser()
    if any((folder / name).is_file() for name in _TOKENIZER_FILES):
        weights = Weights("folder", str(folder.absolute()))
    else:
        weights = resolve_weights(model, revision)
    identity = _folder_identity(Path(weights.place)) if weights.kind == "folder" else weights.identity()
    versions = {name: importlib.metadata.version(name) for name in ("transformers", "tokenizers")}
    is_public = weights.kind == "hub" or model.startswith("package:")
    name = model if is_public else Path(os.path.abspath(weights.place)).name
    return TokenizerSource(*weights.pretrained_args(), {**identity, **versions}, name)


def _folder_identity(folder: Path) -> dict[str, str]:
    """Return a digest of the files in a folder that determine its tokenizer and template."""
    files = [path for path in folder.iterdir() if path.suffix in _SUFFIXES and path.name not in _OTHER_FILES]
    files += (folder / "additional_chat_templates").glob("*.jinja")
    digests = {path.relative_to(folder).as_posix(): cached_digest(path) for path in files if path.is_file()}
    return {"tokenizer": hashlib.sha256(json.dumps(digests, sort_keys=True).encode()).hexdigest()}


def _check_syntax(model: str, chat: ChatTokenizer) -> None:
    import jinja2

    try:
        chat.tokenizer.apply_chat_template([{"role": "user", "content": "Hi"}], tokenize=False)
    except jinja2.TemplateSyntaxError as error:
        raise InputError(f"the chat template of {model!r} is not valid Jinja: {error}") from None
    except (jinja2.TemplateError, *_EXPRESSION_ERRORS):
        pass  # it may require a system message, tools or variables, which only the rows provide


def load_chat_tokenizer(source: TokenizerSource) -> ChatTokenizer:
    """Return the tokenizer of a source, loaded once per process."""
    return _load(source.place, source.commit, json.dumps(source.identity, sort_keys=True))


@lru_cache(maxsize=2)
def _load(place: str, commit: str | None, identity: str) -> ChatTokenizer:
    """Load a tokenizer; `identity` is part of the cache key, so that an edited folder is reloaded."""
    from transformers import AutoTokenizer

    with silence_transformers():
        try:
            tokenizer = AutoTokenizer.from_pretrained(place, revision=commit)
            require_vocabulary(tokenizer)
        except (OSError, ValueError) as error:
            raise InputError(f"cannot load a tokenizer from {place!r}: {error}") from error
    special = {n: str(token.content) for n, token in tokenizer.added_tokens_decoder.items() if token.special}
    special |= dict(zip(tokenizer.all_special_ids, map(str, tokenizer.all_special_tokens), strict=True))
    texts = sorted(filter(None, special.values()), key=len, reverse=True)
    return ChatTokenizer(tokenizer, frozenset(special), re.compile("|".join(map(re.escape, texts)) or "(?!)"))


# Python errors that a template's expressions can raise, beside Jinja's.
_EXPRESSION_ERRORS = (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError)


@dataclass(frozen=True)
class ChatTokenizer:
    """A tokenizer, the ids of its special tokens, and a pattern of their texts."""

    tokenizer: Any
    special_ids: frozenset[int]
    special_texts: re.Pattern[str]

    def render(self, turns: Sequence[Turn], tools: Sequence[Turn], options: Mapping[str, Any], *, ask: bool) -> str:
        """Return the rendered chat; with `ask`, it ends with the generation prompt."""
        import jinja2

        try:
            text: str = self.tokenizer.apply_chat_template(
                list(turns), tools=list(tools) or None, tokenize=False, add_generation_prompt=ask, **options
            )
        except (jinja2.TemplateError, *_EXPRESSION_ERRORS) as error:
            raise UnusableRow("template_refused", f"{type(error).__name__}: {error}"[:200]) from None
        if not is_text(text):
            raise UnusableRow("lone_surrogate", "a text has an unpaired surrogate")
        return text

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """Return the token ids of rendered texts, without added special tokens or truncation."""
        ids: list[list[int]] = self.tokenizer(list(texts), add_special_tokens=False, verbose=False).input_ids
        return ids

    def decode(self, tokens: Sequence[int]) -> str:
        text: str = self.tokenizer.decode(list(tokens), clean_up_tokenization_spaces=False)
        return text

    def length_without_blanks(self, tokens: Sequence[int]) -> int:
        """Return the number of tokens without trailing whitespace tokens."""
        count = len(tokens)
        while (
            count and tokens[count - 1] not in self.special_ids and not self.decode(tokens[count - 1 : count]).strip()
        ):
            count -= 1
        return count


# Omitted parts --------------------------------------------------------------------------------------------------------


def find_omitted_part(
    chat: ChatTokenizer, turns: Sequence[Turn], tools: Sequence[Turn], options: Mapping[str, Any]
) -> UnusableRow | None:
    """Return an error for the first part of a chat that the template omits, or None if it renders all parts.

    The last turn is the target.
    Contents of earlier assistant turns may be missing: many templates remove old reasoning, as in the model's training.
    """
    last = len(turns) - 1
    required = {n for n, turn in enumerate(turns) if turn["role"] != "assistant" or n == last}
    contents = {n: turns[n]["content"] for n in required if turns[n]["content"].strip()}
    omitted = find_omitted_parts(turns, tools, contents, partial(chat.render, options=options, ask=False))
    return _omission_error(omitted[0], turns[omitted[0].turn]["role"]) if omitted else None


def _omission_error(part: Part, role: str) -> UnusableRow:
    if part.kind == "function":
        kind, what = "tools", f"the function {part.name}"
    elif part.kind == "content":
        kind = {"assistant": "content", "tool": "results"}.get(role, "messages")
        what = f"the content of message {part.turn + 1} (role {role})"
    else:
        kind, what = "calls", "calls"
    return UnusableRow(f"template_without_{kind}", f"the chat template omits {what}")
