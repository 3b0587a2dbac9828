# The attributes that the message path reads and changes, as C fields. `python.py` names them, too.


cdef class ServerState:
    cdef public long long requests, bytes_read, bytes_written
    cdef public int batch
    cdef public bint takes_no_more
    cdef public object holder, on_job_end


cdef class TransportState:
    cdef public object _owner, _server, _socket, remote, write_buffer
    cdef public long long bytes_read, bytes_written
    cdef public Py_ssize_t max_send_buffer_size, _read_size
    cdef public int pause_reasons
    cdef public bint eof_received
    cdef int descriptor  # as the poller knows it
    cdef unsigned char is_simple  # of the class that is known, on a plain socket or on TLS


cdef class ConnectionState:
    cdef object __weakref__
    cdef public object callbacks, event_job, io, lifecycle, observer, protocol_machine
    cdef public object server_context
    cdef public long long accepted_at, id
    cdef public bint parser_paused


cdef class JobState:
    cdef public object connection, events, greenlet
    cdef public long long unread_bytes
