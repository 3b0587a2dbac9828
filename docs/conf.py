"""Sphinx configuration."""

import os
import sys

sys.path.insert(0, os.path.abspath(".."))

from gworker.version import __version__

project = "gworker"
copyright = "2026, the gworker developers"
version = release = __version__
extensions = ["myst_parser", "sphinx.ext.autodoc"]
myst_heading_anchors = 3
html_theme = "furo"
html_title = f"gworker {version}"
exclude_patterns = ["_build"]
nitpicky = False
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
