# The head of what answers a request, made in a buffer; the body stays where it is:
#
#     body = content_of(message, Response)
#     make_answer(&answer, message, body, Response, fields) -> False: not mine

cdef enum:
    MAX_ANSWER_HEAD = 8192

cdef bytes HTML = b"Content-Type: text/html; charset=utf-8\r\n"
cdef bytes OCTETS = b"Content-Type: application/octet-stream\r\n"
cdef bytes JSON = b"Content-Type: application/json\r\n"
cdef bytes OK = status_line(200)
cdef list status_lines = [None] * 600

cdef struct Answer:
    char *end  # of the head
    const char *body
    Py_ssize_t size  # of the body
    char[MAX_ANSWER_HEAD] head


cdef bint append(Answer *answer, const char *data, Py_ssize_t size) noexcept:
    # Append to the head. False: there is no room.
    if size > answer.head + MAX_ANSWER_HEAD - answer.end:
        return False
    memcpy(answer.end, data, size)
    answer.end += size
    return True


cdef inline bint append_bytes(Answer *answer, bytes data) noexcept:
    return append(answer, PyBytes_AS_STRING(data), PyBytes_GET_SIZE(data))


cdef bint append_number(Answer *answer, Py_ssize_t size) noexcept:
    cdef char[24] digits
    cdef char *at = digits + 24
    while True:
        at -= 1
        at[0] = c'0' + size % 10
        size //= 10
        if not size:
            break
    return append(answer, at, digits + 24 - at)


cdef bint set_body(Answer *answer, body) noexcept:
    # The body of the answer: str or bytes. False: another one.
    if type(body) is bytes:
        answer.body = PyBytes_AS_STRING(body)
        answer.size = PyBytes_GET_SIZE(body)
        return True
    if type(body) is not str:
        return False
    try:
        answer.body = PyUnicode_AsUTF8AndSize(body, &answer.size)
    except UnicodeEncodeError:  # half of a surrogate pair
        return False
    return True


cdef bint append_fields(Answer *answer, HeadersCore headers, bint *has_type):
    # The fields but those of the framing. False: there is one that says more about it.
    cdef Py_ssize_t size
    for key, field in headers.all_fields().items():
        if type(key) is not str:
            return False
        size = PyUnicode_GET_LENGTH(key)
        if size == 4 and key == "date" or size == 17 and key == "transfer-encoding":
            continue
        if size == 10 and key == "connection" or size == 14 and key == "content-length":
            return False
        if size == 12 and key == "content-type":
            has_type[0] = True
        name, values = field
        for value in values:
            if type(name) is not str or type(value) is not str:
                return False
            if not PyUnicode_IS_COMPACT_ASCII(name) or PyUnicode_KIND(value) != 1:
                return False
            if not (
                append(answer, <const char *>PyUnicode_DATA(name), PyUnicode_GET_LENGTH(name))
                and append(answer, b": ", 2)
                and append(answer, <const char *>PyUnicode_DATA(value), PyUnicode_GET_LENGTH(value))
                and append(answer, b"\r\n", 2)
            ):
                return False
    return True


cdef object content_of(message, response):
    """The body of what answers a request: str or bytes; another is not mine. It may run other code.

    response: the class of the answers that have fields.
    """
    if type(message) is response:
        return message.body
    if type(message) is dict or type(message) is list:
        try:
            return encode_json(message)
        except (TypeError, ValueError, RecursionError):
            pass  # the path in Python tries again, and tells
    return message


cdef bint make_answer(Answer *answer, message, body, response, bytes common):
    """Make the head of what answers a request, whose `body` stays where it is. False: not mine.

    response: the class of the answers that have fields. common: fields that each answer has.
    """
    cdef bint has_type = False
    cdef HeadersCore headers = None
    cdef bytes kind, line = OK
    answer.end = answer.head
    if type(message) is response:
        line = final_line(message.status)
        if line is None or message.reason is not None or not isinstance(message.headers, HeadersCore):
            return False
        headers = message.headers
        headers.all_fields()  # first: what makes a dict may run other code
    if not set_body(answer, body) or not append_bytes(answer, line):
        return False
    if headers is not None and not append_fields(answer, headers, &has_type):
        return False
    # An empty body has no type, unless it is the whole message.
    if (answer.size or headers is None) and not has_type:
        if headers is None and body is not message:
            kind = JSON
        elif type(body) is str:
            kind = HTML
        else:
            kind = OCTETS
        if not append_bytes(answer, kind):
            return False
    return (
        append(answer, b"Content-Length: ", 16)
        and append_number(answer, answer.size)
        and append(answer, b"\r\n", 2)
        and append_bytes(answer, common)
        and append(answer, b"\r\n", 2)
    )


cdef bytes final_line(status):
    # The status line of an answer that has content; None for others.
    cdef long code
    cdef int overflow = 0
    if not PyLong_Check(status):
        return None
    code = PyLong_AsLongAndOverflow(status, &overflow)
    if overflow or not 200 <= code <= 599 or code in (204, 205, 304):
        return None
    line = status_lines[code]
    if line is None:
        line = status_lines[code] = status_line(code)
    return line


def encode_simple(message, response, bytes fields, bint head_only):
    """See gworker.core.answer."""
    cdef Answer answer
    cdef Py_ssize_t size
    cdef bytes data
    body = message.body if type(message) is response else message
    if not make_answer(&answer, message, body, response, fields):
        return None
    size = answer.end - answer.head
    if head_only:
        return PyBytes_FromStringAndSize(answer.head, size)
    data = PyBytes_FromStringAndSize(NULL, size + answer.size)
    memcpy(PyBytes_AS_STRING(data), answer.head, size)
    memcpy(PyBytes_AS_STRING(data) + size, answer.body, answer.size)
    return data
