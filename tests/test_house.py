"""The rules of the house, read from the source."""

import ast
import pathlib
import re

import kdarts

ROOT = pathlib.Path(kdarts.__file__).parent
ORDER = [
    *("genotypes", "ops", "supernet", "networks", "search", "paths", "data", "training", "tuning", "serving", "views"),
    *("auto", "cli"),
]
"""The folders; each imports from itself and from those before it."""
FILES = sorted(ROOT.rglob("*.py"))
HEAVY = {"tensorflow", "keras", "matplotlib", "tensorflow_datasets"}


def imports(path: pathlib.Path):
    """Every module that a file imports, anywhere in it, by its full name."""
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Call) and getattr(node.func, "attr", "") == "import_module":
            argument = node.args[0]
            yield argument.value if isinstance(argument, ast.Constant) else ""


def module_of(path: pathlib.Path) -> str:
    """The full name of a file's module."""
    return ".".join(("kdarts", *path.relative_to(ROOT).with_suffix("").parts)).removesuffix(".__init__")


def test_imports_run_one_way():
    assert {path.parent.relative_to(ROOT).parts[0] for path in FILES if path.parent != ROOT} == set(ORDER)
    for path in FILES:
        folder = path.relative_to(ROOT).parts[0]
        if folder not in ORDER:
            continue
        for name in imports(path):
            target = name.split(".")[1] if name.startswith("kdarts.") else None
            if target in ORDER:
                assert ORDER.index(target) <= ORDER.index(folder), f"{path} imports {name}"


def test_no_two_files_import_each_other():
    """File by file, imports inside functions included: no way leads from a module back to it."""
    modules = {module_of(path): path for path in FILES}
    reached = {}
    for module, path in modules.items():
        names = {name if name in modules else name.rpartition(".")[0] for name in imports(path)}
        reached[module] = {name for name in names if name in modules and name != module}
    left = dict(reached)
    while ready := [module for module, needs in left.items() if not needs & left.keys()]:
        for module in ready:
            del left[module]
    assert not left, f"these import each other: {sorted(left)}"


def test_a_folder_is_read_in_a_day():
    """Folders hold about 20 modules but for the axes and the papers, the package 215, and less than 38,000 lines."""
    for folder in {path.parent for path in FILES}:
        few = {"search": 40, "methods": 42}.get(folder.name, 20)
        assert sum(path.parent == folder for path in FILES) <= few, folder
    assert len(FILES) <= 215
    assert sum(path.read_text("utf-8").count("\n") for path in FILES) < 38_000


def test_what_reads_settings_imports_no_tensorflow():
    """`kdarts methods`, `--help` and the commands about genotypes answer at once."""
    light = [
        "supernet/relaxation",
        "supernet/spaces",
        "supernet/grids",
        "supernet/cost",
        "search/stages",
        "search/stopping",
    ]
    names = "alignment axes building gradients levels losses method perturbations selection updates"
    light += [f"search/{name}" for name in names.split()]
    for path in [*(ROOT / "genotypes").glob("*.py"), *(ROOT / "search" / "methods").glob("*.py")]:
        assert not {name.split(".")[0] for name in imports(path)} & HEAVY, path
    for name in light:
        tree = ast.parse((ROOT / f"{name}.py").read_text("utf-8"))
        above = [node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)]
        names = {alias.name for node in above for alias in node.names} | {getattr(node, "module", "") for node in above}
        assert not {str(name).split(".")[0] for name in names} & HEAVY, name


def test_networks_need_no_tensorflow():
    """A network trains and predicts under Keras' other backends."""
    for name in ("networks/network", "networks/trunk", "networks/backbone", "networks/models", "ops/layers"):
        assert "tensorflow" not in {module.split(".")[0] for module in imports(ROOT / f"{name}.py")}, name


def test_only_the_command_line_reads_flags():
    for path in FILES:
        if "cli" not in path.parts:
            assert not any(name.startswith("absl.flags") for name in imports(path)), path


def test_nothing_from_a_file_is_ever_evaluated():
    for path in FILES:
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Call):
                name = getattr(node.func, "id", "")
                assert name not in {"eval", "exec", "__import__"}, f"{path}:{node.lineno}"
        assert "pickle" not in {name.split(".")[0] for name in imports(path)}, path


def test_files_are_documented_and_named_by_what_they_are_about():
    for path in FILES:
        text = path.read_text("utf-8")
        assert not text.strip() or path.name == "__init__.py" or ast.get_docstring(ast.parse(text)), path
        assert path.stem not in {"utils", "helpers", "common", "misc"}, path


def test_public_names_are_documented():
    for path in FILES:
        for node in ast.parse(path.read_text("utf-8")).body:
            if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_"):
                assert ast.get_docstring(node), f"{path}: {node.name}"


def test_every_public_name_loads():
    for name in kdarts.__all__:
        assert getattr(kdarts, name).__name__ == name
    assert re.fullmatch(r"\d+\.\d+\.\d+", kdarts.__version__)
