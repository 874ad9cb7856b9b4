"""``python -m jaxedge`` is the command line."""

import sys

from jaxedge.commands.cli import main

if __name__ == "__main__":
    sys.exit(main())
