"""Episodes from recordings in memory: a list of what Minari's `EpisodeData` or a Gymnasium loop has collected."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from ilbook.data.episodes import Episodes
from ilbook.errors import UserError
from ilbook.formats.stream import check_finite, check_plain, column_of

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
        for name, array in part.items():
            found, wanted = column_of(array), column_of(parts[0][name])
            if found != wanted:
                raise UserError(
                    f"episode {index}: '{name}' is {found.dtype} of shape {found.shape} at each step, but "
                    f"{wanted.dtype} of {wanted.shape} in episode 0"
                )
    arrays = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    meta = {"format": "recording", **({"fps": fps} if fps else {})}
    return Episodes(arrays, np.cumsum([len(part["action"]) for part in parts]), meta)


def _arrays(episode: object, where: str) -> dict[str, np.ndarray]:
    """The arrays of one episode, all as long as its actions."""
    given = {name: _field(episode, keys) for name, keys in FIELDS.items()}
    for name in ("action", "obs"):
        if given[name] is None:
            raise UserError(f"{where}: '{FIELDS[name][0]}' is missing; an episode needs observations and actions")
    found = {}
    for name in [name for name, value in given.items() if name != "obs" and value is not None]:
        leaves = _leaves(given[name], name, where)
        if list(leaves) != [name]:
            raise UserError(f"{where}: '{FIELDS[name][0]}' is a dict; give one array")
        found |= leaves
    steps = len(found["action"])
    if steps == 0:
        raise UserError(f"{where} has no actions; an episode must not be empty")
    observed = _leaves(given["obs"], "obs", where)
    for name, array in observed.items():
        if len(array) not in (steps, steps + 1):
            raise UserError(
                f"{where}: '{name}' has {len(array)} rows, but there are {steps} actions; "
                f"it must be {steps} or {steps + 1}"
            )
    for name, array in found.items():
        if len(array) != steps:
            raise UserError(f"{where}: '{name}' has {len(array)} rows, but there are {steps} actions")
    return found | {f"obs.{name}" if name in found else name: array[:steps] for name, array in observed.items()}


def _field(episode: object, keys: tuple[str, ...]) -> object:
    """The first of these entries or attributes that is there and not None."""
    for key in keys:
        value = episode.get(key) if isinstance(episode, Mapping) else getattr(episode, key, None)
        if value is not None:
            return value
    return None


def _leaves(value: object, name: str, where: str, prefix: str = "") -> dict[str, np.ndarray]:
    """The arrays of a possibly nested dict, or of a list with one such dict a step."""
    if isinstance(value, Mapping):
        found = {}
        for key, inner in value.items():
            found.update(_leaves(inner, f"{prefix}{key}", where, f"{prefix}{key}."))
        return found
    if isinstance(value, (list, tuple)) and value and isinstance(value[0], Mapping):
        columns = {key: [step[key] for step in value] for key in value[0]}
        return _leaves(columns, name, where, prefix)
    try:
        array = np.asarray(value)
    except ValueError:
        raise UserError(f"{where}: the steps of '{name}' differ in shape") from None
    if array.ndim == 0:
        raise UserError(f"{where}: '{name}' is a single value, not an array over steps")
    check_plain(array.dtype, f"{where}: '{name}'")
    check_finite(array, f"{where}: '{name}'", 0)
    return {name: array}
