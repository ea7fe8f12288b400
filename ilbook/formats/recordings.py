"""Episodes from recordings in memory: a list of what Minari's `EpisodeData` or a Gymnasium loop has collected."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from ilbook.data.episodes import Episodes
from ilbook.errors import UserError
from ilbook.formats.stream import Joined, from_arrays

# Our names -> what recordings call them. The first two must be there.
FIELDS = {
    "action": ("actions", "action"),
    "obs": ("observations", "obs", "observation"),
    "reward": ("rewards", "reward"),
    "terminated": ("terminations", "terminated", "terminateds"),
    "truncated": ("truncations", "truncated", "truncateds"),
}


def from_episode_list(episodes: Sequence, fps: float | None = None) -> Episodes:
    """Join recorded episodes: dicts or objects with actions (T, ...), observations (T or T + 1, ...), rewards, ...

    The observation after the last action is dropped; dicts of observations become several arrays, named by their keys
    (nested ones joined by dots). Observations may also be lists with one entry a step. Other fields are ignored.
    """
    if isinstance(episodes, (Mapping, str)) or not hasattr(episodes, "__iter__"):
        raise UserError(f"a list of episodes is needed, not {type(episodes).__name__}; put a single episode in a list")
    parts = [_arrays(episode, f"episode {index}") for index, episode in enumerate(episodes)]
    if not parts:
        raise UserError("the list holds no episode; record at least one")
    for index, part in enumerate(parts):
        if part.keys() != parts[0].keys():
            raise UserError(
                f"episode {index} has the arrays {', '.join(part)}, but episode 0 has {', '.join(parts[0])}; "
                "all must have the same"
            )
    ends = np.cumsum([len(part["action"]) for part in parts])
    stored = {}
    for name in parts[0]:
        where = [f"episode {index}: '{name}'" for index in range(len(parts))]
        stored[name] = Joined([part[name] for part in parts], where, ends, more=name not in FIELDS or name == "obs")
    meta = {"format": "recording", **({"fps": fps} if fps else {})}
    stream = from_arrays(stored, ends, meta, "recordings", place=lambda name, step: stored[name].place(step))
    blocks = list(stream.blocks())
    return Episodes({name: np.concatenate([block.arrays[name] for block in blocks]) for name in stored}, ends, meta)


def _arrays(episode: object, where: str) -> dict[str, np.ndarray]:
    """The arrays of one episode."""
    given = {name: _field(episode, keys) for name, keys in FIELDS.items()}
    for name in ("action", "obs"):
        if given[name] is None:
            raise UserError(f"{where}: '{FIELDS[name][0]}' is missing; an episode needs observations and actions")
    found: dict[str, np.ndarray] = {}
    for name in [name for name, value in given.items() if name != "obs" and value is not None]:
        if isinstance(given[name], Mapping):
            raise UserError(f"{where}: '{FIELDS[name][0]}' is a dict; give one array")
        found |= _leaves(given[name], name, where)
    observed = _leaves(given["obs"], "obs", where)
    return found | {f"obs.{name}" if name in found else name: array for name, array in observed.items()}


def _field(episode: object, keys: tuple[str, ...]) -> object:
    """The first of these entries or attributes that is there and not None."""
    get = episode.get if isinstance(episode, Mapping) else lambda key: getattr(episode, key, None)
    return next((value for key in keys if (value := get(key)) is not None), None)


def _leaves(value: object, name: str, where: str, prefix: str = "") -> dict[str, np.ndarray]:
    """The arrays of a possibly nested dict, or of a list with one such dict a step."""
    if isinstance(value, (list, tuple)) and value and isinstance(value[0], Mapping):
        value = {key: [step[key] for step in value] for key in value[0]}
    if isinstance(value, Mapping):
        found = {}
        for key, inner in value.items():
            found |= _leaves(inner, f"{prefix}{key}", where, f"{prefix}{key}.")
        return found
    try:
        array = np.asarray(value)
    except ValueError:
        raise UserError(f"{where}: the steps of '{name}' differ in shape") from None
    if array.ndim == 0 or len(array) == 0:
        raise UserError(f"{where}: '{name}' has no rows; it needs one for each step, and an episode is not empty")
    return {name: array}
