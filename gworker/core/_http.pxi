# HTTP/1.1: the heads of requests, their fields, and answers.
#
#     take_request(data, size, cls, origin, max_body, &taken) -> RequestCore or None
#     make_answer(&answer, message, Response, fields) -> False: not mine
#
# What is plainly right and simple (RFC 9110, RFC 9112) is taken; to all else they say "not mine",
# and know no error. Offsets are those in the head. What a handler asks for is decoded then.

from cpython.bytes cimport (
    PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE,
)
from cpython.mem cimport PyMem_Free, PyMem_Malloc
from cpython.object cimport PyObject
from cpython.unicode cimport PyUnicode_DecodeLatin1, PyUnicode_DecodeUTF8
from libc.stdint cimport uint32_t, uint64_t
from libc.string cimport memchr, memcmp, memcpy

from collections.abc import Mapping
from urllib.parse import unquote

from gworker.core.fields import check_field
from gworker.core.status import status_line
from gworker.core.python import parse_cookies as parse_any_cookies
from gworker.core.python import split_target

cdef extern from "Python.h":
    ctypedef struct PyTypeObject:
        object (*tp_new)(PyTypeObject *, object, PyObject *)
    bint PyUnicode_IS_COMPACT_ASCII(object)
    int PyUnicode_KIND(object)
    Py_ssize_t PyUnicode_GET_LENGTH(object)
    void *PyUnicode_DATA(object)
    str PyUnicode_New(Py_ssize_t, Py_UCS4)
    const char *PyUnicode_AsUTF8AndSize(object, Py_ssize_t *)
    void PyErr_Clear()
    bint PyLong_Check(object)
    long PyLong_AsLongAndOverflow(object, int *) except? -1

# The limits of gworker.protocols.http.head.
cdef enum:
    MAX_LINE = 8192
    MAX_HEADERS = 16384
    MAX_FIELDS = 100
    MAX_HOST = 249  # without the port

    MAX_NAME = 64  # of a field that is looked for among the bytes of a head
    SMALL = 8192  # bytes of what is percent-decoded on the stack
    MAX_PAIRS = 1000  # from here on gworker.http.parameters counts
    MAX_ANSWER_HEAD = 8192

# ---- kinds of bytes

cdef enum:
    TOKEN = 1  # of a field name
    TARGET = 2
    HOST = 4  # of a name or an IPv4 address, and its port
    VALUE = 8

cdef unsigned char[256] kinds
cdef unsigned char[256] lowered


cdef void prepare_kinds() noexcept:
    cdef int each
    cdef bint is_alnum
    for each in range(256):
        is_alnum = (c'0' <= each <= c'9') or (c'a' <= each <= c'z') or (c'A' <= each <= c'Z')
        kinds[each] = 0
        lowered[each] = each + 32 if c'A' <= each <= c'Z' else each
        if is_alnum or (0 < each < 128 and each in b"!#$%&'*+-.^_`|~"):
            kinds[each] |= TOKEN
        if 32 < each < 127 and each != c'#':
            kinds[each] |= TARGET
        if is_alnum or (0 < each < 128 and each in b"._~!$&'()*+;=-:"):
            kinds[each] |= HOST
        if each == 9 or (each >= 32 and each != 127):
            kinds[each] |= VALUE


prepare_kinds()


cdef inline bint is_a(const char *at, unsigned char kind) noexcept nogil:
    return kinds[<unsigned char>at[0]] & kind


cdef const char *behind(const char *at, const char *end, unsigned char kind) noexcept nogil:
    # The first byte that is not of this kind.
    while at < end and is_a(at, kind):
        at += 1
    return at


cdef const char *behind_value(const char *at, const char *end) noexcept nogil:
    # As `behind(at, end, VALUE)`, eight bytes at a time: none of them is below 32, and none is 127.
    cdef uint64_t word, rubbed
    while True:
        while end - at >= 8:
            memcpy(&word, at, 8)
            rubbed = word ^ 0x7F7F7F7F7F7F7F7FULL
            if (
                (((word - 0x2020202020202020ULL) & ~word)
                | ((rubbed - 0x0101010101010101ULL) & ~rubbed)) & 0x8080808080808080ULL
            ):
                break
            at += 8
        at = behind(at, end if end - at < 8 else at + 8, VALUE)
        if at == end or not is_a(at, VALUE):
            return at


cdef bint is_name(const char *at, const char *lower, Py_ssize_t size) noexcept nogil:
    # Whether these bytes are `lower`, but for the case of their letters.
    cdef Py_ssize_t each
    for each in range(size):
        if lowered[<unsigned char>at[each]] != <unsigned char>lower[each]:
            return False
    return True


cdef inline bint is_blank(char byte) noexcept nogil:
    return byte == c' ' or byte == c'\t'


# ---- heads

cdef struct Field:
    uint32_t name, name_end, value, value_end


@cython.final
@cython.freelist(64)
cdef class HeadLines:
    """Where the parts of a head are."""

    cdef bytes head
    cdef uint32_t method_end, target_end, line_end  # the target begins behind one space
    cdef Py_ssize_t count
    cdef Field *fields

    def __dealloc__(self):
        PyMem_Free(self.fields)

    cdef str text(self, Py_ssize_t start, Py_ssize_t end):
        return PyUnicode_DecodeLatin1(PyBytes_AS_STRING(self.head) + start, end - start, NULL)

    cdef str value(self, Field *field):
        return self.text(field.value, field.value_end)

    cdef Field *find(self, const char *lower, Py_ssize_t size, Py_ssize_t start) noexcept:
        # The first field from `start` on with this name.
        cdef Py_ssize_t each
        cdef Field *field
        cdef const char *data = PyBytes_AS_STRING(self.head)
        for each in range(start, self.count):
            field = &self.fields[each]
            if field.name_end - field.name == size and is_name(data + field.name, lower, size):
                return field
        return NULL


cdef HeadLines new_lines(bytes head, Py_ssize_t room):
    # With room for the offsets of so many fields.
    cdef HeadLines lines = HeadLines.__new__(HeadLines)
    lines.head = head
    lines.fields = <Field *>PyMem_Malloc(room * sizeof(Field))
    if lines.fields is NULL:
        raise MemoryError
    return lines


cdef const char *line_end(const char *at, const char *end) noexcept nogil:
    # Where the next CRLF is, or the end.
    while at < end:
        at = <const char *>memchr(at, c'\r', end - at)
        if at is NULL:
            return end
        if end - at > 1 and at[1] == c'\n':
            return at
        at += 1
    return end


cdef Py_ssize_t count_lines(const char *at, const char *end) noexcept nogil:
    # At least as many as `line_end` finds.
    cdef Py_ssize_t count = 1
    while at < end:
        at = <const char *>memchr(at, c'\n', end - at)
        if at is NULL:
            break
        count += 1
        at += 1
    return count


cdef void set_field(
    Field *field, const char *data, const char *name, const char *colon, const char *value,
    const char *end,
) noexcept nogil:
    # Blanks around a value do not belong to it.
    while value < end and is_blank(value[0]):
        value += 1
    while end > value and is_blank((end - 1)[0]):
        end -= 1
    field.name = <uint32_t>(name - data)
    field.name_end = <uint32_t>(colon - data)
    field.value = <uint32_t>(value - data)
    field.value_end = <uint32_t>(end - data)


cdef HeadLines lines_of(bytes head):
    # Of a head that was judged elsewhere: all its lines but the first one and the empty ones.
    cdef const char *data = PyBytes_AS_STRING(head)
    cdef const char *end = data + PyBytes_GET_SIZE(head)
    cdef HeadLines lines = new_lines(head, count_lines(data, end))
    cdef const char *at = line_end(data, end)
    cdef const char *stop
    cdef const char *space = <const char *>memchr(data, c' ', at - data)
    lines.line_end = <uint32_t>(at - data)
    lines.method_end = <uint32_t>((at if space is NULL else space) - data)
    if space is not NULL:
        space = <const char *>memchr(space + 1, c' ', at - space - 1)
    lines.target_end = <uint32_t>((at if space is NULL else space) - data)
    lines.count = 0
    while at < end:
        at += 2
        stop = line_end(at, end)
        space = <const char *>memchr(at, c':', stop - at)
        if space is NULL:
            set_field(&lines.fields[lines.count], data, at, stop, stop, stop)
        else:
            set_field(&lines.fields[lines.count], data, at, space, space + 1, stop)
        lines.count += 1
        at = stop
    lines.count = max(lines.count - 2, 0)
    return lines


# ---- fields

cdef bint is_token(name) noexcept:
    cdef const char *at
    cdef const char *end
    if type(name) is not str or not PyUnicode_IS_COMPACT_ASCII(name):
        return False
    at = <const char *>PyUnicode_DATA(name)
    end = at + PyUnicode_GET_LENGTH(name)
    return at < end and behind(at, end, TOKEN) == end


cdef str lower_name(str name):
    cdef const unsigned char *at
    cdef unsigned char *to
    cdef str lower
    cdef Py_ssize_t each, size = PyUnicode_GET_LENGTH(name)
    if not PyUnicode_IS_COMPACT_ASCII(name):
        return name.lower()
    lower = PyUnicode_New(size, 127)
    at = <const unsigned char *>PyUnicode_DATA(name)
    to = <unsigned char *>PyUnicode_DATA(lower)
    for each in range(size):
        to[each] = lowered[at[each]]
    return lower


cdef bint is_value(value) noexcept:
    cdef const char *at
    cdef const char *end
    if type(value) is not str or PyUnicode_KIND(value) != 1:
        return False
    at = <const char *>PyUnicode_DATA(value)
    end = at + PyUnicode_GET_LENGTH(value)
    return behind_value(at, end) == end


cdef class HeadersCore:
    """See gworker.core.python."""

    cdef HeadLines lines  # of which the fields are, until they are asked for as a dict
    cdef dict fields

    def __init__(self, source=()):
        self.lines = None
        self.fields = {}
        if type(source) is dict:
            for name, value in (<dict>source).items():
                self.put(name, value)
            return
        if type(source) is not tuple and type(source) is not list and isinstance(source, Mapping):
            source = source.items()
        for name, value in source:
            self.put(name, value)

    @classmethod
    def from_head(cls, bytes head):
        return headers_of(cls, lines_of(head))

    def __getstate__(self):
        return getattr(self, "__dict__", None), {"_fields": self.all_fields()}

    @property
    def _fields(self):
        return self.all_fields()

    @_fields.setter
    def _fields(self, dict fields not None):
        self.lines = None
        self.fields = fields

    cdef dict all_fields(self):
        cdef Py_ssize_t each
        cdef HeadLines lines = self.lines
        cdef Field *field
        if self.fields is None:
            self.fields = {}
            self.lines = None
            for each in range(0 if lines is None else lines.count):
                field = &lines.fields[each]
                self.put_unchecked(lines.text(field.name, field.name_end), lines.value(field))
        return self.fields

    cdef int put(self, name, value) except -1:
        if not (is_token(name) and is_value(value)):
            check_field(name, value)
        self.put_unchecked(name, value)
        return 0

    cdef int put_unchecked(self, name, value) except -1:
        cdef object lower = lower_name(name) if type(name) is str else name.lower()
        cdef object field = self.fields.get(lower)
        if field is None:
            self.fields[lower] = (name, [value])
        else:
            field[1].append(value)
        return 0

    def add(self, name, value):
        self.all_fields()
        self.put(name, value)

    def get_all(self, name):
        cdef Field *field
        cdef list values = []
        cdef Py_ssize_t at = 0
        cdef bytes lower
        if self.lines is not None and is_token(name):
            lower = (<str>name).lower().encode()
            while True:
                field = self.lines.find(PyBytes_AS_STRING(lower), PyBytes_GET_SIZE(lower), at)
                if field is NULL:
                    return values
                values.append(self.lines.value(field))
                at = field - self.lines.fields + 1
        found = self.all_fields().get(name.lower())
        return list(found[1]) if found else values

    cdef object joined(self, name, missing):
        cdef Field *field
        cdef const char *data
        cdef Py_ssize_t size, each
        cdef list values
        cdef char[MAX_NAME] lower
        if self.lines is not None and is_token(name):
            size = PyUnicode_GET_LENGTH(name)
            if size <= MAX_NAME:
                data = <const char *>PyUnicode_DATA(name)
                for each in range(size):
                    lower[each] = <char>lowered[<unsigned char>data[each]]
                field = self.lines.find(lower, size, 0)
                if field is NULL:
                    return missing
                if self.lines.find(lower, size, field - self.lines.fields + 1) is NULL:
                    return self.lines.value(field)
        found = self.all_fields().get(name.lower())
        if found is None:
            return missing
        values = found[1]
        return values[0] if len(values) == 1 else ", ".join(values)

    def get(self, name, default=None):
        return self.joined(name, default)

    def __getitem__(self, name):
        value = self.joined(name, None)
        if value is None:
            raise KeyError(name.lower())
        return value

    def __setitem__(self, name, value):
        if not (is_token(name) and is_value(value)):
            check_field(name, value)
        self.all_fields()[name.lower()] = (name, [value])

    def __delitem__(self, name):
        del self.all_fields()[name.lower()]

    def __contains__(self, name):
        return isinstance(name, str) and self.joined(name, None) is not None

    def __iter__(self):
        return (name for name, _ in self.all_fields().values())

    def __len__(self):
        return len(self.all_fields())

    def pairs(self):
        return (
            (name, value) for name, values in self.all_fields().values() for value in values
        )

    def encode(self, without=()):
        return "".join([
            f"{name}: {value}\r\n"
            for key, (name, values) in self.all_fields().items()
            if key not in without
            for value in values
        ]).encode("latin-1")


cdef HeadersCore headers_of(object cls, HeadLines lines):
    cdef HeadersCore headers = <HeadersCore?>(<PyTypeObject *>cls).tp_new(<PyTypeObject *>cls, (), NULL)
    headers.lines = lines
    headers.fields = None
    return headers


# ---- requests

cdef enum:
    NO_METHOD, GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS

# What most servers are asked; the others are left to Python.
cdef tuple METHODS = ("", "GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
cdef tuple METHOD_BYTES = tuple([method.encode() for method in METHODS])


cdef class RequestCore:
    """See gworker.core.python."""

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

    cdef HeadLines all_lines(self):
        if self.lines is None:
            if self._head is None:
                raise AttributeError("it has no head: its __init__ was not called")
            self.lines = lines_of(self._head)
        return self.lines

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
        return headers_of(cls, self.all_lines())

    def forget(self):
        """Drop everything that was parsed; it is parsed anew when asked for."""
        self._cache = None
        self.lines = None

    cdef Py_ssize_t begin_of_query(self) noexcept:
        # Behind the "?" of the target; 0 if there is none.
        cdef HeadLines lines = self.lines
        cdef Py_ssize_t start = lines.method_end + 1
        cdef const char *data = PyBytes_AS_STRING(lines.head)
        cdef const char *mark
        if start >= lines.target_end:
            return 0
        mark = <const char *>memchr(data + start, c'?', lines.target_end - start)
        return 0 if mark is NULL else mark - data + 1

    cdef bint is_plain_target(self):
        # It begins with the path.
        cdef HeadLines lines = self.all_lines()
        return (
            lines.method_end + 1 < lines.target_end
            and PyBytes_AS_STRING(lines.head)[lines.method_end + 1] == c'/'
        )

    @property
    def method(self):
        """Upper-case, as sent."""
        if self.known_method:
            return METHODS[self.known_method]
        return self.all_lines().text(0, self.lines.method_end)

    @property
    def target(self):
        """The request target as sent."""
        cdef HeadLines lines = self.all_lines()
        if lines.method_end + 1 > lines.target_end:
            raise IndexError("there is no target")
        return lines.text(lines.method_end + 1, lines.target_end)

    @property
    def version(self):
        """ "1.1" or "1.0"."""
        cdef HeadLines lines = self.all_lines()
        return lines.text(
            min(lines.target_end + 6, lines.line_end), lines.line_end
        )

    @property
    def raw_path(self):
        """The path as sent: still percent-encoded."""
        cdef Py_ssize_t query
        if not self.is_plain_target():
            return split_target(self.target)[0]
        query = self.begin_of_query()
        return self.lines.text(
            self.lines.method_end + 1, query - 1 if query else self.lines.target_end
        )

    @property
    def query_string(self):
        """What follows the "?", as sent."""
        cdef Py_ssize_t query
        if not self.is_plain_target():
            return split_target(self.target)[1]
        query = self.begin_of_query()
        return self.lines.text(query, self.lines.target_end) if query else ""

    @property
    def path(self):
        """The path, percent-decoded as UTF-8; bytes that are not UTF-8 become U+FFFD."""
        cdef str raw = self.raw_path
        if not PyUnicode_IS_COMPACT_ASCII(raw) or PyUnicode_GET_LENGTH(raw) > SMALL:
            return unquote(raw)
        return unquoted(<const char *>PyUnicode_DATA(raw), PyUnicode_GET_LENGTH(raw), False)


cdef inline int digit(char byte) noexcept nogil:
    # Of a hexadecimal number; -1 for others.
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
    """See gworker.core.python."""
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
    """See gworker.core.python."""
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


# ---- the parse

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
    if not parse_head(&parsed, data, size, max_body):
        return None
    lines = new_lines(PyBytes_FromStringAndSize(data, parsed.head), parsed.count)
    lines.method_end = parsed.method_end
    lines.target_end = <uint32_t>parsed.target_end
    lines.line_end = <uint32_t>parsed.target_end + 9
    lines.count = parsed.count
    memcpy(lines.fields, parsed.fields, parsed.count * sizeof(Field))
    request = <RequestCore?>(<PyTypeObject *>cls).tp_new(<PyTypeObject *>cls, (), NULL)
    request.known_method = parsed.method
    request.lines = lines
    request._head = lines.head
    request._origin = origin
    request.body = (
        PyBytes_FromStringAndSize(data + parsed.head, parsed.body) if parsed.body else b""
    )
    request.keep_alive = True
    taken[0] = parsed.head + parsed.body
    return request


def parse_request(object cls, buffer, Py_ssize_t pos, origin, Py_ssize_t max_body):
    """See gworker.core.python."""
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


# ---- answers

cdef bytes HTML = b"Content-Type: text/html; charset=utf-8\r\n"
cdef bytes OCTETS = b"Content-Type: application/octet-stream\r\n"
cdef bytes OK = status_line(200)
cdef list status_lines = [None] * 600

cdef struct Answer:
    char *end  # of the head
    const char *body
    Py_ssize_t size  # of the body
    char[MAX_ANSWER_HEAD] head


cdef bint write(Answer *answer, const char *data, Py_ssize_t size) noexcept:
    # Append to the head. False: there is no room.
    if size > answer.head + MAX_ANSWER_HEAD - answer.end:
        return False
    memcpy(answer.end, data, size)
    answer.end += size
    return True


cdef inline bint write_bytes(Answer *answer, bytes data) noexcept:
    return write(answer, PyBytes_AS_STRING(data), PyBytes_GET_SIZE(data))


cdef bint write_length(Answer *answer, Py_ssize_t size) noexcept:
    cdef char[24] digits
    cdef char *at = digits + 24
    while True:
        at -= 1
        at[0] = c'0' + size % 10
        size //= 10
        if not size:
            break
    return write(answer, at, digits + 24 - at)


cdef bint set_body(Answer *answer, body) noexcept:
    # The body of the answer: str or bytes. False: another one.
    if type(body) is bytes:
        answer.body = PyBytes_AS_STRING(body)
        answer.size = PyBytes_GET_SIZE(body)
        return True
    if type(body) is not str:
        return False
    answer.body = PyUnicode_AsUTF8AndSize(body, &answer.size)
    if answer.body is NULL:  # half of a surrogate pair
        PyErr_Clear()
        return False
    return True


cdef bint write_fields(Answer *answer, HeadersCore headers, bint *has_type):
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
                write(answer, <const char *>PyUnicode_DATA(name), PyUnicode_GET_LENGTH(name))
                and write(answer, b": ", 2)
                and write(answer, <const char *>PyUnicode_DATA(value), PyUnicode_GET_LENGTH(value))
                and write(answer, b"\r\n", 2)
            ):
                return False
    return True


cdef bint make_answer(Answer *answer, object message, object response, bytes common):
    """Make the head of what answers a request, and find its body. False: not mine.

    response: the class of the answers that have fields. common: fields that each answer has. The
    body stays where it is, in `message`.
    """
    cdef bint has_type = False
    cdef object body = message
    cdef HeadersCore headers = None
    cdef bytes line = OK
    answer.end = answer.head
    if type(message) is response:
        body = message.body
        line = final_line(message.status)
        if line is None or not isinstance(message.headers, HeadersCore):
            return False
        headers = message.headers
    if not set_body(answer, body) or not write_bytes(answer, line):
        return False
    if headers is not None and not write_fields(answer, headers, &has_type):
        return False
    # An empty body has no type, unless it is the whole message.
    if (answer.size or body is message) and not has_type:
        if not write_bytes(answer, HTML if type(body) is str else OCTETS):
            return False
    return (
        write(answer, b"Content-Length: ", 16)
        and write_length(answer, answer.size)
        and write(answer, b"\r\n", 2)
        and write_bytes(answer, common)
        and write(answer, b"\r\n", 2)
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
    """See gworker.core.python."""
    cdef Answer answer
    cdef Py_ssize_t size
    cdef bytes data
    if not make_answer(&answer, message, response, fields):
        return None
    size = answer.end - answer.head
    if head_only:
        return PyBytes_FromStringAndSize(answer.head, size)
    data = PyBytes_FromStringAndSize(NULL, size + answer.size)
    memcpy(PyBytes_AS_STRING(data), answer.head, size)
    memcpy(PyBytes_AS_STRING(data) + size, answer.body, answer.size)
    return data
