"""Private names of other libraries: those that kdarts uses are listed in CONTRIBUTING.md, and still exist."""

import ast
import functools
import importlib
import inspect
import pathlib
import pkgutil
import re
import sys
import textwrap

import pytest
from conftest import ROOT

import kdarts

LIBRARIES = {"keras", "keras_tuner", "tensorflow", "tensorflow_datasets"}
INSIDE = re.compile(r"(^|\.)_|^keras(_tuner)?\.src\b|^tensorflow\.python\b")
"""Modules that are not public."""

ROW = re.compile(r"\| (`_[^|]+`) \| `([\w.]+)` \| (`[^|]+`) \| [^|]+ \|")
LISTED = [
    (name, owner, re.findall(r"`(.+?)`", places))
    for names, owner, places in ROW.findall((ROOT / "CONTRIBUTING.md").read_text("utf-8"))
    for name in re.findall(r"`(\w+)`", names)
]
"""The list: each name, the class that has it, and the files that use it."""

FILES = [path for folder in ("kdarts", "tools", "examples") for path in sorted((ROOT / folder).rglob("*.py"))]


def is_private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__") and name != "_"


@functools.cache
def tree(path: pathlib.Path) -> ast.Module:
    return ast.parse(path.read_text("utf-8"))


@functools.cache
def own_names() -> set[str]:
    """Every name that a file defines, as a function, a class, an argument, a variable or an attribute."""
    found = set()
    for node in (node for path in FILES for node in ast.walk(tree(path))):
        match node:
            case ast.FunctionDef(name=name) | ast.ClassDef(name=name) | ast.arg(arg=name):
                found.add(name)
            case ast.Name(id=name, ctx=ast.Store()) | ast.Attribute(attr=name, ctx=ast.Store()):
                found.add(name)
    return found


def foreign_names(path: pathlib.Path):
    """The private names in a file that are of no file of the project and not of Python's own library."""
    for node in ast.walk(tree(path)):
        match node:
            case ast.Attribute(value=ast.Name(id=module)) if module in sys.stdlib_module_names:
                continue
            case ast.Attribute(attr=name) if is_private(name) and name not in own_names():
                yield name
            case ast.Call(func=ast.Name(id="getattr" | "setattr" | "hasattr"), args=[_, ast.Constant(str(name)), *_]):
                if is_private(name) and name not in own_names():
                    yield name


@functools.cache
def names_of_class(kind: type) -> set[str]:
    """The private names that a class defines, or uses of itself."""
    found = set(vars(kind))
    try:
        nodes = ast.walk(ast.parse(textwrap.dedent(inspect.getsource(kind))))
    except (OSError, TypeError):  # Written in C.
        nodes = ()
    for node in nodes:
        match node:
            case ast.Attribute(value=ast.Name(id="self" | "cls") | ast.Call(func=ast.Name(id="super")), attr=name):
                found.add(name)
    return {name for name in found if is_private(name)}


def is_foreign(kind: type) -> bool:
    return kind.__module__.split(".")[0] in LIBRARIES


def resolve(name: str):
    module, _, attribute = name.rpartition(".")
    return getattr(importlib.import_module(module), attribute)


@pytest.mark.parametrize(("name", "owner"), [row[:2] for row in LISTED])
def test_the_libraries_have_the_listed_names(name, owner):
    assert any(name in names_of_class(kind) for kind in resolve(owner).__mro__ if is_foreign(kind)), (
        f"{owner} has no {name} any more"
    )


def test_the_listed_names_are_used_where_the_list_says():
    assert len(LISTED) == len({name for name, *_ in LISTED}) > 5
    for name, _, places in LISTED:
        for place in places:
            assert re.search(rf"\b{name}\b", (ROOT / "kdarts" / place).read_text("utf-8")), f"{place} uses no {name}"


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_only_listed_names_are_used(path):
    assert set(foreign_names(path)) <= {name for name, *_ in LISTED}
    for node in ast.walk(tree(path)):
        modules = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom):
            modules = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        if isinstance(node, ast.Attribute):
            modules = [ast.unparse(node)]
        for module in modules:
            first = module.split(".")[0]
            assert first not in {*LIBRARIES, "tf", "tfds"} or not INSIDE.search(module), f"{path}: {module}"


def test_classes_use_only_listed_names_of_the_classes_they_extend():
    """Here also names count that kdarts assigns or overrides, on purpose or by accident."""
    for module in pkgutil.walk_packages(kdarts.__path__, "kdarts."):
        if module.name == "kdarts.__main__":
            continue
        for kind in vars(importlib.import_module(module.name)).values():
            if not inspect.isclass(kind) or kind.__module__ != module.name:
                continue
            theirs, ours = set(), set()
            for base in kind.__mro__:
                if is_foreign(base):
                    theirs |= names_of_class(base)
                elif base.__module__.startswith("kdarts."):
                    ours |= names_of_class(base)
            assert ours & theirs <= {name for name, *_ in LISTED}, f"{module.name}.{kind.__name__}"
