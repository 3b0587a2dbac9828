# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False
# cython: auto_pickle=False, embedsignature=False
"""The compiled core. `gworker.core.python` has the same names."""

IMPLEMENTATION = "compiled"
