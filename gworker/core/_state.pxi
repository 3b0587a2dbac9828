# The attributes that the message path reads and changes, as C fields. `states.py` names them, too.
# Fields are as small and as ordered as they are because a process has thousands of connections, and
# few of them are in the processor's cache: what each message reads or changes comes first, so that
# it lies in as few lines of 64 bytes as possible.

cdef extern from *:
    ctypedef bint flag "unsigned char"

cdef extern from "<arpa/inet.h>":
    enum: AF_INET, AF_INET6
    int inet_pton(int, const char *, void *)
    const char *inet_ntop(int, const void *, char *, unsigned int)

cdef extern from *:
    """
    struct transport_bits {
        unsigned char family : 4; /* of the peer's address; 0: it is an object */
        unsigned char is_simple : 2; /* of the class that is known, on a plain socket or on TLS */
        unsigned char eof_received : 1;
        unsigned char reads_much : 1;
    };
    """
    struct transport_bits:
        unsigned char family, is_simple, eof_received, reads_much

DEF ADDRESS_TEXT = 46  # INET6_ADDRSTRLEN

cdef tuple STATES = ()  # of connections


cdef union Host:
    unsigned char[16] ip
    PyObject *other


cdef class ServerState:
    cdef public long long requests, bytes_read, bytes_written
    cdef public int batch
    cdef public bint takes_no_more
    cdef public object holder, on_job_end, message_interceptor


cdef class TransportState:
    cdef public object _owner, _server, receive_buffer, write_buffer
    cdef int descriptor  # as the poller knows it
    cdef unsigned short port
    cdef public unsigned char pause_reasons
    cdef transport_bits bits
    cdef public long long bytes_read, bytes_written
    cdef public object _socket
    cdef public Py_ssize_t max_send_buffer_size
    cdef Host host

    def __dealloc__(self):
        forget_remote(self)

    @property
    def eof_received(self):
        return self.bits.eof_received != 0

    @eof_received.setter
    def eof_received(self, bint value):
        self.bits.eof_received = value

    @property
    def _read_size(self):
        return LARGE_READ_SIZE if self.bits.reads_much else READ_SIZE

    @_read_size.setter
    def _read_size(self, Py_ssize_t value):
        self.bits.reads_much = value > READ_SIZE

    @property
    def remote(self):
        cdef char text[ADDRESS_TEXT]
        if not self.bits.family:
            return None if self.host.other is NULL else <object>self.host.other
        inet_ntop(self.bits.family, self.host.ip, text, ADDRESS_TEXT)
        if self.bits.family == AF_INET:
            return text.decode("ascii"), self.port
        return text.decode("ascii"), self.port, 0, 0

    @remote.setter
    def remote(self, address):
        forget_remote(self)
        self.bits.family = pack(address, &self.host, &self.port)
        if not self.bits.family:
            Py_INCREF(address)
            self.host.other = <PyObject *>address


cdef void forget_remote(TransportState io) noexcept:
    if not io.bits.family:
        Py_CLEAR(io.host.other)
    io.bits.family = 0
    io.host.other = NULL


cdef unsigned char pack(address, Host *host, unsigned short *port) except? 255:
    """The family of an address that can be made again from `host` and `port`; 0: it cannot."""
    cdef Py_ssize_t size
    cdef const char *text
    cdef char again[ADDRESS_TEXT]
    cdef int family
    if type(address) is not tuple:
        return 0
    if len(<tuple>address) == 2:
        family = AF_INET
    elif len(<tuple>address) == 4 and (<tuple>address)[2] == 0 and (<tuple>address)[3] == 0:
        family = AF_INET6
    else:
        return 0
    name, number = (<tuple>address)[0], (<tuple>address)[1]
    if type(name) is not str or not PyUnicode_IS_COMPACT_ASCII(name):
        return 0
    if type(number) is not int or not 0 <= number < 65536:
        return 0
    text = PyUnicode_AsUTF8AndSize(name, &size)
    if (
        size >= ADDRESS_TEXT
        or inet_pton(family, text, host) != 1
        or inet_ntop(family, host, again, ADDRESS_TEXT) is NULL
        or memcmp(text, again, size + 1) != 0
    ):
        host.other = NULL
        return 0
    port[0] = number
    return <unsigned char>family


cdef class ConnectionState:
    cdef public object callbacks, event_job, io, observer, protocol_machine
    cdef public flag parser_paused
    cdef unsigned char state  # which of STATES
    cdef public unsigned int accepted_at
    cdef public object server_context
    cdef public long long id
    cdef object __weakref__

    @property
    def lifecycle(self):
        return STATES[self.state]

    @lifecycle.setter
    def lifecycle(self, value):
        cdef unsigned char state
        for state in range(<unsigned char>len(STATES)):
            if STATES[state] is value:
                self.state = state
                return
        raise TypeError(f"{value!r} is no state of a connection")


cdef class JobState:
    cdef public object connection, events, greenlet
    cdef public long long unread_bytes
