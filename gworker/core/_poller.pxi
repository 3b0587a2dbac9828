# The epoll set, and the greenlets that serve what is ready; see `poller.py`, which does the same.

cdef extern from "<sys/epoll.h>":
    ctypedef union epoll_data_t:
        int fd
    struct epoll_event:
        uint32_t events
        epoll_data_t data
    enum: EPOLLIN, EPOLL_CLOEXEC, EPOLL_CTL_ADD, EPOLL_CTL_DEL, EPOLL_CTL_MOD
    int epoll_create1(int)
    int epoll_ctl(int, int, int, epoll_event *)
    int epoll_wait(int, epoll_event *, int, int) nogil

cdef extern from "<sys/socket.h>":
    enum: MSG_NOSIGNAL, MSG_DONTWAIT
    struct msghdr:
        iovec *msg_iov
        size_t msg_iovlen
    ssize_t recv(int, void *, size_t, int)
    ssize_t c_send "send"(int, const void *, size_t, int)
    ssize_t sendmsg(int, const msghdr *, int)

cdef extern from "<sys/uio.h>":
    struct iovec:
        void *iov_base
        size_t iov_len

cdef extern from "<time.h>":
    struct timespec:
        long tv_sec
        long tv_nsec
    enum: CLOCK_MONOTONIC
    int clock_gettime(int, timespec *)

DEF BATCH = 512  # as in poller.py
DEF ROUNDS = 4
DEF AT_ONCE = 1 << 20  # bytes of one message that are read before others have their turn

cdef extern from *:
    """
    /* Have the processor fetch the first 128 bytes of an object, and wait for nothing. */
    static void fetch(PyObject *object)
    {
        __builtin_prefetch(object);
        __builtin_prefetch((char *)object + 64);
        __builtin_prefetch((char *)object + 127);
    }
    """
    void fetch(PyObject *) noexcept
    PyObject *PyList_GET_ITEM(object, Py_ssize_t) noexcept

cdef double SECONDS = 0.005
cdef char received[126976]


cdef inline double clock() noexcept:
    cdef timespec at
    clock_gettime(CLOCK_MONOTONIC, &at)
    return at.tv_sec + at.tv_nsec * 1e-9


cdef class Poller:
    """The epoll set of one process. `pool`: the greenlets that lead. `pending`: the peers under a
    deadline."""

    cdef public object reader
    cdef object hub, pool, run_queue, watcher, leader
    cdef dict pending
    cdef list sockets
    cdef int epoll, count, at
    cdef bint has_more, is_queued
    cdef double end
    cdef readonly double began  # seconds: when the job that runs now has begun
    cdef readonly object connection  # whose job that is; None: there is none
    cdef epoll_event events[BATCH]

    def __cinit__(self):
        self.epoll = -1

    def __init__(self, hub, pool, run_queue, dict pending, _clock, _epoll):
        self.hub, self.pool, self.run_queue, self.pending = hub, pool, run_queue, pending
        self.sockets = []

    def __dealloc__(self):
        if self.epoll >= 0:
            close(self.epoll)

    def fileno(self):
        return self.epoll

    cdef int open(self) except -1:
        self.epoll = epoll_create1(EPOLL_CLOEXEC)
        if self.epoll < 0:
            raise OSError(errno, os.strerror(errno))
        self.watcher = self.hub.loop.io(self.epoll, 1)
        self.watcher.start(self.on_ready)
        return 0

    def watch(self, int descriptor, socket, uint32_t events):
        cdef epoll_event event
        cdef list sockets = self.sockets
        cdef int how = EPOLL_CTL_MOD
        if self.epoll < 0:
            self.open()
        event.events = events
        event.data.fd = descriptor
        if descriptor < 0:
            raise OSError(EBADF, os.strerror(EBADF))
        if descriptor >= len(sockets):
            sockets.extend([None] * (descriptor + 64 - len(sockets)))
        if sockets[descriptor] is not socket:
            how = EPOLL_CTL_ADD
        if epoll_ctl(self.epoll, how, descriptor, &event) < 0:
            raise OSError(errno, os.strerror(errno))
        if how == EPOLL_CTL_ADD:
            sockets[descriptor] = socket
            know(socket, descriptor)

    def forget(self, int descriptor, socket):
        cdef epoll_event event
        if 0 <= descriptor < len(self.sockets) and self.sockets[descriptor] is socket:
            self.sockets[descriptor] = None
            epoll_ctl(self.epoll, EPOLL_CTL_DEL, descriptor, &event)

    def let_go(self):
        if self.epoll >= 0:
            self.watcher.stop()
            self.watcher.close()
            close(self.epoll)
            self.epoll = -1
        self.sockets = []
        self.count = self.at = 0
        self.has_more = self.is_queued = False

    def take_turn(self):
        self.is_queued = False
        self.on_ready()

    def on_ready(self):
        cdef int _
        self.end = clock() + SECONDS
        for _ in range(ROUNDS):
            if not self.has_more:
                self.count = epoll_wait(self.epoll, self.events, BATCH, 0)
                self.at = 0
                if self.count <= 0:
                    return
                self.has_more = True
            while self.has_more:
                self.pool.start(self)
                self.leader = None
                if clock() >= self.end:
                    if not self.is_queued:
                        self.is_queued = True
                        self.run_queue.add(self.take_turn)
                    return

    def run(self, me):
        """Lead: serve what is ready in greenlet `me`."""
        cdef int descriptor
        cdef uint32_t events
        socket = None
        self.leader = me
        self.began = clock()
        try:
            while self.at < self.count:
                descriptor = self.events[self.at].data.fd
                events = self.events[self.at].events
                self.at += 1
                socket = self.sockets[descriptor]
                if socket is None:  # closed in this batch
                    continue
                self.look_ahead()
                self.reader = me
                if type(socket) is TRANSPORT and (<TransportState>socket).bits.is_simple:
                    self.serve(<TransportState>socket, events, me)
                else:
                    self.begin(socket.on_ready(events), me)
                self.reader = None
                if self.leader is not me:  # it has blocked
                    return
                self.began = clock()
                if self.began >= self.end:
                    return
        except BaseException:
            self.reader = None
            if socket is not None:  # it is not served again before it is closed
                self.forget(descriptor, socket)
            self.hub.handle_error(socket, *sys.exc_info())
            return
        self.has_more = False
        self.connection = None

    cdef PyObject *ahead(self, int steps) noexcept:
        # The socket that is served so many events later; NULL: there is none, or no Transport.
        cdef PyObject *socket
        if self.at + steps > self.count:
            return NULL
        socket = PyList_GET_ITEM(self.sockets, self.events[self.at + steps - 1].data.fd)
        return socket if type(<object>socket) is TRANSPORT else NULL

    cdef void look_ahead(self) noexcept:
        # Few of thousands of connections are in the processor's cache. What the next three events
        # need is fetched while this one is served: of the third its Transport, of the second its
        # connection, of the first its protocol. Each reads only what was fetched before.
        cdef PyObject *socket
        cdef PyObject *connection
        if self.at + 2 < self.count:
            fetch(PyList_GET_ITEM(self.sockets, self.events[self.at + 2].data.fd))
        socket = self.ahead(2)
        if socket != NULL:
            fetch(<PyObject *>(<TransportState>socket)._owner)
        socket = self.ahead(1)
        if socket != NULL:
            connection = <PyObject *>(<TransportState>socket)._owner
            if type(<object>connection) is CONNECTION:
                fetch(<PyObject *>(<ConnectionState>connection).protocol_machine)

    cdef int begin(self, job, me) except -1:
        # Run `job`, if there is one.
        self.reader = None
        if job is not None:
            job.run(me)
            clear_context(me)
        return 0

    cdef int serve(self, TransportState io, uint32_t events, me) except -1:
        # What `Transport.on_ready` does, for what is simple.
        cdef ssize_t size
        cdef Py_ssize_t asked = LARGE_READ_SIZE if io.bits.reads_much else READ_SIZE
        cdef ServerState server
        cdef ConnectionState connection
        cdef const char *data
        cdef object read = None
        if io.pause_reasons or io.bits.eof_received or events != EPOLLIN:
            return self.begin(io.on_ready(events), me)
        if type(io.receive_buffer) is ReceiveBuffer and (<ReceiveBuffer>io.receive_buffer).left:
            return self.fill(io, <ReceiveBuffer>io.receive_buffer, me)
        if io.bits.is_simple == TLS:
            try:
                read = io._socket.recv(asked)
            except BlockingIOError as blocked:
                if type(blocked) is not BlockingIOError:  # it is a WantsWriting
                    io._read_when_writable()
                return 0
            except OSError:
                size = -1
            else:
                size = PyBytes_GET_SIZE(read)
                data = PyBytes_AS_STRING(read)
        else:
            size = recv(io.descriptor, received, asked, MSG_DONTWAIT)
            while size < 0 and errno == EINTR:
                size = recv(io.descriptor, received, asked, MSG_DONTWAIT)
            if size < 0 and errno == EAGAIN:
                return 0
            data = received
        if size < 0:
            io.bits.eof_received = 1
            io._owner.reset_received()
            return 0
        server = <ServerState>io._server
        io.bytes_read += size
        server.bytes_read += size
        if not size:
            io.bits.eof_received = 1
        elif size == asked:
            if read is None:
                read = PyBytes_FromStringAndSize(received, size)
                data = PyBytes_AS_STRING(read)
            io.bits.reads_much = 1
            io._watch()
        connection = <ConnectionState>io._owner
        self.connection = connection
        if (
            size
            and type(connection) is CONNECTION
            and connection.event_job is None
            and not connection.parser_paused
            and connection.observer is None
            and connection.state == established_state
        ):
            return self.take(connection, io, server, data, size, read, me)
        if read is None:
            read = PyBytes_FromStringAndSize(data, size)
        return self.begin(connection.data_received(read), me)

    cdef int fill(self, TransportState io, ReceiveBuffer buffer, me) except -1:
        # As `serve`, for a message of which it is known how much is to come.
        cdef ssize_t size = 0
        cdef Py_ssize_t room = 0, total = 0
        cdef char *at
        cdef int error = 0
        cdef ConnectionState connection = <ConnectionState?>io._owner
        self.connection = connection
        while size == room and buffer.left and total < AT_ONCE:
            at = buffer.reserve(&room)
            size = recv(io.descriptor, at, room, MSG_DONTWAIT)
            while size < 0 and errno == EINTR:  # the set would not tell again
                size = recv(io.descriptor, at, room, MSG_DONTWAIT)
            if size <= 0:
                error = errno
                break
            buffer.arrived(at, size)
            total += size
        io.bytes_read += total
        (<ServerState>io._server).bytes_read += total
        if not buffer.left:
            io.receive_buffer = None
        if size < 0 and error != EAGAIN:
            io.bits.eof_received = True
            connection.reset_received()
            return 0
        if not size:
            io.bits.eof_received = True
            return self.begin(connection.data_received(b""), me)
        if size == room:
            io._watch()
        if total and (
            not buffer.left or buffer.is_watched or connection.event_job is not None
        ):
            return self.begin(connection.buffer_received(total), me)
        return 0

    cdef int take(
        self, ConnectionState connection, TransportState io, ServerState server,
        const char *data, Py_ssize_t size, read, me,
    ) except -1:
        # Take whole messages from the beginning of `data`. What is left is Python's.
        #
        # `data` may be `received`, which is read only until other code can run: that may block, and
        # another leader reads. CPython 3.11 collects garbage whenever it makes an object that may
        # refer to others.
        cdef Py_ssize_t position = 0
        cdef list more = None
        cdef JobState job
        cdef Framing framing = <Framing>framings.get(type(connection.protocol_machine))
        first = None
        if (
            framing is not None
            and not (self.pending and connection in self.pending)
            and not (framing.is_stream and server.batch == 1)
        ):
            if framing.is_exchange and read is None:
                read = PyBytes_FromStringAndSize(data, size)
                data = PyBytes_AS_STRING(read)
            first = framing.next(connection.protocol_machine, data, size, &position)
            if first is not None and position < size and framing.is_stream:
                if read is None:
                    read = PyBytes_FromStringAndSize(data, size)
                    data = PyBytes_AS_STRING(read)
                more = [first]
                while position < size and len(more) < server.batch - 1:
                    message = framing.next(connection.protocol_machine, data, size, &position)
                    if message is None:
                        break
                    more.append(message)
        if first is None:
            if read is None:
                read = PyBytes_FromStringAndSize(data, size)
            return self.begin(connection.data_received(read), me)
        connection.parser_paused = framing.is_exchange
        job = <JobState>new(JOB)
        job.connection = connection
        connection.event_job = job
        if more is None and position == size:
            job.events = []
            return self.handle(connection, io, server, job, framing, first, me)
        job.events = [first] if more is None else more
        if framing.is_exchange:  # the protocol keeps what follows until the answer
            connection.protocol_machine.receive_data(
                PyBytes_FromStringAndSize(data + position, size - position)
            )
        elif position < size:
            connection.parse(PyBytes_FromStringAndSize(data + position, size - position))
        if (<JobState>connection.event_job) is job and job.greenlet is None:
            return self.begin(job, me)
        return 0

    cdef int handle(
        self, ConnectionState connection, TransportState io, ServerState server, JobState job,
        Framing framing, message, me,
    ) except -1:
        # What `Job.run` does for one message.
        callback = connection.callbacks.on_message
        self.reader = None
        job.greenlet = me
        if server.holder is not None:
            server.holder.hold(connection)
        server.requests += 1
        if callback is not None:
            try:
                if server.message_interceptor is None:
                    value = callback(connection, message)
                else:
                    value = server.message_interceptor(callback, connection, message)
                if value is not None and framing.is_exchange:
                    self.answer(connection, io, job, framing, callback, value)
            except BaseException:
                connection.handler_failed("on_message")
            clear_context(me)
        if connection.parser_paused and framing.is_exchange:
            connection.parser_paused = not (
                io.write_buffer is None
                and not io.bits.eof_received
                and not server.takes_no_more
                and connection.state == established_state
                and framing.is_at_rest(connection.protocol_machine)
                and not (self.pending and connection in self.pending)
            )
        if (
            not job.events
            and not connection.parser_paused
            and server.on_job_end is None
            and not io.pause_reasons
        ):
            connection.event_job = None
            return 0
        job.greenlet = None
        job.run(me)
        clear_context(me)
        return 0

    cdef int answer(
        self, ConnectionState connection, TransportState io, JobState job, Framing framing,
        callback, value,
    ) except -1:
        # Send what a handler has returned.
        if (
            not job.events
            and connection.observer is None
            and connection.state == established_state
            and connection.io is io
            and io.write_buffer is None
            and framing.owes_answer(connection.protocol_machine)
            and framing.send(connection.protocol_machine, io, value) >= 0
        ):
            return 0
        ANSWER(connection, callback, value)
        return 0
