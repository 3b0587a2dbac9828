"""`python -m gworker`: the same as the `gworker` command."""

import sys

from gworker import directory
from gworker.cli import main

if __name__ == "__main__":
    sys.path[0] = directory.respelt(sys.path[0])
    sys.exit(main())
