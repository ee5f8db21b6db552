"""Open questions about the world, and a search in Wikipedia.

The task `qa` of TRICE (arXiv 2305.13068): WebQuestions, NQ-open, TriviaQA; and `retrieval`, the same with the tool
`retriever`: HotpotQA, unseen in training. One instance:

    question "In which Italian city would you find the Mole Antonelliana?"  answers ["Turin"]
    a response with the tool: "WikiSearch(Mole Antonelliana)"; one without: "The answer is Turin."

A passage is no prediction: the reader is asked the question below each passage and answers, one prediction a passage.
Predictions count with their first 20 words, as in the paper; with `compat` what the reader says counts whole, as in
the published code.
Quirks: questions of NQ-open are lower case without a question mark. The search of both tasks is still to be made (a
corpus or an endpoint): until then a call says how.
Not covered: questions that need two searches after one another; answers that are sentences.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Any

from toolrlef_data.tasks.task import Task, examples_from
from toolrlef_data.tasks.text_answers import first_words, grade, leaks, usable
from toolrlef_data.tools.tool import Tool, not_set_up

__all__ = ["QA", "RETRIEVAL", "read_answer", "reading", "render"]

# Fixed by the documents that this project follows: files made elsewhere hold the same sentence.
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
    """The input text of a row of the questions table: its question.

    >>> render({"question": "Where is Mount Toubkal?", "context": ""})
    'Where is Mount Toubkal?'
    """
    return str(row["question"])


def reading(input: str, passage: str) -> str:
    """What the reader is asked: the passage, and the question below it.

    >>> reading("Where is Mount Toubkal?", "Toubkal is a mountain in Morocco.")
    'Toubkal is a mountain in Morocco.\\n\\nQuestion: Where is Mount Toubkal?'
    """
    return f"{passage}\n\nQuestion: {input}"


def read_answer(reply: str) -> str | None:
    """What the reader says; None where it says nothing.

    >>> read_answer(" Morocco\\n"), read_answer(" ")
    ('Morocco', None)
    """
    return reply.strip() or None


_examples = partial(examples_from, tool="WikiSearch")  # lines: question | search term | answer

# Written for this project, in the manner of each data set.
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


def _search(task: str, name: str, named: str = "") -> Tool:
    return Tool(
        name,
        "Searches Wikipedia and gives the passages that fit best.",
        parameter="query",
        many=partial(not_set_up, ADVICE.format(task=task, name=named)),
    )


QA = Task(
    name="qa",
    tool=_search("qa", "WikiSearch"),
    instruction=INSTRUCTION.format(tool="WikiSearch"),
    plain_instruction=PLAIN_INSTRUCTION,
    teacher_instruction=TEACHER_INSTRUCTION.format(tool="WikiSearch"),
    extract=first_words,
    grade=grade,
    ungradable_reason=usable,
    leaks=leaks,
    render=render,
    examples=EXAMPLES,
    reader_prompt=reading,
    reader_instruction=READER_INSTRUCTION,
    parse_reader_reply=read_answer,
)

RETRIEVAL = replace(
    QA,
    name="retrieval",
    tool=_search("retrieval", "retriever", ", name='retriever'"),
    instruction=INSTRUCTION.format(tool="retriever"),
    teacher_instruction=TEACHER_INSTRUCTION.format(tool="retriever"),
    examples={
        dataset: tuple(replace(each, call=each.call.replace("WikiSearch(", "retriever(", 1)) for each in examples)
        for dataset, examples in EXAMPLES.items()
    },
)
