"""The site: it builds without a warning, asks nothing of the network, and shows its formulas in a browser."""

import json
import re
from html import unescape
from pathlib import Path

import pytest

from ilbook.errors import UserError
from ilbook.press import execute, generated, notebook, solutions, stage

ROOT = Path(__file__).resolve().parents[2]
ASSETS = ROOT / "book_assets"
LOADED = re.compile(
    r"<(?:script|img|iframe|video|audio|source|embed|object|link)\b[^>]*?\b(?:src|href|data)\s*=\s*[\"']?((?:https?:)?//[^\"'>\s]+)",
    re.IGNORECASE,
)
STYLE_LOADED = re.compile(r"(?:@import\s+[\"']|url\(\s*[\"']?)((?:https?:)?//[^\"')]+)", re.IGNORECASE)
NO_TEXT = re.compile(r"|No description.*|\S+\.(png|jpe?g|svg|gif)")  # what builders write when nobody wrote a text
FOLDED_SOLUTION = re.compile(r"<details[^>]*>\s*<summary[^>]*>\s*(?:<[^>]*>\s*)*A solution")
WIDE = {"width": 1280, "height": 900}
NARROW = {"width": 390, "height": 844}


@pytest.fixture(scope="module")
def site():
    """The site of this repository, from notebooks executed in the smoke profile."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ILBOOK_ROOT", str(ROOT))
        rows = execute.run([], "smoke")
        assert [row["why"] for row in rows if row["status"] not in execute.GOOD] == []
        yield stage.build("smoke")


def pages(site: Path) -> list[Path]:
    return sorted(site.rglob("*.html"))


@pytest.mark.slow
def test_every_page_of_the_contents_is_there(site):
    wanted = re.findall(r"(?:file|root): (\S+)", (ROOT / "_toc.yml").read_text())
    assert len(wanted) > 4
    assert [name for name in wanted if not (site / f"{name}.html").exists()] == []


@pytest.mark.slow
def test_no_page_loads_anything_from_outside(site):
    assert len(pages(site)) > 4
    found = {page.name: LOADED.findall(page.read_text(encoding="utf-8")) for page in pages(site)}
    assert {name: addresses for name, addresses in found.items() if addresses} == {}
    styles = {path.name: STYLE_LOADED.findall(path.read_text(encoding="utf-8")) for path in site.rglob("*.css")}
    assert styles and not any(styles.values())


@pytest.mark.slow
def test_no_page_names_a_path_of_this_machine(site):
    private = (str(ROOT), str(Path.home()) + "/")
    assert [
        page.name for page in pages(site) if any(path in page.read_text(encoding="utf-8") for path in private)
    ] == []


@pytest.mark.slow
def test_solutions_are_folded_and_wrong_answers_do_not_show(site):
    for path in notebook.paths(ROOT):
        page = (site / path.parent.name / f"{path.stem}.html").read_text(encoding="utf-8")
        text = unescape(re.sub(r"<[^>]*>", "", page))
        assert len(FOLDED_SOLUTION.findall(page)) == len(solutions.read(path))
        for name, answers in solutions.wrong(path).items():
            right = solutions.read(path)[name]
            assert not [answer for answer in answers if answer.strip() in text and answer not in right]


@pytest.mark.slow
def test_the_site_of_a_smoke_run_does_not_replace_the_real_one(site):
    assert site == ROOT / "build" / "site-smoke"


@pytest.mark.slow
@pytest.mark.parametrize("size", [WIDE, NARROW], ids=["wide", "narrow"])
def test_pages_look_right_in_a_browser(site, browser, tmp_path, size):
    names = ["index", "notation", "ledger", "method_map"]
    names += [f"{path.parent.name}/{path.stem}" for path in notebook.paths(ROOT)]
    for name in names:
        with_maths = r"\(" in (site / f"{name}.html").read_text(encoding="utf-8")
        look_at(browser, site / f"{name}.html", size, tmp_path / "page.png", with_maths)


@pytest.mark.slow
def test_the_page_of_one_notebook_looks_right_on_its_own(site, browser, tmp_path):
    for path in notebook.paths(ROOT):
        page = ROOT / "build" / "executed" / "smoke" / f"{path.stem}.html"
        assert LOADED.findall(page.read_text(encoding="utf-8")) == []
        assert "{cite" not in page.read_text(encoding="utf-8"), "MyST marks must not show"
        look_at(browser, page, WIDE, tmp_path / "page.png", with_maths="$" in notebook.read(path).cells[0].source)


def look_at(browser, path, size, picture, with_maths):
    """Open a page; everything it asks for is there and on this disk, formulas are set, nothing sticks out sideways."""
    page = browser.new_page(viewport=size)
    asked, failed, errors = [], [], []
    page.on("request", lambda request: asked.append(request.url))
    page.on("requestfailed", lambda request: failed.append(request.url))
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.goto(path.as_uri(), wait_until="load")
    if with_maths:
        page.wait_for_selector("mjx-container", state="attached", timeout=10_000)
        assert page.locator("mjx-merror").count() == 0, "a formula could not be read"
    page.screenshot(path=picture)
    overflow = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
    texts = page.evaluate("[...document.querySelectorAll('img')].map(image => image.alt)")
    page.close()
    assert [url for url in asked if not url.startswith(("file:", "data:", "blob:"))] == []
    assert (failed, errors) == ([], [])
    assert overflow <= 1, f"{path.name} is wider than the window"
    assert [text for text in texts if NO_TEXT.fullmatch(text)] == [], f"{path.name} has pictures without a text"
    assert picture.stat().st_size > 10_000


def test_the_vendored_mathjax_is_small_and_has_its_licence():
    files = [path for path in ASSETS.rglob("*") if path.is_file()]
    assert (ASSETS / "mathjax" / "tex-chtml.js").exists() and (ASSETS / "mathjax" / "LICENSE").exists()
    assert sum(path.stat().st_size for path in files) < 2.5e6
    assert max(path.stat().st_size for path in files) < 2e6


def test_a_notebook_that_was_not_executed_stops_the_build(book):
    book.quick("01_page")
    with pytest.raises(UserError, match="01_page was not executed in the lecture profile; type: ilbook run 01_page"):
        stage.build()


def test_the_ledger_shows_failures_as_it_shows_successes(monkeypatch, book):
    book.quick("01_page")
    common = {
        "method": "m",
        "notebook": "01_page",
        "minimum": 0.1,
        "n": 100,
        "seeds": 1,
        "stale": False,
        "why": "",
        "commit": "0123456789ab",
        "smallest_visible": 0.143,
        "replications": "supported in 4 of 5 seeds",
    }
    verdicts = ["supported", "contradicted", "inconclusive"]
    rows = [
        common
        | {
            "id": word,
            "sentence": f"A | {word}",
            "verdict": word,
            "effect": 0.2,
            "low": 0.1,
            "high": 0.3,
            "profile": "lecture",
        }
        for word in verdicts
    ]
    rows.append(rows[0] | {"id": "later", "verdict": "not evaluated", "effect": None, "profile": "full"})
    rows[2] |= {"stale": True, "why": "changed: tasks.pusht"}
    monkeypatch.setattr(generated.results, "rows", lambda: rows)
    page = generated.ledger()
    shown = [f"{generated.badge(word)}; supported in 4 of 5 seeds |" for word in (*verdicts[:2], "not evaluated")]
    assert [page.count(words) for words in shown] == [1, 1, 1]
    assert page.count("`stale`; supported in 4 of 5 seeds |") == 1
    assert "- The lecture result is stale: changed: tasks.pusht." in page
    lines = [line for line in page.splitlines() if "(`contradicted`)" in line]
    assert lines == [
        "| A \\| contradicted (`contradicted`) | lecture "
        "| {bdg-danger}`contradicted`; supported in 4 of 5 seeds "
        "| +0.200 (+0.100 to +0.300) | 0.1 | 0.143 | n = 100, 1 seed | `0123456789ab` |"
    ]


def test_what_is_made_has_one_place_in_the_pages_and_every_place_is_filled():
    texts = [page.read_text(encoding="utf-8") for page in (ROOT / "notebooks").rglob("*.md")]
    places = [name for text in texts for name in re.findall(r"<!-- made here: (\w+) -->", text)]
    assert sorted(places) == sorted(make.__name__ for make in stage.MADE)


def test_every_verdict_and_status_has_a_badge():
    assert set(generated.BADGES) == {*generated.VERDICTS, *generated.methods.STATUSES}


def test_the_settings_keep_the_site_offline():
    import yaml

    settings = yaml.safe_load((ROOT / "_config.yml").read_text())["sphinx"]["config"]
    assert settings["html_static_path"] == ["book_assets"] and settings["nb_ipywidgets_js"] == {}
    assert (ASSETS / settings["mathjax_path"]).exists()
    assert json.dumps(settings).count("http") == 0
