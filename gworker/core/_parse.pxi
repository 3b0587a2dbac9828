# The parse of a request:
#
#     take_request(data, size, cls, origin, max_body, &taken) -> RequestCore or None
#
# What is plainly right and simple (RFC 9110, RFC 9112) is taken. None says "not mine" of all else:
# no error is known here. gworker.core.request takes the same, by one pattern.

# The limits of both.
cdef enum:
    MAX_LINE = 8192
    MAX_HEADERS = 16384
    MAX_FIELDS = 100
    MAX_HOST = 249  # without the port

cdef struct Parse:
    Field[MAX_FIELDS] fields
    Py_ssize_t count
    Py_ssize_t head, body  # sizes
    Py_ssize_t target_end
    unsigned char method
    int method_end


cdef unsigned char method_of(const char *at, int *size) noexcept nogil:
    # `at` has at least eight bytes.
    if memcmp(at, b"GET ", 4) == 0:
        size[0] = 3
        return GET
    if memcmp(at, b"POST ", 5) == 0:
        size[0] = 4
        return POST
    if memcmp(at, b"HEAD ", 5) == 0:
        size[0] = 4
        return HEAD
    if memcmp(at, b"PUT ", 4) == 0:
        size[0] = 3
        return PUT
    if memcmp(at, b"PATCH ", 6) == 0:
        size[0] = 5
        return PATCH
    if memcmp(at, b"DELETE ", 7) == 0:
        size[0] = 6
        return DELETE
    if memcmp(at, b"OPTIONS ", 8) == 0:
        size[0] = 7
        return OPTIONS
    return NO_METHOD


cdef bint parse_head(
    Parse *parsed, const char *data, Py_ssize_t size, Py_ssize_t max_body
) noexcept nogil:
    # Fill `parsed` from a request that begins here and is whole. False: it is not ours.
    cdef const char *end = data + size
    cdef const char *at
    cdef const char *name
    cdef const char *colon
    cdef const char *value
    cdef const char *line
    cdef Py_ssize_t length = -1
    cdef Py_ssize_t count = 0
    cdef int hosts = 0, connections = 0
    cdef bint is_multipart = False
    cdef Field *field
    if size < 18:  # GET / HTTP/1.1 and two line ends
        return False
    parsed.method = method_of(data, &parsed.method_end)
    at = data + parsed.method_end + 1
    if not parsed.method or at[0] != c'/':
        return False
    at = behind(at, end, TARGET)
    parsed.target_end = at - data
    if parsed.target_end + 9 > MAX_LINE or end - at < 11 or memcmp(at, b" HTTP/1.1\r\n", 11):
        return False
    at += 11
    line = at
    while True:
        if end - at < 2:
            return False
        if at[0] == c'\r':
            if at[1] != c'\n':
                return False
            break
        if count == MAX_FIELDS:
            return False
        name = at
        at = behind(at, end, TOKEN)
        colon = at
        if at == name or at == end or at[0] != c':':
            return False
        value = at + 1
        at = behind_value(value, end)
        if end - at < 2 or at[0] != c'\r' or at[1] != c'\n':
            return False
        field = &parsed.fields[count]
        set_field(field, data, name, colon, value, at)
        count += 1
        at += 2
        if not is_decisive(data, field, &hosts, &connections, &length, &is_multipart):
            return False
    at += 2
    if hosts != 1 or at - line > MAX_HEADERS:
        return False
    parsed.count = count
    parsed.head = at - data
    parsed.body = 0
    if length > 0:
        if length > max_body or length > end - at or is_multipart:
            return False
        parsed.body = length
    return True


cdef bint is_decisive(
    const char *data, Field *field, int *hosts, int *connections, Py_ssize_t *length,
    bint *is_multipart,
) noexcept nogil:
    # Note what a field says about the framing. False: more than is known here.
    cdef const char *name = data + field.name
    cdef const char *value = data + field.value
    cdef const char *end = data + field.value_end
    cdef Py_ssize_t size = field.name_end - field.name
    if size == 4:
        if is_name(name, b"host", 4):
            hosts[0] += 1
            return is_host(value, end)
    elif size == 6:
        return not is_name(name, b"expect", 6)
    elif size == 7:
        return not is_name(name, b"upgrade", 7)
    elif size == 10:
        if is_name(name, b"connection", 10):
            connections[0] += 1
            return (
                connections[0] == 1 and end - value == 10 and is_name(value, b"keep-alive", 10)
            )
    elif size == 12:
        if is_name(name, b"content-type", 12) and end - value >= 10:
            is_multipart[0] |= is_name(value, b"multipart/", 10)
    elif size == 14:
        if is_name(name, b"content-length", 14):
            if length[0] >= 0 or value == end or end - value > 15:
                return False
            length[0] = 0
            while value < end:
                if not c'0' <= value[0] <= c'9':
                    return False
                length[0] = length[0] * 10 + value[0] - c'0'
                value += 1
    elif size == 16:
        return not is_name(name, b"proxy-connection", 16)
    elif size == 17:
        return not is_name(name, b"transfer-encoding", 17)
    return True


cdef bint is_host(const char *at, const char *end) noexcept nogil:
    # A name or an IPv4 address, and a port if there is a colon.
    cdef const char *colon
    if at == end or behind(at, end, HOST) != end:
        return False
    colon = <const char *>memchr(at, c':', end - at)
    if colon is NULL:
        return end - at <= MAX_HOST
    if colon - at > MAX_HOST or end - colon > 6:
        return False
    at = colon + 1
    while at < end and c'0' <= at[0] <= c'9':
        at += 1
    return at == end


cdef RequestCore take_request(
    const char *data, Py_ssize_t size, object cls, object origin, Py_ssize_t max_body,
    Py_ssize_t *taken,
):
    """The request that begins at `data` and is whole, with the bytes that it has taken; None: not
    mine.

    cls: of the request, a subclass of RequestCore. max_body: bytes of the longest body that is to
    be handed out whole. All is copied from `data`.
    """
    cdef RequestCore request
    cdef HeadLines lines
    cdef Parse parsed
    cdef bytes body = b""
    if not parse_head(&parsed, data, size, max_body):
        return None
    lines = new_lines(PyBytes_FromStringAndSize(data, parsed.head), parsed.count)
    lines.method_end = parsed.method_end
    lines.target_end = <uint32_t>parsed.target_end
    lines.line_end = <uint32_t>parsed.target_end + 9
    lines.count = parsed.count
    memcpy(lines.fields, parsed.fields, parsed.count * sizeof(Field))
    if parsed.body:
        body = PyBytes_FromStringAndSize(data + parsed.head, parsed.body)
    # This may collect garbage and so run other code: nothing is read from `data` any more.
    request = <RequestCore?>(<PyTypeObject *>cls).tp_new(<PyTypeObject *>cls, (), NULL)
    request.known_method = parsed.method
    request.lines = lines
    request._head = lines.head
    request._origin = origin
    request.body = body
    request.keep_alive = True
    taken[0] = parsed.head + parsed.body
    return request


def parse_request(object cls, buffer, Py_ssize_t pos, origin, Py_ssize_t max_body):
    """See gworker.core.request."""
    cdef Py_ssize_t taken = 0
    cdef RequestCore request
    if type(buffer) is not bytes or not 0 <= pos <= PyBytes_GET_SIZE(buffer):
        return None
    request = take_request(
        PyBytes_AS_STRING(buffer) + pos, PyBytes_GET_SIZE(buffer) - pos, cls, origin, max_body,
        &taken,
    )
    if request is None:
        return None
    return request, METHOD_BYTES[request.known_method], request._head, pos + taken
