"""The chain of TRICE's documents: raw rows of four tasks, a server that answers them, and the commands of docs/trice.md."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from tests.support.api_replies import ReceivedRequest, ServerReply, completion

PAGE = Path(__file__).parents[2] / "docs" / "trice.md"
DATASETS = {"math": "GSM8K", "qa": "TriviaQA", "lama": "TREx", "mlqa": "MLQA"}
COMMAND_NAMES = {"GSM8K": "GSM8K", "TriviaQA": "TriviaQA", "TREx": "T-REx", "MLQA": "MLQA"}
PLACES = ["Oslo", "Turin", "Quito", "Lima", "Bern", "Riga"]
PASSAGES = [{"title": f"The {n}. mill", "text": f"The mill number {n} stands in {place}."} for n, place in enumerate(PLACES)]  # fmt: skip


def raw_rows(task: str, count: int = 6) -> list[dict[str, Any]]:
    """Return raw rows in the original's form; the number in each question determines its answer."""
    rows: list[dict[str, Any]] = []
    for n in range(count):
        row: dict[str, Any] = {"id": f"{DATASETS[task]}-{n}{'#es' if task == 'mlqa' else ''}"}
        place = PLACES[n % len(PLACES)]
        if task == "math":
            row |= {"question": f"Ann has {n} figs and {30 + n} nuts. How many things?", "answer": str(30 + 2 * n)}
            row["input"] = row["question"]
        elif task == "mlqa":
            question = f"¿Dónde está el molino número {n}?"
            row |= {"question": question, "answer": place, "input": f"Context: The mill {n} is in {place}.\nQuestion: {question}"}  # fmt: skip
        else:
            question = f"The mill number {n} stands in ?" if task == "lama" else f"where is the mill number {n}"
            row |= {
                "question": question,
                "answer": [place, f"{place} city"],
                "input": question,
                "instruction": question,
            }
        rows.append(row)
    return rows


def correct_call(task: str, n: int) -> str:
    """Return the call that reaches the answer of row n."""
    return {
        "math": f"calculator({n}+{30 + n})",
        "qa": f"WikiSearch(mill number {n})",
        "lama": f"QA(Where does the mill number {n} stand?)",
        "mlqa": f"translator(¿Dónde está el molino número {n}?)",
    }[task]


def reply(received: ReceivedRequest, repeats: int = 0) -> ServerReply:
    """Answer a request of any command: teachers and chat models with calls, the student and others with answers.

    Row 2 gets an incorrect call from the teacher, and every second row a correct answer from the student.
    """
    body = received.body
    is_chat = "messages" in body
    text = body["messages"][-1]["content"] if is_chat else body["prompt"].rpartition("Question: ")[2]
    whole = json.dumps(body, ensure_ascii=False)
    task = next(
        t
        for t, tool in (("math", "figs"), ("mlqa", "molino"), ("lama", "stands in ?"), ("qa", "where is"))
        if tool in text
    )
    n = int(re.findall(r"\d+", text.rpartition("\nGolden")[0] or text)[0])
    row = raw_rows(task, n + 1)[n]
    answer = row["answer"] if isinstance(row["answer"], str) else row["answer"][0]
    if "Golden answers" in text:
        return completion("calculator(1+1)" if task == "math" and n == 2 else correct_call(task, n), chat=is_chat)
    asks_for_tool = any(f"{tool}(" in whole for tool in ("calculator", "WikiSearch", "QA", "translator"))
    if asks_for_tool and (is_chat or n % 2):
        return completion(correct_call(task, n), chat=is_chat)
    return completion(f"The answer is {answer}." if n % 2 else "The answer is 999.", chat=is_chat)


def write_raw(folder: Path, task: str, unit: str, count: int = 6) -> Path:
    """Write raw rows to data/raw/{unit}/{dataset}.json, and return the path."""
    path = folder / "data" / "raw" / unit / f"{DATASETS[task]}.json"
    write_lines(path, raw_rows(task, count))
    return path


def write_lines(path: Path, rows: Iterable[Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")


def read_lines(path: Path) -> list[Any]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n") if line]


def page_commands() -> dict[str, list[list[str]]]:
    """Return the commands of docs/trice.md by layout, "task" or "dataset", as words after `toolrlef-data trice`."""
    by_task, by_dataset = PAGE.read_text(encoding="utf-8").split("\n## The older document")
    return {name: list(_commands(text)) for name, text in (("task", by_task), ("dataset", by_dataset))}


def _commands(text: str) -> Iterable[list[str]]:
    for block in re.findall(r"```bash\n(.*?)```", text, re.S):
        for line in block.replace("\\\n", " ").strip().split("\n"):
            program, group, *words = shlex.split(line)
            assert (program, group) == ("toolrlef-data", "trice"), line
            yield words


def commands_for(task: str, layout: str) -> list[list[str]]:
    """Return the commands of one task: those of math with its names, and the page's own command `score`."""
    commands = page_commands()[layout]
    own_score = [words for words in page_commands()["task"] if words[0] == "score" and words[2] == task]
    chain = [
        [_renamed(word, task) for word in words] for words in commands if words[0] != "score" or words[2] == "math"
    ]
    if task == "math":
        return chain
    tools = own_score[0][own_score[0].index("--target_path") + 2 :]
    return [[*words, *(tools if words[0] == "score" else [])] for words in chain]


def _renamed(word: str, task: str) -> str:
    if word == "GSM8K":
        return COMMAND_NAMES[DATASETS[task]]
    word = word.replace("GSM8K", DATASETS[task])
    return re.sub(r"\bmath(?=\b|_)", task, word)
