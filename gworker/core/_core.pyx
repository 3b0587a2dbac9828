# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False
# cython: auto_pickle=False, embedsignature=False, cdivision=True
"""The compiled core. `gworker.core.python` has the same names, and says what they mean."""

cimport cython
from cpython.bytes cimport (
    PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE,
)
from cpython.mem cimport PyMem_Free, PyMem_Malloc
from cpython.object cimport PyObject
from cpython.unicode cimport PyUnicode_DecodeLatin1, PyUnicode_DecodeUTF8
from libc.stdint cimport uint32_t, uint64_t
from libc.string cimport memchr, memcmp, memcpy

from collections.abc import Mapping
from urllib.parse import unquote

from gworker.core.fields import check_field
from gworker.core.status import status_line
from gworker.core.python import parse_cookies as parse_any_cookies
from gworker.core.python import split_target

IMPLEMENTATION = "compiled"

include "_bytes.pxi"
include "_fields.pxi"
include "_request.pxi"
include "_parse.pxi"
include "_answer.pxi"
