"""The workshop: command line, runner, hygiene, site, ledger, doctor."""

from importlib import import_module
from types import ModuleType


def __getattr__(name: str) -> ModuleType:
    """Modules come when they are first asked for, so that every command starts quickly."""
    return import_module(f"{__name__}.{name}")
