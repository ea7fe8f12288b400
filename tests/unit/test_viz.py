"""Plots: what they show, that it can be seen, and that its description reaches the page."""

import io
import itertools
import json
import subprocess
import sys
from html.parser import HTMLParser

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_hex, to_rgb
from PIL import Image

from ilbook import stats
from ilbook.errors import UserError
from ilbook.page import media, viz
from ilbook.stats.posterior import Posterior
from ilbook.tasks.pusht import PushT

ALT = 'The interval "lies" right of <0.1> & of 0'


@pytest.fixture(autouse=True)
def agg():
    plt.switch_backend("agg")
    viz.style()
    yield
    plt.close("all")


class Alts(HTMLParser):
    """Collects the descriptions of the pictures of a page."""

    def __init__(self, page):
        super().__init__()
        self.found = []
        self.feed(page)

    def handle_starttag(self, tag, attributes):
        if tag == "img":
            self.found.append(dict(attributes).get("alt"))
        if tag == "video":
            self.found.append(dict(attributes).get("aria-label"))


def simple_figure():
    fig, ax = plt.subplots(figsize=(3, 2))
    ax.plot([0, 1])
    return fig


# -- colours and letters ---------------------------------------------------------------------------------------------
# How linear RGB looks to readers without red, green or blue cones (Machado, Oliveira and Fernandes 2009).
CONES = {
    "normal": np.eye(3),
    "red": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "green": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
    "blue": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]],
}


def linear(colour):
    rgb = np.array(to_rgb(colour))
    return np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)


def lab(rgb):
    to_xyz = [[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]
    x, y, z = np.cbrt(np.maximum(to_xyz @ np.clip(rgb, 0, 1) / [0.9505, 1, 1.089], 1e-3))
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


@pytest.mark.parametrize("missing", CONES)
def test_colours_are_told_apart(missing):
    seen = {role: lab(CONES[missing] @ linear(colour)) for role, colour in viz.COLOURS.items()}
    for one, other in itertools.combinations(seen, 2):
        assert np.linalg.norm(seen[one] - seen[other]) > 15, (one, other)  # about 2 is just visible side by side


def test_films_and_plots_agree_on_success_and_failure():
    assert to_hex(np.array(media.SUCCESS) / 255).upper() == viz.COLOURS["target"]
    assert to_hex(np.array(media.FAILURE) / 255).upper() == viz.COLOURS["failure"]


def test_the_style_has_the_colours_of_the_roles():
    cycle = plt.rcParams["axes.prop_cycle"].by_key()["color"]
    assert cycle == [viz.COLOURS[role] for role in ("method", "baseline", "target", "failure", "expert")]
    assert plt.rcParams["savefig.dpi"] == 2 * viz.PIXELS_PER_INCH
    assert {plt.rcParams[name] for name in ("axes.labelcolor", "xtick.color", "ytick.color")} == {viz.INK}


@pytest.mark.parametrize("role", viz.COLOURS)
def test_coloured_letters_are_readable(role):
    luminance = [0.2126, 0.7152, 0.0722] @ linear(viz._dark(role))
    assert 1.05 / (luminance + 0.05) >= 4.5  # the contrast that WCAG 2 asks for


def table():
    rows = {"policy": ["one step"] * 50 + ["chunk"] * 40, "success": [1] * 5 + [0] * 45 + [1] * 40}
    return pd.DataFrame(rows)


def estimate(effect=0.4, low=0.2, high=0.6):
    return stats.Estimate(effect, low, high, 100, 1, "test")


HISTORIES = {name: {"step": [1, 2, 3], "loss": [1.0, 0.5, 0.1 + 1e-4 * i]} for i, name in enumerate("abc")}
PATHS = [np.tile(np.linspace(0.1, 0.4, 20)[:, None], 7) + 0.01 * i for i in range(4)]
BELIEFS = {"one step": Posterior(30, 100), "chunk": Posterior(100, 100), "a long name": Posterior(4, 10)}
PLOTS = {
    "trajectories": lambda: viz.trajectories(PushT(), PATHS, success=[1, 0, 1, 1]),
    "success_bars": lambda: viz.success_bars(table()),
    "paired_effect": lambda: viz.paired_effect(estimate(), 0.1, "Difference"),
    "loss_curves": lambda: viz.loss_curves(HISTORIES),
    "violins": lambda: viz.violins(BELIEFS, {"one step": "bc", "chunk": "a", "a long name": "c"}),
}


@pytest.mark.parametrize("plot", PLOTS)
def test_letters_are_large_enough_and_inside(plot):
    ax = PLOTS[plot]()
    ax.figure.canvas.draw()
    hidden = set()  # matplotlib keeps ticks beyond the ends of an axis, and does not draw them
    for axis, (low, high) in ((ax.xaxis, sorted(ax.get_xlim())), (ax.yaxis, sorted(ax.get_ylim()))):
        ticks = axis.get_major_ticks() + axis.get_minor_ticks()
        hidden |= {tick.label1 for tick in ticks if not low <= tick.get_loc() <= high}
    texts = [text for text in ax.findobj(plt.Text) if text.get_text().strip() and text not in hidden]
    assert len(texts) > 4 and min(text.get_fontsize() for text in texts) >= 9
    page = ax.figure.bbox
    for text in texts:
        box = text.get_window_extent()
        assert page.x0 <= box.x0 and box.x1 <= page.x1 and page.y0 <= box.y0 and box.y1 <= page.y1, text


# -- descriptions ----------------------------------------------------------------------------------------------------
def test_a_figure_becomes_a_picture_and_is_closed():
    fig = simple_figure()
    picture = viz.picture(fig, ALT)
    assert not plt.fignum_exists(fig.number)
    assert Alts(picture._repr_html_()).found == [ALT]
    assert Image.open(io.BytesIO(picture.data)).size == (2 * 288, 2 * 192) and picture.width == 288
    with pytest.raises(UserError, match="description"):
        viz.picture(simple_figure(), " ")


@pytest.fixture(scope="module")
def notebook(tmp_path_factory):
    """An executed notebook with everything that is shown, as the kernel would have stored it."""
    from IPython.core.formatters import DisplayFormatter

    viz.style()
    film = np.zeros((4, 32, 32, 3), np.uint8)
    shown = [viz.picture(simple_figure(), ALT), media.show(film, 10, "Film", "A film"), media.strip(film, alt="Stills")]
    from IPython.display import Markdown

    shown.append(Markdown(viz._source(stats.wilson)))
    cells = [{"cell_type": "markdown", "metadata": {}, "source": "# A page"}]
    for item in shown:
        data, metadata = DisplayFormatter().format(item)
        output = {"output_type": "display_data", "data": data, "metadata": metadata}
        cells.append({"cell_type": "code", "metadata": {}, "source": "1", "execution_count": 1, "outputs": [output]})
    content = {
        "cells": cells,
        "metadata": {
            "kernelspec": {"name": "python3", "display_name": "Python 3"},
            "language_info": {"name": "python", "pygments_lexer": "python"},
        },
        "nbformat": 4,
        "nbformat_minor": 4,
    }
    folder = tmp_path_factory.mktemp("page")
    (folder / "page.ipynb").write_text(json.dumps(content))
    return folder


def test_descriptions_and_source_reach_a_converted_notebook(notebook):
    from nbconvert import HTMLExporter

    page, _ = HTMLExporter().from_filename(str(notebook / "page.ipynb"))
    assert Alts(page).found == [ALT, "A film", "Stills"]
    assert '<span class="nf">wilson</span>' in page and "controls" in page


def test_descriptions_and_source_reach_the_book(notebook):
    (notebook / "conf.py").write_text('extensions = ["myst_nb"]\nnb_execution_mode = "off"\nroot_doc = "page"\n')
    command = [sys.executable, "-m", "sphinx", "-W", "-q", "-b", "html", str(notebook), str(notebook / "out")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    page = (notebook / "out" / "page.html").read_text()
    assert [alt for alt in Alts(page).found if alt != "Logo"] == [ALT, "A film", "Stills"]
    assert '<span class="nf">wilson</span>' in page


def test_figure_and_source_show_at_once(monkeypatch):
    shown = []
    monkeypatch.setattr("IPython.display.display", shown.append)
    viz.figure(simple_figure(), ALT)
    viz.source(stats.Estimate.negated, stats.verdict)
    assert shown[0].alt == ALT and "def negated(self)" in shown[1].data and "def verdict(" in shown[1].data


def test_source_is_the_source_as_it_stands():
    text = viz._source(stats.Estimate.negated)
    first, _, code = text.partition("\n\n~~~~~~python\n")
    assert first.startswith("`Estimate.negated` in `ilbook/stats/estimate.py`, from line ")
    assert code.startswith("def negated(self)") and code.endswith("\n~~~~~~")
    with pytest.raises(UserError, match="no source"):
        viz._source(len)


# -- what the plots show ---------------------------------------------------------------------------------------------
def test_trajectories_lie_on_the_scene_and_failures_stand_out():
    ax = viz.trajectories(PushT(), PATHS, success=[True, False, True, True], role="method")
    left, right, bottom, top = ax.images[0].get_extent()
    assert (left, right) == ax.get_xlim() and (bottom, top) == ax.get_ylim() and top - bottom == pytest.approx(0.532)
    passed, failed = (collection for collection in ax.collections if hasattr(collection, "get_segments"))
    assert (len(passed.get_segments()), len(failed.get_segments())) == (3, 1)
    assert [to_hex(lines.get_colors()[0]).upper() for lines in (passed, failed)] == [
        viz.COLOURS["method"], viz.COLOURS["failure"],
    ]  # fmt: skip
    assert np.allclose(failed.get_segments()[0], PATHS[1][:, :2])
    before = ax.images[0]
    viz.trajectories(PushT(), PATHS, ax)
    assert list(ax.images) == [before]


def test_bars_show_rates_with_wilson_intervals():
    ax = viz.success_bars(table())
    assert [bar.get_width() for bar in ax.patches] == [0.1, 1.0]
    assert [to_hex(bar.get_facecolor()).upper() for bar in ax.patches] == [
        viz.COLOURS["baseline"], viz.COLOURS["method"],
    ]  # fmt: skip
    for line, (successes, n) in zip(ax.lines, ((5, 50), (40, 40)), strict=True):
        wanted = stats.wilson(successes, n)
        assert list(line.get_xdata()) == [wanted.low, wanted.high]
    assert [label.get_text() for label in ax.get_yticklabels()] == ["one step", "chunk"]
    assert ax.get_xlabel() == "success rate (n = 40 or 50 episodes a policy)"
    painted = viz.success_bars(table(), roles={"one step": "failure", "chunk": "expert"}).patches
    assert to_hex(painted[1].get_facecolor()) == viz.COLOURS["expert"]


def test_violins_show_posteriors_of_equal_area_with_intervals_and_letters():
    ax = viz.violins(BELIEFS, {"one step": "b", "chunk": "a", "a long name": "ab"})
    assert [text.get_text() for text in ax.texts] == ["b", "a", "ab"]
    assert [label.get_text() for label in ax.get_xticklabels()] == list(BELIEFS)
    spans = [list(line.get_ydata()) for line in ax.lines if len(line.get_ydata()) == 2]
    assert spans == [[one.interval().low, one.interval().high] for one in BELIEFS.values()]
    areas, widths = [], []
    for place, shape in enumerate(ax.collections):
        x, y = shape.get_paths()[0].vertices.T
        assert x.min() + x.max() == pytest.approx(2 * place)
        areas.append(abs(np.sum(x * np.roll(y, 1) - y * np.roll(x, 1))) / 2)
        widths.append(np.ptp(x))
    assert areas == pytest.approx([areas[0]] * 3, rel=0.03) and max(widths) < 1  # no violin reaches its neighbour
    assert {to_hex(shape.get_facecolor()[0]).upper() for shape in ax.collections} == {viz.COLOURS["method"]}
    assert "10 or 100 episodes" in ax.get_title(loc="left")


@pytest.mark.parametrize(("effect", "low", "high"), [(0.4, 0.2, 0.6), (-0.3, -0.4, -0.2), (0.0, 0.0, 0.0)])
def test_an_effect_is_seen_with_its_interval_zero_and_the_minimum(effect, low, high):
    ax = viz.paired_effect(estimate(effect, low, high), 0.1, "Chunk minus one step")
    across = sorted(line.get_xdata()[0] for line in ax.lines if list(line.get_ydata()) == [0, 1])
    assert across == [0, 0.1]
    assert [low, high] in [list(line.get_xdata()) for line in ax.lines]
    left, right = ax.get_xlim()
    assert left < min(low, 0) and right > max(high, 0.1)
    assert ax.get_title(loc="left") == "Chunk minus one step"


def test_close_curves_keep_their_names_apart():
    ax = viz.loss_curves(HISTORIES)
    ax.figure.canvas.draw()
    boxes = sorted((text.get_window_extent() for text in ax.texts), key=lambda box: box.y0)
    assert len(boxes) == 3 and all(one.y1 <= other.y0 + 3 for one, other in itertools.pairwise(boxes))
    assert ax.get_yscale() == "log"


def test_bad_input_is_named():
    with pytest.raises(UserError, match="nearest valid name: 'method'"):
        viz.colour("methods")
    with pytest.raises(UserError, match="table column 'success'"):
        viz.success_bars(table().rename(columns={"success": "sucess"}))
    with pytest.raises(UserError, match="empty"):
        viz.success_bars(table()[:0])
    with pytest.raises(UserError, match="no trajectories"):
        viz.trajectories(PushT(), [])
    with pytest.raises(UserError, match="4 trajectories and 1 successes"):
        viz.trajectories(PushT(), PATHS, success=[True])
    with pytest.raises(UserError, match="no posteriors"):
        viz.violins({}, {})
    with pytest.raises(UserError, match="policy with letters 'chunk'"):
        viz.violins({"chunk": Posterior(1, 2)}, {"chunks": "a"})
    with pytest.raises(UserError, match="no training histories"):
        viz.loss_curves({})
    with pytest.raises(UserError, match="key of the history of a 'step'"):
        viz.loss_curves({"a": {"steps": [1], "loss": [1.0]}})
