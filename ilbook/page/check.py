"""Checks for exercises: they look at a reader's answer and give a hint, never the solution.

An exercise cell holds the placeholder `...`. As long as it stands there the check says so and the notebook goes on; a
wrong answer, or one that raises an error, does not stop it either.
"""

from __future__ import annotations

import dis
from collections.abc import Callable, Mapping
from types import FunctionType

from ilbook.errors import UserError

Test = tuple[Callable[[object], object], str]  # what must be true of the answer, and the hint for when it is not

NOTHING = {"RESUME", "NOP", "LOAD_CONST", "RETURN_VALUE", "RETURN_CONST"}  # what `def f(x): ...` compiles to


def exercise(name: str, answer: object, *tests: Test) -> None:
    """Print whether `answer` passes all tests (condition, hint), in order; else the hint of the first it fails.

    A condition is a function of the answer. It should state a property or recompute a value from what is on the page,
    so that no solution has to be written down. UserError if there is no test.
    """
    if not tests:
        raise UserError(f"exercise {name!r} has no test; give at least one pair (condition, hint)")
    print(f"Exercise {name}: {_outcome(answer, tests)}")


def untouched(answer: object) -> bool:
    """Whether the answer is still a placeholder: `...`, a function with no other body, or a container with one."""
    if answer is ...:
        return True
    if isinstance(answer, FunctionType):
        steps = list(dis.get_instructions(answer))
        returned = [step.argval for step in steps if step.opname in ("LOAD_CONST", "RETURN_CONST")]
        return {step.opname for step in steps} <= NOTHING and returned[-1] in (None, ...)
    if isinstance(answer, Mapping):
        answer = list(answer.values())
    return isinstance(answer, list | tuple) and any(map(untouched, answer))


def _outcome(answer: object, tests: tuple[Test, ...]) -> str:
    if untouched(answer):
        return "not tried yet."
    for condition, hint in tests:
        try:
            passed = bool(condition(answer))
        except Exception as error:  # the reader's own code runs in here, so anything may be raised
            return f"not yet. Your answer raised {type(error).__name__}: {error}. Hint: {hint}"
        if not passed:
            return f"not yet. Hint: {hint}"
    return "solved."
