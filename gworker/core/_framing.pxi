# One whole message of a built-in protocol: from the bytes that were read, and to those to be sent.
# What is not one, or not simple, is left to the protocol in Python.

DEF LARGE = 16384  # as in protocols.base: a longer message is not copied behind its head

cdef char sending[LARGE + 16]
cdef dict framings = {}  # by the class of protocols


cdef class Framing:
    """The framing of one class of protocols.

    is_stream: several messages may follow each other. is_exchange: each is answered before the next.
    """

    cdef bint is_stream, is_exchange
    cdef Py_ssize_t buffer, limit  # where the slots of the class are

    def __init__(self, cls):
        self.is_stream = True
        self.buffer = offset_of(cls, "_buffer")
        self.limit = offset_of(cls, "max_package_size")

    cdef inline Py_ssize_t most(self, machine):
        # The largest message; -1 if it is no number that C has.
        cdef PyObject *found = slot(machine, self.limit)
        if found is NULL:
            return -1
        size = <object>found
        return PyLong_AsLong(size) if type(size) is int and 0 <= size <= LARGEST else -1

    cdef object next(self, machine, const char *data, Py_ssize_t size, Py_ssize_t *at):
        """The message at `data[at]`, and `at` behind it; None: Python has to read that."""
        return None

    cdef Py_ssize_t head(self, machine, char *head, const char *data, Py_ssize_t size, bint is_text):
        """Write what goes before a message; return its size. -1: Python has to encode it."""
        return -1

    cdef int send(self, machine, TransportState io, data) except -2:
        """Send a message. 0: the peer is gone. -1: Python has to send it."""
        cdef const char *payload
        cdef Py_ssize_t size, head
        cdef bint is_line, is_text = type(data) is str
        if is_text:
            payload = PyUnicode_AsUTF8AndSize(data, &size)
        elif type(data) is bytes:
            payload = PyBytes_AS_STRING(data)
            size = PyBytes_GET_SIZE(data)
        else:
            return -1
        if size >= LARGE and io.bits.is_simple == TLS:
            return -1
        head = self.head(machine, sending, payload, size, is_text)
        if head < 0:
            return -1
        is_line = type(self) is TextFraming
        if size >= LARGE:
            return send_parts(io, sending, head, payload, size, is_line, data)
        memcpy(sending + head, payload, size)
        if is_line:
            sending[head + size] = 10
        return send_parts(io, sending, head + size + is_line, NULL, 0, False, None)

    cdef bint is_at_rest(self, machine):
        """False: the protocol has more to tell, or owes an answer."""
        return slot(machine, self.buffer) == <PyObject *>EMPTY

    cdef bint owes_answer(self, machine):
        """True while a message in hand is to be answered, by what its handler returns as well."""
        return False


cdef class TcpFraming(Framing):
    def __init__(self, cls):
        Framing.__init__(self, cls)
        self.is_stream = False

    cdef object next(self, machine, const char *data, Py_ssize_t size, Py_ssize_t *at):
        if slot(machine, self.buffer) != <PyObject *>EMPTY:
            return None
        at[0] = size
        return PyBytes_FromStringAndSize(data, size)

    cdef Py_ssize_t head(self, machine, char *head, const char *data, Py_ssize_t size, bint is_text):
        return 0


cdef class TextFraming(Framing):
    cdef object next(self, machine, const char *data, Py_ssize_t size, Py_ssize_t *at):
        cdef const char *start = data + at[0]
        cdef const char *end = <const char *>memchr(start, 10, size - at[0])
        cdef Py_ssize_t length
        if end == NULL or slot(machine, self.buffer) != <PyObject *>EMPTY:
            return None
        length = end - start
        if length and start[length - 1] == 13:
            length -= 1
        if length > self.most(machine):
            return None
        line = decoded(start, length)
        if line is not None:
            at[0] = end + 1 - data
        return line

    cdef Py_ssize_t head(self, machine, char *head, const char *data, Py_ssize_t size, bint is_text):
        return -1 if memchr(data, 10, size) != NULL else 0


cdef class FrameFraming(Framing):
    cdef Py_ssize_t payload

    def __init__(self, cls):
        Framing.__init__(self, cls)
        self.payload = offset_of(cls, "_payload")

    cdef object next(self, machine, const char *data, Py_ssize_t size, Py_ssize_t *at):
        cdef const unsigned char *start = <const unsigned char *>data + at[0]
        cdef Py_ssize_t length
        if (
            size - at[0] < 4
            or slot(machine, self.buffer) != <PyObject *>EMPTY
            or slot(machine, self.payload) != <PyObject *>None
        ):
            return None
        length = (<Py_ssize_t>start[0] << 24) | (start[1] << 16) | (start[2] << 8) | start[3]
        if length < 4 or length > size - at[0] or length > self.most(machine):
            return None
        at[0] += length
        return PyBytes_FromStringAndSize(<const char *>start + 4, length - 4)

    cdef Py_ssize_t head(self, machine, char *head, const char *data, Py_ssize_t size, bint is_text):
        if size > LARGEST:
            return -1
        size += 4
        head[0] = <char>(size >> 24)
        head[1] = <char>(size >> 16)
        head[2] = <char>(size >> 8)
        head[3] = <char>size
        return 4


cdef class WebSocketFraming(Framing):
    """A server's end (RFC 6455 section 5.2). is_open: the phase in which messages are exchanged."""

    cdef Py_ssize_t phase, message, deflate
    cdef object is_open

    def __init__(self, cls, is_open):
        Framing.__init__(self, cls)
        self.phase = offset_of(cls, "_phase")
        self.message = offset_of(cls, "_message")
        self.deflate = offset_of(cls, "_deflate")
        self.is_open = is_open

    cdef inline bint exchanges(self, machine):
        return (
            slot(machine, self.phase) == <PyObject *>self.is_open
            and slot(machine, self.deflate) == <PyObject *>None
        )

    cdef object next(self, machine, const char *data, Py_ssize_t size, Py_ssize_t *at):
        cdef const unsigned char *start = <const unsigned char *>data + at[0]
        cdef Py_ssize_t left = size - at[0], length
        cdef Py_ssize_t header = 6
        cdef int i
        if (
            left < 6
            or (start[0] != 0x81 and start[0] != 0x82)  # a whole message, text or binary
            or start[1] < 128
            or slot(machine, self.buffer) != <PyObject *>EMPTY
            or slot(machine, self.message) != <PyObject *>None
            or not self.exchanges(machine)
        ):
            return None
        length = start[1] - 128
        if length == 126:
            if left < 8:
                return None
            header = 8
            length = (start[2] << 8) | start[3]
            if length < 126:
                return None
        elif length == 127:
            if left < 14 or start[2] or start[3] or start[4] or start[5]:
                return None
            header = 14
            length = (<Py_ssize_t>start[6] << 24) | (start[7] << 16) | (start[8] << 8) | start[9]
            if length < 65536:
                return None
        if length > left - header or length > self.most(machine):
            return None
        message = unmasked(<const char *>start + header, length, start[0] == 0x81)
        if message is not None:
            at[0] += header + length
        return message

    cdef Py_ssize_t head(self, machine, char *head, const char *data, Py_ssize_t size, bint is_text):
        if not self.exchanges(machine):
            return -1
        head[0] = <char>(0x81 if is_text else 0x82)
        if size < 126:
            head[1] = <char>size
            return 2
        if size < 65536:
            head[1] = 126
            head[2] = <char>(size >> 8)
            head[3] = <char>size
            return 4
        if size > LARGEST:
            return -1
        head[1] = 127
        head[2] = head[3] = head[4] = head[5] = 0
        head[6] = <char>(size >> 24)
        head[7] = <char>(size >> 16)
        head[8] = <char>(size >> 8)
        head[9] = <char>size
        return 10


cdef extern from *:
    """
    #include <stdint.h>
    #include <string.h>

    /* to and from may be the same; mask: 4 bytes, in the order of the stream */
    static void xor_mask(char *to, const char *from, Py_ssize_t size, const char *mask)
    {
        uint64_t eight, key;
        uint32_t four;
        Py_ssize_t at = 0;
        memcpy(&four, mask, 4);
        key = (uint64_t)four << 32 | four;
        for (; at + 8 <= size; at += 8) {
            memcpy(&eight, from + at, 8);
            eight ^= key;
            memcpy(to + at, &eight, 8);
        }
        for (; at < size; at++)
            to[at] = from[at] ^ mask[at & 3];
    }

    static int is_ascii(const char *data, Py_ssize_t size)
    {
        uint64_t eight, all = 0;
        Py_ssize_t at = 0;
        for (; at + 8 <= size; at += 8) {
            memcpy(&eight, data + at, 8);
            all |= eight;
        }
        for (; at < size; at++)
            all |= (unsigned char)data[at];
        return !(all & 0x8080808080808080u);
    }
    """
    void xor_mask(char *to, const char *data, Py_ssize_t size, const char *mask) noexcept
    bint is_ascii(const char *data, Py_ssize_t size) noexcept


cdef object decoded(const char *data, Py_ssize_t size):
    """A str; None: it is no UTF-8."""
    if is_ascii(data, size):
        text = PyUnicode_New(size, 127)
        memcpy(PyUnicode_DATA(text), data, size)
        return text
    # No exception is made, as that may run other code. What has had U+FFFD before is Python's, too.
    text = PyUnicode_DecodeUTF8(data, size, "replace")
    return None if PyUnicode_FindChar(text, 0xFFFD, 0, PyUnicode_GET_LENGTH(text), 1) >= 0 else text


cdef object unmasked(const char *payload, Py_ssize_t size, bint is_text):
    """The message that is behind its mask; None: it is no UTF-8."""
    message = PyBytes_FromStringAndSize(NULL, size)
    cdef char *plain = PyBytes_AS_STRING(message)
    xor_mask(plain, payload, size, payload - 4)
    return decoded(plain, size) if is_text else message


def apply_mask(data, mask):
    cdef Py_buffer view, key
    PyObject_GetBuffer(data, &view, PyBUF_SIMPLE)
    try:
        PyObject_GetBuffer(mask, &key, PyBUF_SIMPLE)
        try:
            if key.len != 4:
                raise ValueError("a mask has 4 bytes")
            result = PyBytes_FromStringAndSize(NULL, view.len)
            xor_mask(PyBytes_AS_STRING(result), <char *>view.buf, view.len, <char *>key.buf)
        finally:
            PyBuffer_Release(&key)
    finally:
        PyBuffer_Release(&view)
    return result


def send(ConnectionState connection not None, data, raw=False):
    cdef TransportState io
    cdef JobState job
    cdef Framing framing
    cdef int is_sent
    if (
        connection.state != established_state
        or raw is not False
        or connection.observer is not None
        or type(connection.io) is not TRANSPORT
    ):
        return SEND(connection, data, raw)
    io = <TransportState>connection.io
    framing = <Framing>framings.get(type(connection.protocol_machine))
    if framing is None or io.write_buffer is not None or not io.bits.is_simple:
        return SEND(connection, data, raw)
    is_sent = framing.send(connection.protocol_machine, io, data)
    if is_sent < 0:
        return SEND(connection, data, raw)
    if connection.parser_paused:
        job = <JobState>connection.event_job
        if job is None or job.greenlet is not CURRENT():
            connection.continue_parsing()
    return is_sent != 0


def send_to_all(connections, message):
    cdef ConnectionState connection
    cdef TransportState io
    cdef Framing framing
    cdef int is_sent
    cdef Py_ssize_t taken = 0
    cdef list others = []
    for each in connections:
        is_sent = -1
        if type(each) is CONNECTION:
            connection = <ConnectionState>each
            framing = <Framing>framings.get(type(connection.protocol_machine))
            if (
                connection.state == established_state
                and framing is not None
                and not framing.is_exchange
                and connection.observer is None
                and not connection.parser_paused
                and type(connection.io) is TRANSPORT
            ):
                io = <TransportState>connection.io
                if io.write_buffer is None and io.bits.is_simple == PLAIN:
                    is_sent = framing.send(connection.protocol_machine, io, message)
        if is_sent < 0:
            others.append(each)
        else:
            taken += is_sent
    return taken, others


cdef bint send_parts(
    TransportState io, const char *head, Py_ssize_t head_size, const char *body, Py_ssize_t size,
    bint is_line, source,
) except -1:
    """Send `head`, then `body`, then for a line its end. False: the peer is gone.

    source: the str or bytes that `body` is; None: there is none.
    """
    cdef iovec parts[3]
    cdef msghdr message
    cdef ssize_t sent
    cdef Py_ssize_t whole = head_size + size + is_line
    if io.bits.is_simple == TLS:
        return io.write(joined(head, head_size, body, size, is_line))
    if head_size == whole:
        sent = c_send(io.descriptor, head, whole, MSG_NOSIGNAL | MSG_DONTWAIT)
    else:
        memset(&message, 0, sizeof(message))
        parts[0].iov_base, parts[0].iov_len = <void *>head, head_size
        parts[1].iov_base, parts[1].iov_len = <void *>body, size
        parts[2].iov_base, parts[2].iov_len = <void *>LINE_END, is_line
        message.msg_iov, message.msg_iovlen = parts, 3
        sent = sendmsg(io.descriptor, &message, MSG_NOSIGNAL | MSG_DONTWAIT)
    if sent < 0:
        if errno != EAGAIN and errno != EINTR:
            return io._fail()
        sent = 0
    io.bytes_written += sent
    (<ServerState>io._server).bytes_written += sent
    if sent == whole:
        return True
    if head_size == whole:
        return io._queue(PyBytes_FromStringAndSize(head + sent, whole - sent))
    if sent < head_size:
        io._make_write_buffer().append(PyBytes_FromStringAndSize(head + sent, head_size - sent))
        sent = head_size
    sent -= head_size
    if type(source) is bytes and not is_line:
        return io._queue(source, sent)
    return io._queue(joined(body + sent, size - sent, NULL, 0, is_line))


cdef bytes joined(
    const char *head, Py_ssize_t head_size, const char *body, Py_ssize_t size, bint is_line
):
    cdef bytes whole = PyBytes_FromStringAndSize(NULL, head_size + size + is_line)
    cdef char *at = PyBytes_AS_STRING(whole)
    memcpy(at, head, head_size)
    memcpy(at + head_size, body, size)
    if is_line:
        at[head_size + size] = 10
    return whole
