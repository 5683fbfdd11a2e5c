"""Makes pages of the README and of the files that the documentation links to, such as `../kdarts/search/gradients.py`.

A hook of mkdocs, named in mkdocs.yml. In the repository these links lead to the files themselves. A site has only what
is in docs/; this hook adds each linked file to it as a page that shows its text, and points the links there. The README
is the site's first page. Equations become MathML, which browsers draw without a program from elsewhere.
"""

import html
import json
import pathlib
import re

from latex2mathml.converter import convert
from mkdocs.structure.files import File

ROOT = pathlib.Path(__file__).parent.parent
LINK = re.compile(r"\]\(\.\./([\w./-]+)(#[\w-]*)?\)")
"""A link from a page of docs/ to a file or a folder outside of it."""

OF_README = re.compile(r"\]\((docs/)?(?!https?:)")
"""A link of the README, which lies above docs/."""

EQUATION = re.compile(r'<(div|span) class="arithmatex">\\(?:\[|\()(.*?)\\(?:\]|\))</\1>', re.DOTALL)
"""An equation, as pymdownx.arithmatex marks it."""

LANGUAGES = {".py": "python", ".md": "markdown", ".cfg": "ini", ".toml": "toml"}


def on_files(files, config):
    """Adds the README, and a page for each file that a page of docs/ links to."""
    readme = (ROOT / "README.md").read_text("utf-8")
    readme = OF_README.sub(lambda found: "](" if found[1] else "](../", readme)
    texts = [readme, *(file.content_string for file in files.documentation_pages())]
    linked = {path for text in texts for path, _ in LINK.findall(text)}
    for path in sorted(linked):
        files.append(File.generated(config, _page(path), content=_shown(path)))
    files.append(File.generated(config, "index.md", content=readme))
    return files


def on_page_markdown(markdown, page, config, files):
    """Points the links of a page to these pages."""
    if page.file.src_uri.startswith("source/"):
        return markdown
    return LINK.sub(lambda found: f"]({_page(found[1])})", markdown)


def on_page_content(content, page, config, files):
    """Sets the equations of a page."""

    def drawn(found):
        display = "block" if found[1] == "div" else "inline"
        return f'<{found[1]} class="arithmatex">{convert(html.unescape(found[2]), display=display)}</{found[1]}>'

    return EQUATION.sub(drawn, content)


def _page(path: str) -> str:
    return f"source/{path.rstrip('/')}.md"


def _shown(path: str) -> str:
    """The text of a file, or the names in a folder, as a page that the search of the site leaves out."""
    start = "---\nsearch:\n  exclude: true\n---\n\n"
    place = ROOT / path
    if place.is_dir():
        names = sorted(item.name for item in place.iterdir() if item.name[0] not in "._")
        return f"{start}# {path}\n\n" + "\n".join(f"- `{name}`" for name in names)
    text = place.read_text("utf-8")
    if place.suffix == ".ipynb" or text.startswith("# %%"):
        cells = _notebook(text) if place.suffix == ".ipynb" else _cells(text)
        return start + "\n\n".join(_fenced("python", cell) if code else cell for code, cell in cells)
    return f"{start}# {path}\n\n{_fenced(LANGUAGES.get(place.suffix, 'text'), text.rstrip())}\n"


def _fenced(language: str, text: str) -> str:
    return f"`````{language}\n{text}\n`````"


def _notebook(text: str) -> list[tuple[bool, str]]:
    """The cells of a notebook: whether they are code, and their text."""
    return [(cell["cell_type"] == "code", "".join(cell["source"])) for cell in json.loads(text)["cells"]]


def _cells(text: str) -> list[tuple[bool, str]]:
    """The same of a program with cells, whose texts are comments."""
    cells = []
    for piece in re.split(r"^# %%", text, flags=re.MULTILINE)[1:]:
        kind, _, rest = piece.partition("\n")
        prose = "markdown" in kind
        cells.append((not prose, re.sub(r"^# ?", "", rest, flags=re.MULTILINE).strip() if prose else rest.strip()))
    return cells
