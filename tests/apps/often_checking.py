"""The gworker command, with an arbiter that looks at its runtime files ten times a second."""

import sys

from gworker.cli import main
from gworker.master import runtime_files

runtime_files.CHECK_SECONDS = 0.1
sys.exit(main.main())
