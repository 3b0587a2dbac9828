# WSGI: a request as an environ, and a call of an application whose answer is one whole piece.
# See gworker.core.wsgi, which says what is meant.

cdef extern from "Python.h":
    PyObject *PyDict_SetDefault(object, object, object) except NULL
    Py_ssize_t PyDict_Size(object) except -1

cdef enum:
    KEYS = 1024  # a power of two
    MAX_KEPT_NAME = 47  # bytes of a name whose key is kept

cdef struct Key:
    PyObject *key  # NULL: none is kept here
    unsigned char size
    char[MAX_KEPT_NAME] name

cdef Key[KEYS] kept_keys
memset(kept_keys, 0, sizeof(kept_keys))

cdef str HTTP_1_1 = "HTTP/1.1"


cdef str key_at(const char *name, Py_ssize_t size):
    # The key of an environ for a field of this name, as it is spelt; "": it has none.
    cdef uint32_t mixed = 2166136261
    cdef Py_ssize_t each
    cdef Key *kept
    for each in range(size):
        mixed = (mixed ^ <unsigned char>name[each]) * 16777619
    kept = &kept_keys[(mixed ^ (mixed >> 15)) & (KEYS - 1)]
    if kept.key is not NULL and kept.size == size and memcmp(kept.name, name, size) == 0:
        return <str>kept.key
    found = key_of(PyUnicode_DecodeLatin1(name, size, NULL))
    if size <= MAX_KEPT_NAME:
        Py_INCREF(found)
        Py_XDECREF(kept.key)
        kept.key = <PyObject *>found
        kept.size = <unsigned char>size
        memcpy(kept.name, name, size)
    return found


cdef str latin_unquoted(const char *at, Py_ssize_t size):
    # Percent-decoded once, bytes as latin-1. None: it is too long for that.
    cdef char[SMALL] decoded
    cdef char *to = decoded
    cdef const char *end = at + size
    if size > SMALL:
        return None
    while at < end:
        if at[0] == c'%' and end - at > 2 and digit(at[1]) >= 0 and digit(at[2]) >= 0:
            to[0] = <char>(digit(at[1]) << 4 | digit(at[2]))
            at += 3
        else:
            to[0] = at[0]
            at += 1
        to += 1
    return PyUnicode_DecodeLatin1(decoded, to - decoded, NULL)


cdef str path_of(RequestCore request, dict environ, str target):
    # PATH_INFO without regard to a root; QUERY_STRING is set.
    cdef HeadLines lines = request.lines
    cdef const char *start = PyBytes_AS_STRING(lines.head) + lines.method_end + 1
    cdef Py_ssize_t size = <Py_ssize_t>lines.target_end - lines.method_end - 1
    cdef const char *mark
    cdef bint is_whole = True
    cdef str path = None
    if size <= 0 or start[0] != c'/':
        return split_path(environ, target)
    mark = <const char *>memchr(start, c'?', size)
    if mark is NULL:
        environ["QUERY_STRING"] = ""
    else:
        environ["QUERY_STRING"] = PyUnicode_DecodeLatin1(mark + 1, size - (mark + 1 - start), NULL)
        size = mark - start
        is_whole = False
    if memchr(start, c'%', size) is not NULL:
        path = latin_unquoted(start, size)
        return split_path(environ, target) if path is None else path
    return target if is_whole else PyUnicode_DecodeLatin1(start, size, NULL)


cdef dict environ_of(dict template, RequestCore request, str root):
    cdef HeadLines lines = all_lines(request)
    cdef dict environ = template.copy()
    cdef const char *data = PyBytes_AS_STRING(lines.head)
    cdef const char *version = data + lines.target_end + 1
    cdef Field *field
    cdef PyObject *before
    cdef Py_ssize_t each, size = PyDict_Size(environ)
    cdef str key, target, value
    for each in range(lines.count):
        field = &lines.fields[each]
        key = key_at(data + field.name, field.name_end - field.name)
        if not PyUnicode_GET_LENGTH(key):
            continue
        value = lines.value(field)
        before = PyDict_SetDefault(environ, key, value)
        size += 1
        if PyDict_Size(environ) != size:
            size -= 1
            environ[key] = joined_value(key, <str>before, value)
    environ["REQUEST_METHOD"] = request.method
    target = lines.text(lines.method_end + 1, lines.target_end)
    environ["RAW_URI"] = environ["REQUEST_URI"] = target
    if lines.line_end - lines.target_end == 9 and memcmp(version, b"HTTP/1.1", 8) == 0:
        environ["SERVER_PROTOCOL"] = HTTP_1_1
    else:
        environ["SERVER_PROTOCOL"] = lines.text(lines.target_end + 1, lines.line_end)
    path = path_of(request, environ, target)
    environ["PATH_INFO"] = below(root, path) if PyUnicode_GET_LENGTH(root) else path
    return environ


def make_environ(dict template not None, RequestCore request not None, str root not None):
    """See gworker.core.wsgi."""
    return environ_of(template, request, root)


# ---- answers

cdef bint is_final_status(status) noexcept:
    # Three digits, and a reason behind a space.
    cdef const char *at
    cdef Py_ssize_t size
    if type(status) is not str or PyUnicode_KIND(status) != 1:
        return False
    at = <const char *>PyUnicode_DATA(status)
    size = PyUnicode_GET_LENGTH(status)
    return (
        size >= 3
        and c'1' <= at[0] <= c'9' and c'0' <= at[1] <= c'9' and c'0' <= at[2] <= c'9'
        and (size == 3 or (at[3] == c' ' and behind_value(at + 4, at + size) == at + size))
    )


cdef class PreparedAnswer:
    """See gworker.core.wsgi."""

    cdef public object status, fields, body

    def __init__(self, status, fields, body=b""):
        self.body = body
        self.prepare(status, fields)

    cpdef prepare(self, status, fields):
        cdef list copy = []
        if not is_final_status(status):
            check_status(status)
        for each in fields:
            if type(each) is tuple and len(<tuple>each) == 2:
                if not (is_token((<tuple>each)[0]) and is_value((<tuple>each)[1])):
                    check_field((<tuple>each)[0], (<tuple>each)[1])
                copy.append(each)
            else:
                name, value = each
                check_field(name, value)
                copy.append((name, value))
        self.status, self.fields = status, copy

    def dropped(self, names):
        pass


cdef bint make_prepared(Answer *answer, PreparedAnswer prepared, body, bytes common):
    # Make the head of a whole answer, whose `body` stays where it is. False: not mine.
    cdef const char *at
    cdef const char *name
    cdef Py_ssize_t size, length
    cdef int code
    cdef bint has_date = False
    if type(body) is not bytes or type(prepared.fields) is not list:
        return False
    answer.end = answer.head
    set_body(answer, body)
    at = <const char *>PyUnicode_DATA(prepared.status)
    size = PyUnicode_GET_LENGTH(prepared.status)
    if size < 3:
        return False
    code = (at[0] - c'0') * 100 + (at[1] - c'0') * 10 + at[2] - c'0'
    if code < 200 or code > 599 or code == 204 or code == 205 or code == 304:
        return False
    if not (append(answer, b"HTTP/1.1 ", 9) and append(answer, at, size)):
        return False
    if not append(answer, b"\r\n", 2):
        return False
    for field in <list>prepared.fields:
        name = <const char *>PyUnicode_DATA((<tuple>field)[0])
        size = PyUnicode_GET_LENGTH((<tuple>field)[0])
        value = (<tuple>field)[1]
        at = <const char *>PyUnicode_DATA(value)
        length = PyUnicode_GET_LENGTH(value)
        if size == 14 and is_name(name, b"content-length", 14):
            if number_at(at, length) != answer.size:
                return False
            continue
        if is_about_connection(name, size):
            return False
        if size == 4 and is_name(name, b"date", 4):
            has_date = True
        if not (
            append(answer, name, size)
            and append(answer, b": ", 2)
            and append(answer, at, length)
            and append(answer, b"\r\n", 2)
        ):
            return False
    return (
        append(answer, b"Content-Length: ", 16)
        and append_number(answer, answer.size)
        and append(answer, b"\r\n", 2)
        and (has_date or append_bytes(answer, common))
        and append(answer, b"\r\n", 2)
    )


cdef Py_ssize_t number_at(const char *at, Py_ssize_t size) noexcept:
    # -1: it is no number, or a long one.
    cdef Py_ssize_t number = 0
    if not 0 < size <= 15:
        return -1
    for each in range(size):
        if not c'0' <= at[each] <= c'9':
            return -1
        number = number * 10 + at[each] - c'0'
    return number


cdef bint is_about_connection(const char *name, Py_ssize_t size) noexcept:
    # The fields of FRAMING in protocols.http.prepared, but for Content-Length.
    if size == 2:
        return is_name(name, b"te", 2)
    if size == 7:
        return is_name(name, b"upgrade", 7)
    if size == 8:
        return is_name(name, b"trailers", 8)
    if size == 10:
        return is_name(name, b"connection", 10) or is_name(name, b"keep-alive", 10)
    if size == 17:
        return is_name(name, b"transfer-encoding", 17)
    if size == 18:
        return is_name(name, b"proxy-authenticate", 18)
    if size == 19:
        return is_name(name, b"proxy-authorization", 19)
    return False


# ---- a call

cdef class ExchangeCore(PreparedAnswer):
    """See gworker.core.wsgi."""

    cdef public object connection, left, sleeper
    cdef public Py_ssize_t unshared
    cdef public bint is_begun, had_eof

    def __init__(self, connection):
        prepare_exchange(self, connection, connection.io.eof_received)

    def __call__(self, status, headers, exc_info=None):
        if exc_info is not None:
            if self.is_begun:
                raise_again(exc_info)
        elif self.status:
            raise AssertionError("start_response() was called before, without exc_info")
        self.prepare(status, headers)
        return self.write


cdef void prepare_exchange(ExchangeCore exchange, connection, bint had_eof):
    exchange.status = ""
    exchange.fields = []
    exchange.body = EMPTY
    exchange.connection = connection
    exchange.had_eof = had_eof


cdef str peer_of(TransportState io):
    # The IP address, an IPv4 address also on `::`. None: it is not kept as one.
    cdef char[ADDRESS_TEXT] text
    cdef int family = io.bits.family
    cdef const unsigned char *at = io.host.ip
    if not family:
        return None
    if family == AF_INET6 and memcmp(at, b"\0\0\0\0\0\0\0\0\0\0\xff\xff", 12) == 0:
        family = AF_INET
        at += 12
    inet_ntop(family, at, text, ADDRESS_TEXT)
    return PyUnicode_DecodeLatin1(text, strlen(text), NULL)


cdef str port_of(TransportState io):
    cdef char[8] digits
    cdef char *at = digits + 8
    cdef unsigned int port = io.port
    while True:
        at -= 1
        at[0] = <char>(c'0' + port % 10)
        port //= 10
        if not port:
            break
    return PyUnicode_DecodeLatin1(at, digits + 8 - at, NULL)


cdef class ApplicationCore:
    """See gworker.core.wsgi."""

    cdef public object application
    cdef public dict template
    cdef public str root
    cdef public bint is_plain, watches
    cdef object exchange, request

    def __init__(self, application, dict template not None, str root not None, exchange, request):
        self.application, self.template, self.root = application, template, root
        self.exchange, self.request = exchange, request
        self.is_plain = self.watches = True

    def __call__(self, connection, request):
        cdef ConnectionState ours
        cdef ExchangeCore exchange
        cdef TransportState io
        cdef dict environ
        cdef str peer
        if (
            not self.is_plain
            or type(request) is not self.request
            or type(connection) is not CONNECTION
            or (<RequestCore>request).body != EMPTY
        ):
            return self.serve(connection, request)
        ours = <ConnectionState>connection
        if type(ours.io) is not TRANSPORT:
            return self.serve(connection, request)
        io = <TransportState>ours.io
        peer = peer_of(io)
        if peer is None:
            return self.serve(connection, request)
        environ = environ_of(self.template, <RequestCore>request, self.root)
        if (
            self.watches
            and (peer == "127.0.0.1" or peer == "::1")
            and ("HTTP_X_FORWARDED_PROTO" in environ or "HTTP_X_FORWARDED_FOR" in environ)
        ) or "HTTP_TRANSFER_ENCODING" in environ:
            return self.serve(connection, request)
        exchange = <ExchangeCore>new(self.exchange)
        prepare_exchange(exchange, connection, io.bits.eof_received)
        environ["REMOTE_ADDR"] = peer
        environ["REMOTE_PORT"] = port_of(io)
        environ["wsgi.early_hints"] = exchange.early_hints
        environ["gworker.client_disconnected"] = exchange.client_disconnected
        try:
            result = self.application(environ, exchange)
            if type(result) is list and len(<list>result) == 1:
                content = (<list>result)[0]
            elif type(result) is tuple and len(<tuple>result) == 1:
                content = (<tuple>result)[0]
            else:
                content = None
            if (
                type(content) is bytes
                and not exchange.is_begun
                and exchange.status
                and ours.state == established_state
            ):
                exchange.body = content
                exchange.is_begun = True
                return exchange
            exchange.finish(result)
        except BaseException:
            exchange.failed()
        return None
