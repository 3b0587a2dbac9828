# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False
# cython: auto_pickle=False, embedsignature=False, cdivision=True
"""The compiled core. `gworker.core.python` has the same names, and says what they mean."""

cimport cython

IMPLEMENTATION = "compiled"

include "_http.pxi"
