"""The parts of the stages on single rows: which sample, target, label or response a row gets, and whole messages."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from datasets import Dataset, DatasetDict

from tests.support.api_server import ApiServer, completion
from toolrlef_data import (
    ANNOTATIONS,
    TASKS,
    EngineSpec,
    InputError,
    Reply,
    Responder,
    Tool,
    answer,
    build_stage1,
    build_stage2,
    execute,
    grade,
    ledger,
    make_questions,
    propose_calls,
    respond,
    scripted,
)
from toolrlef_data.columns import NEED, STAGE1
from toolrlef_data.engines.responses import build_response
from toolrlef_data.records import CassetteMiss, Drop, MissingColumns, ToolResult
from toolrlef_data.tables.lineage import lineage
from toolrlef_data.trice.cassette import EXECUTIONS, collect_executions, open_cassette, stages_called, stages_read
from toolrlef_data.trice.need.labels import label_by_need
from toolrlef_data.trice.stage1 import TargetSettings, _drop_without_target, _target_columns
from toolrlef_data.trice.student import GradeSettings, _drop_unusable, _grade_columns
from toolrlef_data.trice.teachers import (
    TeachSettings,
    _evidence,
    _propose_from_annotations,
    _propose_from_reply,
    _propose_from_row,
    _rejection,
    _teacher_request,
    _verified_labels,
    with_gold,
)

MATH, QA, MLQA, LAMA = (TASKS[name] for name in ("math", "qa", "mlqa", "lama"))


def quiet(script: Any, **settings: Any) -> EngineSpec:
    return scripted(script, progress=False, **settings)


def message(call: Any, *args: Any, **options: Any) -> str:
    with pytest.raises(InputError) as refused:
        call(*args, **options)
    return str(refused.value)


def questions(*rows: tuple[str, Any], task: Any = "math", **columns: Any) -> Dataset:
    made = [{"id": f"q{n}", "question": text, "answers": gold} for n, (text, gold) in enumerate(rows)]
    return make_questions([{**row, **columns} for row in made], task=task, id="id")


# The student ----------------------------------------------------------------------------------------------------------


def test_questions_that_cannot_be_asked() -> None:
    rows = {(None, "a"): "no_question", (" ", "a"): "no_question", ("q", None): "no_answer", ("q", "a"): ""}
    for (question, gold), reason in rows.items():
        drop = _drop_unusable({"question": question, "answers": ["x", gold]}, None)
        assert (drop.reason if drop else "") == reason
    assert _drop_unusable({"question": "q", "answers": [None]}, None) == Drop("no_answer", "a gold answer is null")
    assert _drop_unusable({"question": "q", "answers": None}, None) == Drop("no_answer", "a gold answer is null")


RIGHT, WRONG, FLAWED, CALLS = "It is 42.", "It is 41.", "<<6*7=43>>43. It is 42.", "calculator(6*7)"
UNREAD = r"It is \boxed{A}."
# Samples -> (index of the chosen one, correct, pass rate, needs the tool) at a threshold of 0.5, and with compat
SAMPLES: list[tuple[list[str], tuple[Any, ...], tuple[Any, ...]]] = [
    ([WRONG, RIGHT], (1, True, 0.5, False), (1, True, 0.5, False)),
    ([FLAWED, WRONG, RIGHT], (2, True, 2 / 3, False), (0, True, 2 / 3, False)),
    ([WRONG, FLAWED], (1, True, 0.5, False), (1, True, 0.5, False)),
    ([UNREAD, WRONG, CALLS], (1, False, 0.0, True), (0, False, 0.0, True)),
    ([UNREAD, "", WRONG, RIGHT], (3, True, 0.5, False), (3, True, 0.25, True)),
    ([UNREAD], (0, None, None, None), (0, False, 0.0, True)),
    (["", CALLS], (1, False, 0.0, True), (0, False, 0.0, True)),
    ([WRONG, WRONG, RIGHT], (2, True, 1 / 3, True), (2, True, 1 / 3, True)),
]


@pytest.mark.parametrize(("texts", "expected", "original"), SAMPLES, ids=range(len(SAMPLES)))
def test_the_sample_that_becomes_the_response(
    texts: list[str], expected: tuple[Any, ...], original: tuple[Any, ...]
) -> None:
    samples = [
        {**build_response(Reply(text)), "text": text or None, "error": None if text else "empty"} for text in texts
    ]
    row = {
        "task": "math",
        "question": "6*7?",
        "context": "",
        "answers": ["42"],
        "id": "a",
        "response": samples[0],
        "samples": samples[1:],
    }
    for compat, (chosen, correct, rate, needs_tool) in ((False, expected), (True, original)):
        task = MATH.with_rule("paper") if compat else MATH
        found = _grade_columns(row, GradeSettings({"math": task}, 0.5, compat))
        assert found["response"]["raw"] == texts[chosen]
        assert found["response"]["correct"] is found["correct"] is correct
        assert (found["pass_rate"], found["needs_tool"]) == (rate if rate is None else pytest.approx(rate), needs_tool)
        prediction = {RIGHT: "42", WRONG: "41", FLAWED: "42"}.get(texts[chosen])
        assert texts[chosen] in ("", UNREAD, CALLS) or found["prediction"] == prediction


def test_the_threshold_of_the_pass_rate() -> None:
    answered = answer(questions(("6*7?", "42")), quiet(lambda request: RIGHT if request.sample else WRONG, temperature=1.0), samples=4)  # fmt: skip
    assert [grade(answered, threshold=value)["needs_tool"][0] for value in (0.75, 0.76, 1)] == [False, True, True]
    for value in (0, -1, 1.01, True, "1"):
        assert message(grade, answered, threshold=value) == (
            f"threshold must be a number above 0, up to 1, found {value!r}"
        )


# Targets of stage 1 ---------------------------------------------------------------------------------------------------


def target_row(**changes: Any) -> dict[str, Any]:
    row = {
        "task": "math",
        "needs_tool": None,
        "answers": ["42"],
        "prediction": None,
        "verified": None,
        "tool_call": None,
    }
    row |= {"rejected": None, "response.text": None, "response.error": None, "response.error_detail": None}
    return {**row, **changes}


DROPS: list[tuple[dict[str, Any], Drop | None]] = [
    ({"answers": ["a", "b"], "response.error": "server"}, Drop("answer_not_a_number", "a | b")),
    ({"response.error": "cut_off", "response.error_detail": "why"}, Drop("cut_off", "why")),
    ({"response.error": "empty"}, Drop("empty", "")),
    ({"response.error": "server", "response.error_detail": "why"}, Drop("no_reply", "server")),
    ({"response.text": "x" * 150}, Drop("unreadable_answer", "x" * 100)),
    ({"response.text": f" {'x' * 150}y "}, Drop("unreadable_answer", "x" * 99 + "y")),
    ({"response.text": "Is it 42?", "prediction": "42"}, Drop("unsure_grade", "Is it 42?")),
    ({}, Drop("unreadable_answer", "")),
    ({"needs_tool": False, "response.text": "It is 42."}, None),
    ({"needs_tool": False, "response.text": "<<6*7=43>> 42"}, Drop("false_step", "6*7=43")),
    ({"needs_tool": True, "verified": True}, None),
    ({"needs_tool": True, "tool_call": "c", "verified": False, "rejected": ["a: b", "wrong_value: c: d"]}, Drop("wrong_value", "a: b; wrong_value: c: d")),
    ({"needs_tool": True, "rejected": []}, Drop("no_call", "")),
]  # fmt: skip


@pytest.mark.parametrize(("changes", "expected"), DROPS, ids=range(len(DROPS)))
def test_why_a_row_has_no_target(changes: dict[str, Any], expected: Drop | None) -> None:
    row = target_row(**changes)
    assert _drop_without_target(row, TargetSettings({"math": MATH}, False, False)) == expected
    kept = _drop_without_target(row, TargetSettings({"math": MATH}, True, True))
    is_kept = changes.get("needs_tool") is False or changes.get("tool_call") is not None
    assert kept == (None if is_kept else expected)


def test_the_columns_of_a_target() -> None:
    row: dict[str, Any] = {"id": "a", "task": "math", "dataset": "d", "answers": ["42"], "question": "6*7?", "context": "C.", "tool_call": "c", "verified_by": "value", "response.text": "own"}  # fmt: skip
    shared = {name: row[name] for name in ("id", "task", "dataset", "answers", "verified_by")}
    shared |= {"instruction": MATH.instruction, "input": "C.\n6*7?"}
    for needs_tool, teacher, output, source in (
        (True, "m", "c", "teacher"),
        (True, None, "c", "question"),
        (False, "m", "own", "student"),
    ):
        found = _target_columns({**row, "needs_tool": needs_tool, "teacher": teacher}, TargetSettings({"math": MATH}, False, False))  # fmt: skip
        assert found == {**shared, "output": output, "uses_tool": needs_tool, "source": source}


def test_what_stage_1_needs(caplog: pytest.LogCaptureFixture) -> None:
    graded = grade(answer(questions(("6*7?", "42")), quiet({"": WRONG})))
    assert message(build_stage1, graded) == (
        "build_stage1 needs a teacher for the task 'math': expected ANNOTATIONS, an EngineSpec or a sequence of these, found "
        "none"
    )
    assert message(build_stage1, graded, [ANNOTATIONS, 3]) == (
        "teacher: expected ANNOTATIONS or an EngineSpec, found int"
    )
    tool = Tool("translator", "Translates.", str.strip)
    foreign = questions(("Wo?", "Bern"), task="mlqa")
    labelled = grade(answer(foreign, quiet({"": "No."})))
    assert message(build_stage1, labelled, task=replace(MLQA, tool=tool)) == (
        "the calls of translator are verified by a reader, and the task 'mlqa' has none: pass task=replace(TASKS['mlqa'], "
        "tool=..., reader=EngineSpec(...)), or keep_unverified=True"
    )
    kept = build_stage1(labelled, task=replace(MLQA, tool=tool), keep_unverified=True)
    assert (kept["output"][:], kept["source"][:], kept["verified_by"][:]) == (["translator(Wo?)"], ["question"], [None])
    assert not [record for record in caplog.records if "has no reader" in record.getMessage()]
    for name in ("keep_unverified", "compat"):
        assert message(build_stage1, graded, ANNOTATIONS, **{name: 1}) == f"{name} must be True or False, found 1"
    empty = build_stage1(graded.select([]), ANNOTATIONS)
    assert (len(empty), empty.features) == (0, STAGE1)


# Teachers -------------------------------------------------------------------------------------------------------------


def teach_row(**changes: Any) -> dict[str, Any]:
    row: dict[str, Any] = {
        "id": "a",
        "task": "math",
        "dataset": "d",
        "question": "6*7?",
        "context": "",
        "answers": ["42"],
        "solution": None,
    }
    row |= {
        "needs_tool": True,
        "tool_call": None,
        "verified": None,
        "teacher": None,
        "attempts": 1,
        "rejected": ["old"],
    }
    return {**row, "tool_output": None, "verified_by": None, **changes}


def settings(teacher: str = "m", attempt: int = 0, **changes: Any) -> TeachSettings:
    mine = replace(MATH, name="mine", make_argument=lambda row: row["question"].strip("?"))
    tasks = {"math": MATH, "qa": QA, "mine": mine}
    return TeachSettings(tasks, teacher, attempt, False, ("call", "marked"), 9, **changes)


def proposed(columns: dict[str, Any]) -> tuple[Any, ...]:
    return tuple(columns["proposal"][name] for name in ("text", "error", "error_detail"))


def test_proposals_of_every_kind() -> None:
    nothing = (None, None, None)
    by_row: list[tuple[dict[str, Any], tuple[Any, ...]]] = [
        ({"needs_tool": False}, nothing),
        ({"verified": True, "tool_call": "c"}, nothing),
        ({"tool_call": "c"}, ("c", None, None)),
        ({"tool_call": "c", "verified": False}, nothing),
        ({}, nothing),
        ({"task": "mine"}, ("calculator(6*7)", None, None)),
        ({"task": "mine", "tool_call": "c"}, ("c", None, None)),
    ]
    for changes, expected in by_row:
        assert proposed(_propose_from_row(teach_row(**changes), settings())) == expected, changes
    by_solution: list[tuple[dict[str, Any], tuple[Any, ...]]] = [
        ({"solution": "<<6*7=42>>42"}, ("calculator(6*7)", None, None)),
        ({"solution": None}, (None, "no_annotation", None)),
        ({"solution": "<<6*7=43>>"}, (None, "wrong_value", None)),
        ({"task": "qa", "solution": "<<6*7=42>>"}, (None, "no_annotation", None)),
        ({"task": "mine", "solution": "<<6*7=42>>"}, nothing),
        ({"needs_tool": None, "solution": "<<6*7=42>>"}, nothing),
    ]
    for changes, expected in by_solution:
        assert proposed(_propose_from_annotations(teach_row(**changes), settings())) == expected, changes
    cut: dict[str, Any] = {"finish_reason": "length"}
    by_reply: list[tuple[Reply, tuple[Any, ...]]] = [
        (Reply("So calculator(6*7)."), ("calculator(6*7)", None, None)),
        (Reply("no"), (None, "no_call", "no")),
        (Reply("cut", **cut), (None, "cut_off", "cut")),
        (Reply(" "), (None, "empty", " ")),
        (Reply(None, error="server", error_detail="why"), (None, "no_reply:server", "why")),
    ]
    for reply, expected in by_reply:
        assert proposed(_propose_from_reply(teach_row(), [reply], settings())) == expected, reply
    assert proposed(_propose_from_reply(teach_row(), [], settings())) == nothing


def test_the_request_of_a_teacher() -> None:
    assert with_gold("q", ["a", "b"]) == "q\nGolden answers: a | b"
    assert _teacher_request(teach_row(task="mine"), settings()) is None
    assert _teacher_request(teach_row(verified=True), settings()) is None
    assert _teacher_request(teach_row(tool_call="c"), settings()) is not None
    assert _teacher_request(teach_row(tool_call="c"), settings(verify=False)) is None
    assert _teacher_request(teach_row(verified=True), settings(verify=False)) is not None
    request = _teacher_request(teach_row(context="C.", answers=[str(n) for n in range(12)]), settings())
    assert request is not None
    first, *shots, last = [(message.role, message.content) for message in request.messages]
    assert first == ("system", MATH.teacher_instruction)
    assert last == ("user", f"C.\n6*7?\nGolden answers: {' | '.join(map(str, range(10)))}")
    examples = MATH.examples_for("d")
    assert sorted(shots[1::2]) == sorted(("assistant", example.call) for example in examples)
    assert sorted(shots[::2]) == sorted(("user", with_gold(e.input, [e.answer])) for e in examples)


def proposal(call: str | None = "calculator(6*7)", argument: str | None = "6*7", **changes: Any) -> dict[str, Any]:
    fields: dict[str, Any] = {
        "text": call,
        "argument": argument,
        "error": None,
        "error_detail": None,
        "tool_output": "42",
        "tool_error": None,
    }
    fields |= {"tool_error_detail": None, "correct": True, "predictions": ["42"], **changes}
    return {f"proposal.{name}": value for name, value in fields.items()}


# Changes of the row, of the proposal -> the labels that change
LABELS: list[tuple[dict[str, Any], dict[str, Any], dict[str, Any]]] = [
    ({}, proposal(), {"verified": True, "verified_by": "value"}),
    ({}, proposal(correct=False), {"verified": False, "rejected": ["old", "wrong_value: calculator(6*7) -> 42"]}),
    ({}, proposal(correct=None), {"verified": False, "rejected": ["old", "wrong_value: calculator(6*7) -> 42"]}),
    ({}, proposal(tool_error="syntax", tool_output=None, correct=False, tool_error_detail="at 3"), {"tool_output": None, "verified": False, "rejected": ["old", "tool_error:syntax: calculator(6*7) -> at 3"]}),
    ({}, proposal("plain text", None), {"tool_call": "plain text", "verified": False, "rejected": ["old", "no_call: plain text -> 42"]}),
    ({}, proposal("calculator(42)", "42"), {"tool_call": "calculator(42)", "verified": False, "rejected": ["old", "leaks_answer: calculator(42) -> 42"]}),
]  # fmt: skip


@pytest.mark.parametrize(("changes", "found", "labels"), LABELS, ids=range(len(LABELS)))
def test_the_labels_of_a_proposal(changes: dict[str, Any], found: dict[str, Any], labels: dict[str, Any]) -> None:
    row = teach_row(**changes)
    names = ("tool_call", "tool_output", "verified", "verified_by", "attempts", "teacher", "rejected")
    before = {name: row[name] for name in names}
    called = {"tool_call": "calculator(6*7)", "tool_output": "42", "attempts": 2, "teacher": "m"}
    assert _verified_labels({**row, **found}, settings()) == {**before, **called, **labels}
    for teacher, attempts, name in (("", 1, None), ("annotations", 1, "annotations")):
        others = _verified_labels({**row, **found}, settings(teacher))
        assert others == {**before, **called, **labels, "attempts": attempts, "teacher": name}
    unchecked = _verified_labels({**row, **found}, settings(verify=False))
    assert (unchecked["verified"], unchecked["rejected"], unchecked["attempts"]) == (None, ["old"], 2)


def test_labels_without_a_call() -> None:
    row = teach_row()
    before = {name: row[name] for name in ("tool_call", "tool_output", "verified", "verified_by", "attempts", "teacher", "rejected")}  # fmt: skip
    none = proposal(None, None)
    assert _verified_labels({**row, **none}, settings()) == before
    failed = proposal(None, None, error="no_call", error_detail="I\n cannot. " + "x" * 300)
    text = f"no_call: I cannot. {'x' * 190}"
    assert _verified_labels({**row, **failed}, settings()) == {**before, "attempts": 2, "rejected": ["old", text]}
    assert _rejection("r", None) == _rejection("r", "", "") == "r"
    assert _rejection("r", "a  b", "c" * 201) == f"r: a b -> {'c' * 200}"
    evidence = [_evidence(MATH, "42", ["42"]), _evidence(QA, "a\n\nb", ["a", "b"]), _evidence(QA, "a", ["b"]), _evidence(LAMA, "a", ["b"])]  # fmt: skip
    assert evidence == ["value", "output", "reader", "output"]


def test_a_teacher_is_asked_once_for_each_attempt_with_its_label() -> None:
    graded = grade(answer(questions(("6*7?", "42")), quiet({"": WRONG})))
    labelled = propose_calls(graded, quiet({"": "calculator(6*8)"}), attempts=2)
    row = labelled[0]
    assert (row["attempts"], row["verified"], row["teacher"]) == (2, False, "mapping")
    assert row["rejected"] == ["wrong_value: calculator(6*8) -> 48"] * 2
    for name, value in (("attempts", 0), ("verify", 1), ("compat", None)):
        assert message(propose_calls, graded, ANNOTATIONS, **{name: value}).startswith(f"{name} must be ")


# Need -----------------------------------------------------------------------------------------------------------------


def need_rows(*rows: tuple[str, str]) -> Dataset:
    values = {"model": "m", "n_plain": 8, "p_plain": 0.25, "n_tool": 4, "p_tool": None, "task": "math"}
    made = [{**dict.fromkeys(NEED), **values, "id": row_id, "dataset": "mine", "need": need} for row_id, need in rows]
    return Dataset.from_list(made, features=NEED)


def test_labels_by_need_and_their_details() -> None:
    graded = grade(answer(questions(*[("6*7?" + "?" * n, "42") for n in range(6)]), quiet({"": WRONG})))
    classes = [
        ("q0", "needs_tool"),
        ("q1", "indifferent"),
        ("q2", "harmed"),
        ("q3", "hopeless"),
        ("q4", "unsure"),
        ("q5", "unsure"),
    ]
    need = need_rows(*reversed(classes))
    options: dict[str, Any] = {"unsure": "grade", "hopeless": "call"}
    labelled = label_by_need(graded, need, **options)
    assert dict(zip(labelled["id"], labelled["needs_tool"], strict=True)) == {
        "q0": True,
        "q3": True,
        "q4": True,
        "q5": True,
    }
    details = {row["id"]: (row["stage"], row["reason"], row["detail"]) for row in ledger([labelled])}
    assert details == {
        "q1": ("need", "no_right_answer", "indifferent: right in 2 of 8 without the tool"),
        "q2": ("need", "no_right_answer", "harmed: right in 2 of 8 without the tool"),
    }
    dropped = label_by_need(graded, need, unsure="drop", hopeless="drop")
    assert {row["id"]: row["reason"] for row in ledger([dropped])} == {
        "q1": "no_right_answer", "q2": "no_right_answer", "q3": "need_hopeless", "q4": "need_unsure", "q5": "need_unsure"
    }  # fmt: skip
    assert {row["detail"] for row in ledger([dropped]) if row["id"] == "q3"} == {
        "right in 2 of 8 without the tool, in 0 of 4 with it"
    }
    splits = label_by_need(DatasetDict(a=graded.select([3]), b=graded.select([0])), need, **options)
    assert {name: split["need"][:] for name, split in splits.items()} == {"a": ["hopeless"], "b": ["needs_tool"]}
    assert message(label_by_need, graded, need, **{**options, "unsure": "x"}) == (
        "unknown value of unsure: 'x'; choose from: call, drop, grade"
    )
    assert message(label_by_need, graded, {"a": 1}, **options) == (
        "need= expects a table from `counterfactual`, found a dict"
    )
    assert message(label_by_need, graded, need_rows(("q0", "odd")), **options) == (
        "unknown class in need=: 'odd'; choose from: harmed, hopeless, indifferent, needs_tool, unsure"
    )
    assert message(label_by_need, graded, need_rows(*classes, ("q0", "harmed")), **options) == (
        "need= has questions twice: measure each question once"
    )
    assert message(label_by_need, graded, need_rows(*classes[:-1]), **options) == (
        "need= lacks the question 'q5' of the task 'math' and the data set 'mine': measure the same questions, or select "
        "those it has"
    )
    assert message(
        label_by_need, graded.add_column("need", ["x"] * 6).add_column("model", ["x"] * 6), need, **options
    ) == ("the table already has the columns model, need: remove them, or omit need=")


# Stage 2 --------------------------------------------------------------------------------------------------------------


def gold_rows(*outputs: tuple[str, bool | None]) -> Dataset:
    rows = [
        {**dict.fromkeys(STAGE1), "instruction": "Do it.", "input": f"{n}?", "output": output, "id": f"r{n}", "task": "math",
         "dataset": "d", "answers": ["42"], "uses_tool": uses_tool}
        for n, (output, uses_tool) in enumerate(outputs)
    ]  # fmt: skip
    return Dataset.from_list(rows, features=STAGE1)


def test_a_table_of_another_tool_is_refused() -> None:
    table = respond(gold_rows(("calculator(6*7)", True), ("It is 42.", False)), [])
    other = replace(MATH, tool=Tool("sum", "Adds.", str.strip), name="mine")
    mine = table.map(lambda row: {"task": "mine"})
    ending = "whose tool is {}, finds {} in it: pass the task of stage 1 as task=, or build stage 1 again"
    assert message(execute, mine, task=other) == (
        "the output of the row 'r0' calls the tool in stage 1, but the task 'mine', " + ending.format("sum", "no call")
    )
    wrong = respond(gold_rows(("It is 42.", False), ("calculator(6*7)", False)), [])
    for candidates in (wrong, DatasetDict(a=wrong.select([0]), b=wrong)):
        assert message(execute, candidates) == (
            "the output of the row 'r1' does not call the tool in stage 1, but the task 'math', "
            + ending.format("calculator", "a call")
        )
    assert len(execute(wrong, compat=True)) == 2
    assert len(execute(respond(gold_rows(("calculator(6*7)", None)), []))) == 1, "not known in stage 1"
    assert message(execute, table, compat="yes") == "compat must be True or False, found 'yes'"


def test_a_call_as_json_is_rendered_for_native_tools_alone() -> None:
    text = '{"name": "calculator", "arguments": {"formula": "6*7"}}'
    models = [Responder(name, quiet({"": text}), protocol=name) for name in ("text", "tools")]
    (row,) = respond(gold_rows(("It is 42.", False)), models)
    assert (row["text"]["text"], row["tools"]["text"]) == (text, "calculator(6*7)")


def test_lost_replies_of_teachers_and_responders_are_asked_for_again() -> None:
    graded = grade(answer(questions(("6*7?", "42")), quiet({"": WRONG})))
    with ApiServer(lambda received, seen: completion("")) as server:
        spec = EngineSpec("openai_api", "m", base_url=server.url, progress=False)
        counts = []
        for ask_again in ((), (), ("empty",)):
            propose_calls(graded, spec, attempts=1, ask_again=ask_again)
            counts.append(len(server.requests))
        for ask_again in ((), (), ("empty",)):
            respond(gold_rows(("It is 42.", False)), [Responder("a", spec)], ask_again=ask_again)
            counts.append(len(server.requests))
    assert counts == [1, 1, 2, 3, 3, 4]


def test_what_respond_refuses() -> None:
    stage1 = gold_rows(("It is 42.", False))
    assert message(respond, stage1, [Responder("a", quiet({"": "1"})), 3]) == (
        "responders: expected a list of Responder objects"
    )
    twice = respond(stage1, [Responder("a", quiet({"": "1"})), Responder("b", quiet({"": "1"}))])
    assert message(respond, twice, [Responder("b", quiet({"": "1"})), Responder("a", quiet({"": "1"}))]) == (
        "the table already has the columns a, b, gold: pass stage 1 and all responders at once"
    )
    older = stage1.remove_columns("verified_by")
    assert respond(older, []).column_names == [*older.column_names, "gold"]
    assert "respond needs the columns source" in message(respond, stage1.remove_columns("source"), [])
    for name in (" ", "", "gold", "a.b", 3, *STAGE1):
        assert message(Responder, name, quiet({"": "1"})) == (
            f"{name!r} cannot be the name of a responder, which names a column: expected a non-empty name without dots that "
            f"is not gold or a column of stage 1 ({', '.join(STAGE1)})"
        )
    assert message(Responder, "a", "gpt") == "'a' needs a model: expected an EngineSpec, found str"
    for name in ("strip_reasoning", "force_call"):
        assert message(Responder, "a", quiet({"": "1"}), **{name: 1}) == f"{name} must be True or False, found 1"
    defaults = Responder("a", quiet({"": "1"}))
    assert (defaults.style, defaults.protocol, defaults.samples, defaults.stop, defaults.strip_reasoning) == (
        *("chat", "text", 1, (), True),
    )
    shots = {
        style: Responder("a", quiet({"": "1"}), style).shots for style in ("chat", "completion", "alpaca", "vicuna")
    }
    assert shots == {"chat": 4, "completion": 4, "alpaca": 0, "vicuna": 0}
    assert Responder("a", quiet({"": "1"}), examples=0).shots == 0


# Cassettes ------------------------------------------------------------------------------------------------------------


def test_the_rows_and_stages_of_a_cassette() -> None:
    stage1 = gold_rows(("calculator(6*7)", True), ("It is 42.", False), ("calculator(1/0)", True))
    stage2 = build_stage2(respond(stage1, [Responder("a", quiet({"": "calculator(6*7) calculator(1)"}))]))
    table = collect_executions([stage2, stage2])
    assert table.features == EXECUTIONS
    assert [record["step"] for record in lineage(table)][-1] == "executions"
    assert set(lineage(table)[-1]["inputs"]) == {stage2._fingerprint}
    shared = {"task": "math", "tool": "calculator", "version": MATH.tool.version}
    right = {**shared, "argument": "6*7", "output": ["42"], "error": None, "detail": None}
    failed = {**shared, "argument": "1/0", "output": [], "error": "zero_division", "detail": "division by zero"}
    assert sorted(table.to_list(), key=lambda row: (row["id"], row["argument"])) == [
        {"id": "r0", **right}, {"id": "r1", **right}, {"id": "r2", **failed}, {"id": "r2", **right}
    ]  # fmt: skip
    records = {record["step"]: record for record in lineage(stage2)}
    assert stages_read([stage2]) == [records["execute"]["fingerprint"]]
    assert [stages_called(record) for record in records.values()] == [[]] * len(records)
    cassette = open_cassette(table)
    assert cassette("r0", "math", "calculator", "6*7") == ToolResult(("42",))
    assert cassette("r2", "math", "calculator", "1/0") == ToolResult(error="zero_division", detail="division by zero")
    for call in (("r3", "math", "calculator", "6*7"), ("r0", "qa", "calculator", "6*7"), ("r0", "math", "QA", "6*7"), ("r0", "math", "calculator", "6")):  # fmt: skip
        with pytest.raises(CassetteMiss) as missed:
            cassette(*call)
        row_id, task, tool, argument = call
        assert str(missed.value) == f"the cassette does not contain {tool}({argument!r}) for {task} {row_id!r}"
    older = open_cassette(table.remove_columns("detail"))
    assert older("r2", "math", "calculator", "1/0") == ToolResult(error="zero_division", detail="")
    assert older.content != cassette.content
    with pytest.raises(MissingColumns) as missing:
        open_cassette(Dataset.from_dict({"id": ["a"], "other": [1]}))
    assert str(missing.value) == (
        "the cassette lacks the columns task, tool, version, argument, output, error; found id, other"
    )
    assert message(open_cassette, {"a": 1}) == "cassette: expected one Dataset, found dict"
    assert message(collect_executions, [stage1]) == (
        "a cassette needs tables with executed responses, such as those of `build_stage2`; found no execution in the lineage "
        "of these tables, which ends at a table that was shuffled, selected or built elsewhere"
    )


def find_bern(argument: str) -> Any:
    return ("Bern lies there.", "x")


def test_the_stages_of_readers_in_a_cassette() -> None:
    rows = [{**dict.fromkeys(STAGE1), "instruction": "Do it.", "input": "Where?", "output": "WikiSearch(x)", "id": "a", "task": "qa", "dataset": "d", "answers": ["Bern"]}]  # fmt: skip
    task = replace(
        QA, tool=replace(QA.tool, many=None, function=find_bern, version="7"), reader=quiet({"lies": "Bern", "": "?"})
    )
    stage2 = build_stage2(respond(Dataset.from_list(rows, features=STAGE1), []), task=task)
    records = {record["step"]: record["fingerprint"] for record in lineage(stage2)}
    assert stages_read([stage2]) == [records["execute"], records["read"]]
    found = {row["tool"]: (row["version"], row["output"]) for row in collect_executions([stage2])}
    assert found == {"WikiSearch": ("7", ["Bern lies there.", "x"]), "reader of WikiSearch": ("mapping", ["Bern", "?"])}
