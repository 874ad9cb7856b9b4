"""The study with the figures of the documentation: `jaxedge study`, and --publish into docs/.

Usage: python benchmarks/study.py [--smallest] [--publish] [--store DIR] [--resume] ...

--smallest is --quick. Other options are those of `jaxedge study`; without --store a temporary
folder is used. --publish puts the page and small figures (of fewer colours) into docs/.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from pathlib import Path

from PIL import Image

from jaxedge.commands.cli import main as jaxedge
from jaxedge.study.folder import FIGURES, PAGE

DOCS = Path(__file__).parents[1] / "docs"
COLOURS = 128


def publish(store: Path) -> None:
    """Put a study's page and its small figures into the documentation."""
    shutil.copyfile(store / PAGE, DOCS / PAGE)
    for figure in sorted((store / FIGURES).glob("*.png")):
        with Image.open(figure) as image:
            few = image.convert("RGB").quantize(COLOURS, dither=Image.Dither.NONE)
            few.save(DOCS / "figures" / figure.name, optimize=True)


def main() -> int:
    if "--help" in sys.argv:
        print(__doc__)
        return 0
    names = {"--smallest": "--quick"}
    options = [names.get(item, item) for item in sys.argv[1:] if item != "--publish"]
    with tempfile.TemporaryDirectory() as folder:
        if "--store" not in options:
            options += ["--store", str(Path(folder) / "study")]
        code = jaxedge(["study", *options])
        if code == 0 and "--publish" in sys.argv:
            publish(Path(options[options.index("--store") + 1]))
    return code


if __name__ == "__main__":
    sys.exit(main())
