# Requests: what a handler asks for is decoded then.

cdef enum:
    SMALL = 8192  # bytes of what is percent-decoded on the stack
    MAX_PAIRS = 1000  # from here on Python counts

cdef enum:
    NO_METHOD, GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS

# What most servers are asked; the others are left to Python.
cdef tuple METHODS = ("", "GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
cdef tuple METHOD_BYTES = tuple([method.encode() for method in METHODS])


cdef class RequestCore:
    """See gworker.core.request."""

    cdef public bytes _head
    cdef public object _origin, _cache, body
    cdef public bint keep_alive
    cdef unsigned char known_method  # one of METHODS
    cdef HeadLines lines

    def __init__(self, bytes head not None, body=b"", keep_alive=True, origin=None):
        self._head = head
        self._origin = origin
        self._cache = None
        self.body = body
        self.keep_alive = keep_alive

    def _cached(self, key, parse):
        cache = self._cache
        if cache is None:
            cache = self._cache = {}
        elif key in <dict>cache:
            return (<dict>cache)[key]
        value = parse()
        cache[key] = value
        return value

    def _headers(self, cls):
        return headers_of(cls, all_lines(self))

    def forget(self):
        """Drop everything that was parsed; it is parsed anew when asked for."""
        self._cache = None
        self.lines = None

    @property
    def method(self):
        """Upper-case, as sent."""
        if self.known_method:
            return METHODS[self.known_method]
        return all_lines(self).text(0, self.lines.method_end)

    @property
    def target(self):
        """The request target as sent."""
        cdef HeadLines lines = all_lines(self)
        if lines.method_end + 1 > lines.target_end:
            raise IndexError("there is no target")
        return lines.text(lines.method_end + 1, lines.target_end)

    @property
    def version(self):
        """ "1.1" or "1.0"."""
        cdef HeadLines lines = all_lines(self)
        return lines.text(
            min(lines.target_end + 6, lines.line_end), lines.line_end
        )

    @property
    def raw_path(self):
        """The path as sent: still percent-encoded."""
        cdef Py_ssize_t query
        if not is_plain_target(self):
            return split_target(self.target)[0]
        query = begin_of_query(self)
        return self.lines.text(
            self.lines.method_end + 1, query - 1 if query else self.lines.target_end
        )

    @property
    def query_string(self):
        """What follows the "?", as sent."""
        cdef Py_ssize_t query
        if not is_plain_target(self):
            return split_target(self.target)[1]
        query = begin_of_query(self)
        return self.lines.text(query, self.lines.target_end) if query else ""

    @property
    def path(self):
        """The path, percent-decoded as UTF-8; bytes that are not UTF-8 become U+FFFD."""
        cdef str raw = self.raw_path
        if not PyUnicode_IS_COMPACT_ASCII(raw) or PyUnicode_GET_LENGTH(raw) > SMALL:
            return unquote(raw)
        return unquoted(<const char *>PyUnicode_DATA(raw), PyUnicode_GET_LENGTH(raw), False)


# No methods, as they would make each request larger.

cdef HeadLines all_lines(RequestCore request):
    if request.lines is None:
        if request._head is None:
            raise AttributeError("it has no head: its __init__ was not called")
        request.lines = lines_of(request._head)
    return request.lines


cdef Py_ssize_t begin_of_query(RequestCore request) noexcept:
    # Behind the "?" of the target; 0 if there is none.
    cdef HeadLines lines = request.lines
    cdef Py_ssize_t start = lines.method_end + 1
    cdef const char *data = PyBytes_AS_STRING(lines.head)
    cdef const char *mark
    if start >= lines.target_end:
        return 0
    mark = <const char *>memchr(data + start, c'?', lines.target_end - start)
    return 0 if mark is NULL else mark - data + 1


cdef bint is_plain_target(RequestCore request):
    # It begins with the path.
    cdef HeadLines lines = all_lines(request)
    return (
        lines.method_end + 1 < lines.target_end
        and PyBytes_AS_STRING(lines.head)[lines.method_end + 1] == c'/'
    )


cdef inline int digit(char byte) noexcept nogil:
    # The value of a hexadecimal digit; -1 for others.
    if c'0' <= byte <= c'9':
        return byte - c'0'
    byte |= 32
    return byte - c'a' + 10 if c'a' <= byte <= c'f' else -1


cdef str unquoted(const char *at, Py_ssize_t size, bint plus):
    # ASCII of up to SMALL bytes, percent-decoded as UTF-8. plus: a "+" is a space.
    cdef char[SMALL] decoded
    cdef char *to = decoded
    cdef const char *end = at + size
    if memchr(at, c'%', size) is NULL and not (plus and memchr(at, c'+', size) is not NULL):
        return PyUnicode_DecodeLatin1(at, size, NULL)
    while at < end:
        if at[0] == c'%' and end - at > 2 and digit(at[1]) >= 0 and digit(at[2]) >= 0:
            to[0] = <char>(digit(at[1]) << 4 | digit(at[2]))
            at += 3
        else:
            to[0] = c' ' if plus and at[0] == c'+' else at[0]
            at += 1
        to += 1
    return PyUnicode_DecodeUTF8(decoded, to - decoded, "replace")


def parse_pairs(encoded):
    """See gworker.core.parameters."""
    cdef const char *at
    cdef const char *end
    cdef const char *stop
    cdef const char *mark
    cdef list pairs = []
    cdef int fields = 0
    if type(encoded) is not str or not PyUnicode_IS_COMPACT_ASCII(encoded):
        return None
    if PyUnicode_GET_LENGTH(encoded) > SMALL:
        return None
    at = <const char *>PyUnicode_DATA(encoded)
    end = at + PyUnicode_GET_LENGTH(encoded)
    while at < end:
        stop = <const char *>memchr(at, c'&', end - at)
        if stop is NULL:
            stop = end
        fields += 1
        if fields == MAX_PAIRS:
            return None
        if stop > at:
            mark = <const char *>memchr(at, c'=', stop - at)
            if mark is NULL:
                pairs.append((unquoted(at, stop - at, True), ""))
            else:
                pairs.append(
                    (unquoted(at, mark - at, True), unquoted(mark + 1, stop - mark - 1, True))
                )
        at = stop + 1
    return pairs


cdef inline bint is_space(char byte) noexcept nogil:
    # What str.strip removes.
    return byte == c' ' or 9 <= byte <= 13 or 28 <= byte <= 31


def parse_cookies(field):
    """See gworker.core.parameters."""
    cdef const char *at
    cdef const char *end
    cdef const char *stop
    cdef const char *mark
    cdef const char *value
    cdef const char *value_end
    cdef dict cookies = {}
    if type(field) is not str or not PyUnicode_IS_COMPACT_ASCII(field):
        return parse_any_cookies(field)
    at = <const char *>PyUnicode_DATA(field)
    end = at + PyUnicode_GET_LENGTH(field)
    while at < end:
        stop = <const char *>memchr(at, c';', end - at)
        if stop is NULL:
            stop = end
        mark = <const char *>memchr(at, c'=', stop - at)
        if mark is not NULL:
            value, value_end = mark + 1, stop
            while at < mark and is_space(at[0]):
                at += 1
            while mark > at and is_space((mark - 1)[0]):
                mark -= 1
            if mark > at:
                while value < value_end and is_space(value[0]):
                    value += 1
                while value_end > value and is_space((value_end - 1)[0]):
                    value_end -= 1
                if value_end - value > 1 and value[0] == c'"' and (value_end - 1)[0] == c'"':
                    value += 1
                    value_end -= 1
                name = PyUnicode_DecodeLatin1(at, mark - at, NULL)
                if name not in cookies:  # the first of two counts
                    cookies[name] = PyUnicode_DecodeLatin1(value, value_end - value, NULL)
        at = stop + 1
    return cookies
