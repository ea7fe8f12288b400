"""Hashes of live objects: the functions, classes and values that a training in a notebook depends on."""

import dis
import functools
import sys
import sysconfig
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import BuiltinFunctionType, CodeType, FunctionType, MethodType, ModuleType

from ilbook.page.run import Run
from ilbook.page.sources import digest, module_hashes, sha

# Written by Python for every class; the code they are made from is described anyway.
MADE_FOR_CLASSES = {
    "__dict__", "__weakref__", "__doc__", "__module__", "__annotations__", "__annotate_func__", "__firstlineno__",
    "__static_attributes__", "__dataclass_fields__", "__dataclass_params__", "__abstractmethods__", "_abc_impl",
}  # fmt: skip


def object_hashes(objects: dict[str, object], elsewhere: Sequence[object] = ()) -> dict[str, str]:
    """What live objects, by name, depend on: a hash per argument, per global they use, per ilbook module.

    Code of the notebook (or of a file beside it) is followed through the globals, closures and defaults it uses;
    library code by name, and package code by its modules. Values count too: numbers, text, containers, arrays,
    modules of torch, generators, and what the attributes of notebook and ilbook objects hold; but not what is in
    `elsewhere`, because the caller has those very objects in its key.
    """
    trace = _Trace(elsewhere)
    parts = {f"{name} argument": digest(trace.describe(value)) for name, value in objects.items()}
    while trace.globals:
        name, value = trace.globals.popitem()
        parts[name] = digest(trace.describe(value))
    return parts | module_hashes(trace.modules)


def array_hash(array: object) -> str:
    """Hash of a numpy array or torch tensor: element type, shape and bytes."""
    import numpy as np

    kind = str(array.dtype)
    if hasattr(array, "detach"):  # a tensor; as bytes, because numpy has no bfloat16
        import torch

        tensor = array.detach().cpu().contiguous().reshape(-1)
        content = tensor.view(torch.uint8).numpy() if tensor.numel() else np.empty(0)
    else:
        content = np.ascontiguousarray(array)
    return sha(kind, repr(tuple(array.shape)), content.tobytes())


class _Trace:
    """One walk over live objects. `describe` returns JSON; globals and modules met on the way wait their turn."""

    def __init__(self, elsewhere: Sequence[object]) -> None:
        self._elsewhere = elsewhere
        self.globals: dict[str, object] = {}  # still to describe, by name
        self.modules: set[str] = set()  # of ilbook
        self._named: set[str] = set()
        self._open: list[object] = []  # being described right now, to stop at cycles

    def describe(self, value: object) -> object:
        if value is None or isinstance(value, bool | int | float | complex | str | bytes | Path | type(...)):
            return f"{type(value).__name__} {value!r}"
        if any(value is other for other in self._elsewhere):
            return "elsewhere in the key"
        if any(value is other for other in self._open):
            return "itself"
        self._open.append(value)
        try:
            return self._describe(value)
        finally:
            self._open.pop()

    def _describe(self, value: object) -> object:
        if isinstance(value, Mapping):
            return [
                "mapping",
                sorted(([self.describe(key), self.describe(item)] for key, item in value.items()), key=digest),
            ]
        if isinstance(value, set | frozenset):
            return ["set", sorted((self.describe(item) for item in value), key=digest)]
        if isinstance(value, list | tuple):
            return [type(value).__name__, *map(self.describe, value)]
        if isinstance(value, ModuleType):
            return self._name(value.__name__, "")
        if isinstance(value, type):
            return self._describe_class(value)
        if isinstance(value, FunctionType):
            return self._describe_function(value)
        if isinstance(value, MethodType):
            return ["method", self.describe(value.__self__), self.describe(value.__func__)]
        if isinstance(value, BuiltinFunctionType):
            return f"{value.__module__}.{value.__qualname__}"
        if isinstance(value, CodeType):
            return self._describe_code(value)
        if isinstance(value, functools.partial):
            return ["partial", *map(self.describe, (value.func, value.args, value.keywords))]
        if isinstance(value, staticmethod | classmethod | functools._lru_cache_wrapper):
            return [type(value).__name__, self.describe(value.__wrapped__)]
        if isinstance(value, property):
            return ["property", *map(self.describe, (value.fget, value.fset, value.fdel))]
        return self._describe_instance(value)

    def _describe_instance(self, value: object) -> object:
        kind = self.describe(type(value))
        if hasattr(value, "dtype") and hasattr(value, "shape"):
            return [kind, array_hash(value)] if str(value.dtype) != "object" else [kind, self.describe(value.tolist())]
        if hasattr(value, "bit_generator"):  # numpy's random generator
            return [kind, self.describe(value.bit_generator.state)]
        if type(value).__name__ == "Generator" and hasattr(value, "get_state"):  # torch's
            return [kind, array_hash(value.get_state())]
        if hasattr(value, "to_numpy") and hasattr(value, "columns"):  # a table
            return [kind, self.describe(list(value.columns)), self.describe(value.to_numpy())]
        if _home(type(value).__module__) != "library":
            # The profile and seed of a Run are in the key already, and its verdicts are no input.
            return [kind] if isinstance(value, Run) else [kind, self.describe(_attributes(value))]
        if hasattr(value, "state_dict"):  # a layer of torch
            return [kind, repr(value), self.describe(value.state_dict())]
        return kind

    def _describe_class(self, value: type) -> object:
        if _home(value.__module__) != "notebook":
            return self._name(value.__module__, value.__qualname__)
        body = {name: item for name, item in vars(value).items() if name not in MADE_FOR_CLASSES}
        return ["class", value.__name__, self.describe(value.__bases__), self.describe(body)]

    def _describe_function(self, value: FunctionType) -> object:
        module = value.__globals__.get("__name__", "__main__")  # not __module__, which decorators copy to their wrapper
        seen = (
            [self._name(module, value.__qualname__)] if _home(module) != "notebook" else self._followed(value, module)
        )
        # What a function closes over is not in any source file, whoever wrote the function.
        return ["function", *seen, *(self._cell(cell) for cell in value.__closure__ or ())]

    def _followed(self, value: FunctionType, module: str) -> list[object]:
        for name in _global_names(value.__code__):
            label = name if module == "__main__" else f"{module}.{name}"
            if name in value.__globals__ and label not in self._named:
                self._named.add(label)
                self.globals[label] = value.__globals__[name]
        return [
            self._describe_code(value.__code__),
            self.describe(value.__defaults__),
            self.describe(value.__kwdefaults__),
        ]

    def _describe_code(self, code: CodeType) -> object:
        """Compiled code, which has no comments, no layout and, unlike its text, is always there."""
        has_docstring = bool(code.co_consts) and isinstance(code.co_consts[0], str) and code.co_name != "<lambda>"
        constants = [self.describe(constant) for constant in code.co_consts[1 if has_docstring else 0 :]]
        return [
            code.co_code.hex(),
            code.co_exceptiontable.hex(),
            constants,
            *map(list, (code.co_names, code.co_varnames)),
        ]

    def _cell(self, cell: object) -> object:
        try:
            return self.describe(cell.cell_contents)
        except ValueError:  # not bound yet
            return "empty"

    def _name(self, module: str, qualname: str) -> str:
        if _home(module) == "ilbook":
            self.modules.add(module)
        return f"{module}.{qualname}"


def _attributes(value: object) -> dict[str, object]:
    """What an object holds, without results that it keeps only to save time."""
    held = getattr(value, "__dict__", {})
    kept = (functools.cached_property, functools._lru_cache_wrapper)
    return {name: item for name, item in held.items() if not isinstance(getattr(type(value), name, None), kept)}


def _global_names(code: CodeType) -> list[str]:
    names = {step.argval for step in dis.get_instructions(code) if step.opname in {"LOAD_GLOBAL", "LOAD_NAME"}}
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            names.update(_global_names(constant))
    return sorted(names)


def _home(module: str) -> str:
    """Who wrote a module: "ilbook", a "library", or the "notebook" (with files beside it)."""
    if module.partition(".")[0] == "ilbook":
        return "ilbook"
    if module == "__main__":
        return "notebook"
    file = getattr(sys.modules.get(module), "__file__", None)
    if file is None or Path(file).is_relative_to(sysconfig.get_path("stdlib")):
        return "library"
    return "library" if {"site-packages", "dist-packages"} & set(Path(file).parts) else "notebook"
