"""The policies of the package, found by looking, so that a new one is tested and traced without being listed."""

import importlib
import inspect
import pkgutil

import ilbook.policies
from ilbook.policies.base import Policy


def policies() -> list[type[Policy]]:
    """Every concrete policy that is defined in `ilbook.policies`; made by `kind(obs_size, action_size, windows)`."""
    found = []
    for module in pkgutil.iter_modules(ilbook.policies.__path__, "ilbook.policies."):
        classes = [one for one in vars(importlib.import_module(module.name)).values() if inspect.isclass(one)]
        ours = [one for one in classes if one.__module__ == module.name and issubclass(one, Policy)]
        found += [one for one in ours if not inspect.isabstract(one)]
    return found
