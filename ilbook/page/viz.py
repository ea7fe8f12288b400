"""Plots in one style: fixed colours that colour-blind readers can tell apart, and a description for every figure."""

from __future__ import annotations

import inspect
import io
import textwrap
from collections.abc import Callable, Mapping, Sequence
from itertools import cycle
from pathlib import Path
from typing import TYPE_CHECKING

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.spines import Spine
from matplotlib.ticker import PercentFormatter

from ilbook.errors import UserError, unknown
from ilbook.page.media import Picture
from ilbook.stats import Estimate, wilson

if TYPE_CHECKING:
    import pandas as pd

    from ilbook.stats.posterior import Posterior
    from ilbook.tasks.base import Task

# From Okabe and Ito's palette; a test checks the distances as colour-blind readers see them.
COLOURS = {"expert": "#333333", "baseline": "#E69F00", "method": "#0072B2", "target": "#009E73", "failure": "#D55E00"}
INK = "#333333"
DARK_TARGET = "#006247"  # the same green, dark enough for letters on white
DASHES = ("-", "--", ":", "-.")  # of loss curves, because several may have one colour
INTERVAL = {"color": INK, "linewidth": 1.6, "solid_capstyle": "butt"}
PIXELS_PER_INCH = 96  # on the page; the file is twice as fine
SCENE_SIZE = 600  # pixels of a scene under trajectories
FENCE = "~~~~~~"  # around source, which may hold ``` itself
Names = Mapping[str, str]  # of a policy: its role or its letters


def style() -> None:
    """Make matplotlib draw in the style of the book from here on."""
    plt.style.use(Path(__file__).with_name("book.mplstyle"))


def colour(role: str) -> str:
    """The colour of a role such as "method"; raises UserError with the nearest role."""
    if role not in COLOURS:
        raise unknown("role", role, COLOURS)
    return COLOURS[role]


def picture(fig: Figure, alt: str) -> Picture:
    """A figure as a PNG with its description; the figure is closed, so that no notebook shows it a second time."""
    if not alt.strip():
        raise UserError("a figure needs a description; say in `alt` what one sees and what follows from it")
    buffer = io.BytesIO()
    fig.savefig(buffer, format="png")
    plt.close(fig)
    return Picture(buffer.getvalue(), alt, width=round(fig.get_figwidth() * PIXELS_PER_INCH))


def figure(fig: Figure, alt: str) -> None:
    """Show a figure with a description for those who cannot see it, kept in the notebook and in its page."""
    from IPython.display import display

    display(picture(fig, alt))


def _roles(names: Sequence[str], roles: Names | None) -> dict[str, str]:
    """The role of each name; without `roles` the last is the method, and the others are baselines."""
    return {name: (roles or {names[-1]: "method"}).get(name, "baseline") for name in names}


def trajectories(
    task: Task,
    states: Sequence[np.ndarray],
    ax: Axes | None = None,
    role: str = "expert",
    success: Sequence[bool] | None = None,
    columns: tuple[int, int] = (0, 1),
) -> Axes:
    """Paths through states [(T_i, S)] in metres, on the empty scene, or added to one that is drawn in `ax` already.

    `columns` are the two coordinates of what moves that lie in the picture's plane. A path begins at a dot; with
    `success`, one that fails is vermilion and ends in a cross. UserError where the camera shows no plane in metres.
    """
    from ilbook.draw.render import renderer

    if not len(states):
        raise UserError("there are no trajectories to draw; give at least one array of states (T, S)")
    won = np.full(len(states), True) if success is None else np.asarray(success, dtype=bool)
    if len(won) != len(states):
        raise UserError(f"there are {len(states)} trajectories and {len(won)} successes; give one for each")
    ax = ax or plt.subplots(figsize=(4.4, 4.4))[1]
    if not ax.images:
        drawn = renderer(task, SCENE_SIZE)
        across, upward = ("xyz"[axis] for axis in drawn.view.world_axes)
        ax.imshow(drawn.frames(drawn.model.qpos0[None], moving=False)[0], extent=drawn.view.window)
        ax.set(xlabel=f"{across} (m)", ylabel=f"{upward} (m)")
        ax.locator_params(nbins=5)
        ax.spines[:].set_visible(False)
    # Many paths are drawn faintly, so that one sees where they are dense.
    opacity = float(np.clip(6 / len(states), 0.2, 0.9))
    for chosen, paint in ((won, colour(role)), (~won, COLOURS["failure"])):
        paths = [np.asarray(states[index])[:, list(columns)] for index in np.flatnonzero(chosen)]
        lines = LineCollection(paths, colors=paint, alpha=opacity, linewidths=1.4)
        ax.add_collection(lines, autolim=False)  # the scene sets the limits
        first, last = (np.array([path[end] for path in paths]).reshape(-1, 2).T for end in (0, -1))
        ax.scatter(*first, s=14, color=paint, linewidths=0, alpha=min(1, 2 * opacity), zorder=3)
        if chosen is not won:
            ax.scatter(*last, s=28, marker="x", color=paint, linewidths=1.4, zorder=3)
    return ax


def success_bars(table: pd.DataFrame, ax: Axes | None = None, roles: Names | None = None) -> Axes:
    """Success rates with 95 % Wilson intervals, one bar a policy, from a rollout table (columns policy, success), all
    training seeds together. Without `roles`, the last policy is the method and the others are baselines.
    """
    import seaborn  # not above: it takes a second or two, and many pages draw without it

    for column in ("policy", "success"):
        if column not in table.columns:
            raise unknown("table column", column, map(str, table.columns))
    outcomes = dict(iter(table.groupby("policy", sort=False, observed=True)["success"]))
    if not outcomes:
        raise UserError("the rollout table is empty; evaluate a policy first")
    ax = ax or plt.subplots(figsize=(7.0, 0.9 + 0.55 * len(outcomes)))[1]
    palette = {policy: colour(role) for policy, role in _roles(list(outcomes), roles).items()}
    bars = {"orient": "h", "width": 0.6, "saturation": 1, "palette": palette}
    seaborn.barplot(outcomes, errorbar=_interval, err_kws=INTERVAL, ax=ax, **bars)
    for place, results in enumerate(outcomes.values()):
        low, high = _interval(results)
        words = f"{100 * results.mean():.0f} %  [{100 * low:.0f}, {100 * high:.0f}]"
        ax.text(high + 0.015, place, words, va="center", fontsize=9, color=INK)
    _rates_along(ax.xaxis, ax.spines.bottom, ax.yaxis)
    ax.set(xlim=(0, 1.24), ylim=(len(outcomes) - 0.65, -0.35), title="Success, with 95 % intervals")
    counts = " or ".join(map(str, sorted({len(results) for results in outcomes.values()})))
    ax.set_xlabel(f"success rate (n = {counts} episodes a policy)", loc="left")
    return ax


def _interval(results: pd.Series) -> tuple[float, float]:  # Wilson's, of results of 0 and 1
    rate = wilson(int(results.sum()), len(results))
    return rate.low, rate.high


def _rates_along(axis: Axis, line: Spine, names: Axis) -> None:
    """Write success rates along an axis and policies, without ticks, along the other."""
    axis.set_ticks(np.linspace(0, 1, 6))
    axis.set_major_formatter(PercentFormatter(1.0, decimals=0, symbol=" %"))
    line.set_bounds(0, 1)
    names.set_tick_params(length=0)


def violins(posteriors: Mapping[str, Posterior], letters: Names, ax: Axes | None = None) -> Axes:
    """What is believed of each policy's success rate: Beta posteriors as violins of equal area, mean and 95 % interval.

    Above each stand its `letters`, from `stats.several`: policies that share one were not told apart.
    """
    if not posteriors:
        raise UserError("there are no posteriors to draw; give at least one")
    ax = ax or plt.subplots(figsize=(max(3.2, 1.2 + 1.3 * len(posteriors)), 3.6))[1]
    rates = np.linspace(0, 1, 401)
    # The density itself; seaborn would estimate it from samples, and be half as high as it is at rates of 0 and 1.
    densities = np.array([posterior.belief.pdf(rates) for posterior in posteriors.values()])
    for place, (policy, posterior) in enumerate(posteriors.items()):
        if policy not in letters:
            raise unknown("policy with letters", policy, letters)
        half, belief = 0.42 * densities[place] / densities.max(), posterior.interval()
        seen = half > 1e-3
        fill = {"color": COLOURS["method"], "alpha": 0.45, "linewidth": 0}
        ax.fill_betweenx(rates[seen], place - half[seen], place + half[seen], **fill)
        ax.plot([place, place], [belief.low, belief.high], **INTERVAL)
        ax.plot(place, belief.effect, "o", color=INK, markersize=5)
        ax.annotate(letters[policy], (place, rates[seen].max()), (0, 4), textcoords="offset points", ha="center",
                    color=INK, fontsize=11, fontweight="bold")  # fmt: skip
    ax.set_xticks(range(len(posteriors)), list(posteriors))
    _rates_along(ax.yaxis, ax.spines.left, ax.xaxis)
    ax.set(xlim=(-0.6, len(posteriors) - 0.4), ylim=(0, 1.12), ylabel="success rate")  # letters stand above a rate of 1
    counts = " or ".join(map(str, sorted({posterior.n for posterior in posteriors.values()})))
    ax.set_title(f"Posteriors after {counts} episodes")
    ax.grid(axis="y")
    return ax


def paired_effect(estimate: Estimate, minimum: float, label: str, ax: Axes | None = None) -> Axes:
    """An effect with its interval against no effect (0) and against the smallest effect that the claim asks for."""
    ax = ax or plt.subplots(figsize=(7.0, 1.7))[1]
    low, effect, high = estimate.low, estimate.effect, estimate.high
    shown = np.array([low, effect, high, minimum, 0.0])
    room = 0.12 * (np.ptp(shown) or 1.0)
    left, right = shown.min() - room, shown.max() + room
    ax.axvspan(minimum, right, color=COLOURS["target"], alpha=0.12, linewidth=0)
    ax.axvline(0, color="#8A8A8A", linewidth=1)
    ax.axvline(minimum, color=COLOURS["target"], linewidth=1.6, linestyle="--")
    ax.plot([low, high], [0, 0], color=COLOURS["method"], linewidth=3, solid_capstyle="butt")
    ax.plot(effect, 0, "o", color=COLOURS["method"], markersize=8)
    words, asked = f"{effect:+.2f} [{low:+.2f}, {high:+.2f}]", f"at least {minimum:+.2f}"
    text = {"textcoords": "offset points", "fontsize": 9}
    ax.annotate(words.replace("-", "−"), (effect, 0), (0, 9), ha="center", color=INK, **text)
    ax.annotate(asked.replace("-", "−"), (minimum, 1), (4, -3), va="top", color=DARK_TARGET, **text)
    ax.set(xlim=(left, right), ylim=(-1, 1), yticks=[], xlabel=f"difference (n = {estimate.n} pairs)", title=label)
    ax.spines["left"].set_visible(False)
    return ax


def loss_curves(
    histories: Mapping[str, Mapping[str, Sequence[float]]], ax: Axes | None = None, roles: Names | None = None
) -> Axes:
    """Training losses {name: {"step": [...], "loss": [...]}} on a logarithmic axis."""
    if not histories:
        raise UserError("there are no training histories to draw; give at least one")
    ax = ax or plt.subplots(figsize=(7.0, 3.4))[1]
    for (name, role), dashes in zip(_roles(list(histories), roles).items(), cycle(DASHES), strict=False):
        for key in ("step", "loss"):
            if key not in histories[name]:
                raise unknown(f"key of the history of {name}", key, histories[name])
        ax.plot("step", "loss", dashes, data=histories[name], color=colour(role), label=name)
    ax.set(yscale="log", xlabel="training step", ylabel="loss", title="Loss during training")
    ax.grid(axis="y")
    ax.legend()
    return ax


def source(*objects: Callable) -> None:
    """Show the real source of functions or classes as the package runs it, highlighted, with where it stands."""
    from IPython.display import Markdown, display

    display(Markdown("\n\n".join(map(_source, objects))))


def _source(obj: Callable) -> str:
    try:
        lines, first = inspect.getsourcelines(obj)
    except (TypeError, OSError) as error:
        raise UserError(f"{obj!r} has no source to show ({error}); give a function or a class") from error
    module = getattr(obj, "__module__", None) or "this notebook"
    where = "this notebook" if module == "__main__" else f"`{module.replace('.', '/')}.py`, from line {first}"
    code = textwrap.dedent("".join(lines)).rstrip()
    return f"`{obj.__qualname__}` in {where}:\n\n{FENCE}python\n{code}\n{FENCE}"
