"""The pages, the site and the reference: nothing in them is missing, and nothing leads nowhere."""

import ast
import importlib.util
import re
import subprocess
import sys

import pytest
from conftest import ROOT

import kdarts

DOCS = ROOT / "docs"
PAGES = sorted(DOCS.glob("*.md"))
READ = [*PAGES, *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md"))]
THEIRS = re.compile(
    r"build|call|on_\w+|(test|update)_step|compute_(loss|metrics)|get_config|set_model|run_trial|populate_space"
)
"""What classes of Keras and keras-tuner say of their own methods."""

LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")


def _text(page) -> str:
    """A page without its code."""
    return re.sub(r"^```.*?^```|`[^`\n]+`", "", page.read_text("utf-8"), flags=re.MULTILINE | re.DOTALL)


def _anchors(page) -> set[str]:
    """Of the headings, as repositories and mkdocs make them."""
    headings = re.findall(r"^#+ (.+)$", re.sub(r"^```.*?^```", "", page.read_text("utf-8"), flags=re.M | re.S), re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}


def test_the_site_has_every_page_once():
    """The first page is the README, which the site's hook adds."""
    named = re.findall(r"^ +- .*?([\w-]+\.md)\b", (ROOT / "mkdocs.yml").read_text("utf-8"), re.MULTILINE)
    assert sorted(named) == sorted(["index.md", *(page.name for page in PAGES)])


@pytest.mark.parametrize("page", READ, ids=lambda page: page.stem)
def test_every_link_leads_somewhere(page):
    for link in LINK.findall(_text(page)):
        if re.match(r"https?://|mailto:", link):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), link
        assert target.is_relative_to(ROOT), link
        if anchor:
            assert anchor in _anchors(target), link


def test_the_reference_has_every_public_name_once():
    assert sorted(re.findall(r"^::: kdarts\.(\w+)$", (DOCS / "api.md").read_text("utf-8"), re.M)) == sorted(
        kdarts.__all__
    )


def test_type_checkers_are_told_the_names_that_the_package_loads():
    """`__init__.pyi` imports every name of `__all__` from its home."""
    tree = ast.parse((ROOT / "kdarts" / "__init__.pyi").read_text("utf-8"))
    told = {a.name: node.module for node in tree.body if isinstance(node, ast.ImportFrom) for a in node.names}
    assert told == kdarts._HOME
    listed = next(n for n in tree.body if isinstance(n, ast.Assign) and n.targets[0].id == "__all__")
    assert sorted(ast.literal_eval(listed.value)) == kdarts.__all__


def test_public_methods_are_documented():
    """By themselves, or where they do what a class says that they extend: one of kdarts', or one of Keras'."""
    classes, bases = {}, {}
    for path in sorted((ROOT / "kdarts").rglob("*.py")):
        for node in ast.parse(path.read_text("utf-8")).body:
            if isinstance(node, ast.ClassDef):
                methods = [m for m in node.body if isinstance(m, ast.FunctionDef) and m.name[0] != "_"]
                said = {method.name for method in methods if ast.get_docstring(method)}
                classes[node.name] = {method.name: method.name in said for method in methods}
                bases[node.name] = [ast.unparse(base) for base in node.bases]

    def documented(kind: str, name: str) -> bool:
        if kind not in classes:
            return bool(THEIRS.fullmatch(name))
        return classes[kind].get(name) or any(documented(base, name) for base in bases[kind])

    public = [(kind, name) for kind, found in classes.items() if kind[0] != "_" for name in found]
    missing = [f"{kind}.{name}" for kind, name in public if not documented(kind, name)]
    assert not missing, missing


def _run(*command: str) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, "-m", *command], cwd=ROOT, capture_output=True, text=True, check=False)


@pytest.mark.slow
def test_a_program_is_checked_by_the_types_of_the_public_names(tmp_path):
    pytest.importorskip("mypy")
    how = ["--ignore-missing-imports", "--follow-imports=silent", "--warn-unused-ignores", f"--cache-dir={tmp_path}"]
    done = _run("mypy", *how, "tests/data/typed_program.py", "kdarts/__init__.pyi")
    assert done.returncode == 0, done.stdout


@pytest.mark.slow
def test_the_site_builds_without_a_warning(tmp_path):
    if not all(map(importlib.util.find_spec, ("mkdocs", "material", "mkdocstrings", "latex2mathml"))):
        pytest.skip("needs pip install '.[docs]'")
    done = _run("mkdocs", "build", "--strict", f"--site-dir={tmp_path / 'site'}")
    assert done.returncode == 0, done.stderr
    shown = (tmp_path / "site" / "api.html").read_text("utf-8")
    assert all(f'id="kdarts.{name}"' in shown for name in kdarts.__all__)
    inside = (tmp_path / "site" / "inside.html").read_text("utf-8")
    assert inside.count("<math") == 5 and "\\alpha" not in inside  # drawn without a program from elsewhere
    assert not re.search(r'<script src="https://(?!unpkg.com/iframe-worker)', inside)
