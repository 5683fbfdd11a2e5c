"""Makes pages of the README and of the files that the documentation links to, such as `../kdarts/search/gradients.py`.

A hook of mkdocs, named in mkdocs.yml. In the repository these links lead to the files themselves. A site has only what
is in docs/; this hook adds each linked file to it as a page that shows its text, and points the links there. The README
is the site's first page.
"""

import pathlib
import re

from mkdocs.structure.files import File

ROOT = pathlib.Path(__file__).parent.parent
LINK = re.compile(r"\]\(\.\./([\w./-]+)(#[\w-]*)?\)")
"""A link from a page of docs/ to a file or a folder outside of it."""

OF_README = re.compile(r"\]\((docs/)?(?!https?:)")
"""A link of the README, which lies above docs/."""

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


def _page(path: str) -> str:
    return f"source/{path.rstrip('/')}.md"


def _shown(path: str) -> str:
    """The text of a file, or the names in a folder, as a page that the search of the site leaves out."""
    start = f"---\nsearch:\n  exclude: true\n---\n\n# {path}\n\n"
    place = ROOT / path
    if place.is_dir():
        return start + "\n".join(f"- `{item.name}`" for item in sorted(place.iterdir()) if item.name[0] not in "._")
    return start + f"`````{LANGUAGES.get(place.suffix, 'text')}\n{place.read_text('utf-8')}\n`````\n"
