"""Facts to be filled in at the end of a sentence, and a model that answers questions.

The task `lama` of TRICE (arXiv 2305.13068): T-REx; and SQuAD's part of LAMA, unseen in training. One instance:

    question "The Mole Antonelliana is a landmark of the Italian city of ?"  answers ["Turin"]
    a response with the tool: "QA(Which Italian city has the Mole Antonelliana as a landmark?)"
    one without: "The answer is Turin."

What the tool says is the prediction. Predictions count with their first 20 words, as in the paper; with `compat` what
the tool says counts whole, as in the published code.
Quirks: the blank is written " ?" and stands at the end, as in TRICE; the call is a question in words, not the cloze.
The model behind the tool is still to be chosen: until then a call says how.
Not covered: clozes with a blank elsewhere, or with several; answers of one word piece only, as LAMA itself scores them.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from toolrlef_data.tasks.task import Task, examples_from
from toolrlef_data.tasks.text_answers import first_words, grade, leaks, usable
from toolrlef_data.tools.tool import Tool, not_set_up

__all__ = ["LAMA", "render"]

# Fixed by the documents that this project follows: files made elsewhere hold the same sentence.
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
    """The input text of a row of the questions table: its cloze.

    >>> render({"question": "Mount Ararat is a mountain in ?", "context": ""})
    'Mount Ararat is a mountain in ?'
    """
    return str(row["question"])


_examples = partial(examples_from, tool="QA")  # lines: cloze | question | answer

# Written for this project, in the manner of each data set.
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
    extract=first_words,
    grade=grade,
    ungradable_reason=usable,
    leaks=leaks,
    render=render,
    examples=EXAMPLES,
)
