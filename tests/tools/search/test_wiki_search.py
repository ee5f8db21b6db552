"""Tests of local search: hits, words of many scripts, corpora, hostile queries, and the index on disk."""

from __future__ import annotations

import json
import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import bm25s  # type: ignore[import-untyped]
import huggingface_hub.constants
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import Dataset, DatasetDict, concatenate_datasets

from toolrlef_data.records import InputError, MissingColumns
from toolrlef_data.tables.fingerprint import canonical, code_digest
from toolrlef_data.tools.search import bm25
from toolrlef_data.tools.search.bm25 import indexes_dir, split_words
from toolrlef_data.tools.search.corpus import digest_content, first_words, open_corpus
from toolrlef_data.tools.search.wiki_search import MAX_QUERY, wiki_search
from toolrlef_data.tools.tool import Tool, ToolInput

ROOT = Path(__file__).parents[3]
ROWS = [
    ("Fig", "The fig is an edible fruit, soft and sweet."),
    ("Oak", "An oak is a tree that bears acorns."),
    ("Nile", "The Nile flows north through Egypt to the sea."),
    ("Ada Lovelace", "She wrote notes on the Analytical Engine in 1843."),
]


@pytest.fixture(autouse=True)
def temporary_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def table(rows: list[tuple[Any, Any]]) -> Dataset:
    return Dataset.from_dict({"title": [row[0] for row in rows], "text": [row[1] for row in rows]})


def titles(tool: Tool, query: str) -> list[str]:
    value = tool.run(query).value
    assert value is None or isinstance(value, tuple)
    return [text.split(" | ")[0] for text in value or ()]


def folder_of(tool: Tool) -> Path:
    found = indexes_dir().glob(tool.version.split("corpus ")[1][:16] + "*")
    (folder,) = (path for path in found if path.is_dir())  # Python 3.10 ignores a final slash of a pattern
    return folder


def random_texts(count: int, words: int, seed: int) -> list[str]:
    draw = random.Random(seed)
    vocabulary = [f"word{i:04d}" for i in range(400)]
    return [" ".join(vocabulary[int(400 * draw.random() ** 3)] for _ in range(words)) for _ in range(count)]


# Hits -----------------------------------------------------------------------------------------------------------------


def test_hits_equal_those_of_bm25s() -> None:
    texts, queries = random_texts(2500, 30, 1), random_texts(200, 4, 2)
    tool = wiki_search(table([("", text) for text in texts]), k=3)
    bare = bm25s.BM25()
    bare.index(bm25s.tokenize(texts, show_progress=False), show_progress=False)
    for query, result in zip(queries, tool.run_many([ToolInput(query) for query in queries]), strict=True):
        scores = bare.get_scores(query.split())
        best = np.lexsort((np.arange(len(scores)), -scores))[:3]  # ties: the first in the corpus
        assert result.value == tuple(texts[i] for i in best)


def test_hits_have_title_and_text() -> None:
    tool = wiki_search(table([*ROWS, (None, "Untitled words on zebras.")]))
    assert tool.run("who wrote about the analytical engine").value == (
        "Ada Lovelace | She wrote notes on the Analytical Engine in 1843.",
    )
    assert tool.run("Lovelace").value == tool.run("  LOVELACE?! ").value, "titles count, case and punctuation do not"
    assert tool.run("zebras").value == ("Untitled words on zebras.",)
    assert (tool.parameter, tool.is_slow, tool.name) == ("query", True, "WikiSearch")


def test_ties_are_in_corpus_order() -> None:
    tool = wiki_search(table([(str(i), "the same words") for i in range(50)]), k=5)
    assert titles(tool, "same words") == ["0", "1", "2", "3", "4"]


@pytest.mark.parametrize(
    ("query", "kind"),
    [
        ("", "empty"),
        (" \n\t", "empty"),
        ("the of and is", "no_result"),  # stop words only
        ("?!... --- ()", "no_result"),
        ("zyzzyva", "no_result"),  # in no passage
        ("東京都", "no_result"),  # a script of no passage
        ("\x00\ud800", "no_result"),  # an unpaired surrogate
        ("\u0301\u0301", "no_result"),  # marks without a letter
        ("x" * MAX_QUERY, "no_result"),
        ("fig " * (MAX_QUERY // 4), None),
        ("fig " * (MAX_QUERY // 4) + "x", "too_large"),
        ("x" * 1_000_000, "too_large"),
    ],
)
def test_queries_without_a_hit_have_an_error_kind(query: str, kind: str | None) -> None:
    result = wiki_search(table(ROWS)).run(query)
    assert result.error == kind
    assert (result.value is None) == (kind is not None)


@pytest.mark.parametrize(
    ("rows", "k", "query", "expected"),
    [
        (ROWS[:1], 2, "fig", ["Fig"]),  # one row, k larger than the corpus
        (ROWS, 100, "acorns of trees by the tree, sea", ["Oak", "Nile"]),  # passages that share no word are no hits
        (ROWS, 1, "tree acorns sea", ["Oak"]),
        ([("Fig", ""), ("Oak", None), *ROWS[2:]], 2, "fig oak nile", ["Nile"]),  # a title without text is no hit
        ([("Fig", "  \n "), ROWS[1]], 2, "fig", []),
    ],
)
def test_at_most_k_hits_are_returned(rows: list[tuple[Any, Any]], k: int, query: str, expected: list[str]) -> None:
    assert titles(wiki_search(table(rows), k=k), query) == expected


@pytest.mark.parametrize(
    ("text", "words", "expected"),
    [
        ("a b c", 2, "a b"),
        ("a b c", 3, "a b c"),
        ("a  b\n\nc d", 3, "a  b\n\nc"),  # white space inside is unchanged
        (" a b ", 2, "a b"),
        ("a\u00a0b\u3000c", 2, "a\u00a0b"),
        ("", 2, ""),
        ("水" * 1000, 3, "水" * 60),  # no spaces at all
        ("x" * 5_000_000, 384, "x" * 7680),
    ],
)
def test_texts_are_truncated_by_words(text: str, words: int, expected: str) -> None:
    assert first_words(text, words) == expected


def test_a_long_passage_is_searched_completely_and_truncated() -> None:
    long = " ".join(f"w{i}" for i in range(1000))
    value = wiki_search(table([("Long", long), *ROWS])).run("w999").value
    assert value == ("Long | " + " ".join(f"w{i}" for i in range(384)),)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Don't stop-me, 3.14 or 1,000", ["don", "t", "stop", "me", "3", "14", "or", "1", "000"]),
        ("Beyoncé BEYONCE\u0301 ＡＢＣ", ["beyonce", "beyonce", "abc"]),  # composed, decomposed, full-width
        ("Straße ŁÓDŹ", ["strasse", "łodz"]),
        ("Ёлка Чайка", ["елка", "чаика"]),
        ("हिन्दी भाषा", ["हिन्दी", "भाषा"]),  # vowel signs are part of the word
        ("مُحَمَّد محمد", ["محمد", "محمد"]),  # with and without points
        ("می\u200cشود", ["میشود"]),
        ("東京都は iPhone15を", ["東京", "京都", "都は", "iphone15", "を"]),
        ("한국어 가나", ["한국어", "가나"]),  # a script with spaces
        ("ไทย", ["ไท", "ทย"]),
        ("", []),
        ("\ud800", []),
    ],
)
def test_words_in_many_scripts(text: str, expected: list[str]) -> None:
    assert split_words(text) == expected


@pytest.mark.parametrize(
    ("query", "title"),
    [("beyonce", "Beyoncé"), ("भाषा क्या है", "हिन्दी"), ("京都", "東京"), ("Тюлень", "тюлень"), ("CAFE\u0301", "café")],
)
def test_search_in_many_scripts(query: str, title: str) -> None:
    rows = [
        ("Beyoncé", "A singer."),
        ("हिन्दी", "एक भाषा"),
        ("東京", "東京都は日本"),
        ("тюлень", "Ласты."),
        ("café", "A place."),
    ]
    assert titles(wiki_search(table(rows)), query) == [title]


# Corpora --------------------------------------------------------------------------------------------------------------


def test_the_index_depends_only_on_the_content(tmp_path: Path) -> None:
    rows = [(f"T{i}", text) for i, text in enumerate(random_texts(1500, 5, 3))]
    data = table(rows)
    (tmp_path / "lines").mkdir()
    lines = [json.dumps({"text": text, "title": title, "more": 1}) + "\n" for title, text in rows]
    (tmp_path / "lines" / "a.jsonl").write_text("\ufeff" + "".join(lines[:700]) + "\n\n")
    (tmp_path / "lines" / "b.jsonl").write_text("".join(lines[700:]))
    data.to_parquet(str(tmp_path / "c.parquet"), batch_size=333)
    data.save_to_disk(str(tmp_path / "saved"))
    chunks = concatenate_datasets([data.select(range(10)), data.select(range(10, 1500))])
    same: list[Any] = [
        tmp_path / "lines", str(tmp_path / "c.parquet"), tmp_path / "saved", chunks,
        data.add_column("n", list(range(1500))), data.with_format("numpy"), data.select(range(1499, -1, -1)).select(range(1499, -1, -1)),
    ]  # fmt: skip
    version = wiki_search(data).version
    assert {wiki_search(corpus).version for corpus in same} == {version}
    assert len([path for path in indexes_dir().iterdir() if path.is_dir()]) == 1
    moved = [(title + text[:1], text[1:]) for title, text in rows]  # same characters, different boundary
    others: list[Any] = [
        data.select(range(1499)),
        data.shuffle(seed=1),
        table(moved),
        concatenate_datasets([data, data]),
    ]
    assert len({version, *(wiki_search(corpus).version for corpus in others)}) == 5


@pytest.mark.parametrize(
    ("name", "value"),
    [("bm25s_version", lambda: "0.0.1"), *(("SETTINGS", {**bm25.SETTINGS, key: 2}) for key in ("k1", "b", "tokens"))],
)
def test_the_index_of_another_version_or_setting_is_another_folder(
    name: str, value: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = folder_of(wiki_search(table(ROWS)))
    monkeypatch.setattr(bm25, name, value)
    assert folder_of(wiki_search(table(ROWS))) != folder


def test_the_version_names_what_determines_the_output() -> None:
    tool = wiki_search(table(ROWS))
    assert tool.version.startswith(f"bm25s {bm25s.__version__} corpus ")
    assert tool.version.endswith(" k=2 words=384")
    assert len({tool.version, wiki_search(table(ROWS), k=3).version, wiki_search(table(ROWS), words=9).version}) == 3
    assert json.dumps(canonical(tool)) == json.dumps(canonical(wiki_search(table(ROWS))))
    assert code_digest(tool) == code_digest(wiki_search(table(ROWS)))


@pytest.mark.parametrize(
    ("corpus", "error", "message"),
    [
        (table([]), InputError, "empty"),
        (table([("a", ""), ("b", None)]), InputError, "no text: all of its 2 rows"),
        (table([("", "the of"), (None, "...")]), InputError, "searchable word"),
        (Dataset.from_dict({"title": ["a"], "body": ["b"]}), MissingColumns, "missing text; found title, body"),
        (Dataset.from_dict({"title": [1], "text": ["b"]}), InputError, "'title', found int64"),
        (Dataset.from_dict({"title": ["a"], "text": [["b"]]}), InputError, "'text', found"),
        (DatasetDict(train=table(ROWS)), InputError, "one split"),
        ([{"title": "a", "text": "b"}], InputError, "found list"),
        ("no/such/place", InputError, "load_dataset"),
        (".", InputError, "expected a .jsonl or .parquet file"),
    ],
)
def test_invalid_corpora(
    corpus: Any, error: type[Exception], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(error, match=message):
        wiki_search(corpus)
    assert not [path for path in indexes_dir().glob("*") if path.is_dir()], "no incomplete index remains"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"title": "a", "text": "b"}\n{"title": ', "c.jsonl, line 2: invalid JSON"),
        ("[1]", "line 1: expected an object"),
        ('{"title": "a"}', "line 1: missing text"),
        ('{"title": "a", "text": 5}', "line 1: title and text must be text, found str and int"),
        ("[" * 200_000, "line 1: invalid JSON"),
        ("", "the corpus is empty"),
    ],
)
def test_invalid_lines(content: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "c.jsonl").write_text(content)
    with pytest.raises(InputError, match=message):
        wiki_search(tmp_path / "c.jsonl")


def test_unusual_lines_and_types(tmp_path: Path) -> None:
    path = tmp_path / "c.jsonl"
    path.write_bytes(
        b'{"title": null, "text": "half \\ud83d emoji"}\r\n{"title": "x", "text": "not utf-8: \xff zebra"}'
    )
    assert wiki_search(path).run("emoji").value == ("half \ufffd emoji",)
    words = pa.array(["oak", None, "fig"]).dictionary_encode()
    pq.write_table(pa.table({"title": pa.nulls(3), "text": words}), tmp_path / "d.parquet")
    assert wiki_search(tmp_path / "d.parquet").run("fig").value == ("fig",)
    (tmp_path / "e.parquet").write_bytes(b"PAR1 and no more")
    with pytest.raises(InputError, match="cannot be read as Parquet"):
        wiki_search(tmp_path / "e.parquet")


@pytest.mark.parametrize("size", [{"k": 0}, {"k": 1.5}, {"k": True}, {"words": -1}])
def test_invalid_sizes(size: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="at least 1"):
        wiki_search(table(ROWS), **size)


def test_the_digest_distinguishes_lengths_and_bytes() -> None:
    contents = [
        digest_content(open_corpus(table(rows))) for rows in ([("ab", "c")], [("a", "bc")], [("ab", "c"), ("", "")])
    ]
    assert len({content.digest for content in contents}) == 3


# The index on disk ----------------------------------------------------------------------------------------------------


def test_a_deleted_index_is_reported_and_rebuilt() -> None:
    tool = wiki_search(table(ROWS))
    assert titles(tool, "fig") == ["Fig"]
    shutil.rmtree(folder_of(tool))
    with pytest.raises(InputError, match=r"was deleted; call wiki_search\(corpus\)"):
        tool.run("fig")
    assert wiki_search(table(ROWS)).version == tool.version
    assert titles(tool, "fig") == ["Fig"]


@pytest.mark.parametrize("n", range(6))
def test_an_index_with_one_file_of_another_size_is_not_complete(n: int) -> None:
    folder = folder_of(wiki_search(table(ROWS)))
    assert bm25._is_complete(folder)
    name = sorted(json.loads((folder / bm25.MANIFEST).read_text())["sizes"])[n]
    with open(folder / name, "ab") as file:
        file.write(b" ")
    assert not bm25._is_complete(folder)


def test_a_corpus_with_a_format_is_read_and_one_with_a_transform_is_refused() -> None:
    (batch,) = open_corpus(table(ROWS).with_format("numpy", columns=["text"]))()
    assert batch.to_pydict()["title"] == [title for title, _ in ROWS]
    with pytest.raises(InputError, match="the table has a transform"):
        open_corpus(table(ROWS).with_transform(lambda batch: {"title": ["x"], "text": ["y"]}))


def test_damage_is_repaired_or_reported() -> None:
    def truncate_file(path: Path) -> None:
        path.write_bytes(path.read_bytes()[:-1])

    def zero_file(path: Path) -> None:
        path.write_bytes(b"\x00" * path.stat().st_size)

    tool = wiki_search(table(ROWS))
    names = [path.name for path in folder_of(tool).iterdir() if path.stat().st_size]  # SEALED is empty
    assert len(names) == 8

    def flip_bit(path: Path) -> None:
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 4
        path.write_bytes(content)

    damages: list[Callable[[Path], None]] = [truncate_file, flip_bit, zero_file, Path.unlink]
    for name in names:
        for damage in damages:
            damage(folder_of(tool) / name)
            assert titles(wiki_search(table(ROWS)), "fig") == ["Fig"], f"{damage.__name__} of {name} is repaired"
    for name in ("vocab.index.json", "params.index.json", "data.csc.index.npy", "passages.arrow"):
        folder = folder_of(tool)
        zero_file(folder / name)
        os.utime(folder / "manifest.json", ns=(0, 0))  # invalidates the index that this process has open
        with pytest.raises(InputError, match="is damaged; call wiki_search"):
            tool.run("fig")
        assert titles(wiki_search(table(ROWS)), "fig") == ["Fig"]
