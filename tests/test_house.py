"""The rules of the house, read from the source."""

import ast
import pathlib
import re

import kdarts

ROOT = pathlib.Path(kdarts.__file__).parent
ORDER = ["genotypes", "nets", "search", "run", "views", "cli"]
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


def test_imports_run_one_way():
    assert len(FILES) > 40
    for path in FILES:
        folder = path.relative_to(ROOT).parts[0]
        if folder not in ORDER:
            continue
        for name in imports(path):
            target = name.split(".")[1] if name.startswith("kdarts.") else None
            if target in ORDER:
                assert ORDER.index(target) <= ORDER.index(folder), f"{path} imports {name}"


def test_genotypes_import_no_tensorflow_and_found_networks_no_tensorflow_either():
    light = [ROOT / "nets" / f"{name}.py" for name in ("cost", "cuboid_spaces", "plan", "spaces")]
    for path in [*(ROOT / "genotypes").glob("*.py"), *light]:
        assert not {name.split(".")[0] for name in imports(path)} & HEAVY, path
    built = ("layers", "trunk", "network", "backbone", "pyramid", "head", "initializers")
    plain = (*built, "auxiliary", "drop_path", "smoothed_loss", "torch_names")
    for name in (*plain, "hyper_network", "parts", "placed", "model_cost"):
        used = {module.split(".")[0] for module in imports(ROOT / "nets" / f"{name}.py")}
        assert "tensorflow" not in used, name


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


def test_files_stay_short_and_are_documented():
    for path in FILES:
        text = path.read_text("utf-8")
        assert text.count("\n") <= 300, path
        assert path.name == "__init__.py" or ast.get_docstring(ast.parse(text)), path
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
