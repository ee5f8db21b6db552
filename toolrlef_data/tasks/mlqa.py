"""Questions in other languages about an English context, and a translator.

The task `mlqa` of TRICE (arXiv 2305.13068): MLQA with English contexts and English answers. One instance:

    context: "The Erie Canal opened in 1825 and ..."
    question: "¿En qué año se abrió el canal?"
    answers: ["1825"]
    response with the tool: "translator(¿En qué año se abrió el canal?)"
    response without: "The answer is 1825."

- Calls: the argument is the question, so no teacher is needed.
- Prediction: a translation is not a prediction. It replaces the question, and the reader answers from the context.
- Grading: the final statement of a prediction, also of the reader's, must be a gold answer (`text_answers`). The rule
  "paper" searches the first 20 words.
- Setup: `MLQA.tool` has no translator yet, and its error explains how to choose one.
- Not covered: contexts in other languages, answers outside the context, questions in English.

Quirks:

- The language of a row is the part of its id after the last "#" (mlqa-<upstream's id>#zh).
- The argument is rewritten if the parser of calls would strip or truncate it: unpaired parentheses become full-width,
  straight quotes become curly. Quotes around the full question are removed.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from toolrlef_data.records import ToolCall
from toolrlef_data.tasks.task import Example, Task
from toolrlef_data.tasks.text_answers import extract, grade, ungradable_reason
from toolrlef_data.tools.parsing.calls import parse_call, render_call
from toolrlef_data.tools.tool import Tool, not_set_up

__all__ = ["MLQA", "language", "make_argument", "parse_input", "reader_prompt", "render"]

# Required verbatim by the TRICE format: other tools' files contain the same sentence.
INSTRUCTION = "Given a context, please answer the question in English and you can use a translator for help."
PLAIN_INSTRUCTION = (
    "Answer the question from the context, in English, in one short sentence of the form: The answer is <answer>."
)
TEACHER_INSTRUCTION = (
    "You write calls of a translator into English. You see a context, a question in another language and its golden "
    "answers. Reply with exactly one line, translator(QUESTION), and nothing else. QUESTION is the question as it "
    "stands, in its own language."
)
READER_INSTRUCTION = (
    "Answer the question from the context, in English, in as few words as possible. Reply with the answer and nothing "
    "else."
)
QUESTION_MARKER = "\nQuestion: "

TRANSLATOR = Tool(
    "translator",
    "Translates a text into English.",
    parameter="text",
    many=partial(
        not_set_up,
        "make one with translator(model) or translator_engine(engine) of toolrlef_data, and pass "
        "task=replace(TASKS['mlqa'], tool=..., reader=...)",
    ),
)


def render(row: Mapping[str, Any]) -> str:
    """Return the input text of a row of a questions table: the context, and the question in one line below it.

    >>> render({"context": "It opened in 1825.", "question": "¿Cuándo se abrió?"})
    'Context: It opened in 1825.\\nQuestion: ¿Cuándo se abrió?'
    """
    return f"Context: {row['context']}{QUESTION_MARKER}{' '.join(row['question'].split())}"


def reader_prompt(input: str, translation: str) -> str:
    """Return the prompt of the reader: the input with the translation instead of its question.

    >>> reader_prompt("Context: It opened in 1825.\\nQuestion: ¿Cuándo se abrió?", "When did it open?")
    'Context: It opened in 1825.\\nQuestion: When did it open?'
    """
    context, marker, _ = input.rpartition(QUESTION_MARKER)
    return f"{context if marker else input}{QUESTION_MARKER}{translation}"


def parse_input(input: str) -> tuple[str, str]:
    """Return the question and the context of an input text.

    >>> parse_input("Context: It opened in 1825.\\nQuestion: ¿Cuándo se abrió?")
    ('¿Cuándo se abrió?', 'It opened in 1825.')
    """
    context, _, question = input.rpartition(QUESTION_MARKER)
    return question, context.removeprefix("Context: ")


def make_argument(row: Mapping[str, Any]) -> str:
    """Return the argument of a row's call: its question in one line, in a form that the parser of calls preserves.

    >>> make_argument({"question": "¿Cuándo se  abrió?"}), make_argument({"question": "Was heißt :) ?"})
    ('¿Cuándo se abrió?', 'Was heißt :） ?')
    """
    argument = " ".join(row["question"].split())
    for rewrite in (str, _with_paired_parentheses, _with_curly_quotes):
        argument = rewrite(argument)
        if _parsed_argument(argument) == argument:
            return argument
    while (parsed := _parsed_argument(argument)) and parsed != argument:  # each pass strips one wrapping
        argument = parsed
    return argument


def _parsed_argument(argument: str) -> str | None:
    """Return the argument that the parser reads from a call with `argument`."""
    call = parse_call(f"{TRANSLATOR.name}({argument})", TRANSLATOR)  # without the quotes of `render_call`
    return call.argument if call else None


def _with_paired_parentheses(text: str) -> str:
    """Return the text with unpaired parentheses as full-width ones, which the parser of calls ignores."""
    characters, open_positions = list(text), list[int]()
    for i, character in enumerate(text):
        if character == "(":
            open_positions.append(i)
        elif character == ")" and open_positions:
            open_positions.pop()
        elif character == ")":
            characters[i] = "\uff09"
    for i in open_positions:
        characters[i] = "\uff08"
    return "".join(characters)


def _with_curly_quotes(text: str) -> str:
    """Return the text with curly quotes: opening ones at the start of a word, closing ones elsewhere."""
    text = re.sub(r'"(?=\w)(?<!\w")', "\u201c", text).replace('"', "\u201d")
    return text.replace("'", "\u2019")


def language(row: Mapping[str, Any]) -> str:
    """Return the language code (ISO 639) of a row's question, after the last "#" of its id; "" if it is not a code.

    >>> language({"id": "mlqa-4f1a#zh"}), language({"id": "mine-17"})
    ('zh', '')
    """
    code: str = row["id"].rpartition("#")[2].lower() if "#" in row["id"] else ""
    return code if re.fullmatch("[a-z]{2,3}", code) else ""


def _leaks_nothing(argument: str, question: str, answers: Sequence[str]) -> bool:
    """Return False: the argument is the question, which cannot contain the answer."""
    return False


def _examples(text: str) -> tuple[Example, ...]:
    """Parse few-shot examples from blocks of lines: the context, then "question | answer"."""
    examples = []
    for block in text.strip().split("\n\n"):
        *context, last = block.splitlines()
        question, gold = last.split(" | ")
        row = {"context": " ".join(context), "question": question}
        call = render_call(ToolCall(TRANSLATOR.name, make_argument(row)))
        examples.append(Example(render(row), gold, call, f"The answer is {gold}."))
    return tuple(examples)


# Written for this project.
EXAMPLES = {
    "": _examples("""
The Erie Canal opened in 1825 and joined the Hudson River to Lake Erie.
Mules walked on a path beside the water and pulled the boats.
¿En qué año se inauguró el canal de Erie? | 1825

Honey bees tell each other where flowers grow by dancing on the comb.
The angle of the dance shows the direction of the flowers, and its length shows how far away they are.
Was verrät der Winkel des Tanzes? | direction

The Rosetta Stone was found in 1799 near the town of Rashid in Egypt. It carries the same decree in three scripts,
which helped Champollion to read hieroglyphs. Since 1802 it has been on show in the British Museum.
罗塞塔石碑现在在哪家博物馆展出？ | British Museum

Saffron is made from the stigmas of a crocus that blooms in autumn.
The flowers are picked by hand at dawn, and about 150 of them are needed for a single gram.
كم زهرة تلزم للحصول على غرام واحد من الزعفران؟ | 150
"""),
    "mlqa": _examples("""
Emperor penguins breed in the Antarctic winter. The female lays a single egg and goes back to the sea,
while the male keeps the egg warm on his feet for about two months.
सम्राट पेंगुइन किस मौसम में प्रजनन करते हैं? | winter

Cork is the bark of an oak that grows around the western Mediterranean. It is first taken off when the tree is about
25 years old, and then every nine years. Portugal produces about half of the cork of the world.
Nước nào sản xuất khoảng một nửa lượng bần của thế giới? | Portugal

The large telescope of the Yerkes Observatory has a lens about one metre across. Bigger lenses bend under their own
weight, so later telescopes were built with mirrors.
ما الذي استُخدم في التلسكوبات اللاحقة بدلاً من العدسات؟ | mirrors

The Gotthard Base Tunnel runs for 57 kilometres under the Alps. It was opened in June 2016, after seventeen years of
work. Trains pass through it in about twenty minutes.
Wie lang ist der Gotthard-Basistunnel? | 57 kilometres
"""),
}

MLQA = Task(
    name="mlqa",
    tool=TRANSLATOR,
    instruction=INSTRUCTION,
    plain_instruction=PLAIN_INSTRUCTION,
    teacher_instruction=TEACHER_INSTRUCTION,
    extract=extract,
    grade=grade,
    ungradable_reason=ungradable_reason,
    leaks=_leaks_nothing,
    render=render,
    examples=EXAMPLES,
    make_argument=make_argument,
    language=language,
    reader_prompt=reader_prompt,
    reader_instruction=READER_INSTRUCTION,
    parse_reader_reply=extract,
    output_is_answer=False,
    parse_input=parse_input,
)
