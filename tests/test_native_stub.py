"""The typed face of the extension module says what is there."""

from __future__ import annotations

import ast
import inspect
from pathlib import Path

import pytest

from remuda import _native

STUB = ast.parse((Path(_native.__file__).parent / "_native.pyi").read_text())
CLASSES = {node.name: node for node in STUB.body if isinstance(node, ast.ClassDef)}
FUNCTIONS = {node.name: node for node in STUB.body if isinstance(node, ast.FunctionDef)}
# What every class has, and what a stub does not say.
IMPLIED = {"__doc__", "__module__", "__new__", "__repr__"}


def methods(cls: ast.ClassDef) -> dict[str, list[ast.FunctionDef]]:
    found: dict[str, list[ast.FunctionDef]] = {}
    for node in cls.body:
        if isinstance(node, ast.FunctionDef):
            found.setdefault(node.name, []).append(node)
    return found


def members(cls: ast.ClassDef) -> set[str]:
    fields = {
        node.target.id
        for node in cls.body
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name)
    }
    return fields | set(methods(cls))


def parameters(node: ast.FunctionDef, method: bool) -> list[tuple[str, str, bool]]:
    """Name, kind and whether there is a default, of each parameter."""
    args = node.args
    positional = [*args.posonlyargs, *args.args]
    without = len(positional) - len(args.defaults)
    found = [
        (
            arg.arg,
            "POSITIONAL_ONLY" if arg in args.posonlyargs else "POSITIONAL_OR_KEYWORD",
            number >= without,
        )
        for number, arg in enumerate(positional)
    ]
    found += [
        (arg.arg, "KEYWORD_ONLY", default is not None)
        for arg, default in zip(args.kwonlyargs, args.kw_defaults, strict=True)
    ]
    is_static = any(isinstance(d, ast.Name) and d.id == "staticmethod" for d in node.decorator_list)
    return found[1:] if method and not is_static else found


def actual(function: object) -> list[tuple[str, str, bool]]:
    signature = inspect.signature(function)  # type: ignore[arg-type]
    return [
        (p.name, p.kind.name, p.default is not p.empty)
        for p in signature.parameters.values()
        if p.name != "self"
    ]


def test_the_stub_names_everything_that_the_module_has_and_nothing_else() -> None:
    there = {name for name in vars(_native) if not name.startswith("__")}
    assert there == set(CLASSES) | set(FUNCTIONS)


@pytest.mark.parametrize("name", sorted(FUNCTIONS))
def test_functions_have_the_signatures_of_the_stub(name: str) -> None:
    assert actual(getattr(_native, name)) == parameters(FUNCTIONS[name], method=False)


@pytest.mark.parametrize("name", sorted(CLASSES))
def test_classes_have_the_members_of_the_stub(name: str) -> None:
    cls = getattr(_native, name)
    if issubclass(cls, Exception):
        assert members(CLASSES[name]) == set()
        return
    there = set(vars(cls)) - IMPLIED
    assert there == members(CLASSES[name]) - {"__init__"}


@pytest.mark.parametrize(
    ("name", "method"),
    [
        (name, method)
        for name, cls in sorted(CLASSES.items())
        for method, nodes in methods(cls).items()
        if not any(isinstance(d, ast.Name) and d.id == "property" for d in nodes[0].decorator_list)
        and (not method.startswith("__") or method == "__init__")
    ],
)
def test_methods_have_the_signatures_of_the_stub(name: str, method: str) -> None:
    cls = getattr(_native, name)
    target = cls if method == "__init__" else getattr(cls, method)
    for node in methods(CLASSES[name])[method]:
        wanted = parameters(node, method=True)
        is_overload = any(
            isinstance(d, ast.Name) and d.id == "overload" for d in node.decorator_list
        )
        if is_overload:
            assert [(n, k) for n, k, _ in actual(target)] == [(n, k) for n, k, _ in wanted]
        else:
            assert actual(target) == wanted


@pytest.mark.parametrize("name", sorted(CLASSES))
def test_classes_say_where_they_are(name: str) -> None:
    assert getattr(_native, name).__module__ == "remuda._native"
