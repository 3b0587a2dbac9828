# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False
# cython: auto_pickle=False, embedsignature=False, cdivision=True
"""The compiled core. `gworker.core.python` has the same names, and says what they mean.

It takes the simple whole message of a built-in protocol on an open connection to which nothing else
happens: it reads, frames, calls on_message and sends the answer. All else goes to the methods in
Python, which do the same and more. It knows no error, no end, no handshake and no compression.

It changes these fields and no others: what `_state.pxi` lists as C fields, as follows.
    TransportState   bytes_read, bytes_written, eof_received, _read_size, descriptor, is_simple
    ServerState      bytes_read, bytes_written, requests
    ConnectionState  event_job, parser_paused
    JobState         connection, events, greenlet
It reads slots of protocols, and changes these of HttpProtocol: _phase, _head, raw_head.
"""

cimport cython
from cpython.buffer cimport PyBUF_SIMPLE, PyBUF_WRITE, PyBuffer_Release, PyObject_GetBuffer
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.dict cimport PyDict_GetItem
from cpython.long cimport PyLong_AsLong
from cpython.mem cimport PyMem_Free, PyMem_Malloc
from cpython.memoryview cimport PyMemoryView_FromMemory
from cpython.object cimport PyObject
from cpython.ref cimport Py_CLEAR, Py_INCREF, Py_XDECREF
from cpython.unicode cimport (
    PyUnicode_AsUTF8AndSize, PyUnicode_DecodeLatin1, PyUnicode_DecodeUTF8,
)
from libc.errno cimport EAGAIN, EBADF, EINTR, errno
from libc.stdint cimport uint32_t, uint64_t
from libc.string cimport memchr, memcmp, memcpy, memset, strlen
from posix.unistd cimport close

import os
import sys
from collections.abc import Mapping
from types import MemberDescriptorType
from urllib.parse import unquote

from gworker.core.fields import check_field
from gworker.core.json_text import encode_json
from gworker.core.parameters import parse_cookies as parse_any_cookies
from gworker.core.request import split_target
from gworker.core.status import status_line
from gworker.core.wsgi import (
    below, check_status, joined_value, key_of, raise_again, split_path,
)

IMPLEMENTATION = "compiled"

include "_bytes.pxi"
include "_fields.pxi"
include "_request.pxi"
include "_parse.pxi"
include "_answer.pxi"

DEF LARGEST = 0xFFFFFFFF - 4

cdef enum:
    PLAIN = 1
    TLS = 2

cdef bytes EMPTY = b""
cdef object FALSE = False  # the literal would be a number of C
cdef str STREAM_ABOVE = "stream_above"
cdef bytes NEWLINE = b"\n"
cdef const char *LINE_END = NEWLINE

# What `accelerate` is told.
cdef object CONNECTION = None, TRANSPORT = None, JOB = None, PLAIN_SOCKET = None, TLS_SOCKET = None
cdef object ANSWER = None, SEND = None, CURRENT = None
cdef object DATE_FIELD = None  # of `register_framing`


cdef extern from *:
    """
    #define SLOT(object, offset) (*(PyObject **)((char *)(object) + (offset)))
    #define SET_SLOT(object, offset, value) (SLOT(object, offset) = (PyObject *)(value))
    #define OFFSET(descriptor) (((PyMemberDescrObject *)(descriptor))->d_member->offset)
    #define HAS_CONTEXT() (PyThreadState_Get()->context != NULL)

    static PyObject *new_of(PyObject *type, PyObject *arguments)
    {
        return ((PyTypeObject *)type)->tp_new((PyTypeObject *)type, arguments, NULL);
    }
    """
    PyObject *SLOT(object, Py_ssize_t) noexcept
    void SET_SLOT(object, Py_ssize_t, object) noexcept
    Py_ssize_t OFFSET(object) noexcept
    bint HAS_CONTEXT() noexcept
    object new_of(object, object)


cdef inline PyObject *slot(object owner, Py_ssize_t offset) noexcept:
    return SLOT(owner, offset)


cdef Py_ssize_t offset_of(cls, str name) except -1:
    """Where objects of `cls`, a class in Python, have their slot `name`."""
    for each in cls.__mro__:
        descriptor = vars(each).get(name)
        if descriptor is not None:
            if type(descriptor) is not MemberDescriptorType:
                break
            return OFFSET(descriptor)
    raise TypeError(f"{cls.__name__} has no slot {name}")


cdef inline int set_slot(object owner, Py_ssize_t offset, value) except -1:
    cdef PyObject *before = SLOT(owner, offset)
    Py_INCREF(value)
    SET_SLOT(owner, offset, value)
    Py_XDECREF(before)
    return 0


cdef inline object new(cls):
    return new_of(cls, NOTHING)


cdef inline int clear_context(me) except -1:
    # What a handler leaves in a context variable is not seen by the next.
    if HAS_CONTEXT():
        me.gr_context = None
    return 0


cdef int know(socket, int descriptor) except -1:
    cdef TransportState io
    if type(socket) is TRANSPORT:
        io = <TransportState>socket
        io.descriptor = descriptor
        if type(io._socket) is PLAIN_SOCKET:
            io.bits.is_simple = PLAIN
        elif type(io._socket) is TLS_SOCKET:
            io.bits.is_simple = TLS
    return 0


cdef tuple NOTHING = ()
cdef Py_ssize_t READ_SIZE = 65536, LARGE_READ_SIZE = 126976  # as in transport.py
cdef unsigned char established_state

include "_state.pxi"
include "_framing.pxi"
include "_wsgi.pxi"
include "_exchange.pxi"
include "_receive.pxi"
include "_poller.pxi"


def accelerate(
    *, connection, transport, job, plain_socket, tls_socket, tuple states, established, answer,
    current
):
    global CONNECTION, TRANSPORT, JOB, PLAIN_SOCKET, TLS_SOCKET, STATES, ANSWER, CURRENT
    global established_state
    CONNECTION, TRANSPORT, JOB = connection, transport, job
    PLAIN_SOCKET, TLS_SOCKET = plain_socket, tls_socket
    STATES, established_state = states, states.index(established)
    ANSWER, CURRENT = answer, current


def accelerated_send(function):
    global SEND
    SEND = function
    send.__doc__ = function.__doc__
    return send


cdef dict FRAMINGS = {
    "tcp": TcpFraming,
    "text": TextFraming,
    "frame": FrameFraming,
    "websocket": WebSocketFraming,
    "http": HttpFraming,
}


def register_framing(name, cls, **details):
    framings[cls] = FRAMINGS[name](cls, **details)
