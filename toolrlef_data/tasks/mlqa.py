"""Questions in another language about an English text, and a translator.

The task `mlqa` of TRICE (arXiv 2305.13068): MLQA with English contexts, answers in English. One instance:

    context "The Erie Canal opened in 1825 and ..."  question "¿En qué año se abrió el canal?"  answers ["1825"]
    a response with the tool: "translator(¿En qué año se abrió el canal?)"; one without: "The answer is 1825."

The call needs no model, it is the question itself. A translation is no prediction: it takes the place of the question,
and the reader answers over the context. Everything, also what the reader says, counts with its first 20 words, as in
the paper.
Quirks: a row tells its language behind the last "#" of its id (mlqa-<upstream's id>#zh). What a reader of calls would
take off or cut at is written in another form in the argument: a lone parenthesis as a full-width one, straight quotes
as curly ones; a question that is wholly in quotes loses them. The translator is still to be chosen: until then a call
says how.
Not covered: contexts in another language, answers outside the context, questions that are English already.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from toolrlef_data.records import ToolCall
from toolrlef_data.tasks.task import Example, Task
from toolrlef_data.tasks.text_answers import first_words, grade, usable
from toolrlef_data.tools.calls import parse_call, render_call
from toolrlef_data.tools.tool import Tool, not_set_up

__all__ = ["MLQA", "language", "reading", "render", "written"]

# Fixed by the documents that this project follows: files made elsewhere hold the same sentence.
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
MARK = "\nQuestion: "

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
    """The input text of a row of the questions table: the context, and the question in one line below it.

    >>> render({"context": "It opened in 1825.", "question": "¿Cuándo se abrió?"})
    'Context: It opened in 1825.\\nQuestion: ¿Cuándo se abrió?'
    """
    return f"Context: {row['context']}{MARK}{' '.join(row['question'].split())}"


def reading(input: str, translation: str) -> str:
    """What the reader is asked: the input, the translation in the place of its question.

    >>> reading("Context: It opened in 1825.\\nQuestion: ¿Cuándo se abrió?", "When did it open?")
    'Context: It opened in 1825.\\nQuestion: When did it open?'
    """
    before, mark, _ = input.rpartition(MARK)
    return f"{before if mark else input}{MARK}{translation}"


def written(row: Mapping[str, Any]) -> str:
    """The argument of a row's call: its question in one line, as it is read back from the call.

    >>> written({"question": "¿Cuándo se  abrió?"}), written({"question": "Was heißt :) ?"})
    ('¿Cuándo se abrió?', 'Was heißt :） ?')
    """
    argument = " ".join(row["question"].split())
    for change in (str, _paired, _curly):
        argument = change(argument)
        if _read_back(argument) == argument:
            return argument
    while (read := _read_back(argument)) and read != argument:  # shorter each time: a wrapping is taken off
        argument = read
    return argument


def _read_back(argument: str) -> str | None:
    call = parse_call(render_call(ToolCall(TRANSLATOR.name, argument)), TRANSLATOR)
    return call.argument if call else None


def _paired(text: str) -> str:
    """The text with each parenthesis that has no other half full-width, which is text to a reader of calls."""
    signs, opened = list(text), list[int]()
    for i, sign in enumerate(text):
        if sign == "(":
            opened.append(i)
        elif sign == ")" and opened:
            opened.pop()
        elif sign == ")":
            signs[i] = "\uff09"
    for i in opened:
        signs[i] = "\uff08"
    return "".join(signs)


def _curly(text: str) -> str:
    """The text with curly quotes, an opening one where a word begins."""
    text = re.sub(r'"(?=\w)(?<!\w")', "\u201c", text).replace('"', "\u201d")
    return text.replace("'", "\u2019")


def language(row: Mapping[str, Any]) -> str:
    """The language of a row's question (ISO 639): what stands behind the last "#" of its id, "" where that is no code.

    >>> language({"id": "mlqa-4f1a#zh"}), language({"id": "mine-17"})
    ('zh', '')
    """
    code: str = row["id"].rpartition("#")[2].lower() if "#" in row["id"] else ""
    return code if re.fullmatch("[a-z]{2,3}", code) else ""


def _never(argument: str, question: str, answers: Sequence[str]) -> bool:
    """The argument is the question, which gives nothing away."""
    return False


def _examples(text: str) -> tuple[Example, ...]:
    """Examples from blocks of lines: the context, then "question | answer"."""
    examples = []
    for block in text.strip().split("\n\n"):
        *context, last = block.splitlines()
        question, gold = last.split(" | ")
        row = {"context": " ".join(context), "question": question}
        call = render_call(ToolCall(TRANSLATOR.name, written(row)))
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
    extract=first_words,
    grade=grade,
    ungradable_reason=usable,
    leaks=_never,
    render=render,
    examples=EXAMPLES,
    make_argument=written,
    language=language,
    reader_prompt=reading,
    reader_instruction=READER_INSTRUCTION,
    parse_reader_reply=first_words,
    output_is_answer=False,
)
