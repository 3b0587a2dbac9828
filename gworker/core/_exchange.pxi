# HTTP on a connection: one request at a time, and its answer.

cdef Answer http_answer
cdef double date_until = 0
cdef bytes date_line = b""


cdef bytes date(double at):
    # The Date field, asked for anew five times a second.
    global date_until, date_line
    if at >= date_until:
        date_line = DATE_FIELD()
        date_until = at + 0.2
    return date_line


cdef class HttpFraming(Framing):
    """HTTP/1.1, the server's side. It moves the protocol from READING to ANSWERING and back, as
    `HttpProtocol` does for the same requests and answers."""

    cdef Py_ssize_t phase, head_of, raw, is_fresh, saw_blank, exchange, closing, origin, options
    cdef object reading, answering, request, response
    cdef dict heads
    cdef object head_only

    def __init__(self, cls, reading, answering, heads, request, response, date_field):
        global DATE_FIELD
        Framing.__init__(self, cls)
        self.is_stream = False
        self.is_exchange = True
        self.phase = offset_of(cls, "_phase")
        self.head_of = offset_of(cls, "_head")
        self.raw = offset_of(cls, "raw_head")
        self.is_fresh = offset_of(cls, "_is_fresh")
        self.saw_blank = offset_of(cls, "_saw_blank")
        self.exchange = offset_of(cls, "exchange")
        self.closing = offset_of(cls, "closing")
        self.origin = offset_of(cls, "origin")
        self.options = offset_of(cls, "_options")
        self.reading, self.answering, self.heads = reading, answering, heads
        self.request, self.response, self.head_only = request, response, heads[b"HEAD"]
        DATE_FIELD = date_field

    cdef object next(self, machine, const char *data, Py_ssize_t size, Py_ssize_t *at):
        cdef RequestCore request
        cdef Py_ssize_t taken, most
        cdef PyObject *above
        if (
            slot(machine, self.phase) != <PyObject *>self.reading
            or slot(machine, self.buffer) != <PyObject *>EMPTY
            or slot(machine, self.is_fresh) != <PyObject *>FALSE  # its deadline is to be ended
            or slot(machine, self.saw_blank) != <PyObject *>FALSE
        ):
            return None
        most = self.most(machine)
        above = PyDict_GetItem(<object>slot(machine, self.options), STREAM_ABOVE)
        if above is not NULL:
            if type(<object>above) is not int or not 0 <= <object>above <= LARGEST:
                return None
            most = min(most, PyLong_AsLong(<object>above))
        origin = <object>slot(machine, self.origin)
        request = take_request(data, size, self.request, origin, most, &taken)
        if request is None:
            return None
        at[0] = taken
        head = self.heads[METHOD_BYTES[request.known_method]]
        set_slot(machine, self.head_of, head)
        set_slot(machine, self.raw, request._head)
        set_slot(machine, self.phase, self.answering)
        return request

    cdef bint is_at_rest(self, machine):
        return (
            slot(machine, self.phase) == <PyObject *>self.reading
            and slot(machine, self.buffer) == <PyObject *>EMPTY
        )

    cdef bint owes_answer(self, machine):
        return (
            slot(machine, self.phase) == <PyObject *>self.answering
            and slot(machine, self.exchange) == <PyObject *>None
        )

    cdef int send(self, machine, TransportState io, data) except -2:
        cdef PyObject *head
        cdef Py_ssize_t size
        cdef bint is_prepared
        # Making these may run other code: what is looked at comes after.
        is_prepared = isinstance(data, PreparedAnswer)
        body = (<PreparedAnswer>data).body if is_prepared else content_of(data, self.response)
        cdef bytes common = date(clock())
        head = slot(machine, self.head_of)
        if (
            io.write_buffer is not None
            or io.pause_reasons  # it may be closed
            or not self.owes_answer(machine)
            or slot(machine, self.closing) != <PyObject *>FALSE
            or head == <PyObject *>None
            or head == <PyObject *>self.head_only
            or not is_simple_head(self.heads, head)
            or not (
                make_prepared(&http_answer, <PreparedAnswer>data, body, common)
                if is_prepared
                else make_answer(&http_answer, data, body, self.response, common)
            )
        ):
            return -1
        set_slot(machine, self.head_of, None)
        set_slot(machine, self.raw, EMPTY)
        set_slot(machine, self.phase, self.reading)
        size = http_answer.end - http_answer.head
        if append(&http_answer, http_answer.body, http_answer.size):
            return send_parts(io, http_answer.head, size + http_answer.size, NULL, 0, False, None)
        return send_parts(
            io, http_answer.head, size, http_answer.body, http_answer.size, False, body
        )


cdef bint is_simple_head(dict heads, PyObject *head):
    for each in heads.values():
        if <PyObject *>each == head:
            return True
    return False
