# Where a message goes of which it is known how many bytes are to come; see `receive_buffer.py`.

DEF FIRST = 1 << 20  # bytes of memory that it has at first
DEF GROWTH = 4  # and then so many times what has come

cdef extern from "Python.h":
    int _PyBytes_Resize(PyObject **, Py_ssize_t) except -1


cdef class ReceiveBuffer:
    cdef PyObject *content  # bytes, not all of which have come: no one else has it
    cdef Py_ssize_t taken  # its size
    cdef readonly Py_ssize_t size, left
    cdef readonly bytes mask
    cdef readonly bint is_watched

    def __init__(self, Py_ssize_t size, bytes mask not None=b"", bint is_watched=False, content=b""):
        if size < 0 or len(mask) not in (0, 4):
            raise ValueError("a mask has 4 bytes")
        self.size = self.left = size
        self.mask = b""
        self.is_watched = is_watched
        self.add(content)
        self.mask = mask

    def __dealloc__(self):
        Py_XDECREF(self.content)

    cdef char *reserve(self, Py_ssize_t *room) except NULL:
        """Where the next bytes go, of which at least one is left, and for how many there is room."""
        cdef Py_ssize_t filled = self.size - self.left
        if self.content is NULL:
            if filled:  # it was lost when there was no memory to enlarge it
                raise MemoryError
            fresh = PyBytes_FromStringAndSize(NULL, min(self.size, FIRST))
            Py_INCREF(fresh)
            self.content = <PyObject *>fresh
            self.taken = PyBytes_GET_SIZE(fresh)
        elif filled == self.taken:
            self.taken = 0
            _PyBytes_Resize(&self.content, min(self.size, filled * GROWTH))
            self.taken = PyBytes_GET_SIZE(<object>self.content)
        room[0] = self.taken - filled
        return PyBytes_AS_STRING(<object>self.content) + filled

    cdef void arrived(self, char *at, Py_ssize_t size) noexcept:
        # So many bytes were read to where `reserve` has said.
        cdef char[4] mask
        cdef Py_ssize_t each, filled = self.size - self.left
        if PyBytes_GET_SIZE(self.mask):
            for each in range(4):
                mask[each] = PyBytes_AS_STRING(self.mask)[(filled + each) & 3]
            xor_mask(at, at, size, mask)
        self.left -= size

    @property
    def room(self):
        cdef Py_ssize_t room = 0
        if self.left:
            self.reserve(&room)
        return room

    def read_from(self, socket):
        cdef Py_ssize_t room, size
        cdef char *at
        if not self.left:
            raise ValueError("it is full")
        at = self.reserve(&room)
        size = socket.recv_into(PyMemoryView_FromMemory(at, room, PyBUF_WRITE))
        if not 0 <= size <= room:
            raise ValueError("more was read than there is room for")
        self.arrived(at, size)
        return size

    def add(self, data):
        cdef Py_buffer view
        cdef Py_ssize_t room, size, position = 0
        cdef char *at
        PyObject_GetBuffer(data, &view, PyBUF_SIMPLE)
        try:
            if view.len > self.left:
                raise ValueError(f"{view.len} bytes for a buffer that lacks {self.left}")
            while position < view.len:
                at = self.reserve(&room)
                size = min(room, view.len - position)
                memcpy(at, <char *>view.buf + position, size)
                self.arrived(at, size)
                position += size
        finally:
            PyBuffer_Release(&view)

    def since(self, Py_ssize_t start):
        cdef Py_ssize_t filled = self.size - self.left
        if self.content is NULL or not 0 <= start < filled:
            return b""
        return PyBytes_FromStringAndSize(PyBytes_AS_STRING(<object>self.content) + start, filled - start)

    def take(self):
        cdef Py_ssize_t filled = self.size - self.left
        if self.content is NULL:
            return b""
        if filled != self.taken:
            self.taken = 0
            _PyBytes_Resize(&self.content, filled)
        content = <object>self.content
        Py_XDECREF(self.content)
        self.content = NULL
        return content
