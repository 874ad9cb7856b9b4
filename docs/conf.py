"""How the documentation is built: ``sphinx-build -W --keep-going docs docs/_build``."""

import posixpath
import re
from pathlib import Path
from typing import Any

from sphinx.application import Sphinx

import jaxedge

ROOT = Path(__file__).resolve().parents[1]

project = "jaxedge"
author = copyright = "jaxedge contributors"
version = release = jaxedge.__version__

extensions = ["sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.mathjax", "myst_parser"]
exclude_patterns = ["_build"]
html_theme = "furo"
html_title = f"jaxedge {version}"
html_copy_source = False

myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 3

default_role = "py:obj"  # docstrings name things of Python in single backticks
autodoc_default_options = {"members": True, "member-order": "bysource"}
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented"
napoleon_use_rtype = False

OF_THE_ROOT = {
    "overview": "README.md",
    "changelog": "CHANGELOG.md",
    "contributing": "CONTRIBUTING.md",
}
"""Page -> the file in the root of the repository that it shows."""
LINK = re.compile(r"\[([^\]]*)\]\(([^)#:\s]+)(#[\w-]+)?\)")
"""Also that of an image, behind its exclamation mark."""


def put_in_place(app: Sphinx, docname: str, source: list[str]) -> None:
    """Fill the pages of files in the root, and point links between files at pages."""
    folder = "docs"
    if docname in OF_THE_ROOT:
        folder = ""
        source[0] = (ROOT / OF_THE_ROOT[docname]).read_text(encoding="utf-8")
    pages = {name: f"{page}.md" for page, name in OF_THE_ROOT.items()}

    def target(match: re.Match[str]) -> str:
        text, path, anchor = match.groups()
        path = posixpath.normpath(posixpath.join(folder, path))
        if (ROOT / path).is_dir():  # there is nothing to show for a folder
            return text
        page = pages.get(path) or posixpath.relpath(path, "docs")
        return f"[{text}]({page}{anchor or ''})"

    source[0] = LINK.sub(target, source[0])


def set_formulas(
    app: Sphinx, what: str, name: str, obj: Any, options: Any, lines: list[str]
) -> None:
    """Show what a docstring indents before its sections as it is written."""
    sections = (i for i, line in enumerate(lines) if re.fullmatch(r"(Args|Returns|Raises):", line))
    for i in range(next(sections, len(lines)) - 1, 1, -1):
        begins = lines[i].startswith("    ") and not lines[i - 1] and lines[i - 2]
        if begins and not lines[i - 2].startswith("    "):
            lines[i:i] = ["::", ""]


def setup(app: Sphinx) -> None:
    """Join what is above to the build."""
    app.connect("source-read", put_in_place)
    app.connect("autodoc-process-docstring", set_formulas, priority=400)  # before napoleon
