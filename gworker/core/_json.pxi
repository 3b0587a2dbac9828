# JSON (RFC 8259) of what most documents are made of. None says "not mine" of all else: what is
# wrong, and what is unusual, is left to the module json.

DEF DEEPEST = 64  # levels
DEF PIECE = 1024  # characters of a string that are written at once
DEF LONGEST = 6  # bytes that one character becomes: \u001f
DEF SCRATCH = 65536
DEF DIGITS = 18  # that fit into 64 bits

cdef extern from "Python.h":
    enum: Py_DTSF_ADD_DOT_0
    uint32_t PyUnicode_READ(int, void *, Py_ssize_t)
    long long PyLong_AsLongLongAndOverflow(object, int *) except? -1
    object PyLong_FromLongLong(long long)
    double PyFloat_AS_DOUBLE(object)
    char *PyOS_double_to_string(double, char, int, int, int *) except NULL
    double PyOS_string_to_double(const char *, char **, PyObject *) except? -1
    bint PyDict_Next(object, Py_ssize_t *, PyObject **, PyObject **)
    PyObject *PyDict_SetDefault(object, object, object) except NULL

cdef extern from "<math.h>":
    bint isfinite(double)

cdef struct Text:
    char *start
    char *at
    char *end

cdef const char *HEXADECIMAL = b"0123456789abcdef"
cdef char scratch[SCRATCH]
cdef object OTHER = object()  # in place of a value: not mine
cdef unsigned char[256] is_plain  # ASCII that stands for itself between quotes


cdef void prepare_plain() noexcept:
    cdef int each
    for each in range(256):
        is_plain[each] = 32 <= each < 128 and each != c'"' and each != c'\\'


prepare_plain()


# ---- to JSON. Nothing is made meanwhile, so no other code runs, and nothing that is read changes.

cdef int make_room(Text *text, Py_ssize_t size) except -1:
    cdef Py_ssize_t taken = text.at - text.start, most
    cdef char *start
    if text.end - text.at >= size:
        return 0
    most = 2 * (taken + size)
    if text.start == scratch:
        start = <char *>PyMem_Malloc(most)
        if start is not NULL:
            memcpy(start, scratch, taken)
    else:
        start = <char *>PyMem_Realloc(text.start, most)
    if start is NULL:
        raise MemoryError
    text.start = start
    text.at = start + taken
    text.end = start + most
    return 0


cdef int put(Text *text, const char *data, Py_ssize_t size) except -1:
    make_room(text, size)
    memcpy(text.at, data, size)
    text.at += size
    return 0


cdef inline char *put_escaped(char *at, uint32_t character) noexcept nogil:
    # A character below 32, a quote or a backslash.
    at[0] = c'\\'
    if character == c'"' or character == c'\\':
        at[1] = <char>character
    elif character == c'\n':
        at[1] = c'n'
    elif character == c'\r':
        at[1] = c'r'
    elif character == c'\t':
        at[1] = c't'
    elif character == c'\b':
        at[1] = c'b'
    elif character == c'\f':
        at[1] = c'f'
    else:
        memcpy(at + 1, b"u00", 3)
        at[4] = c'0' + <char>(character >> 4)
        at[5] = HEXADECIMAL[character & 15]
        return at + 6
    return at + 2


cdef inline char *put_utf8(char *at, uint32_t character) noexcept nogil:
    if character < 0x80:
        at[0] = <char>character
        return at + 1
    if character < 0x800:
        at[0] = <char>(0xC0 | character >> 6)
        at[1] = <char>(0x80 | character & 63)
        return at + 2
    if character < 0x10000:
        at[0] = <char>(0xE0 | character >> 12)
        at[1] = <char>(0x80 | character >> 6 & 63)
        at[2] = <char>(0x80 | character & 63)
        return at + 3
    at[0] = <char>(0xF0 | character >> 18)
    at[1] = <char>(0x80 | character >> 12 & 63)
    at[2] = <char>(0x80 | character >> 6 & 63)
    at[3] = <char>(0x80 | character & 63)
    return at + 4


cdef bint put_string(Text *text, string) except -1:
    cdef Py_ssize_t each = 0, stop, size = PyUnicode_GET_LENGTH(string)
    cdef int kind = PyUnicode_KIND(string)
    cdef void *data = PyUnicode_DATA(string)
    cdef const unsigned char *narrow = <const unsigned char *>data
    cdef uint32_t character
    cdef char *at
    put(text, b'"', 1)
    while each < size:
        stop = min(size, each + PIECE)
        make_room(text, (stop - each) * LONGEST)
        at = text.at
        while each < stop:
            if kind == 1:  # most are plain
                while each < stop and is_plain[narrow[each]]:
                    at[0] = <char>narrow[each]
                    at += 1
                    each += 1
                if each == stop:
                    break
            character = PyUnicode_READ(kind, data, each)
            each += 1
            if character < 32 or character == c'"' or character == c'\\':
                at = put_escaped(at, character)
            elif character < 0x80:
                at[0] = <char>character
                at += 1
            elif 0xD800 <= character < 0xE000:
                return False
            else:
                at = put_utf8(at, character)
        text.at = at
    put(text, b'"', 1)
    return True


cdef int put_integer(Text *text, long long value) except -1:
    cdef char[24] digits
    cdef char *at = digits + 24
    cdef unsigned long long left = <unsigned long long>value
    if value < 0:
        left = 0 - left
    while True:
        at -= 1
        at[0] = c'0' + <char>(left % 10)
        left //= 10
        if not left:
            break
    if value < 0:
        at -= 1
        at[0] = c'-'
    return put(text, at, digits + 24 - at)


cdef int put_float(Text *text, double value) except -1:
    cdef char *digits = PyOS_double_to_string(value, c'r', 0, Py_DTSF_ADD_DOT_0, NULL)
    try:
        return put(text, digits, strlen(digits))
    finally:
        PyMem_Free(digits)


cdef bint put_value(Text *text, value, int depth) except -1:
    # False: there is something else in it.
    cdef int overflow = 0
    cdef long long number
    if type(value) is str:
        return put_string(text, value)
    if type(value) is int:
        number = PyLong_AsLongLongAndOverflow(value, &overflow)
        if overflow:
            return False
        put_integer(text, number)
        return True
    if type(value) is dict:
        return depth < DEEPEST and put_dict(text, value, depth + 1)
    if type(value) is list:
        return depth < DEEPEST and put_list(text, value, depth + 1)
    if type(value) is tuple:
        return depth < DEEPEST and put_tuple(text, value, depth + 1)
    if type(value) is float:
        if not isfinite(PyFloat_AS_DOUBLE(value)):
            return False
        put_float(text, PyFloat_AS_DOUBLE(value))
    elif value is None:
        put(text, b"null", 4)
    elif value is True:
        put(text, b"true", 4)
    elif value is False:
        put(text, b"false", 5)
    else:
        return False
    return True


cdef bint put_dict(Text *text, value, int depth) except -1:
    cdef Py_ssize_t position = 0
    cdef PyObject *key
    cdef PyObject *item
    cdef bint is_first = True
    put(text, b"{", 1)
    while PyDict_Next(value, &position, &key, &item):
        if not is_first:
            put(text, b", ", 2)
        is_first = False
        if type(<object>key) is not str or not put_string(text, <object>key):
            return False
        put(text, b": ", 2)
        if not put_value(text, <object>item, depth):
            return False
    put(text, b"}", 1)
    return True


cdef bint put_list(Text *text, list value, int depth) except -1:
    cdef bint is_first = True
    put(text, b"[", 1)
    for item in value:
        if not is_first:
            put(text, b", ", 2)
        is_first = False
        if not put_value(text, item, depth):
            return False
    put(text, b"]", 1)
    return True


cdef bint put_tuple(Text *text, tuple value, int depth) except -1:
    cdef bint is_first = True
    put(text, b"[", 1)
    for item in value:
        if not is_first:
            put(text, b", ", 2)
        is_first = False
        if not put_value(text, item, depth):
            return False
    put(text, b"]", 1)
    return True


cpdef bytes encode_json(value):
    """See gworker.core.python."""
    cdef Text text
    text.start = text.at = scratch
    text.end = scratch + SCRATCH
    try:
        if not put_value(&text, value, 0):
            return None
        return PyBytes_FromStringAndSize(text.start, text.at - text.start)
    finally:
        if text.start != scratch:
            PyMem_Free(text.start)


# ---- from JSON. What is made may collect garbage, which runs other code.

cdef struct Reader:
    const char *at
    const char *end


cdef inline void skip_space(Reader *reader) noexcept nogil:
    while reader.at < reader.end and (
        reader.at[0] == c' ' or reader.at[0] == c'\n' or reader.at[0] == c'\r'
        or reader.at[0] == c'\t'
    ):
        reader.at += 1


cdef inline bint took(Reader *reader, char byte) noexcept nogil:
    # Whether `byte` comes next, behind space; it is passed.
    skip_space(reader)
    if reader.at == reader.end or reader.at[0] != byte:
        return False
    reader.at += 1
    return True


cdef int hexadecimal(const char *at, const char *end) noexcept nogil:
    # The number that four digits are; -1: they are none.
    cdef int each, value, number = 0
    if end - at < 4:
        return -1
    for each in range(4):
        value = digit(at[each])
        if value < 0:
            return -1
        number = number << 4 | value
    return number


cdef char *unescape(const char *at, const char *end, char *to) noexcept nogil:
    # What is between two quotes, which grows no longer by that; NULL: not mine.
    cdef int character, second
    cdef char byte
    while at < end:
        if at[0] != c'\\':
            to[0] = at[0]
            to += 1
            at += 1
            continue
        byte = at[1]  # an escape has a second character
        at += 2
        if byte == c'u':
            character = hexadecimal(at, end)
            if character < 0:
                return NULL
            at += 4
            if 0xD800 <= character < 0xE000:
                if character >= 0xDC00 or end - at < 6 or at[0] != c'\\' or at[1] != c'u':
                    return NULL
                second = hexadecimal(at + 2, end)
                if not 0xDC00 <= second < 0xE000:
                    return NULL
                character = 0x10000 + ((character - 0xD800) << 10 | (second - 0xDC00))
                at += 6
            to = put_utf8(to, character)
            continue
        if byte == c'n':
            byte = c'\n'
        elif byte == c'r':
            byte = c'\r'
        elif byte == c't':
            byte = c'\t'
        elif byte == c'b':
            byte = c'\b'
        elif byte == c'f':
            byte = c'\f'
        elif byte != c'"' and byte != c'\\' and byte != c'/':
            return NULL
        to[0] = byte
        to += 1
    return to


cdef object read_string(Reader *reader):
    # What follows a quote.
    cdef const char *start = reader.at
    cdef const char *at = start
    cdef const char *end = reader.end
    cdef char *room
    cdef char *stop
    cdef bint has_escapes = False
    while at < end and is_plain[<unsigned char>at[0]]:
        at += 1
    if at < end and at[0] == c'"':
        reader.at = at + 1
        return PyUnicode_DecodeLatin1(start, at - start, NULL)
    while at < end and at[0] != c'"':
        if <unsigned char>at[0] < 32:
            return OTHER
        if at[0] == c'\\':
            has_escapes = True
            at += 1
            if at == end or <unsigned char>at[0] < 32:
                return OTHER
        at += 1
    if at == end:
        return OTHER
    reader.at = at + 1
    if not has_escapes:
        return PyUnicode_DecodeUTF8(start, at - start, NULL)
    room = <char *>PyMem_Malloc(at - start)
    if room is NULL:
        raise MemoryError
    try:
        stop = unescape(start, at, room)
        if stop is NULL:
            return OTHER
        return PyUnicode_DecodeUTF8(room, stop - room, NULL)
    finally:
        PyMem_Free(room)


cdef inline const char *behind_digits(const char *at, const char *end) noexcept nogil:
    while at < end and c'0' <= at[0] <= c'9':
        at += 1
    return at


cdef object read_number(Reader *reader):
    cdef const char *start = reader.at
    cdef const char *first = start
    cdef const char *at
    cdef const char *end = reader.end
    cdef char *stop
    cdef long long number = 0
    cdef double value
    cdef bint is_float = False
    if first < end and first[0] == c'-':
        first += 1
    at = behind_digits(first, end)
    if at == first or (first[0] == c'0' and at - first > 1):
        return OTHER
    if at < end and at[0] == c'.':
        is_float = True
        at = behind_digits(at + 1, end)
        if (at - 1)[0] == c'.':
            return OTHER
    if at < end and (at[0] == c'e' or at[0] == c'E'):
        is_float = True
        at += 1
        if at < end and (at[0] == c'+' or at[0] == c'-'):
            at += 1
        at = behind_digits(at, end)
    if not c'0' <= (at - 1)[0] <= c'9':
        return OTHER
    reader.at = at
    if is_float:
        value = PyOS_string_to_double(start, &stop, NULL)  # a NUL is behind the end
        return value if stop == at else OTHER
    if at - first > DIGITS:
        return OTHER
    while first < at:
        number = number * 10 + (first[0] - c'0')
        first += 1
    return PyLong_FromLongLong(-number if start[0] == c'-' else number)


cdef object read_dict(Reader *reader, dict memo, int depth):
    cdef dict found = {}
    if took(reader, c'}'):
        return found
    while took(reader, c'"'):
        key = read_string(reader)
        if key is OTHER or not took(reader, c':'):
            return OTHER
        key = <object>PyDict_SetDefault(memo, key, key)  # objects with the same keys share them
        value = read_value(reader, memo, depth)
        if value is OTHER:
            return OTHER
        found[key] = value
        if took(reader, c'}'):
            return found
        if not took(reader, c','):
            break
    return OTHER


cdef object read_list(Reader *reader, dict memo, int depth):
    cdef list found = []
    if took(reader, c']'):
        return found
    while True:
        value = read_value(reader, memo, depth)
        if value is OTHER:
            return OTHER
        found.append(value)
        if took(reader, c']'):
            return found
        if not took(reader, c','):
            return OTHER


cdef object read_word(Reader *reader, const char *word, Py_ssize_t size, value):
    if reader.end - reader.at < size or memcmp(reader.at, word, size):
        return OTHER
    reader.at += size
    return value


cdef object read_value(Reader *reader, dict memo, int depth):
    cdef char byte
    skip_space(reader)
    if reader.at == reader.end:
        return OTHER
    byte = reader.at[0]
    if byte == c'"':
        reader.at += 1
        return read_string(reader)
    if byte == c'{' or byte == c'[':
        if depth == DEEPEST:
            return OTHER
        reader.at += 1
        if byte == c'{':
            return read_dict(reader, memo, depth + 1)
        return read_list(reader, memo, depth + 1)
    if byte == c't':
        return read_word(reader, b"true", 4, True)
    if byte == c'f':
        return read_word(reader, b"false", 5, False)
    if byte == c'n':
        return read_word(reader, b"null", 4, None)
    return read_number(reader)


def decode_json(data):
    """See gworker.core.python."""
    cdef Reader reader
    if type(data) is not bytes:
        return None
    reader.at = PyBytes_AS_STRING(data)
    reader.end = reader.at + PyBytes_GET_SIZE(data)
    try:
        value = read_value(&reader, {}, 0)
    except UnicodeDecodeError:
        return None
    skip_space(&reader)
    return None if value is OTHER or reader.at < reader.end else value
