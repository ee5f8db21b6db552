"""Cloze facts with the blank at the end, and a question-answering model.

The task `lama` of TRICE (arXiv 2305.13068). Data sets: T-REx, and LAMA's SQuAD, which is held out from training. One
instance:

    question: "The Mole Antonelliana is a landmark of the Italian city of ?"
    answers: ["Turin"]
    response with the tool: "QA(Which Italian city has the Mole Antonelliana as a landmark?)"
    response without: "The answer is Turin."

- Prediction: the tool output, or the response if it has no call.
- Grading: the final statement of a response must be a gold answer, and a tool output must contain one (`text_answers`).
  The rule "paper" searches the first 20 words, with `compat` the full tool output, as in the published code.
- Quirks: the blank is written " ?", as in TRICE. The argument of a call is a natural question, not the cloze.
- Setup: `LAMA.tool` has no model yet, and its error explains how to choose one.
- Not covered: clozes with a blank elsewhere or several blanks; LAMA's scoring of single-token answers.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from toolrlef_data.tasks.task import Task, parse_examples
from toolrlef_data.tasks.text_answers import extract, grade, leaks, ungradable_reason
from toolrlef_data.tools.tool import Tool, not_set_up

__all__ = ["LAMA", "render"]

# Required verbatim by the TRICE format: other tools' files contain the same sentence.
INSTRUCTION = "Given a question, please answer it and you can use a QA model for help."
PLAIN_INSTRUCTION = (
    "The sentence ends in a question mark that stands for what is missing. Say what is missing, in one short sentence "
    "of the form: The answer is <answer>."
)
TEACHER_INSTRUCTION = (
    "You write calls of a model that answers questions. You see sentences whose last words are missing, with a "
    "question mark in their place, and the golden answers that fill them. Reply with exactly one line, QA(QUESTION), "
    "and nothing else. QUESTION is a complete question in words that asks for what is missing, with all names of the "
    "sentence that are needed to understand it alone. Never write a golden answer into it."
)


def render(row: Mapping[str, Any]) -> str:
    """Return the input text of a row of a questions table: its cloze.

    >>> render({"question": "Mount Ararat is a mountain in ?", "context": ""})
    'Mount Ararat is a mountain in ?'
    """
    return str(row["question"])


_examples = partial(parse_examples, tool="QA")  # lines: cloze | question | answer

# Written for this project, in the style of each data set.
EXAMPLES = {
    "": _examples("""
The Mole Antonelliana is a landmark of the Italian city of ? | Which Italian city is the Mole Antonelliana in? | Turin
Mount Ararat is a mountain in ? | In which country is Mount Ararat? | Turkey
The oboe belongs to the family of instruments called ? | To which family of instruments does the oboe belong? | woodwind
The novelist Selma Lagerlöf was a citizen of ? | Of which country was the novelist Selma Lagerlöf a citizen? | Sweden
"""),
    "trex": _examples("""
Edvard Munch was a painter from ? | Which country did the painter Edvard Munch come from? | Norway
Lev Yashin played football in the position of ? | In which position did Lev Yashin play football? | goalkeeper
Slovakia borders Czechia, Poland, Ukraine, Hungary and ? | Which is the fifth country that borders Slovakia? | Austria
The first language of the author Astrid Lindgren was ? | What was the first language of Astrid Lindgren? | Swedish
"""),
    "squad": _examples("""
Of the light that falls on it, chlorophyll reflects mostly the color ? | Which color does chlorophyll reflect? | green
In a hive of honey bees, the female that lays the eggs is the ? | Which female honey bee lays the eggs? | queen
The number of chambers in the heart of a frog is ? | How many chambers does the heart of a frog have? | three
The gas that plants take in for photosynthesis is carbon ? | Which gas do plants need for photosynthesis? | dioxide
"""),
}

LAMA = Task(
    name="lama",
    tool=Tool(
        "QA",
        "Answers a question.",
        parameter="question",
        many=partial(
            not_set_up,
            "make one with qa_engine(engine) or qa_model(model) of toolrlef_data, and pass "
            "task=replace(TASKS['lama'], tool=...)",
        ),
    ),
    instruction=INSTRUCTION,
    plain_instruction=PLAIN_INSTRUCTION,
    teacher_instruction=TEACHER_INSTRUCTION,
    extract=extract,
    grade=grade,
    ungradable_reason=ungradable_reason,
    leaks=leaks,
    render=render,
    examples=EXAMPLES,
)
