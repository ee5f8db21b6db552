"""The `Task` class: prompts, few-shot examples, the tool, and the functions that parse and grade responses."""

from __future__ import annotations

import functools
import inspect
import logging
import warnings
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Annotated, Any

from toolrlef_data.choices import check_choice
from toolrlef_data.engines.rules import FLAG, FUNCTION, FUNCTION_OR_NONE, NAME, TEXT, apply_rules, must_be
from toolrlef_data.engines.settings import STYLES
from toolrlef_data.engines.spec import EngineSpec
from toolrlef_data.records import InputError, ToolrlefError
from toolrlef_data.tables.batches.mapping import function_name
from toolrlef_data.tables.code_digest import is_in_package, module_digests
from toolrlef_data.tables.fingerprint import digest
from toolrlef_data.tables.redaction import Secrets, redact
from toolrlef_data.tools.tool import Tool

__all__ = ["Example", "Task", "parse_examples"]

log = logging.getLogger("toolrlef_data")
RULES = ("default", "paper")  # of grading
GRADER_FOLDERS = ("toolrlef_data.tasks.", "toolrlef_data.tools.")  # with the code that decides a grade
# Part of the digest of few-shot examples in published provenance.json files: equal prompts must keep an equal digest.
EXAMPLE = {"": "toolrlef_data.tasks:Example"}
# Deprecated name of a field or method of `Task` -> its new name.
RENAMED = {
    "usable": "ungradable_reason",
    "written": "make_argument",
    "reading": "reader_prompt",
    "read_answer": "parse_reader_reply",
    "output_answers": "output_is_answer",
    "warn": "check_prompts",
}


@dataclass(frozen=True)
class Example:
    """A few-shot example.

    Args:
        input: the input text, as `Task.render` returns it.
        answer: the gold answer.
        call: a response that calls the tool.
        plain: a response that answers without the tool.
    """

    input: str
    answer: str
    call: str
    plain: str


TOOL = must_be("a Tool", lambda value: isinstance(value, Tool))
READER = must_be("an EngineSpec or None", lambda value: value is None or isinstance(value, EngineSpec))
EXAMPLES = must_be(
    "a mapping of names to lists of Example",
    lambda value: isinstance(value, Mapping) and all(map(_are_examples, value.values())),
)


@dataclass(frozen=True)
class Task:
    """A task: its prompts, its tool, and the functions that parse and grade responses.

    Args:
        name: value of the column `task`.
        tool: the tool that a response may call.
        instruction: sentence before the input in stage 1 and stage 2; names the tool.
        plain_instruction: the same without mention of a tool; prompts the student for its first response.
        teacher_instruction: asks the teacher, who is shown the gold answers, for one call.
        extract: (response without a call) -> prediction; None if the response contains none. An optional keyword
            parameter `rule` is set by `with_rule`.
        grade: (prediction, gold answers) -> whether it is correct; None if no gold answer is gradable, or if it is
            unsure. The function may have these keyword parameters. `question` and `context` are the row's. `response`
            is the text that the prediction is extracted from. `rule` is set by `with_rule`. `anywhere=True` grades the
            output of a tool, which may contain the gold answer anywhere. `words=None` removes a limit of words.
        ungradable_reason: (gold answers) -> why no prediction can be graded with them; None if it can.
        leaks: (argument, question, gold answers) -> whether the argument of a call reveals the answer.
        render: (row of a questions table) -> input text.
        examples: data set -> few-shot examples; the key "" serves all other data sets. Default: none.
        numeric: whether predictions are numbers, so that `distance` is defined. Default: False.
        distance: (prediction, gold answers) -> distance to the nearest gold answer; None if either is not a number.
        make_argument: (row) -> argument of its call, for tasks whose calls need no teacher. Default: a teacher writes
            the calls.
        language: (mapping with the row's id and task) -> ISO 639-1 code of the question's language, "" if unknown;
            passed to the tool.
        reader_prompt: (input text, one text of the tool output) -> prompt of the reader, which extracts one prediction
            per text. Default: the tool output is the prediction.
        reader: engine of the reader; `build_stage2` requires it if `reader_prompt` is set.
        reader_instruction, reader_style: instruction and prompt style of the reader. Default: none, and "chat".
        parse_reader_reply: (reply of the reader) -> prediction; None if the reply is empty. Default: the full reply. An
            optional keyword parameter `rule` is set by `with_rule`.
        parse_input: (input text) -> the question and its context, the inverse of `render`. Default: the input is the
            question, or the context if `render` includes a context.
        output_is_answer: whether the tool output can itself contain the answer. False for a translation, which only
            the reader can answer from. Default: True.
        clean_answer: (gold answer as a person writes it) -> the answer that `grade` compares with; None if it cannot
            be one. `make_questions` applies it. Default: the answer without surrounding white space.
    """

    name: Annotated[str, NAME]
    tool: Annotated[Tool, TOOL]
    instruction: Annotated[str, TEXT]
    plain_instruction: Annotated[str, TEXT]
    teacher_instruction: Annotated[str, TEXT]
    extract: Annotated[Callable[[str], str | None], FUNCTION]
    grade: Annotated[Callable[..., bool | None], FUNCTION]
    ungradable_reason: Annotated[Callable[[Sequence[str]], str | None], FUNCTION]
    leaks: Annotated[Callable[[str, str, Sequence[str]], bool], FUNCTION]
    render: Annotated[Callable[[Mapping[str, Any]], str], FUNCTION]
    examples: Annotated[Mapping[str, Sequence[Example]], EXAMPLES] = field(default_factory=dict)
    numeric: Annotated[bool, FLAG] = False
    distance: Annotated[Callable[[str | None, Sequence[str]], float | None] | None, FUNCTION_OR_NONE] = None
    make_argument: Annotated[Callable[[Mapping[str, Any]], str] | None, FUNCTION_OR_NONE] = None
    language: Annotated[Callable[[Mapping[str, Any]], str] | None, FUNCTION_OR_NONE] = None
    reader_prompt: Annotated[Callable[[str, str], str] | None, FUNCTION_OR_NONE] = None
    reader: Annotated[EngineSpec | None, READER] = None
    reader_instruction: Annotated[str, TEXT] = ""
    reader_style: str = "chat"
    parse_reader_reply: Annotated[Callable[[str], str | None] | None, FUNCTION_OR_NONE] = None
    output_is_answer: Annotated[bool, FLAG] = True
    parse_input: Annotated[Callable[[str], tuple[str, str]] | None, FUNCTION_OR_NONE] = None
    clean_answer: Annotated[Callable[[str], str | None] | None, FUNCTION_OR_NONE] = None

    def __post_init__(self) -> None:
        apply_rules(self, f"the task {self.name!r}: ")
        check_choice("prompt style", self.reader_style, STYLES)

    if not TYPE_CHECKING:  # a type checker should report the old names

        def __getattr__(self, name: str) -> Any:
            if name not in RENAMED:
                raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}", name=name, obj=self)
            _warn_renamed(name)
            return getattr(self, RENAMED[name])

    def grade_row(
        self,
        prediction: str | None,
        answers: Sequence[str],
        question: str,
        context: str = "",
        response: str = "",
        row_id: str = "",
    ) -> bool | None:
        """Grade a prediction, with the question, its context and the response if the grader has parameters for them.

        Raises:
            InputError: the grader failed, or returned no grade; the message has `row_id`.
        """
        accepted = _accepted(self.grade, question=question, context=context, response=response)
        return _checked_grade(self.name, self.grade, accepted, prediction, answers, row_id)

    def split_input(self, text: str) -> tuple[str, str]:
        """Return the question and the context of an input text, for an echo check.

        An input that contains a context counts as context if the task has no `parse_input`: a right answer may repeat
        words of a context.
        """
        if self.parse_input is not None:
            return self.parse_input(text)
        row: Mapping[str, str] = defaultdict(str, context="\0")
        try:
            has_context = "\0" in self.render(row)
        except (LookupError, TypeError, ValueError, AttributeError):  # a custom `render` may need other columns
            has_context = True
        return ("", text) if has_context else (text, "")

    @functools.cached_property
    def grade_output(self) -> Callable[..., bool | None]:
        """`grade` for the output of a tool, which may contain a gold answer anywhere."""
        return partial(_checked_grade, self.name, self.grade, _accepted(self.grade, anywhere=True))

    @functools.cached_property
    def grade_whole(self) -> Callable[..., bool | None]:
        """`grade_output` without a word limit: for passages, and with `compat` for the replies of a reader, too."""
        return partial(_checked_grade, self.name, self.grade, _accepted(self.grade, anywhere=True, words=None))

    @property
    def has_rules(self) -> bool:
        """Whether `with_rule` applies: `grade` has a parameter `rule`."""
        return bool(_accepted(self.grade, rule="paper"))

    def with_rule(self, rule: str) -> Task:
        """Return the task with the grading rule "paper"; "default" returns the task itself.

        The rule applies to `grade`, and to `extract` and `parse_reader_reply` if they have a parameter `rule`.

        Raises:
            InputError: an unknown rule, or `grade` has no parameter `rule`.

        >>> from toolrlef_data import TASKS
        >>> TASKS["qa"].grade("Not Paris", ["Paris"]), TASKS["qa"].with_rule("paper").grade("Not Paris", ["Paris"])
        (False, True)
        """
        if rule not in RULES:
            raise InputError(f"unknown rule {rule!r}; choose from: {', '.join(RULES)}")
        if rule == "default":
            return self
        if not self.has_rules:
            raise InputError(
                f"the grader of the task {self.name!r} does not support rule={rule!r}: its function has no parameter "
                "`rule`; omit rule, or pass task= with another grader"
            )
        functions = {name: getattr(self, name) for name in ("extract", "grade", "parse_reader_reply")}
        bound: dict[str, Any] = {
            name: partial(f, rule=rule) for name, f in functions.items() if f is not None and _accepted(f, rule=rule)
        }
        return replace(self, **bound)

    def published(self) -> dict[str, Any]:
        """Return the settings that may be published, with prompts as digests."""
        examples = {
            name: [{**EXAMPLE, **asdict(example)} for example in examples] for name, examples in self.examples.items()
        }
        prompts = {"examples": digest(examples)}
        prompts |= {name: digest(value) for name, value in vars(self).items() if name.endswith("instruction")}
        code = {"grade": redact(self.grade), "grader_code": self.grader_code()}
        return {"task": self.name, "tool": self.tool.published(), **code, "prompts_sha256": prompts}

    def grader_code(self) -> str:
        """Return the digest of this package's code that extracts and grades predictions, without functions of users."""
        functions = [f.func if isinstance(f, partial) else f for f in (self.extract, self.grade)]
        digests = module_digests(f.__module__ for f in functions if is_in_package(getattr(f, "__module__", None)))
        return digest({name: code for name, code in digests.items() if name.startswith(GRADER_FOLDERS)})

    def check_prompts(self) -> None:
        """Log a warning if neither the instruction nor an example names the tool: responses will not call it."""
        calls = [example.call for examples in self.examples.values() for example in examples]
        is_named = self.tool.name.casefold() in self.instruction.casefold()
        if not is_named and not any(call.startswith(f"{self.tool.name}(") for call in calls):
            log.warning(
                "the prompts of the task %r never name its tool %r: pass name=... to the tool, or set instruction= and "
                "examples= of the task; its instruction is: %s",
                self.name,
                self.tool.name,
                self.instruction,
            )

    def environment(self) -> Any:
        """Return this task as an environment for TRL: `toolrlef_data.environment(task)`.

        >>> from toolrlef_data import TASKS
        >>> TASKS["math"].environment().calculator(formula="3*4")
        '12'
        """
        import toolrlef_data  # resolves public names late, so that no task depends on the publishing code

        return toolrlef_data.environment(self)

    def examples_for(self, dataset: str) -> tuple[Example, ...]:
        """Return the few-shot examples of a data set, or the general ones if it has none."""
        return tuple(self.examples.get(dataset, self.examples.get("", ())))


def _accept_renamed(init: Callable[..., None]) -> Callable[..., None]:
    """Wrap `Task.__init__` to accept the deprecated keyword arguments."""
    names = [f.name for f in fields(Task)]

    def is_filled_in(new: str, keywords: list[str]) -> bool:
        """Whether `dataclasses.replace` added the current value: it passes all fields, its arguments first."""
        earlier = names[: names.index(new)]
        return set(names) <= set(keywords) and set(earlier) <= set(keywords[: keywords.index(new)])

    @functools.wraps(init)
    def wrapper(self: Task, *args: Any, **kwargs: Any) -> None:
        for old in [name for name in kwargs if RENAMED.get(name) in names]:
            new = RENAMED[old]
            if new in kwargs and not is_filled_in(new, list(kwargs)):
                raise TypeError(f"Task: expected {new!r} or its deprecated name {old!r}, found both")
            _warn_renamed(old)
            kwargs[new] = kwargs.pop(old)
        init(self, *args, **kwargs)

    return wrapper


def _warn_renamed(old: str) -> None:
    # The level of the code that uses the name: above this function and its caller.
    warnings.warn(f"Task.{old} is deprecated: use Task.{RENAMED[old]}", DeprecationWarning, stacklevel=3)


Task.__init__ = _accept_renamed(Task.__init__)  # type: ignore[method-assign]


def _are_examples(value: object) -> bool:
    return isinstance(value, Sequence) and all(isinstance(example, Example) for example in value)


def parse_examples(text: str, tool: str) -> tuple[Example, ...]:
    """Parse few-shot examples from lines of the form "input | argument of the call | answer".

    >>> parse_examples("Where is Mount Toubkal? | Mount Toubkal | Morocco", "WikiSearch")[0].call
    'WikiSearch(Mount Toubkal)'
    """
    lines = [line.split(" | ") for line in text.strip().splitlines()]
    return tuple(
        Example(question, gold, f"{tool}({argument})", f"The answer is {gold}.") for question, argument, gold in lines
    )


@lru_cache(maxsize=64)
def _parameters(function: Callable[..., Any]) -> frozenset[str]:
    return frozenset(inspect.signature(function).parameters)


def _accepted(function: Callable[..., Any], **options: Any) -> dict[str, Any]:
    """Return the options for which a function has parameters."""
    try:
        parameters = _parameters(function)
    except TypeError:  # not hashable, as a frozen dataclass with a mapping
        parameters = _parameters.__wrapped__(function)
    return {name: value for name, value in options.items() if name in parameters}


def _checked_grade(
    task: str,
    function: Callable[..., Any],
    options: Mapping[str, Any],
    prediction: str | None,
    answers: Sequence[str],
    row_id: str = "",
) -> bool | None:
    """Call a grader; raise an `InputError` with the task and the row if it fails, or returns no grade."""

    def no_grade(found: str) -> InputError:
        row = f"the row {row_id!r}: " if row_id else ""
        call = f"{function_name(function)}({prediction!r:.80}, {list(answers)!r:.80})"
        expected = "a function of (prediction, gold answers) that returns True, False or None"
        return InputError(f"grade= of the task {task!r}: {row}{call} {found}; expected {expected}")

    try:
        grade = function(prediction, answers, **options)
    except ToolrlefError:
        raise
    except Exception as error:
        raise no_grade(f"failed with {type(error).__name__}: {Secrets([]).redact(str(error))}") from error
    if grade is None or isinstance(grade, bool):
        return grade
    if type(grade).__module__ == "numpy" and isinstance(value := grade.item(), bool):
        return value
    raise no_grade(f"returned {grade!r:.80}")
