# The fields of a head. Offsets are those in the head.

cdef enum:
    MAX_NAME = 64  # of a field that is looked for among the bytes of a head

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
    # All lines of a head that was judged elsewhere, but the first one and the empty ones.
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
    """See gworker.core.headers."""

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
        if len(values) == 1:
            return values[0]
        return ("; " if name.lower() == "cookie" else ", ").join(values)

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
