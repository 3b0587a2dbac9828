"""`python -m gworker`: the same as the `gworker` command."""

import sys

from gworker.cli.main import main
from gworker.system import directory

if __name__ == "__main__":
    sys.path[0] = directory.respelt(sys.path[0])
    sys.exit(main())
