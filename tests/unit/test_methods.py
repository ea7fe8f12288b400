"""The table of methods: its schema, its agreement with the cards, and what it says about bad rows."""

import re

import pytest
import yaml

from ilbook import paths
from ilbook.errors import UserError
from ilbook.press import methods, results

CARDS = paths.root().parent / "shared" / "methods"
GOOD = {
    "slug": "some-method",
    "title": "Some Method",
    "year": 2023,
    "arxiv": "2303.04137",
    "part": "foundations",
    "notebook": None,
    "status": "planned",
}


def written(tmp_path, *rows):
    """A table of methods in a temporary file."""
    file = tmp_path / "methods.yml"
    file.write_text(yaml.safe_dump(list(rows), sort_keys=False), encoding="utf-8")
    return file


def test_the_table_is_complete_and_in_the_order_of_the_book():
    rows = methods.load()
    assert len(rows) == 63
    parts = list(methods.PARTS)
    order = [(parts.index(row["part"]), row["slug"]) for row in rows]
    assert order == sorted(order)
    assert {row["part"] for row in rows} == set(parts)
    assert all(tuple(row) == methods.KEYS for row in rows)


def test_every_arxiv_number_names_a_possible_month_and_fits_the_year():
    for row in methods.load():
        year, month = int(row["arxiv"][:2]) + 2000, int(row["arxiv"][2:4])
        assert 1 <= month <= 12, row["slug"]
        # A paper posted at the end of a year may be dated by its publication in the next.
        assert row["year"] - year in (0, 1), row["slug"]


def test_no_arxiv_number_is_used_twice():
    numbers = [row["arxiv"] for row in methods.load()]
    assert len(set(numbers)) == len(numbers)


@pytest.mark.skipif(not CARDS.is_dir(), reason="the cards of the methods are not part of the repository")
def test_every_row_agrees_with_its_card():
    rows = {row["slug"]: row for row in methods.load()}
    assert set(rows) == {card.stem for card in CARDS.glob("*.md")}
    for slug, row in rows.items():
        first_line = (CARDS / f"{slug}.md").read_text(encoding="utf-8").splitlines()[0]
        title, year = re.match(r"# (.+?) \((\d{4})\b", first_line).groups()
        # Two cards put a second name of the method before the title.
        assert title == row["title"] or title.endswith((f" / {row['title']}", f": {row['title']}")), slug
        assert int(year) == row["year"], slug
        assert re.search(r"arXiv (\d{4}\.\d{4,5})", first_line)[1] == row["arxiv"], slug


def test_rows_name_each_claim_once_under_its_method(monkeypatch):
    first = {"id": "chunk-beats-one-step", "method": "action-chunking", "notebook": "01_first_policy"}
    second = {**first, "id": "second"}
    declared = [{**claim, "profile": name} for claim in (first, second) for name in ("lecture", "full")]
    monkeypatch.setattr(results, "rows", lambda: declared)
    rows = {row["slug"]: row for row in methods.rows()}
    assert rows["action-chunking"]["claims"] == ["chunk-beats-one-step", "second"]
    assert rows["openvla"]["claims"] == []
    assert all(tuple(row) == (*methods.KEYS, "claims") for row in rows.values())


def test_rows_refuse_a_claim_about_an_unknown_method(monkeypatch):
    declared = [{"id": "c", "method": "action-chunkin", "notebook": "01_first_policy", "profile": "lecture"}]
    monkeypatch.setattr(results, "rows", lambda: declared)
    with pytest.raises(UserError, match=r"claim c of notebook 01_first_policy.*action-chunking"):
        methods.rows()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"slug": "Some Method"}, "the slug 'Some Method'"),
        ({"slug": None}, "the slug None"),
        ({"title": "  "}, r"method 1 \(some-method\): the title '  ' must be the title of the paper"),
        ({"year": "2023"}, "the year '2023' must be a whole number"),
        ({"year": True}, "the year True must be a whole number"),
        ({"arxiv": 2303.04137}, "the arxiv 2303.04137 must be null or a quoted string"),
        ({"arxiv": "2303.4"}, "the arxiv '2303.4'"),
        ({"part": "foundation"}, r"method 1 \(some-method\): unknown part 'foundation'.*'foundations'"),
        ({"part": ["foundations"]}, "unknown part"),
        ({"status": "plannd"}, r"unknown status 'plannd'.*'planned'"),
        ({"status": "draft"}, "the status 'draft' needs a notebook"),
        ({"notebook": "99_not_there"}, "unknown notebook '99_not_there'"),
        ({"group": "early"}, "exactly the keys slug, title"),
    ],
)
def test_a_bad_row_is_refused_in_one_sentence(tmp_path, change, words):
    file = written(tmp_path, {**GOOD, **change})
    with pytest.raises(UserError, match=words) as caught:
        methods.load(file)
    assert "\n" not in str(caught.value)


def test_a_missing_key_and_a_repeated_slug_are_refused(tmp_path):
    with pytest.raises(UserError, match="exactly the keys"):
        methods.load(written(tmp_path, {key: value for key, value in GOOD.items() if key != "arxiv"}))
    with pytest.raises(UserError, match=r"method 2 \(some-method\): the slug is used twice"):
        methods.load(written(tmp_path, GOOD, GOOD))


def test_a_method_without_a_preprint_is_accepted(tmp_path):
    assert methods.load(written(tmp_path, {**GOOD, "arxiv": None})) == [{**GOOD, "arxiv": None}]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"- slug: [broken\n  title: x\n", r"methods\.yml cannot be read .*line 2"),
        (b"\xff\xfe\x00x", r"methods\.yml cannot be read"),
        (b"slug: one\n", "must be a list"),
        (b"", "must be a list"),
        (b"- just a word\n", "method 1: a method needs exactly the keys"),
    ],
)
def test_a_damaged_file_is_refused(tmp_path, content, words):
    file = tmp_path / "methods.yml"
    file.write_bytes(content)
    with pytest.raises(UserError, match=words):
        methods.load(file)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(UserError, match="cannot be read"):
        methods.load(tmp_path / "methods.yml")
