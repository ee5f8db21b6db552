"""task: what a task is: prompts, tool, and how a response is read and graded."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import lru_cache, partial
from typing import Any

from toolrlef_data.engines.spec import EngineSpec
from toolrlef_data.records import InputError
from toolrlef_data.tables.fingerprint import digest
from toolrlef_data.tables.redaction import published
from toolrlef_data.tools.tool import Tool

__all__ = ["Example", "Task", "examples_from"]

log = logging.getLogger("toolrlef_data")


# Part of the digest of examples in every provenance.json that is published: the same prompts keep the same digest.
EXAMPLE = {"": "toolrlef_data.tasks:Example"}


@dataclass(frozen=True)
class Example:
    """A few-shot example: a question as the model sees it, its gold answer, the call and the plain answer for it."""

    input: str
    answer: str
    call: str
    plain: str


@dataclass(frozen=True)
class Task:
    """A task: its prompts, its tool, and how a response is read and graded.

    Args:
        name: as in the column `task`.
        tool: the tool that a response may call.
        instruction: the sentence before the input in stage 1 and stage 2; names the tool.
        plain_instruction: the same without a word of a tool: what the student is asked first.
        teacher_instruction: tells the teacher, who sees the gold answers, to write one call.
        examples: few-shot examples by data set; the key "" serves every other data set.
        extract: text of a response without a call -> prediction, or None where it holds none.
        grade: (prediction, gold answers) -> right or wrong; None where no gold answer can be compared with. One that
            takes `words=` looks at so many words, and with words=None at a whole text (`grade_whole`).
        usable: gold answers -> None, or why a row with them cannot be graded.
        leaks: (argument, question, gold answers) -> True where the call merely carries the answer.
        numeric: predictions are numbers, so that wrong ones have a distance.
        distance: (prediction, gold answers) -> how far a wrong prediction is, in the task's unit; None: no number.
        render: row of the questions table -> the input text.
        written: row -> the argument of its call, where that needs no model; None: a teacher writes it.
        language: a mapping with the row's id and task -> the language (ISO 639-1) of what it asks, "" where they do not
            tell; for the tool.
        reading: (input text, one text of the tool's output) -> what the reader is asked: the tool's output is no
            prediction, a model reads it, one prediction a text. None: the output is the prediction.
        reader: the model that reads; `build_stage2` needs one wherever there is a `reader_prompt`.
        reader_instruction, reader_style: how it is asked (`prompts`).
        read_answer: what the reader says -> prediction, None where it says nothing; default: all of it.
        output_answers: the tool's own output may hold the answer; False for a translation, which is only read.
    """

    name: str
    tool: Tool
    instruction: str
    plain_instruction: str
    teacher_instruction: str
    extract: Callable[[str], str | None]
    grade: Callable[[str | None, Sequence[str]], bool | None]
    ungradable_reason: Callable[[Sequence[str]], str | None]
    leaks: Callable[[str, str, Sequence[str]], bool]
    render: Callable[[Mapping[str, Any]], str]
    examples: Mapping[str, Sequence[Example]] = field(default_factory=dict)
    numeric: bool = False
    distance: Callable[[str | None, Sequence[str]], float | None] | None = None
    make_argument: Callable[[Mapping[str, Any]], str] | None = None
    language: Callable[[Mapping[str, Any]], str] | None = None
    reader_prompt: Callable[[str, str], str] | None = None
    reader: EngineSpec | None = None
    reader_instruction: str = ""
    reader_style: str = "chat"
    parse_reader_reply: Callable[[str], str | None] | None = None
    output_is_answer: bool = True

    def __post_init__(self) -> None:
        if not isinstance(self.tool, Tool):
            raise InputError(f"the task {self.name!r} needs a Tool, found {type(self.tool).__name__}")

    @property
    def grade_whole(self) -> Callable[[str | None, Sequence[str]], bool | None]:
        """`grade` of a text of any length: a passage; with `compat` also of what a tool or a reader said."""
        return _whole(self.grade)

    def published(self) -> dict[str, Any]:
        """What others may read: prompts as digests."""
        examples = {name: [{**EXAMPLE, **asdict(example)} for example in some] for name, some in self.examples.items()}
        prompts = {"examples": digest(examples)}
        prompts |= {name: digest(value) for name, value in vars(self).items() if name.endswith("instruction")}
        grade = published(self.grade)
        return {"task": self.name, "tool": self.tool.published(), "grade": grade, "prompts_sha256": prompts}

    def check_prompts(self) -> None:
        """Say so where neither the instruction nor an example calls the tool by its name: responses will not either."""
        calls = [example.call for examples in self.examples.values() for example in examples]
        named = self.tool.name.casefold() in self.instruction.casefold()
        if not named and not any(call.startswith(f"{self.tool.name}(") for call in calls):
            log.warning(
                "the prompts of the task %r call a tool of another name than %r: make the tool with name=..., or give "
                "the task an instruction and examples of its own; it says: %s",
                self.name,
                self.tool.name,
                self.instruction,
            )

    def examples_for(self, dataset: str) -> tuple[Example, ...]:
        """The few-shot examples of a data set, else the general ones."""
        return tuple(self.examples.get(dataset, self.examples.get("", ())))


def examples_from(text: str, tool: str) -> tuple[Example, ...]:
    """Examples from lines: "input | argument of the call | answer".

    >>> examples_from("Where is Mount Toubkal? | Mount Toubkal | Morocco", "WikiSearch")[0].call
    'WikiSearch(Mount Toubkal)'
    """
    lines = [line.split(" | ") for line in text.strip().splitlines()]
    return tuple(Example(given, gold, f"{tool}({call})", f"The answer is {gold}.") for given, call, gold in lines)


@lru_cache(maxsize=64)
def _whole(grade: Callable[..., bool | None]) -> Callable[..., bool | None]:
    return partial(grade, words=None) if "words" in inspect.signature(grade).parameters else grade
