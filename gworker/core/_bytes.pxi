# What looks at bytes.

cdef extern from "Python.h":
    ctypedef struct PyTypeObject:
        object (*tp_new)(PyTypeObject *, object, PyObject *)
    bint PyUnicode_IS_COMPACT_ASCII(object)
    int PyUnicode_KIND(object)
    Py_ssize_t PyUnicode_GET_LENGTH(object)
    Py_ssize_t PyUnicode_FindChar(object, Py_UCS4, Py_ssize_t, Py_ssize_t, int) except -2
    void *PyUnicode_DATA(object)
    object PyUnicode_New(Py_ssize_t, Py_UCS4)
    bint PyLong_Check(object)
    long PyLong_AsLongAndOverflow(object, int *) except? -1

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
