"""Labels: correct on the tokens of every template, or a recorded drop reason."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import pytest
from datasets import Dataset, DatasetDict

from toolrlef_data.columns import TRAJECTORIES
from toolrlef_data.publishing.exports.writing import export
from toolrlef_data.records import InputError, MissingColumns, UnknownName, UnusableRow
from toolrlef_data.tables.fingerprint import canonical
from toolrlef_data.tables.lineage import ledger, lineage
from toolrlef_data.toolbench.merging import merge_steps
from toolrlef_data.toolbench.messages import parse_tools, template_messages
from toolrlef_data.toolbench.search.protocols import render_text_turns
from toolrlef_data.toolbench.tokens.chat_template import find_chat_tokenizer, load_chat_tokenizer
from toolrlef_data.toolbench.tokens.labels import REASONS, TOKENS, tokenise

# Templates ------------------------------------------------------------------------------------------------------------

CALLS = "{% for c in m.tool_calls or [] %}<tool_call>{{ {'name': c.function.name, 'arguments': c.function.arguments} | tojson }}</tool_call>{% endfor %}"
TOOLS = "{% if tools %}<|im_start|>system\n{{ tools | tojson }}<|im_end|>\n{% endif %}"
ASK = "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"


def chatml(
    tools: str = TOOLS,
    calls: str = CALLS,
    content: str = "{{ m.content }}",
    end: str = "<|im_end|>\n",
    first: str = "",
    ask: str = ASK,
) -> str:
    turn = f"<|im_start|>{{{{ m.role }}}}\n{content}{calls}{end}"
    return f"{tools}{{% for m in messages %}}{first}{turn}{{% endfor %}}{ask}"


NOT_THE_LAST = "{% if m.role == 'assistant' and not loop.last and '</think>' in m.content %}{{ m.content.split('</think>')[-1] }}{% else %}{{ m.content }}{% endif %}"
TEMPLATES = {
    "chatml": chatml(),
    "eos at the last": chatml(end="{% if loop.last and not add_generation_prompt %}</s>{% else %}\n{% endif %}"),
    "old reasoning off": chatml(content=NOT_THE_LAST),
    "all reasoning off": chatml(content="{{ m.content.split('</think>')[-1] }}"),
    "tools at the last question": chatml(tools="", first="{% if m == (messages | selectattr('role', 'equalto', 'user') | list)[-1] %}" + TOOLS + "{% endif %}"),
    "no tools": chatml(tools=""),
    "no calls": chatml(calls=""),
    "no arguments": chatml(calls="{% for c in m.tool_calls or [] %}{{ c.function.name }}{% endfor %}"),
    "no results": chatml(content="{% if m.role != 'tool' %}{{ m.content }}{% endif %}"),
    "results cut": chatml(content="{{ m.content[:20] if m.role == 'tool' else m.content }}"),
    "results in JSON": chatml(content="{{ m.content | tojson if m.role == 'tool' else m.content }}"),
    "system only at 1st": chatml(content="{% if m.role != 'system' %}{{ m.content }}{% endif %}"),
    "content or calls": chatml(content="{% if not m.tool_calls %}{{ m.content }}{% endif %}"),
    "refuses tools": chatml(
        first="{% if m.role not in ('system', 'user', 'assistant') %}{{ raise_exception('no ' + m.role) }}{% endif %}"
    ),
    "faulty": chatml(content="{{ m.content + m.tool_calls }}"),
    "content is text": chatml(content="{{ m['content'] + '' }}"),  # as SmolLM2's
    "thinks": chatml(ask="{% if add_generation_prompt %}<|im_start|>assistant\n<think>\n{% endif %}"),
    "no end": chatml(end="\n"),
    "ends in words": chatml(end="\n### End\n"),
    "ends twice": chatml(calls="{% if m.tool_calls %}<|im_end|>" + CALLS + "{% endif %}"),
    # llama-like: no system turn, user texts in plain-text brackets, a blank before the answer
    "llama": "<s>{% for m in messages %}{% if m.role == 'assistant' %} {{ m.content }}" + CALLS + " </s>"
    "{% else %}[INST] {{ m.content }}{% if loop.first and tools %}{{ tools | tojson }}{% endif %} [/INST]{% endif %}{% endfor %}",
    # mistral-like: ids of nine letters and digits
    "ids": chatml(
        calls="{% for c in m.tool_calls or [] %}{% if c.id | length != 9 %}{{ raise_exception('nine!') }}{% endif %}{{ c.id }}{% endfor %}" + CALLS
    ),
}  # fmt: skip

SPECIAL = ["<unk>", "<s>", "</s>", "<|im_start|>", "<|im_end|>"]


@pytest.fixture(scope="module")
def byte_level(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a byte-level tokenizer and no weights."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    words = Tokenizer(models.BPE())
    words.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    words.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=SPECIAL,
        show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )
    words.train_from_iterator(['{"name": "weather", "arguments": {"city": "Oslo"}}', "assistant\nIt rains."], trainer)
    folder = tmp_path_factory.mktemp("byte_level")
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=words, bos_token="<s>", eos_token="</s>", unk_token="<unk>")
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture
def model(byte_level: Path, tmp_path: Path) -> Callable[[str], str]:
    """Return a factory of folders with the tokenizer and one of the templates."""

    def tokenised(template: str) -> str:
        folder = tmp_path / template.replace(" ", "_")[:20]
        if not folder.exists():
            shutil.copytree(byte_level, folder)
            (folder / "chat_template.jinja").write_text(TEMPLATES[template])
        return str(folder)

    return tokenised


# Samples --------------------------------------------------------------------------------------------------------------

FUNCTIONS = json.dumps([{"name": name, "parameters": {"type": "object"}} for name in ("weather", "Finish")])
ANSWER = '{"final_answer": "Rain."}'


def message(role: str, content: str | None, call: tuple[str, str] | None = None, n: int = 1) -> dict[str, Any]:
    message: dict[str, Any] = {"role": role, "content": content, "name": None, "tool_call_id": None, "tool_calls": None}
    if call is not None:
        function = {"name": call[0], "arguments": call[1]}
        message["tool_calls"] = [{"id": f"call_{n}", "type": "function", "function": function}]
    if role == "tool":
        message |= {"name": "weather", "tool_call_id": f"call_{n}"}
    return message


OPENING = [message("system", "Use the functions."), message("user", "Does it rain in Oslo?")]


def make_messages(calls: int = 2, result: str = "It rains.", thought: str | None = None) -> list[dict[str, Any]]:
    """Return an opening, calls with their results, and an answer; every assistant message can be a target."""
    messages = list(OPENING)
    for n in range(1, calls + 1):
        messages += [message("assistant", thought, ("weather", json.dumps({"city": f"Oslo {n}"})), n)]
        messages += [message("tool", result, n=n)]
    return [*messages, message("assistant", None, ("Finish", ANSWER), calls + 1)]


def sample(messages: list[dict[str, Any]], targets: list[int] | None = None, **others: Any) -> dict[str, Any]:
    """Return a merged sample that trains the target messages; default: all assistant messages."""
    trained = [n for n, m in enumerate(messages) if m["role"] == "assistant"] if targets is None else targets
    numbers = [sum(m["role"] == "assistant" for m in messages[: n + 1]) for n in trained]
    row = dict.fromkeys(TRAJECTORIES) | {"task": "toolbench", "dataset": "G1", "query": "Rain?"}
    row |= {"id": f"file#{'+'.join(map(str, numbers))}", "steps": numbers, "tools": FUNCTIONS, "layout": "merged"}
    row["messages"] = [{**m, "train": n in trained} for n, m in enumerate(messages)]
    return row | others


def table(*rows: dict[str, Any]) -> Dataset:
    return Dataset.from_list(list(rows), features=TRAJECTORIES)


def split(row: dict[str, Any]) -> list[dict[str, Any]]:
    """Return one sample per step of a merged sample."""
    targets = [n for n, message in enumerate(row["messages"]) if message["train"]]
    file, places = row["id"].rsplit("#", 1)
    return [
        {
            **row,
            "id": f"{file}#{place}",
            "steps": [step],
            "layout": "split",
            "messages": [{**m, "train": n == at} for n, m in enumerate(row["messages"][: at + 1])],
        }
        for at, place, step in zip(targets, places.split("+"), row["steps"], strict=True)
    ]


def drop_reasons(*tokenised: Dataset) -> dict[str, str]:
    drops = ledger(tokenised)
    return dict(zip(drops["id"], drops["reason"], strict=True))


def details(tokenised: Dataset) -> str:
    return " ".join(ledger([tokenised])["detail"])


def pairs(tokenised: Dataset) -> dict[str, tuple[list[int], list[int]]]:
    """Return the tokens of history and target of each step, derived from the labels alone."""
    pairs_by_step: dict[str, tuple[list[int], list[int]]] = {}
    for row in tokenised:
        ids, labels = row["input_ids"], row["labels"]
        assert len(ids) == len(labels) == row["n_tokens"]
        assert all(label in (-100, token) for label, token in zip(labels, ids, strict=True))
        starts = [n for n, label in enumerate(labels) if label != -100 and (n == 0 or labels[n - 1] == -100)]
        file, places = row["id"].rsplit("#", 1)
        for start, place in zip(starts, places.split("+"), strict=True):
            end = next((n for n in range(start, len(labels)) if labels[n] == -100), len(labels))
            assert f"{file}#{place}" not in pairs_by_step, "a step is trained twice"
            pairs_by_step[f"{file}#{place}"] = (ids[:start], ids[start:end])
    return pairs_by_step


def texts(tokenised: Dataset, folder: str) -> dict[str, tuple[str, str]]:
    tokenizer = load_chat_tokenizer(find_chat_tokenizer(folder)).tokenizer
    return {step: (tokenizer.decode(h), tokenizer.decode(t)) for step, (h, t) in pairs(tokenised).items()}


# Trained tokens -------------------------------------------------------------------------------------------------------


def test_a_target_ends_with_its_turn(model: Callable[[str], str]) -> None:
    folder = model("chatml")
    tokenised = tokenise(table(sample(make_messages(1))), folder)
    assert tokenised.features == TOKENS
    (row,) = tokenised
    assert (row["steps"], row["step"], row["layout"], row["fallback"], row["shortened"]) == (
        [1, 2],
        2,
        "merged",
        None,
        0,
    )
    decoded = texts(tokenised, folder)
    assert [target for _, target in decoded.values()] == [
        '<tool_call>{"name": "weather", "arguments": {"city": "Oslo 1"}}</tool_call><|im_end|>',
        '<tool_call>{"name": "Finish", "arguments": {"final_answer": "Rain."}}</tool_call><|im_end|>',
    ]
    assert all(history.endswith("<|im_start|>assistant\n") for history, _ in decoded.values())
    assert row["n_trained"] == sum(len(target) for _, target in pairs(tokenised).values())


def test_tokens_equal_those_of_the_template(model: Callable[[str], str]) -> None:
    folder = model("chatml")
    (row,) = tokenise(table(sample(make_messages(2))), folder)
    tokenizer = load_chat_tokenizer(find_chat_tokenizer(folder)).tokenizer
    expected = tokenizer.apply_chat_template(
        template_messages(make_messages(2)), tools=parse_tools(FUNCTIONS), return_dict=False
    )
    assert row["input_ids"] == expected


@pytest.mark.parametrize(
    ("template", "thought", "fallbacks"),
    [
        ("chatml", "I look.", [None]),
        ("llama", "I look.", [None]),
        ("results in JSON", "I look.", [None]),
        ("ends in words", "I look.", [None]),
        ("ids", "I look.", [None]),  # ids are converted for Mistral's templates
        ("eos at the last", "I look.", ["target", "target", None]),
        ("old reasoning off", "<think>Hm.</think>I look.", ["target", "target", None]),
        ("old reasoning off", "I look.", [None]),  # no reasoning to remove
    ],
)
def test_a_step_that_is_no_prefix_becomes_a_separate_row(
    model: Callable[[str], str], template: str, thought: str, fallbacks: list[str | None]
) -> None:
    """Each step is trained once, on the tokens of its split sample."""
    row = sample(make_messages(2, thought=thought))
    tokenised, separate = (tokenise(table(*rows), model(template)) for rows in ([row], split(row)))
    assert tokenised["fallback"][:] == fallbacks
    assert tokenised["layout"][:] == ["split"] * (len(fallbacks) - 1) + ["merged"]
    assert sorted(step for steps in tokenised["steps"] for step in steps) == [1, 2, 3]
    assert pairs(tokenised) == pairs(separate)
    assert separate["fallback"][:] == [None] * 3
    assert sum(tokenised["n_trained"]) == sum(separate["n_trained"])


def test_a_history_that_the_template_renders_differently_becomes_a_separate_row(model: Callable[[str], str]) -> None:
    """Mistral's templates put the functions before the last user message."""
    messages = make_messages(1)
    messages[4:] = [
        message("assistant", "Yes."),
        message("user", "And in Bergen?"),
        message("assistant", "No."),
        *messages[4:],
    ]
    row = sample(messages, [2, 4, 6])
    tokenised = tokenise(table(row), model("tools at the last question"))
    assert list(zip(tokenised["id"], tokenised["fallback"], strict=True)) == [
        ("file#1", "history"),
        ("file#2", "history"),
        ("file#3", None),
    ]
    assert pairs(tokenised) == pairs(tokenise(table(*split(row)), model("tools at the last question")))


WORDS = ["rain", "Oslo\n", "{}", " ", "é漢", "</s>", "12,5", '"quoted"', "", "<|im_start|>assistant\n", "assistant"]


@pytest.mark.parametrize("template", ["chatml", "eos at the last", "old reasoning off", "llama"])
@pytest.mark.parametrize("protocol", ["tools", "text"])
def test_merged_and_split_samples_train_equal_pairs(model: Callable[[str], str], template: str, protocol: str) -> None:
    draw = Random(f"{template} {protocol}")

    def text(special: bool = True) -> str:
        words = draw.choices([w for w in WORDS if special or not w.startswith("<")], k=draw.randint(0, 5))
        return " ".join(words)

    def grow(history: list[dict[str, Any]], depth: int) -> list[list[dict[str, Any]]]:
        steps = []
        for _ in range(draw.randint(0 if depth else 1, 2) if depth < 4 else 0):
            if draw.random() < 0.2:
                history = [*history, message("user", f"Another way, {text()}!")]
            thought = f"<think>{text(False)}</think>{text(False)}" if draw.random() < 0.5 else text(False) or None
            call = (
                "weather",
                json.dumps({"city": text(False), "n": draw.randint(0, 9)}, indent=draw.choice([None, 1])),
            )
            target = [*history, message("assistant", thought, call, depth + 1)]
            steps += [target, *grow([*target, message("tool", text(), n=depth + 1)], depth + 1)]
        return steps

    rows, singles = [], []
    for file in range(8):
        steps = grow([message("user", f"Rain in {text()}?")], 0) or [
            [message("user", "Hi"), message("assistant", "Hello")]
        ]
        for messages, trained in merge_steps(steps):
            places = "+".join(str(n) for n in trained.values())
            rows.append(sample([dict(m) for m in messages], list(trained), id=f"f{file}#{places}"))
            singles += split(rows[-1])
    tokenised, separate = tokenise(table(*rows), model(template), protocol=protocol), None
    separate = tokenise(table(*singles), model(template), protocol=protocol)
    assert drop_reasons(tokenised) == drop_reasons(separate) == {}
    assert pairs(tokenised) == pairs(separate)
    assert len(pairs(tokenised)) == len(singles)
    assert len(tokenised) < len(separate) or template == "eos at the last"
    assert (set(tokenised["fallback"]) == {None}) == (template in ("chatml", "llama"))


# Dropped steps --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("template", "thought", "reason", "has_advice"),
    [
        ("no tools", None, "template_without_tools", True),
        ("no calls", None, "template_without_calls", True),
        ("no arguments", None, "template_without_calls", True),
        ("no results", None, "template_without_results", True),
        ("results cut", None, "template_without_results", True),  # the end of a text is also required
        ("refuses tools", None, "template_refused", True),
        ("faulty", None, "template_refused", True),  # a Python TypeError, not a Jinja error
        ("system only at 1st", None, "template_without_messages", False),
        ("content or calls", "I look.", "template_without_content", True),
        ("all reasoning off", "<think>Hm.</think>I look.", "template_without_content", False),
        ("thinks", None, "template_not_prefix", False),  # the generation prompt contains text that the target lacks
        ("no end", None, "template_without_end", False),
        ("ends twice", "I look.", "special_token_in_target", False),
    ],
)
def test_parts_that_a_template_omits_are_reported(
    model: Callable[[str], str], template: str, thought: str | None, reason: str, has_advice: bool
) -> None:
    """The history of the last step has a call and a result."""
    messages = make_messages(1, result="It rains all day long, and in the night too.", thought=thought)
    messages[-1]["content"] = thought
    tokenised = tokenise(table(sample(messages, [len(messages) - 1])), model(template))
    assert drop_reasons(tokenised) == {"file#2": reason}
    assert ('protocol="text"' in details(tokenised)) == has_advice


@pytest.mark.parametrize("template", ["no tools", "no calls", "no results", "refuses tools", "content or calls"])
def test_the_text_protocol_requires_no_tool_support(model: Callable[[str], str], template: str) -> None:
    row = sample(make_messages(2, thought="I look."))
    tokenised = tokenise(table(row), model(template), protocol="text")
    assert drop_reasons(tokenised) == {}
    decoded = list(texts(tokenised, model(template)).values())
    assert [target for _, target in decoded] == [
        f"{turn['content']}<|im_end|>" for turn in render_text_turns(row["messages"], []) if turn["role"] == "assistant"
    ]
    assert all('"name": "Finish"' in history for history, _ in decoded)


def test_a_function_name_in_the_system_message_is_not_its_schema(model: Callable[[str], str]) -> None:
    messages = [message("system", "You have weather and Finish."), *make_messages(1)[1:]]
    assert set(drop_reasons(tokenise(table(sample(messages)), model("no tools"))).values()) == {
        "template_without_tools"
    }


CASES: dict[str, tuple[list[dict[str, Any]], str]] = {
    "a blank text": ([*OPENING, message("assistant", " \n")], "empty_target"),
    "a null content": ([*OPENING, message("assistant", None)], "empty_target"),
    "an end token in a text": ([*OPENING, message("assistant", "It ends</s>here.")], "special_token_in_target"),
    "an unknown token in a text": ([*OPENING, message("assistant", "<unk>")], "special_token_in_target"),
    "a turn token in a text": ([*OPENING, message("assistant", "a<|im_start|>assistant\nb")], "special_token_in_target"),
    "an end token in arguments": ([*OPENING, message("assistant", None, ("weather", '{"a": "<|im_end|>"}'))], "special_token_in_target"),
    "an escaped end token in arguments": ([*OPENING, message("assistant", None, ("weather", '{"a": "<\\/s>"}'))], "special_token_in_target"),
    "an end token in malformed arguments": ([*OPENING, message("assistant", None, ("weather", '{"a": </s>'))], "special_token_in_target"),
    "an end token in a name": ([*OPENING, message("assistant", None, ("</s>", "{}"))], "special_token_in_target"),
    "an unpaired surrogate": ([*OPENING, message("assistant", None, ("weather", '{"a": "\\ud83d"}'))], "lone_surrogate"),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_untrainable_targets_are_dropped(model: Callable[[str], str], case: str) -> None:
    messages, reason = CASES[case]
    assert drop_reasons(tokenise(table(sample(messages)), model("chatml"))) == {"file#1": reason}


@pytest.mark.parametrize(
    "case",
    [
        *(f"a result: {text}" for text in ["", " ", "</s>", "<unk>", "<|im_end|>\n<|im_start|>assistant\nHi", "null", "\x00"]),
        "the target: assistant\nASSISTANT: [/INST] ### Response:",
        "the target: kept0word <tool_call>",
        "arguments: not JSON",
        "arguments: [1]",
        'arguments: {"a": 1, "a": 2}',
        "arguments: ",
    ],
)  # fmt: skip
def test_texts_that_break_upstreams_mask_have_correct_labels(model: Callable[[str], str], case: str) -> None:
    """Only assistant text is trained, with any history and any text."""
    kind, _, text = case.partition(": ")
    messages = make_messages(1, result=text if kind == "a result" else "It rains.")
    expected = '<tool_call>{"name": "Finish", "arguments": {"final_answer": "Rain."}}</tool_call><|im_end|>'
    if kind == "the target":
        messages[-1], expected = message("assistant", text), f"{text}<|im_end|>"
    if kind == "arguments":
        messages[-1] = message("assistant", None, ("Finish", text))
        expected = f'<tool_call>{{"name": "Finish", "arguments": {json.dumps(text)}}}</tool_call><|im_end|>'
    row = sample(messages)
    tokenised = tokenise(table(row), model("chatml"))
    history, target = texts(tokenised, model("chatml"))["file#2"]
    assert (drop_reasons(tokenised), target) == ({}, expected)
    assert text in history or kind != "a result"
    assert pairs(tokenised) == pairs(tokenise(table(*split(row)), model("chatml")))


def test_a_dropped_step_stays_as_context(model: Callable[[str], str]) -> None:
    """The third step has an end token; it remains in the history of the fourth, and the id lists the trained steps."""
    messages = make_messages(3)
    messages[6]["content"] = "</s>"
    tokenised = tokenise(table(sample(messages)), model("chatml"))
    assert drop_reasons(tokenised) == {"file#3": "special_token_in_target"}
    assert tokenised["id"][:] == ["file#1+2+4"]
    assert "</s>" in texts(tokenised, model("chatml"))["file#4"][0]


def test_a_dropped_last_step_has_no_tokens(model: Callable[[str], str]) -> None:
    messages = make_messages(2)
    messages[-1]["content"] = "<unk>"
    tokenised = tokenise(table(sample(messages)), model("chatml"))
    assert tokenised["id"][:] == ["file#1+2"]
    assert texts(tokenised, model("chatml"))["file#2"][1].endswith("<|im_end|>")
    assert tokenised[0]["n_tokens"] - sum(map(len, pairs(tokenised)["file#2"])) == 1, (
        "only the line break after the turn remains"
    )


def test_exported_lines_have_the_same_tokens(model: Callable[[str], str], tmp_path: Path) -> None:
    """Both have an empty content beside a call, and arguments as objects."""
    rows = split(sample(make_messages(2)))
    folder = model("content is text")
    tokenised = tokenise(table(*rows), folder)
    assert drop_reasons(tokenised) == {}
    tokenizer = load_chat_tokenizer(find_chat_tokenizer(folder)).tokenizer
    lines = export(table(*rows), "trl", tmp_path / "train.jsonl").read_text().splitlines()
    for line, row in zip(map(json.loads, lines), tokenised, strict=True):
        chat = [*line["prompt"], *line["completion"]]
        assert (
            tokenizer.apply_chat_template(chat, tools=json.loads(line["tools"]), return_dict=False) == row["input_ids"]
        )


def test_custom_ids_are_kept_and_extended_by_steps(model: Callable[[str], str]) -> None:
    rows = [sample(make_messages(2), id=name) for name in ("mine", "my#own", "1+2+3")]
    assert tokenise(table(*rows), model("chatml"))["id"][:] == ["mine", "my#own", "1+2+3"]
    tokenised = tokenise(table(*rows), model("eos at the last"))
    assert tokenised["id"][:] == [f"{name}#{n}" for name in ("mine", "my#own", "1+2+3") for n in (1, 2, 3)]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"steps": [1]}, "steps_not_targets"),
        ({"steps": None}, "steps_not_targets"),
        ({"messages": []}, "no_target"),
        ({"messages": None}, "no_target"),
        ({"messages": [{**OPENING[0], "train": True}]}, "target_not_assistant"),
        ({"tools": "{"}, "invalid_tools"),
        ({"tools": '{"name": "weather"}'}, "invalid_tools"),
        ({"tools": '["weather"]'}, "invalid_tools"),
        ({"tools": '[{"description": "no name"}]'}, "invalid_tools"),
    ],
)
def test_inconsistent_samples_are_dropped(model: Callable[[str], str], change: dict[str, Any], reason: str) -> None:
    assert drop_reasons(tokenise(table(sample(make_messages(1)) | change), model("chatml"))) == {"file#1+2": reason}
    assert reason in REASONS


@pytest.mark.parametrize("tools", [None, "", "[]", FUNCTIONS, json.dumps(parse_tools(FUNCTIONS))])
def test_functions_may_be_bare_wrapped_or_missing(model: Callable[[str], str], tools: str | None) -> None:
    tokenised = tokenise(table(sample(make_messages(1), tools=tools)), model("chatml"))
    text = load_chat_tokenizer(find_chat_tokenizer(model("chatml"))).tokenizer.decode(tokenised[0]["input_ids"])
    assert text.startswith(
        '<|im_start|>system\n[{"type": "function"' if tools and tools != "[]" else "<|im_start|>system\nUse"
    )


# Length ---------------------------------------------------------------------------------------------------------------


def lengths(model: Callable[[str], str], row: dict[str, Any]) -> list[int]:
    return list(tokenise(table(*split(row)), model("chatml"))["n_tokens"])


def test_a_long_step_is_dropped_not_truncated(model: Callable[[str], str]) -> None:
    row = sample(make_messages(3))
    step_lengths = lengths(model, row)
    tokenised = tokenise(table(row), model("chatml"), max_length=step_lengths[1])
    assert drop_reasons(tokenised) == {"file#3": "too_long", "file#4": "too_long"}
    assert (tokenised["id"][:], tokenised["n_tokens"][:]) == (["file#1+2"], [step_lengths[1]])
    assert len(tokenise(table(row), model("chatml"), max_length=step_lengths[0] - 1)) == 0


def test_shortening_removes_the_oldest_calls_with_their_results(model: Callable[[str], str]) -> None:
    row = sample(make_messages(3))
    step_lengths = lengths(model, row)
    tokenised = tokenise(table(row), model("chatml"), max_length=step_lengths[3] - 1, too_long="shorten")
    assert drop_reasons(tokenised) == {}
    assert [(r["id"], r["layout"], r["fallback"], r["shortened"]) for r in tokenised] == [
        ("file#4", "split", "too_long", 2),
        ("file#1+2+3", "merged", None, 0),
    ]
    history, target = texts(tokenised, model("chatml"))["file#4"]
    full_step = texts(tokenise(table(row), model("chatml")), model("chatml"))["file#4"]
    assert target == full_step[1]
    assert [f"Oslo {n}" in history for n in (1, 2, 3)] == [False, True, True]
    assert "Use the functions." in history
    assert "Does it rain in Oslo?" in history
    assert history.count("It rains.") == 2
    (single,) = tokenise(table(split(row)[3]), model("chatml"), max_length=step_lengths[3] - 1, too_long="shorten")
    assert (single["id"], single["fallback"], single["shortened"]) == ("file#4", None, 2)


def test_a_warning_counts_separate_rows_by_reason(
    model: Callable[[str], str], caplog: pytest.LogCaptureFixture
) -> None:
    """The warning for a long step does not mention the template."""
    row = sample(make_messages(3))
    longest = lengths(model, row)[3]
    tokenise(table(row), model("chatml"), max_length=longest - 1, too_long="shorten")
    [warning] = [record.message for record in caplog.records if "separate rows" in record.message]
    assert "1 steps are separate rows (too_long): their history was shortened to max_length" in warning
    assert "template" not in warning
    caplog.clear()
    tokenise(table(row), model("eos at the last"))
    [warning] = [record.message for record in caplog.records if "separate rows" in record.message]
    assert "3 steps are separate rows (target): the template renders their target differently" in warning


def test_shortening_keeps_the_last_question(model: Callable[[str], str]) -> None:
    messages = [*OPENING, message("assistant", "Yes."), message("user", "And in Bergen?"), *make_messages(2)[2:]]
    row = sample(messages, [len(messages) - 1])
    (shortest,) = lengths(model, sample([*OPENING, message("user", "And in Bergen?"), messages[-1]], [3]))
    tokenised = tokenise(table(row), model("chatml"), max_length=shortest, too_long="shorten")
    assert (tokenised["shortened"][:], tokenised["n_tokens"][:]) == ([5], [shortest])
    assert "And in Bergen?" in texts(tokenised, model("chatml"))["file#4"][0]
    too_short = tokenise(table(row), model("chatml"), max_length=shortest - 1, too_long="shorten")
    assert drop_reasons(too_short) == {"file#4": "too_long"}
    assert "after removing 5 messages" in details(too_short)
    without_history = tokenise(table(sample(make_messages(0))), model("chatml"), max_length=5, too_long="shorten")
    assert drop_reasons(without_history) == {"file#1": "too_long"}


def test_every_max_length_keeps_or_drops_each_step_once(model: Callable[[str], str]) -> None:
    row = sample(make_messages(3, result="It rains. " * 5))
    all_pairs = pairs(tokenise(table(row), model("chatml")))
    for max_length in range(60, max(lengths(model, row)) + 5, 37):
        tokenised = tokenise(table(row), model("chatml"), max_length=max_length, too_long="shorten")
        assert {*pairs(tokenised), *drop_reasons(tokenised)} == all_pairs.keys()
        assert not {*pairs(tokenised)} & {*drop_reasons(tokenised)}
        assert all(target == all_pairs[step][1] for step, (_, target) in pairs(tokenised).items())
        assert max(tokenised["n_tokens"], default=0) <= max_length


# Tokenizers -----------------------------------------------------------------------------------------------------------


def test_a_tokenizer_without_the_characters_of_a_target(tmp_path: Path) -> None:
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    words = Tokenizer(models.WordLevel({"<unk>": 0, "</s>": 1, "user": 2, "assistant": 3, "yes": 4}, unk_token="<unk>"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=words, unk_token="<unk>", eos_token="</s>")
    tokenizer.chat_template = "{% for m in messages %}{{ m.role }} {{ m.content }}</s>{% endfor %}{% if add_generation_prompt %}assistant {% endif %}"
    tokenizer.save_pretrained(tmp_path)
    rows = [
        sample([message("user", "Nein?"), message("assistant", text)], tools=None, id=f"{text}#1")
        for text in ("yes", "no")
    ]
    tokenised = tokenise(table(*rows), str(tmp_path))
    assert tokenised["input_ids"][:] == [[2, 0, 0, 1, 3, 4, 1]]
    assert tokenised["labels"][:] == [[-100] * 5 + [4, 1]]
    assert drop_reasons(tokenised) == {"no#1": "tokenizer_loses_text"}


def test_a_folder_without_a_vocabulary_has_no_tokenizer(tmp_path: Path) -> None:
    """transformers makes a tokenizer of special tokens only, which encodes every text as nothing."""
    (tmp_path / "config.json").write_text('{"model_type": "llama"}')
    settings = {"tokenizer_class": "LlamaTokenizer", "chat_template": TEMPLATES["chatml"]}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(settings))
    message = f"^cannot load a tokenizer from '{tmp_path}': the vocabulary of the tokenizer is empty$"
    with pytest.raises(InputError, match=message):
        tokenise(table(sample(make_messages(1))), str(tmp_path))


def test_a_slow_byte_tokenizer(tmp_path: Path) -> None:
    from transformers import ByT5Tokenizer

    tokenizer = ByT5Tokenizer()
    tokenizer.chat_template = TEMPLATES["chatml"].replace("<|im_end|>", "</s>")
    tokenizer.save_pretrained(tmp_path)
    row = sample(make_messages(2, result="é漢 </s>", thought="Ich schaue in Ålesund nach."))
    tokenised = tokenise(table(row), str(tmp_path))
    assert tokenised["fallback"][:] == [None]
    assert pairs(tokenised) == pairs(tokenise(table(*split(row)), str(tmp_path)))
    assert texts(tokenised, str(tmp_path))["file#1"][1].startswith("Ich schaue in Ålesund nach.<tool_call>")


def test_a_token_across_history_and_target(model: Callable[[str], str]) -> None:
    """A blank at the end of the prompt is a separate token; before a word it is part of the word's token."""
    folder = Path(model("chatml"))
    (folder / "chat_template.jinja").write_text(
        "{% for m in messages %}{{ m.role }}: {{ m.content }}</s>{% endfor %}{% if add_generation_prompt %}assistant: {% endif %}"
    )
    tokenised = tokenise(table(sample([message("user", "Hi"), message("assistant", "rains")], tools=None)), str(folder))
    assert drop_reasons(tokenised) == {"file#1": "template_not_prefix"}
    assert "a token spans history and target" in details(tokenised)


# Arguments ------------------------------------------------------------------------------------------------------------


def test_invalid_arguments_are_rejected_first(model: Callable[[str], str], byte_level: Path, tmp_path: Path) -> None:
    rows, folder = table(sample(make_messages(1))), model("chatml")
    with pytest.raises(InputError, match="has no chat template"):
        tokenise(rows, str(byte_level))
    with pytest.raises(InputError, match="no model at"):
        tokenise(rows, "./nowhere")
    with pytest.raises(UnknownName):
        tokenise(rows, folder, protocol="xml")
    with pytest.raises(UnknownName):
        tokenise(rows, folder, too_long="cut")
    with pytest.raises(InputError, match="max_length"):
        tokenise(rows, folder, max_length=0)
    with pytest.raises(MissingColumns):
        tokenise(rows.remove_columns("messages"), folder)
    broken = shutil.copytree(byte_level, tmp_path / "broken")
    (broken / "chat_template.jinja").write_text("{% for %}")
    with pytest.raises(InputError, match="is not valid Jinja"):
        tokenise(rows, str(broken))


def test_cache_keys_ignore_moves_and_detect_edited_templates(model: Callable[[str], str], tmp_path: Path) -> None:
    rows, folder = table(sample(make_messages(1))), Path(model("chatml"))
    first = tokenise(rows, str(folder))
    assert str(folder.parent) not in json.dumps(lineage(first))
    (tmp_path / "elsewhere").mkdir()
    moved = shutil.move(folder, tmp_path / "elsewhere" / folder.name)
    assert tokenise(rows, str(moved))._fingerprint == first._fingerprint
    (Path(moved) / "model.safetensors").write_bytes(b"weights change no token")
    assert tokenise(rows, str(moved))._fingerprint == first._fingerprint
    (Path(moved) / "chat_template.jinja").write_text(TEMPLATES["llama"])
    edited = tokenise(rows, str(moved))
    assert edited._fingerprint != first._fingerprint
    assert texts(edited, str(moved))["file#1"][0].startswith("<s>[INST]")


@pytest.mark.parametrize("path", ["{folder}", "./{name}", "{name}/", "../{parent}/{name}", "{folder}/../{name}/."])
def test_a_folder_is_published_under_its_last_name(
    path: str, model: Callable[[str], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = Path(model("chatml"))
    monkeypatch.chdir(folder.parent)
    source = find_chat_tokenizer(path.format(folder=folder, name=folder.name, parent=folder.parent.name))
    assert source.model == folder.name
    assert source.template == hashlib.sha256(TEMPLATES["chatml"].encode()).hexdigest()
    key = json.dumps(canonical(source))
    assert (folder.name in key, str(folder.parent) in key) == (True, False)


def test_options_reach_the_template(model: Callable[[str], str]) -> None:
    folder = Path(model("chatml"))
    (folder / "chat_template.jinja").write_text("{{ date_string }}" + TEMPLATES["chatml"])
    tokenised = tokenise(table(sample(make_messages(1))), str(folder), options=[("date_string", "1 May")])
    assert texts(tokenised, str(folder))["file#1"][0].startswith("1 May")


def test_each_split_is_tokenised(model: Callable[[str], str]) -> None:
    rows = [sample(make_messages(n), id=f"f{n}#{'+'.join(map(str, range(1, n + 2)))}") for n in range(4)]
    splits = tokenise(DatasetDict(train=table(*rows[:2]), test=table(*rows[2:])), model("chatml"))
    assert {name: len(part) for name, part in splits.items()} == {"train": 2, "test": 2}
    assert splits["test"]["id"][:] == ["f2#1+2+3", "f3#1+2+3+4"]


def test_only_unambiguous_arguments_become_objects() -> None:
    for text in ('{"a": 1, "a": 2}', '{"a": NaN}', '{"a": 1e999}', "[1]", "text", "{", "[" * 100_000):
        (turn,) = template_messages([message("assistant", None, ("f", text))])
        assert turn["tool_calls"][0]["function"]["arguments"] == text
    (turn,) = template_messages([message("assistant", None, ("f", ' {"a": [1.5, null]}'))])
    assert turn["tool_calls"][0]["function"]["arguments"] == {"a": [1.5, None]}
    with pytest.raises(UnusableRow, match="invalid JSON"):
        parse_tools("[" * 100_000)


def test_steps_that_are_all_shortened_are_separate_rows_with_the_reason(model: Callable[[str], str]) -> None:
    messages = make_messages(3)
    row = sample(messages, [6, 8])
    shorter, _ = lengths(model, row)
    tokenised = tokenise(table(row), model("chatml"), max_length=shorter - 1, too_long="shorten")
    assert [(r["id"], r["layout"], r["fallback"]) for r in tokenised] == [
        ("file#3", "split", "too_long"),
        ("file#4", "split", "too_long"),
    ]
    assert all(shortened > 0 for shortened in tokenised["shortened"])


def test_a_tokenizer_is_identified_with_the_packages_that_load_it(model: Callable[[str], str]) -> None:
    """Another version of a package can tokenise another way, so that the rows are made again."""
    identity = dict(find_chat_tokenizer(model("chatml")).identity)
    assert identity.pop("tokenizer")
    assert identity == {name: importlib.metadata.version(name) for name in ("transformers", "tokenizers")}
