"""The report in headless Chromium: nothing that a model wrote runs, every filter is exact, and keys reach everything."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from datasets import Dataset, Features

from tests.support.browser import ALT, Browser
from toolrlef_data import publish, write_report
from toolrlef_data.columns import DROPPED, MESSAGE, RESPONSE, STAGE1, STAGE2, TRAJECTORIES

HOSTILE = "</script><img src=x onerror=alert(1)><!-- \u202e {rows} &lt; \x00 \u2028 </textarea>'\"` ${alert(2)}"
NAME = HOSTILE.replace("\0", "")  # the name of a column ends at a null character
N_MANY = 3000
RESPONDERS = ("gold", "small", "large")
OTHER_ELEMENTS = "img:not(figure > img), iframe, object, textarea, link"  # the figures are those of the card
Row = dict[str, Any]


def stage2_row(i: int) -> Row:
    n = len(RESPONDERS)
    tools = [True, i % 2 == 0, False]
    return {
        "id": f"row-{i}", "task": ("math", "qa")[i % 2], "dataset": ("a", "b", "c")[i % 3], "answers": ["54", "fifty"],
        "instruction": "Answer it.", "input": f"Question {i}?", "query": f"Answer it.\nQuestion {i}?",
        "responses": [f"calculator({i}*2)", f"So it is {i}.", "Nothing." if i % 7 else "A Rare Word."],
        "origin": list(RESPONDERS), "scores": [20.0, float(5 * (i % 4)), 0.5], "answer": ["54.0", None, None],
        "uses_tool": tools, "tool_outputs": ["54" if tool else None for tool in tools],
        "errors": [None, "syntax" if i % 10 == 0 else None, None], "error_details": [None, "no operand", None][:n],
        "correct": [True, i % 3 == 0, None], "finish_reasons": ["stop"] * n, "rule": "trice",
    }  # fmt: skip


def sample(i: int, text: str) -> Row:
    """Return a row of trajectories."""
    turn: Row = dict.fromkeys(MESSAGE) | {"role": "user", "content": text, "train": False}
    call = {"id": "1", "type": "function", "function": {"name": "search", "arguments": text}}
    answer: Row = {**turn, "role": "assistant", "content": None, "tool_calls": [call], "train": True}
    return {
        **dict.fromkeys(TRAJECTORIES), "id": f"step-{i}", "task": "toolbench", "query": text, "steps": [i],
        "messages": [turn, answer], "flags": ["retried", "long"][: i % 3], "on_path_steps": [],
    }  # fmt: skip


def table(rows: list[Row], features: Features) -> Dataset:
    return Dataset.from_list(rows, features=features)


def make_report(
    folder: Path, tables: dict[str, dict[str, Dataset]], later: dict[str, dict[str, Dataset]] | None = None
) -> Path:
    versions = [publish(tables, folder / "a", version="1.0.0")]
    versions += [publish(later, folder / "b", version="2.0.0")] if later else []
    return write_report(*versions, out=folder / "report.html")


def as_hostile(feature: Any) -> Any:
    """Return a value of a feature with `HOSTILE` as each text."""
    if isinstance(feature, dict):
        return {name: as_hostile(part) for name, part in feature.items()}
    if hasattr(feature, "feature"):
        return [as_hostile(feature.feature)] * 2
    return {"string": HOSTILE, "bool": True, "int64": 3, "float64": 20.0}[feature.dtype]


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Row]]:
    """A report of `N_MANY` rows of stage 2, 30 steps of trajectories and two dropped rows; all rows as dicts."""
    rows = [stage2_row(i) for i in range(N_MANY)]
    steps = [sample(i, f"Find {i}") for i in range(30)]
    drops = [
        {
            **dict.fromkeys(DROPPED),
            "id": f"row-{i}",
            "task": "math",
            "stage": "stage1",
            "reason": "no_call",
            "detail": "why",
        }
        for i in (0, 1)
    ]
    path = make_report(
        tmp_path_factory.mktemp("many"),
        {
            "math": {"stage2": table(rows, STAGE2), "lost": table(drops, DROPPED)},
            "toolbench": {"trajectories": table(steps, TRAJECTORIES)},
        },
    )
    return path, rows + drops + steps


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with Browser() as opened:
        yield opened


def visit(browser: Browser, path: Path) -> Browser:
    browser.events.clear()
    browser.open(path)
    browser.wait("document.getElementById('grid').getAttribute('aria-busy') === 'false'")
    return browser


def count(browser: Browser) -> tuple[int, int]:
    shown, total = re.findall(r"[\d,]+", browser.evaluate("$('count').textContent"))
    return int(shown.replace(",", "")), int(total.replace(",", ""))


def set_filters(browser: Browser, **values: Any) -> None:
    """Clear all filters, then choose values as a user does, with their events."""
    browser.evaluate("$('filters').reset()")
    for name, value in values.items():
        browser.evaluate(
            f"$({name!r}).value = {json.dumps(value)}; $({name!r}).dispatchEvent(new Event('input', {{bubbles: true}}))"
        )
    browser.wait("true")  # after the reset


# Safety -------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report of two versions in which every text of every kind of table is hostile, also names of columns."""
    features = {
        "stage1": STAGE1, "stage2": STAGE2, "lost": DROPPED, "trajectories": TRAJECTORIES,
        "responded": Features(**STAGE1, gold=RESPONSE, **{NAME: RESPONSE}), "own": Features({"id": STAGE1["id"], NAME: MESSAGE}),
    }  # fmt: skip
    versions = []
    for text in ("before", "after"):
        rows = {name: as_hostile(dict(its)) | {"id": f"{name} {HOSTILE}"} for name, its in features.items()}
        versions.append(
            {
                "math": {
                    name: table([rows[name] | ({} if text == "after" or name == "own" else {"task": text})], its)
                    for name, its in features.items()
                }
            }
        )
    return make_report(
        tmp_path_factory.mktemp(HOSTILE.replace("/", "|").replace("\0", "")[:60].replace("*", "")), *versions
    )


def test_nothing_that_a_model_wrote_runs(browser: Browser, hostile: Path) -> None:
    """No dialog (`Browser.send` raises), no element, no request, no error, in the list, the filters and every row."""
    visit(browser, hostile)
    n_rows = count(browser)[1]
    assert n_rows == 6
    for i in range(n_rows):
        browser.evaluate(f"open(shown[{i}]); document.querySelectorAll('details').forEach((one) => one.open = true)")
        assert browser.evaluate(f"document.querySelectorAll(`{OTHER_ELEMENTS}`).length") == 0
        text = browser.evaluate("$('row').textContent")
        assert "</script><img src=x onerror=alert(1)><!-- U+202E {rows} &lt; U+0000 U+2028 </textarea>" in text
        assert not re.search("[\u202e\0\u2028]", text), "marks of direction are shown, not obeyed"
    assert browser.evaluate("document.querySelectorAll('script').length") == 2
    assert not re.search("[\u202e\0\u2028]", browser.evaluate("document.body.innerText"))
    urls = [event["request"]["url"] for event in browser.of_kind("Network.requestWillBeSent")]
    assert [url for url in urls if not url.startswith("data:image/svg+xml;")] == [hostile.absolute().as_uri()]
    for kind in ("Page.javascriptDialogOpening", "Runtime.exceptionThrown", "Log.entryAdded"):
        assert browser.of_kind(kind) == []


def test_the_policy_of_the_page_forbids_scripts_and_requests(browser: Browser, hostile: Path) -> None:
    """A second fence: even an element in the page could neither run nor load."""
    visit(browser, hostile)
    browser.evaluate("""{
        const bad = document.createElement("script"); bad.textContent = "window.ran = 1"; document.body.append(bad);
        document.body.insertAdjacentHTML("beforeend", `<img src="http://127.0.0.1:9/x"><b onclick="window.ran = 2">x</b>`);
        document.body.lastChild.click(); 0;
    }""")
    assert browser.evaluate("fetch('http://127.0.0.1:9/').then(() => 'sent', () => 'refused')") == "refused"
    assert browser.evaluate("window.ran ?? null") is None
    assert "Content Security Policy" in str(browser.of_kind("Log.entryAdded"))
    assert all(
        event["request"]["url"].startswith(("file:", "data:"))
        for event in browser.of_kind("Network.requestWillBeSent")
        if not blocked(browser, event)
    )


def blocked(browser: Browser, event: dict[str, Any]) -> bool:
    failures = {one["requestId"]: one.get("blockedReason") for one in browser.of_kind("Network.loadingFailed")}
    return failures.get(event["requestId"]) == "csp"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a\ud800b", "aU+D800b"),
        ("\udfff", "U+DFFF"),
        ("\U0001f41f", "\U0001f41f"),
        ("tag\U000e0041", "tagU+E0041"),
        ("\u200b\ufeff\x07\x1b[31m", "U+200BU+FEFFU+0007U+001B[31m"),
        ("a\n\tb", "a\n\tb"),
        ("\U0001f468\u200d\U0001f469", "\U0001f468\u200d\U0001f469"),
    ],
)
def test_invisible_characters_are_named(text: str, shown: str, browser: Browser, many: tuple[Path, list[Row]]) -> None:
    visit(browser, many[0])
    assert browser.evaluate(f"put(document.createElement('p'), {json.dumps(text)}).textContent") == shown


def test_a_long_text_is_cut_between_characters_and_complete_after_a_click(
    browser: Browser, many: tuple[Path, list[Row]]
) -> None:
    visit(browser, many[0])
    browser.evaluate("block = textBlock('x' + '\U0001f41f'.repeat(9000)); document.body.append(block)")
    assert "U+" not in browser.evaluate("block.textContent")
    assert browser.evaluate("block.querySelector('button').textContent") == "Show all 18,001 characters"
    assert browser.evaluate("block.querySelector('button').click(); block.textContent.length") == 18001


@pytest.mark.parametrize("damage", ["cut", "changed"])
def test_a_damaged_file_says_so(damage: str, browser: Browser, many: tuple[Path, list[Row]], tmp_path: Path) -> None:
    before, data, after = re.split(r'(?<=id="data">)([^<]*)', many[0].read_text())
    data = data[: len(data) // 8 * 4] if damage == "cut" else data[:40] + "AAAA" + data[44:]
    (tmp_path / "r.html").write_text(before + data + after)
    browser.open(tmp_path / "r.html")
    browser.wait("$('count').textContent.includes('cannot be read')")


# List and filters ---------------------------------------------------------------------------------------------------


def test_the_list_has_the_rows_in_view_only(browser: Browser, many: tuple[Path, list[Row]]) -> None:
    visit(browser, many[0])
    assert count(browser) == (len(many[1]), len(many[1]))
    ids = "[...document.querySelectorAll('#body > *')].map((line) => line.firstChild.firstChild.textContent)"
    for place, last in (("0", "row-"), ("$('grid').scrollHeight / 2", "row-15"), ("$('grid').scrollHeight", "step-")):
        browser.evaluate(f"$('grid').scrollTop = {place}; new Promise(requestAnimationFrame)")
        browser.wait(f"{ids}.at(-1).startsWith({last!r})")
        found = browser.evaluate(ids)
        assert 10 <= len(found) <= 40
        assert len(set(found)) == len(found)
    positions = browser.evaluate("[...document.querySelectorAll('#body > *')].map((line) => Number(line.ariaRowIndex))")
    assert positions == sorted(positions), "the order of the document is that of the rows"
    assert positions[-1] == len(many[1]) + 1 == int(browser.evaluate("$('grid').ariaRowCount"))


def any_response(row: Row, fits: Callable[[Row], bool]) -> bool:
    names = ("origin", "scores", "correct", "uses_tool", "errors", "responses")
    return "scores" in row and any(
        fits(dict(zip(names, one, strict=True))) for one in zip(*(row[name] for name in names), strict=True)
    )


FILTERS: list[tuple[dict[str, Any], Callable[[Row], bool]]] = [
    ({"task": "qa"}, lambda row: row["task"] == "qa"),
    ({"dataset": "b", "task": "math"}, lambda row: (row["dataset"], row["task"]) == ("b", "math")),
    ({"table": "toolbench-trajectories"}, lambda row: "messages" in row),
    ({"table": "math-lost"}, lambda row: "reason" in row),
    ({"flag": "long"}, lambda row: "long" in (row.get("flags") or ())),
    ({"flag": "no_call"}, lambda row: row.get("reason") == "no_call"),
    ({"responder": "small", "grade": "right"}, lambda row: any_response(row, lambda one: one["origin"] == "small" and one["correct"] is True)),
    ({"responder": "small", "grade": "wrong", "least": 10}, lambda row: any_response(row, lambda one: one["origin"] == "small" and one["correct"] is False and one["scores"] >= 10)),
    ({"grade": "not graded"}, lambda row: "scores" in row),
    ({"grade": "right", "most": 5}, lambda row: any_response(row, lambda one: one["correct"] is True and one["scores"] <= 5)),
    ({"least": 15, "most": 15}, lambda row: any_response(row, lambda one: one["scores"] == 15)),
    ({"least": 0.5, "most": 0.5, "responder": "small"}, lambda row: False),
    ({"error": "syntax"}, lambda row: any_response(row, lambda one: one["errors"] == "syntax")),
    ({"error": "any error", "tool": "not called"}, lambda row: any_response(row, lambda one: bool(one["errors"]) and not one["uses_tool"])),
    ({"tool": "called", "responder": "small"}, lambda row: any_response(row, lambda one: one["origin"] == "small" and one["uses_tool"])),
    ({"text": "a RARE word"}, lambda row: any_response(row, lambda one: "Rare" in one["responses"])),
    ({"text": "calculator(29*2)"}, lambda row: row["id"] == "row-29"),
    ({"text": "find 29"}, lambda row: row["id"] == "step-29"),
    ({"text": "no operand", "task": "qa"}, lambda row: row["task"] == "qa"),
    ({"text": "answer it."}, lambda row: False),  # the instruction is that of all rows
    ({}, lambda row: True),
]  # fmt: skip


@pytest.mark.parametrize(("values", "fits"), FILTERS, ids=lambda value: str(value) if isinstance(value, dict) else "")
def test_filters_keep_exactly_the_rows_that_fit(
    values: dict[str, Any], fits: Callable[[Row], bool], browser: Browser, many: tuple[Path, list[Row]]
) -> None:
    path, rows = many
    if browser.evaluate("location.href") != path.absolute().as_uri():
        visit(browser, path)
    set_filters(browser, **values)
    expected = [row["id"] for row in rows if fits(row)]
    browser.wait(f"shown.length === {len(expected)}")
    assert sorted(browser.evaluate("shown.map((row) => row.id)")) == sorted(expected)
    assert count(browser) == (len(expected), len(rows))
    assert browser.evaluate("document.querySelectorAll('#body > *').length") <= 40


def test_filters_without_a_choice_are_hidden(browser: Browser, tmp_path: Path) -> None:
    rows = [{"id": str(i), "text": "x"} for i in range(3)]
    visit(browser, make_report(tmp_path, {"math": {"own": Dataset.from_list(rows)}}))
    visible = browser.evaluate(
        "[...document.querySelectorAll('#filters input, #filters select')].filter((one) => one.offsetParent).map((one) => one.id)"
    )
    assert visible == ["text"]
    assert count(browser) == (3, 3)


# Keyboard and screen reader -----------------------------------------------------------------------------------------


def focused(browser: Browser) -> str:
    return str(
        browser.evaluate(
            "document.activeElement.getAttribute('role') === 'row' ? document.activeElement.firstChild.firstChild.textContent : document.activeElement.id"
        )
    )


def test_keys_select_open_step_and_close(browser: Browser, many: tuple[Path, list[Row]]) -> None:
    visit(browser, many[0])
    for _ in range(30):
        browser.press("Tab")
        if focused(browser).startswith("row-"):
            break
    assert focused(browser) == "row-0", "Tab reaches the list, with one stop"
    moves = {
        "ArrowDown": "row-1",
        "PageDown": "",
        "End": "step-29",
        "ArrowUp": "step-28",
        "PageUp": "",
        "Home": "row-0",
    }
    for key, expected in moves.items():
        browser.press(key)
        assert not expected or focused(browser) == expected, key
        place = browser.evaluate("(({ top, bottom }) => [top, bottom])(document.activeElement.getBoundingClientRect())")
        grid = browser.evaluate("(({ top, bottom }) => [top, bottom])($('grid').getBoundingClientRect())")
        assert grid[0] <= place[0] < place[1] <= grid[1] + 1, f"{key}: the selected row is in view"
        assert browser.evaluate("document.querySelectorAll('#body [aria-selected=true]').length") == 1
    outline = browser.evaluate("getComputedStyle(document.activeElement).outlineStyle")
    assert outline == "solid", "the focus is visible"
    browser.press("Enter")
    assert browser.evaluate("$('row').open")
    assert focused(browser) == "row-title"
    browser.press("ArrowDown", ALT)
    browser.press("ArrowDown", ALT)
    browser.press("ArrowUp", ALT)
    assert browser.evaluate("$('row-title').textContent") == "row-1"
    assert browser.evaluate("$('position').textContent") == f"2 of {len(many[1]):,}"
    for _ in range(12):
        browser.press("Tab")
        inside = browser.evaluate(
            "$('row').contains(document.activeElement) || document.activeElement === document.body"
        )
        assert inside, "the focus stays in the dialog"
    browser.press("Escape")
    assert not browser.evaluate("$('row').open")
    browser.wait("document.activeElement.textContent.startsWith('row-1')")  # the focus returns to the row


def test_the_selected_row_keeps_the_focus_while_the_list_scrolls(
    browser: Browser, many: tuple[Path, list[Row]]
) -> None:
    visit(browser, many[0])
    browser.evaluate("select(3, true); $('grid').scrollTop = 90000; new Promise((done) => setTimeout(done, 100))")
    assert focused(browser) == "row-3"
    browser.press("ArrowDown")
    assert focused(browser) == "row-4"


def test_a_screen_reader_finds_names_roles_and_headings(browser: Browser, many: tuple[Path, list[Row]]) -> None:
    visit(browser, many[0])
    set_filters(browser, responder="small", grade="right")
    browser.wait("shown.length === 1000")

    def nodes() -> list[tuple[str, str]]:
        found = browser.send("Accessibility.getFullAXTree")["nodes"]
        return [(node["role"]["value"], node.get("name", {}).get("value", "")) for node in found if not node["ignored"]]

    tree = nodes()
    assert {
        ("grid", "Rows"),
        ("heading", "Rows"),
        ("columnheader", "Question and responses"),
        ("searchbox", "Text"),
        ("search", "Filter the rows"),
    } <= set(tree)
    unnamed = [
        role
        for role, name in tree
        if role in ("combobox", "searchbox", "spinbutton", "button", "link", "dialog") and not name
    ]
    assert unnamed == []
    (row, *_) = [name for role, name in tree if role == "row" and "row-0" in name]
    assert "small 0" in row
    assert "right" in row, "a grade is a word, not only a colour"
    assert browser.evaluate("$('count').getAttribute('role')") == "status"
    assert browser.evaluate("$('count').getAttribute('aria-live')") == "polite"
    browser.evaluate("open(shown[0])")
    tree = nodes()
    assert ("dialog", "row-0") in tree
    assert {
        ("heading", "Question"),
        ("heading", "Responses"),
        ("columnheader", "small"),
        ("rowheader", "Score"),
    } <= set(tree)
    assert ("grid", "Rows") not in tree, "the page behind the dialog is inert"


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_texts_have_contrast(scheme: str, browser: Browser, many: tuple[Path, list[Row]]) -> None:
    """At least 4.5 to 1 (WCAG AA) of every text colour with every background."""
    browser.set_scheme(scheme)
    visit(browser, many[0])

    def luminance(name: str) -> float:
        value = browser.evaluate(f"getComputedStyle(document.documentElement).getPropertyValue('--{name}').trim()")
        parts = [int(value[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        red, green, blue = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts)
        return 0.2126 * red + 0.7152 * green + 0.0722 * blue

    for text in ("text", "soft", "link", "right", "wrong", "open"):
        for back in ("back", "panel", "chosen"):
            low, high = sorted((luminance(text), luminance(back)))
            assert (high + 0.05) / (low + 0.05) >= 4.5, (text, back)
    low, high = sorted((luminance("text"), luminance("mark")))
    assert (high + 0.05) / (low + 0.05) >= 4.5
    assert (luminance("back") < 0.1) == (scheme == "dark")
    browser.set_scheme("light")


# One row ------------------------------------------------------------------------------------------------------------


def cells(browser: Browser, selector: str = "#content table.sides") -> list[list[str]]:
    """Return the texts of a table."""
    return list(
        browser.evaluate(
            f"[...document.querySelector({selector!r}).rows].map((line) => [...line.cells].map((cell) => cell.textContent))"
        )
    )


def test_responses_are_side_by_side_with_their_log_probabilities(browser: Browser, tmp_path: Path) -> None:
    row = stage2_row(10) | {
        "logprobs": [-6.0, None, -2.5], "logprob_tokens": [4, None, 5], "logprob_errors": [None, "too_long", None],
        "logprob_model": "tiny", "mine": ["x", "y", "z"],
    }  # fmt: skip
    visit(browser, make_report(tmp_path, {"math": {"stage2": Dataset.from_list([row])}}))
    browser.evaluate("open(shown[0])")
    assert cells(browser) == [
        ["Fact", *RESPONDERS],
        ["Score", "20", "10", "0.5"],
        ["Grade", "✓ right", "✗ wrong", "? not graded"],
        ["Response", "calculator(10*2)", "So it is 10.", "Nothing."],
        ["Call", "calculator(10*2)", "yes", ""],
        ["Tool output", "54", "54", ""],
        ["Error", "", "syntax: no operand", ""],
        ["Prediction", "54.0", "", ""],
        ["Log-probability", "-6 nats, 4 tokens, -1.5 per token", "too_long", "-2.5 nats, 5 tokens, -0.5 per token"],
        ["Finish reason", "stop", "stop", "stop"],
        ["mine", "x", "y", "z"],
    ]
    text = browser.evaluate("$('content').textContent")
    assert "Gold: 54 | fifty" in text
    assert "logprob_modeltiny" in text


def test_a_table_of_responses_and_one_of_trajectories(
    browser: Browser, many: tuple[Path, list[Row]], tmp_path: Path
) -> None:
    fields = dict.fromkeys(RESPONSE) | {"text": "calculator(1/0)", "n_calls": 1, "tool": "calculator", "argument": "1/0", "tool_error": "zero_division", "tool_error_detail": "by zero", "correct": False, "predictions": []}  # fmt: skip
    row = {name: stage2_row(1)[name] for name in ("id", "task", "dataset", "answers", "instruction", "input")}
    features = Features(**STAGE1, gold=RESPONSE, small=RESPONSE)
    row |= {"output": "x", "uses_tool": True, "source": "teacher", "verified_by": None, "gold": None, "small": fields}
    visit(browser, make_report(tmp_path, {"math": {"responded": table([row], features)}}))
    browser.evaluate("open(shown[0])")
    assert ["Error", "", "zero_division: by zero"] in cells(browser)
    assert ["Call", "", "calculator(1/0)"] in cells(browser)
    visit(browser, many[0])
    browser.evaluate("open(rows.find((row) => row.id === 'step-2'))")
    messages = browser.evaluate("[...document.querySelectorAll('#content .message')].map((one) => one.innerText)")
    assert messages == ["user\nFind 2", "assistant (trained)\nsearch(Find 2)"]


def test_the_other_rows_of_a_question_are_one_click_away(browser: Browser, many: tuple[Path, list[Row]]) -> None:
    visit(browser, many[0])
    browser.evaluate("open(rows.find((row) => row.id === 'row-1' && row.table.config === 'math-stage2'))")
    button = "[...document.querySelectorAll('#content button')].find((one) => one.textContent === 'math-lost: row-1')"
    browser.evaluate(f"{button}.click()")
    assert "math-lost" in browser.evaluate("$('content').firstChild.textContent")
    assert "no_call" in browser.evaluate("$('content').textContent")


# Two versions -------------------------------------------------------------------------------------------------------


def test_two_versions_side_by_side(browser: Browser, tmp_path: Path) -> None:
    before = [stage2_row(i) for i in range(4)]
    after = [stage2_row(i) for i in range(1, 5)]
    after[0]["scores"] = [20.0, 7.5, 0.5]
    after[1] |= {"origin": ["gold", "large", "other"], "rule": "new"}
    a, b = ({"math": {"stage2": table(rows, STAGE2)}} for rows in (before, after))
    visit(browser, make_report(tmp_path, a, b))
    changes = browser.evaluate("shown.map((row) => [row.id, row.change])")
    assert sorted(changes) == [
        ["row-0", "removed"],
        ["row-1", "changed"],
        ["row-2", "changed"],
        ["row-3", "same"],
        ["row-4", "added"],
    ]
    set_filters(browser, change="changed")
    browser.wait("shown.length === 2")
    browser.evaluate("open(rows.find((row) => row.id === 'row-1'))")
    assert cells(browser) == [["Column", "Version 1.0.0", "Version 2.0.0"], ["scores, small", "5", "7.5"]]
    browser.evaluate("open(rows.find((row) => row.id === 'row-2'))")
    lines = {line[0]: line[1:] for line in cells(browser)}
    assert lines.keys() == {"Column", "origin", "rule"}
    assert [json.loads(text) for text in lines["origin"]] == [list(RESPONDERS), ["gold", "large", "other"]]
    marked = browser.evaluate("[...document.querySelectorAll('#content mark')].map((one) => one.textContent)")
    assert marked[-2:] == ["trice", "new"]
