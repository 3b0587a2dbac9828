"""`python -m gworker`: the same as the `gworker` command."""

import sys

from gworker.cli import main

if __name__ == "__main__":
    sys.exit(main())
