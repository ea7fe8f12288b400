"""Hashes of live objects: the notebook's code and values, the weights and the parts that a training depends on."""

import dis
import functools
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from types import CellType, CodeType, FunctionType, ModuleType

import numpy as np
import torch

from ilbook.page import versions
from ilbook.page.versions import digest, sha

WRAPPERS = (property, staticmethod, classmethod, functools._lru_cache_wrapper)  # what stands around functions


def of(value: object) -> dict:
    """What a live object depends on: {"notebook": {name: hash}, "state": hash, "parts": [name, ...]}.

    Code of the notebook (or of a file beside it) is followed through what it uses, with a hash for each class, function
    and global; "object" is what the object holds, but for weights, which are the state. Code of ilbook counts by part.
    """
    walk = _Walk()
    notebook = {"object": digest(walk.describe(value))}
    while walk.waiting:
        name, describe = walk.waiting.popitem()
        notebook[name] = digest(describe())
    parts = sorted(walk.modules & versions.recorded().keys())
    return {"notebook": notebook, "state": digest(walk.weights), "parts": parts}


def of_data(data: object, names: Iterable[str]) -> dict:
    """What training data hold: {name: hash, ..., "parts": [...]}, of Episodes these arrays, of a batch sampler all."""
    if not hasattr(data, "episode_ends"):
        found = of(data)
        return {**found["notebook"], "state": found["state"], "parts": found["parts"]}
    arrays = {name: data.arrays[name] for name in names if name in data.arrays} | {"episode_ends": data.episode_ends}
    return {**{name: array_hash(array) for name, array in arrays.items()}, "parts": []}


def array_hash(array: np.ndarray | torch.Tensor) -> str:
    """Hash of a numpy array or torch tensor: element type, shape and bytes."""
    content = array
    if isinstance(array, torch.Tensor):  # as bytes, because numpy has no bfloat16
        content = array.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy()
    return sha(f"{array.dtype} {tuple(array.shape)}", content.tobytes())


class _Walk:
    """One walk over live objects. `describe` returns JSON; what has a hash of its own waits its turn."""

    def __init__(self) -> None:
        self.waiting: dict[str, Callable[[], object]] = {}
        self.weights: list[object] = []  # of all torch modules, in the order in which they are met
        self.modules: set[str] = set()  # of ilbook, named without it
        self._names: dict[object, str] = {}  # id of a class or function, (module, name) of another global -> its name
        self._open: list[object] = []  # being described right now, to stop at cycles

    def describe(self, value: object) -> object:
        if value is None or isinstance(value, bool | int | float | complex | str | bytes | type(...)):
            return f"{type(value).__name__} {value!r}"
        if any(value is other for other in self._open):
            return "itself"
        self._open.append(value)
        described = self._describe(value)
        self._open.pop()
        return described

    def _describe(self, value: object) -> object:
        if isinstance(value, Mapping):
            return ["mapping", sorted(([self.describe(k), self.describe(v)] for k, v in value.items()), key=digest)]
        if isinstance(value, set | frozenset):
            return ["set", sorted(map(self.describe, value), key=digest)]
        if isinstance(value, list | tuple):
            return [type(value).__name__, *map(self.describe, value)]
        if type(value) in WRAPPERS:
            inside = [getattr(value, name, None) for name in ("__wrapped__", "fget", "fset", "fdel")]
            return [type(value).__name__, self.describe(inside)]
        if isinstance(value, CodeType):
            return self._code(value)
        if isinstance(value, type | FunctionType):
            return self._named(value)
        return [self._named(type(value)), self._held(value)]

    def _held(self, value: object) -> object:
        """What an instance holds, as `pickle` and `copy` are told it."""
        if isinstance(value, np.ndarray | torch.Tensor) and value.dtype != object:
            return array_hash(value)
        if type(value).__module__.startswith("ilbook.page."):
            return None  # a Run, a Verdict: what a page keeps is no input, and profile and seed are in the key already
        try:
            told = value.__reduce_ex__(4)
        except Exception:  # whatever a library raises for what cannot be copied: a lock, a module
            told = getattr(value, "__name__", "")
        if isinstance(told, str):
            return told
        _, arguments, state, *items = (*told, None)
        if isinstance(state, dict):  # what is kept only to save time does not count
            kept = {name for name in state if isinstance(getattr(type(value), name, None), functools.cached_property)}
            state = {name: item for name, item in state.items() if name not in kept}
        if isinstance(value, torch.nn.Module):
            for name, tensor in {**state.pop("_parameters"), **state.pop("_buffers")}.items():
                self.weights.append([name, tensor is not None and [array_hash(tensor), tensor.requires_grad]])
        return self.describe([arguments, state, *(list(some) for some in items if isinstance(some, Iterator))])

    def _named(self, value: type | FunctionType) -> object:
        """A class or function by its name; one of the notebook has a hash of its own, which is taken later."""
        is_class = isinstance(value, type)
        module = value.__module__ if is_class else _module(value)
        for name in {module, *(base.__module__ for base in (value.__mro__ if is_class else ()))}:
            self.modules |= {name.removeprefix("ilbook.")} if _home(name) == "ilbook" else set()
        if _home(module) != "notebook":
            return [f"{module}.{value.__qualname__}", [] if is_class else self._closure(value)]
        describe = self._class if is_class else self._function
        return self._entry(id(value), module, value.__qualname__, lambda: describe(value))

    def _class(self, value: type) -> object:
        code, made = (FunctionType, *WRAPPERS), ("__", "_abc")  # what is no code and has such a name, Python wrote
        body = {name: item for name, item in vars(value).items() if isinstance(item, code) or not name.startswith(made)}
        return self.describe([value.__bases__, body])

    def _function(self, value: FunctionType) -> object:
        taken = _names(value.__code__, "LOAD_ATTR", "LOAD_METHOD")
        named = sorted(_names(value.__code__, "LOAD_GLOBAL", "LOAD_NAME") & value.__globals__.keys())
        reached = [self._global(_module(value), name, value.__globals__[name], taken) for name in named]
        defaults = self.describe([value.__defaults__, value.__kwdefaults__])
        return [self._code(value.__code__), defaults, self._closure(value), reached]

    def _global(self, module: str, name: str, value: object, taken: set[str]) -> object:
        """What stands under a name; of a module of the notebook or of ilbook, what may be `taken` from it."""
        if isinstance(value, ModuleType):
            found = [] if _home(value.__name__) == "library" else sorted(taken & vars(value).keys())
            inner = (self._global(value.__name__, one, vars(value)[one], taken - {one}) for one in found)
            return [value.__name__, *inner]
        if isinstance(value, type | FunctionType):
            return self._named(value)
        return self._entry((module, name), module, name, lambda: self.describe(value))

    def _entry(self, key: object, module: str, name: str, describe: Callable[[], object]) -> str:
        if key not in self._names:
            name = name if module == "__main__" else f"{module}.{name}"
            while name in self._names.values():
                name += "'"
            self._names[key] = name
            self.waiting[name] = describe
        return f"see {self._names[key]}"

    def _closure(self, value: FunctionType) -> list[object]:
        """What a function closes over, which is in no source file, whoever wrote the function."""
        bound = [cell for cell in value.__closure__ or () if cell != CellType()]
        return [self.describe(cell.cell_contents) for cell in bound]

    def _code(self, code: CodeType) -> object:
        """Compiled code, which has no comments, no layout and, unlike its text, is always there."""
        has_docstring = bool(code.co_consts) and isinstance(code.co_consts[0], str) and code.co_name != "<lambda>"
        constants = self.describe(code.co_consts[1 if has_docstring else 0 :])
        return [code.co_code.hex(), code.co_exceptiontable.hex(), constants, code.co_names, code.co_varnames]


def _module(function: FunctionType) -> str:
    return function.__globals__.get("__name__", "__main__")  # not __module__, which decorators copy to their wrapper


def _names(code: CodeType, *operations: str) -> set[str]:
    """The names that these operations load, in code and in the functions inside it."""
    inner = (_names(constant, *operations) for constant in code.co_consts if isinstance(constant, CodeType))
    return {step.argval for step in dis.get_instructions(code) if step.opname in operations}.union(*inner)


def _home(module: str) -> str:
    """Who wrote a module: "ilbook", a "library", or the "notebook" (with files beside it)."""
    top, file = module.partition(".")[0], getattr(sys.modules.get(module), "__file__", None)
    installed = file is None or {"site-packages", "dist-packages"} & set(Path(file).parts)
    other = "library" if installed or top in sys.stdlib_module_names else "notebook"
    return {"ilbook": "ilbook", "__main__": "notebook"}.get(top, other)
