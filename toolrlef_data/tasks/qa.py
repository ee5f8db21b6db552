"""Open-domain questions, and a Wikipedia search.

Two tasks of TRICE (arXiv 2305.13068), which differ only in the name of the tool:

| task | tool | data sets |
|---|---|---|
| `qa` | `WikiSearch` | WebQuestions, NQ-open, TriviaQA |
| `retrieval` | `retriever` | HotpotQA, which is held out from training |

One instance:

    question: "In which Italian city would you find the Mole Antonelliana?"
    answers: ["Turin"]
    response with the tool: "WikiSearch(Mole Antonelliana)"
    response without: "The answer is Turin."

- Prediction: a passage is not a prediction. The reader answers the question from each passage, one prediction each.
- Grading: the final statement of a prediction must be a gold answer (`text_answers`). The rule "paper" searches the
  first 20 words, with `compat` the full reply of the reader, as in the published code.
- Quirks: questions of NQ-open are in lower case, without a question mark.
- Setup: the tools have no corpus or endpoint yet, and their error explains how to choose one.
- Not covered: questions that need two consecutive searches; answers that are sentences.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Any

from toolrlef_data.tasks.task import Task, parse_examples
from toolrlef_data.tasks.text_answers import extract, grade, leaks, ungradable_reason
from toolrlef_data.tools.tool import Tool, not_set_up

__all__ = ["QA", "RETRIEVAL", "parse_reader_reply", "reader_prompt", "render"]

# Required verbatim by the TRICE format: other tools' files contain the same sentence.
INSTRUCTION = "Given a question, please answer it and you can use a {tool} for help."
PLAIN_INSTRUCTION = "Answer the question in one short sentence of the form: The answer is <answer>."
TEACHER_INSTRUCTION = (
    "You write calls of a search in Wikipedia. For each question you see its golden answers. Reply with exactly one "
    "line, {tool}(SEARCH TERM), and nothing else. SEARCH TERM is a few words that find a passage with the answer: the "
    "names of the question and what it asks for. Never write a golden answer into it, unless the question holds it."
)
READER_INSTRUCTION = (
    "Answer the question from the passage above it, in as few words as possible. Reply with the answer and nothing "
    "else. If the passage does not tell it, reply with your best guess."
)
ADVICE = (
    "make one with wiki_search(corpus{name}) of toolrlef_data, and pass "
    "task=replace(TASKS['{task}'], tool=..., reader=...)"
)


def render(row: Mapping[str, Any]) -> str:
    """Return the input text of a row of a questions table: its question.

    >>> render({"question": "Where is Mount Toubkal?", "context": ""})
    'Where is Mount Toubkal?'
    """
    return str(row["question"])


def reader_prompt(input: str, passage: str) -> str:
    """Return the prompt of the reader: the passage, and the question below it.

    >>> reader_prompt("Where is Mount Toubkal?", "Toubkal is a mountain in Morocco.")
    'Toubkal is a mountain in Morocco.\\n\\nQuestion: Where is Mount Toubkal?'
    """
    return f"{passage}\n\nQuestion: {input}"


def parse_reader_reply(reply: str) -> str | None:
    """Return the prediction in a reply of the reader; None if the reply is empty.

    >>> parse_reader_reply(" Morocco\\n"), parse_reader_reply(" ")
    ('Morocco', None)
    """
    return reply.strip() or None


_examples = partial(parse_examples, tool="WikiSearch")  # lines: question | search term | answer

# Written for this project, in the style of each data set.
EXAMPLES = {
    "": _examples("""
Which river flows under the Charles Bridge? | Charles Bridge | Vltava
Which architect designed the Einstein Tower in Potsdam? | Einstein Tower Potsdam architect | Erich Mendelsohn
In which year did the airship Hindenburg burn at Lakehurst? | airship Hindenburg Lakehurst | 1937
Which lake lies on the border of Estonia and Russia? | lake on the border of Estonia and Russia | Peipus
"""),
    "webquestions": _examples("""
what money do people use in mongolia? | currency of Mongolia | Mongolian tögrög
what instrument did clara schumann play? | Clara Schumann instrument | Piano
where is mount toubkal located? | Mount Toubkal | Morocco
who wrote the moomin books? | Moomin books author | Tove Jansson
"""),
    "nq_open": _examples("""
who composed the music of the film the third man | The Third Man film music composer | Anton Karas
where does the river inn flow into the danube | mouth of the Inn river | Passau
when was the suspension bridge at clifton opened | Clifton Suspension Bridge opening | 1864
what is the study of mosses and liverworts called | study of mosses and liverworts | bryology
"""),
    "triviaqa": _examples("""
In which Italian city would you find the Mole Antonelliana? | Mole Antonelliana | Turin
Which bird of prey is also known as the windhover? | windhover bird | Kestrel
Which noble gas has a name from the Greek for 'hidden'? | noble gas named after Greek word for hidden | Krypton
Which animal, unseen by him, did Albrecht Dürer draw for a woodcut of 1515? | Albrecht Dürer woodcut 1515 | Rhinoceros
"""),
    "hotpotqa": _examples("""
In which city is the museum that owns Vermeer's painting "View of Delft"? | View of Delft painting museum | The Hague
On which river lies the town where Johannes Kepler was born? | Johannes Kepler birthplace | Würm
Which mountain range contains the highest peak of Slovakia? | highest peak of Slovakia | High Tatras
Do the ocelot and the lynx belong to the same family of animals? | ocelot family | yes
"""),
}


def _search_tool(task: str, name: str, name_argument: str = "") -> Tool:
    return Tool(
        name,
        "Searches Wikipedia and gives the passages that fit best.",
        parameter="query",
        many=partial(not_set_up, ADVICE.format(task=task, name=name_argument)),
    )


QA = Task(
    name="qa",
    tool=_search_tool("qa", "WikiSearch"),
    instruction=INSTRUCTION.format(tool="WikiSearch"),
    plain_instruction=PLAIN_INSTRUCTION,
    teacher_instruction=TEACHER_INSTRUCTION.format(tool="WikiSearch"),
    extract=extract,
    grade=grade,
    ungradable_reason=ungradable_reason,
    leaks=leaks,
    render=render,
    examples=EXAMPLES,
    reader_prompt=reader_prompt,
    reader_instruction=READER_INSTRUCTION,
    parse_reader_reply=parse_reader_reply,
)

RETRIEVAL = replace(
    QA,
    name="retrieval",
    tool=_search_tool("retrieval", "retriever", ", name='retriever'"),
    instruction=INSTRUCTION.format(tool="retriever"),
    teacher_instruction=TEACHER_INSTRUCTION.format(tool="retriever"),
    examples={
        dataset: tuple(
            replace(example, call=example.call.replace("WikiSearch(", "retriever(", 1)) for example in examples
        )
        for dataset, examples in EXAMPLES.items()
    },
)
