"""Plots in one style: fixed colours that colour-blind readers can tell apart, and a description for every figure."""

from __future__ import annotations

import inspect
import io
import re
import textwrap
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

import matplotlib.pyplot as plt
import numpy as np
from cycler import cycler
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.colors import to_hex, to_rgb
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from ilbook.errors import UserError, unknown
from ilbook.page.media import Picture
from ilbook.stats import Estimate, wilson

if TYPE_CHECKING:
    import pandas as pd

    from ilbook.stats.posterior import Posterior
    from ilbook.tasks.base import Task

# From Okabe and Ito's palette; a test checks the distances as colour-blind readers see them.
COLOURS = {
    "expert": "#333333",  # demonstrations too
    "baseline": "#E69F00",
    "method": "#0072B2",
    "target": "#009E73",
    "failure": "#D55E00",
}
INK, FAINT = "#333333", "#D9D7D2"
PIXELS_PER_INCH = 96  # on the page; the file is twice as fine
SCENE_SIZE = 600  # pixels of a scene under trajectories
STYLE = {
    "figure.figsize": (7.0, 3.4),
    "figure.constrained_layout.use": True,
    "savefig.dpi": 2 * PIXELS_PER_INCH,
    "font.family": "DejaVu Sans",  # comes with matplotlib: the same figure on every machine
    "font.size": 10,
    "axes.titlesize": 10.5,
    "axes.titlelocation": "left",
    "axes.labelsize": 10,
    "axes.labelcolor": INK,
    "axes.edgecolor": "#8A8A8A",
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.prop_cycle": cycler(color=[COLOURS[role] for role in ("method", "baseline", "target", "failure", "expert")]),
    "grid.color": FAINT,
    "grid.linewidth": 0.8,
    "xtick.labelsize": 9,
    "ytick.labelsize": 9,
    "xtick.color": INK,
    "ytick.color": INK,
    "legend.fontsize": 9,
    "legend.frameon": False,
    "lines.linewidth": 1.8,
}


def style() -> None:
    """Make matplotlib draw in the style of the book from here on."""
    plt.rcParams.update(STYLE)


def colour(role: str) -> str:
    """The colour of a role such as "method"; raises UserError with the nearest role."""
    if role not in COLOURS:
        raise unknown("role", role, COLOURS)
    return COLOURS[role]


def _dark(role: str) -> str:
    """The colour of a role for text: dark enough to be read on white."""
    return to_hex(0.62 * np.array(to_rgb(colour(role))))


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


def trajectories(
    task_type: type[Task],
    states: Sequence[np.ndarray],
    ax: Axes | None = None,
    role: str = "expert",
    success: Sequence[bool] | None = None,
    scene: np.ndarray | None = None,
    columns: tuple[int, int] = (0, 1),
    label: str | None = None,
) -> Axes:
    """Paths through states [(T_i, S)] in metres, on the empty scene or on the `scene` with one state (S,) drawn.

    `columns` are the two coordinates of what moves that lie in the picture's plane, by default the first two of the
    state. A path begins at a dot; with `success`, one that fails is vermilion and ends in a cross. A second call on the
    same `ax` adds paths to the drawn scene. UserError where the task's camera shows no plane in metres.
    """
    if not len(states):
        raise UserError("there are no trajectories to draw; give at least one array of states (T, S)")
    if success is not None and len(success) != len(states):
        raise UserError(f"there are {len(states)} trajectories and {len(success)} successes; give one for each")
    if ax is None:
        style()
        ax = plt.subplots(figsize=(4.4, 4.4))[1]
    if not ax.images:
        _draw_scene(task_type, ax, scene)
    paths = [np.asarray(path)[:, list(columns)] for path in states]
    passed = np.ones(len(paths), bool) if success is None else np.asarray(success, bool)
    # Many paths are drawn faintly, so that one sees where they are dense.
    opacity = float(np.clip(6 / len(paths), 0.2, 0.9))
    for group, paint in ((passed, colour(role)), (~passed, COLOURS["failure"])):
        chosen = [path for path, wanted in zip(paths, group, strict=True) if wanted]
        if not chosen:
            continue
        name = label if paint == colour(role) else f"{label}: fails" if label else None
        lines = LineCollection(chosen, colors=paint, alpha=opacity, linewidths=1.4, label=name)
        ax.add_collection(lines, autolim=False)  # the scene sets the limits
        first, last = (np.stack([path[end] for path in chosen]) for end in (0, -1))
        ax.scatter(*first.T, s=14, color=paint, linewidths=0, alpha=min(1, 2 * opacity), zorder=3)
        if paint == COLOURS["failure"]:
            ax.scatter(*last.T, s=28, marker="x", color=paint, linewidths=1.4, zorder=3)
    return ax


def _draw_scene(task_type: type[Task], ax: Axes, state: np.ndarray | None) -> None:
    from ilbook.draw.render import renderer

    drawn = renderer(task_type, SCENE_SIZE)
    across, upward = drawn.view.world_axes
    positions = drawn.model.qpos0 if state is None else np.asarray(state)[: drawn.model.nq]
    ax.imshow(drawn.frames(positions[None], moving=state is not None)[0], extent=drawn.window)
    ax.set(xlabel=f"{'xyz'[across]} (m)", ylabel=f"{'xyz'[upward]} (m)")
    ax.locator_params(nbins=5)
    ax.spines[:].set_visible(False)


def success_bars(table: pd.DataFrame, ax: Axes | None = None, roles: Mapping[str, str] | None = None) -> Axes:
    """Success rates with 95 % Wilson intervals, one bar a policy, from a rollout table (columns policy, success).

    Episodes of several training seeds are counted together. `roles` gives policies their colours; without it, the last
    policy is the method and the others are baselines.
    """
    for column in ("policy", "success"):
        if column not in table.columns:
            raise unknown("table column", column, map(str, table.columns))
    policies = list(dict.fromkeys(table["policy"]))
    if not policies:
        raise UserError("the rollout table is empty; evaluate a policy first")
    roles = roles or {policy: "method" if policy == policies[-1] else "baseline" for policy in policies}
    if ax is None:
        style()
        ax = plt.subplots(figsize=(7.0, 0.9 + 0.55 * len(policies)))[1]
    results = {policy: table.loc[table["policy"] == policy, "success"] for policy in policies}
    for place, (policy, results_of_one) in enumerate(results.items()):
        rate = wilson(int(results_of_one.sum()), len(results_of_one))
        ax.barh(place, rate.effect, height=0.6, color=colour(roles.get(policy, "baseline")))
        ax.plot([rate.low, rate.high], [place, place], color=INK, linewidth=1.6, solid_capstyle="butt")
        words = f"{100 * rate.effect:.0f} %  [{100 * rate.low:.0f}, {100 * rate.high:.0f}]"
        ax.text(max(rate.high, rate.effect) + 0.015, place, words, va="center", fontsize=9, color=INK)
    counts = sorted({len(one) for one in results.values()})
    ax.set_yticks(range(len(policies)), policies)
    ax.invert_yaxis()
    ax.set(xlim=(0, 1.24), xticks=np.linspace(0, 1, 6))
    ax.set_xlabel(f"success rate (n = {' or '.join(map(str, counts))} episodes a policy)", loc="left")
    ax.xaxis.set_major_formatter(PercentFormatter(1.0, decimals=0, symbol=" %"))
    ax.spines["bottom"].set_bounds(0, 1)
    ax.tick_params(axis="y", length=0)
    ax.set_title("Success, with 95 % intervals")
    return ax


def violins(
    posteriors: Mapping[str, Posterior],
    letters: Mapping[str, str] | None = None,
    ax: Axes | None = None,
    roles: Mapping[str, str] | None = None,
) -> Axes:
    """What is believed of each policy's success rate: Beta posteriors as violins of equal area, mean and 95 % interval.

    Above each stand its `letters`, from `stats.several`: policies that share one were not told apart. All violins have
    the colour of the method, or those of `roles`. UserError for policies without letters.
    """
    if not posteriors:
        raise UserError("there are no posteriors to draw; give at least one")
    for policy in posteriors if letters is not None else ():
        if policy not in letters:
            raise unknown("policy with letters", policy, letters)
    if ax is None:
        style()
        ax = plt.subplots(figsize=(max(3.2, 1.2 + 1.3 * len(posteriors)), 3.6))[1]
    rates = np.linspace(0, 1, 401)
    densities = {policy: posterior.density(rates) for policy, posterior in posteriors.items()}
    widest = max(density.max() for density in densities.values())
    for place, (policy, posterior) in enumerate(posteriors.items()):
        half = 0.42 * densities[policy] / widest
        seen = half > 1e-3
        paint = colour((roles or {}).get(policy, "method"))
        ax.fill_betweenx(rates[seen], place - half[seen], place + half[seen], color=paint, alpha=0.45, linewidth=0)
        belief = posterior.interval()
        ax.plot([place, place], [belief.low, belief.high], color=INK, linewidth=1.6, solid_capstyle="butt")
        ax.plot(place, belief.effect, "o", color=INK, markersize=5)
        if letters is not None:
            top = rates[seen].max()
            ax.annotate(letters[policy], (place, top), (0, 4), textcoords="offset points", ha="center", color=INK,
                        fontsize=11, fontweight="bold")  # fmt: skip
    counts = sorted({posterior.n for posterior in posteriors.values()})
    ax.set_xticks(range(len(posteriors)), list(posteriors))
    room = 0.12 if letters is not None else 0.0  # above a rate of 1
    ax.set(xlim=(-0.6, len(posteriors) - 0.4), ylim=(0, 1 + room), yticks=np.linspace(0, 1, 6))
    ax.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0, symbol=" %"))
    ax.spines["left"].set_bounds(0, 1)
    ax.tick_params(axis="x", length=0)
    ax.grid(axis="y")
    ax.set(ylabel="success rate", title=f"Posteriors after {' or '.join(map(str, counts))} episodes")
    return ax


def paired_effect(estimate: Estimate, minimum: float, label: str, ax: Axes | None = None) -> Axes:
    """An effect with its interval against no effect (0) and against the smallest effect that the claim asks for."""
    if ax is None:
        style()
        ax = plt.subplots(figsize=(7.0, 1.7))[1]
    values = (estimate.low, estimate.effect, estimate.high, minimum, 0.0)
    room = 0.12 * (max(values) - min(values) or 1.0)
    low, high = min(values) - room, max(values) + room
    ax.axvspan(minimum, high, color=COLOURS["target"], alpha=0.12, linewidth=0)
    ax.axvline(0, color="#8A8A8A", linewidth=1)
    ax.axvline(minimum, color=COLOURS["target"], linewidth=1.6, linestyle="--")
    ax.plot([estimate.low, estimate.high], [0, 0], color=COLOURS["method"], linewidth=3, solid_capstyle="butt")
    ax.plot(estimate.effect, 0, "o", color=COLOURS["method"], markersize=8)
    words = f"{estimate.effect:+.2f} [{estimate.low:+.2f}, {estimate.high:+.2f}]".replace("-", "−")
    ax.annotate(words, (estimate.effect, 0), (0, 9), textcoords="offset points", ha="center", fontsize=9, color=INK)
    asked = f"at least {minimum:+.2f}".replace("-", "−")
    ax.annotate(asked, (minimum, 1), (4, -3), textcoords="offset points", va="top", fontsize=9, color=_dark("target"))
    ax.set(xlim=(low, high), ylim=(-1, 1), yticks=[], xlabel=f"difference (n = {estimate.n} pairs)")
    ax.spines["left"].set_visible(False)
    ax.set_title(label)
    return ax


def loss_curves(
    histories: Mapping[str, Mapping[str, Sequence[float]]],
    ax: Axes | None = None,
    roles: Mapping[str, str] | None = None,
) -> Axes:
    """Training losses {name: {"step": [...], "loss": [...]}} on a logarithmic axis, each named at its end."""
    if not histories:
        raise UserError("there are no training histories to draw; give at least one")
    if ax is None:
        style()
        ax = plt.subplots()[1]
    names = list(histories)
    roles = roles or {name: "method" if name == names[-1] else "baseline" for name in names}
    ends = []
    for name, history in histories.items():
        for key in ("step", "loss"):
            if key not in history:
                raise unknown(f"key of the history of {name}", key, history)
        role = roles.get(name, "baseline")
        ax.plot(history["step"], history["loss"], color=colour(role))
        ends.append((history["loss"][-1], history["step"][-1], name, _dark(role)))
    ax.set_yscale("log")
    ax.grid(axis="y")
    ax.set(xlabel="training step", ylabel="loss", title="Loss during training")
    _name_ends(ax, sorted(ends))
    return ax


def _name_ends(ax: Axes, ends: list[tuple[float, float, str, str]]) -> None:
    """Write names beside the ends of lines, at least a line of text apart."""
    height = ax.get_window_extent().height * 72 / ax.figure.dpi  # points
    bottom, top = np.log(ax.get_ylim())
    last = -np.inf
    for loss, step, name, paint in ends:
        natural = (np.log(loss) - bottom) / (top - bottom) * height
        last = max(natural, last + 11)
        ax.annotate(
            name, (step, loss), (6, last - natural), textcoords="offset points",
            va="center", fontsize=9, color=paint, annotation_clip=False,
        )  # fmt: skip


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
    fence = "`" * max(3, 1 + max(map(len, re.findall("`+", code)), default=0))
    return f"`{obj.__qualname__}` in {where}:\n\n{fence}python\n{code}\n{fence}"
