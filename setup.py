"""The compiled core; setup.cfg says all else.

It is optional: where it cannot be compiled the installation goes on without it. In the environment,
GWORKER_PURE=1 leaves it out, and GWORKER_REQUIRE_CORE=1 makes it an error if it cannot be compiled.
"""

import os
from glob import glob

from setuptools import Extension, setup


def _is_set(variable: str) -> bool:
    return os.environ.get(variable, "0") not in ("", "0")


core = Extension(
    "gworker.core._core",
    ["gworker/core/_core.pyx"],
    depends=glob("gworker/core/*.pxi"),
    extra_compile_args=["-g0"],  # debug information is ten times the code
    optional=not _is_set("GWORKER_REQUIRE_CORE"),
)
setup(ext_modules=[] if _is_set("GWORKER_PURE") else [core])
