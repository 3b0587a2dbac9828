/* load: a closed-loop load client for echo servers: one thread, one epoll, up to as many connections as there are descriptors.
 *
 *   usage: load tcp|text|frame|ws|http|tls|https HOST PORT [options]
 *
 *     -c, --connections N   connections to open (default 100)
 *     -d, --depth N         messages in flight per connection (default 1)
 *     -s, --size BYTES      message size (default 64); for text it includes the newline; for http that of a body in place of the file's
 *     -r, --request FILE    what http sends: a head, an empty line, perhaps a body
 *     -t, --seconds S       length of the measured window (default 3)
 *     -w, --warmup S        load before the window begins, not counted (default 0)
 *     -a, --active N        only the first N connections exchange messages, the others stay idle
 *     -i, --inflight N      N messages in flight altogether, each next one on the next connection in turn
 *     -n, --count N         stop when every active connection has N replies; -t is then the deadline
 *     -x, --except N        latencies of the messages whose number N divides do not count; needs a depth of 1
 *         --hold            open, then stay idle until the time is over; with --count, when N replies are there
 *         --open-timeout S  deadline for opening (default 60)
 *
 * Prints "ready" when all connections are up (ws: after their handshakes), "start" when the window begins, and one line of JSON at its
 * end. SIGTERM and SIGINT end the window early. Exits 1 if a connection died, sent something wrong or (--count) left a message
 * unanswered.
 *
 * Every message carries a number of its own, so no server gains by remembering the last one. In the file of a request it takes the
 * place of each 00000000. Lines of the head end with LF there and are sent with CRLF; Content-Length is added if there is a body.
 *
 * Every reply is checked: its length, the newline of text, the head of frame and ws, status and Content-Length of http. Control frames
 * are not expected: run the server without WebSocket pings. Certificates are not checked. tls and https need a build with -DTLS and
 * OpenSSL.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <getopt.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>
#ifdef TLS
#include <openssl/ssl.h>
#endif

enum {
    EVENTS = 1024,
    BUFFER = 256 * 1024,
    HEAD_MAX = 4096,     /* longest reply head (handshake, HTTP header) that is accepted */
    OPENING_MAX = 256,   /* connections being opened at a time: far below any listener's backlog */
    SOURCES = 64,        /* source addresses 127.0.0.1 .. 127.0.0.64: each has its own range of ports */
    HISTOGRAM = 1000000, /* latencies in buckets of 1 us up to 1 s; the last bucket takes the rest */
    DIGITS = 8,          /* of the number in each message */
    PLACES = 16,         /* of it in one message, at most */
    COMPLAINTS = 5,      /* dead connections that are explained on stderr */
};

static const uint64_t SECOND = 1000000000ull;

static const char HANDSHAKE[] = "GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                                "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n";
static const char ACCEPT[] = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="; /* the answer to that key: RFC 6455 section 1.3 */
static const char NO_NUMBER[] = "00000000"; /* what a number takes the place of */

enum mode { TCP, TEXT, FRAME, WS, HTTP, SECURE_TCP, SECURE_HTTP };
static const char *const MODES[] = {"tcp", "text", "frame", "ws", "http", "tls", "https"};

enum state { UNOPENED, CONNECTING, SECURING, HANDSHAKING, UP, DEAD };

struct connection {
    int fd;
    enum state state;
    bool in_body;          /* the head of the current reply has been read */
    bool blocked;          /* the kernel takes no more: waiting for EPOLLOUT */
    bool excepted;         /* --except: the latency of the message in flight does not count */
    uint32_t in_flight;    /* messages queued or sent, not yet answered */
    uint32_t oldest;       /* where in sent_at the oldest of them stands */
    uint64_t answered;
    size_t unsent;         /* bytes that are still to be written */
    size_t position;       /* where in the request the next of them stands */
    size_t body;           /* bytes of the current reply still to come */
    size_t head_length;    /* bytes of an incomplete head, kept in head */
    char *head;
    uint64_t *sent_at;     /* ring of depth time stamps */
#ifdef TLS
    SSL *tls;
#endif
};

static struct {
    enum mode mode;
    struct sockaddr_in server;
    int connections, depth, active, inflight;
    uint64_t count;
    size_t size;
    const char *request;
    uint32_t except;
    double seconds, warmup, open_timeout;
    bool hold, tls;
} options = {.connections = 100, .depth = 1, .seconds = 3, .open_timeout = 60};

static struct connection *connections;
static int poller;
static int opening, up, dead;
static int turn;                      /* --inflight: the connection that sent last */
static int unfinished;                /* --count: active connections that still lack replies */
static uint64_t clock_now;            /* monotonic ns, read once per event */
static char *batch;                   /* the request, repeated depth times */
static size_t request_length, batch_length;
static size_t places[PLACES];         /* where in a request its number stands; nowhere if it is too short for one */
static int place_count;
static uint32_t last_number;
static size_t reply_head_length;
static unsigned char reply_head[10];  /* how the head of each reply must look: frame, ws */
static uint64_t messages, recorded, slowest;
static uint64_t histogram[HISTOGRAM + 1];
static volatile sig_atomic_t stopped;

static void kill_connection(struct connection *c, const char *why);

static void fail(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    fputs("load: ", stderr);
    vfprintf(stderr, format, arguments);
    fputc('\n', stderr);
    exit(1);
}

static void *allocate(size_t count, size_t size)
{
    void *memory = calloc(count, size);
    if (!memory)
        fail("out of memory");
    return memory;
}

static uint64_t read_clock(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return clock_now = t.tv_sec * SECOND + t.tv_nsec;
}

/* ---- what is sent and what is expected ---------------------------------------------------------------------------------------- */

/* Writes the frame head of RFC 6455 section 5.2 for a binary message of options.size bytes; mask is 0x80 or 0. */
static size_t write_ws_head(unsigned char *head, unsigned char mask)
{
    size_t size = options.size, length = 0;

    head[length++] = 0x82;
    if (size < 126) {
        head[length++] = mask | size;
    } else if (size < 65536) {
        head[length++] = mask | 126;
        head[length++] = size >> 8;
        head[length++] = size;
    } else {
        head[length++] = mask | 127;
        for (int shift = 56; shift >= 0; shift -= 8)
            head[length++] = (uint64_t)size >> shift;
    }
    return length;
}

static const char mask[4] = {0x11, 0x22, 0x33, 0x44};

static void put_number_at(size_t place)
{
    if (place_count == PLACES)
        fail("a message has more than %d numbers", PLACES);
    places[place_count++] = place;
}

static size_t write_ws_message(char *request)
{
    size_t length = write_ws_head((unsigned char *)request, 0x80);

    memcpy(request + length, mask, sizeof mask);
    length += sizeof mask;
    if (options.size >= DIGITS)
        put_number_at(length);
    for (size_t i = 0; i < options.size; i++)
        request[length + i] = 'a' ^ mask[i & 3];
    return length + options.size;
}

static size_t write_frame(char *request)
{
    uint32_t length = htonl(options.size + sizeof length);

    memcpy(request, &length, sizeof length);
    memset(request + sizeof length, 'a', options.size);
    if (options.size >= DIGITS)
        put_number_at(sizeof length);
    return sizeof length + options.size;
}

static size_t write_plain(char *request)
{
    memset(request, 'a', options.size);
    if (options.mode == TEXT)
        request[options.size - 1] = '\n';
    if (options.size > DIGITS)
        put_number_at(0);
    return options.size;
}

static char *read_file(const char *path)
{
    FILE *file = fopen(path, "r");
    if (!file || fseek(file, 0, SEEK_END) < 0)
        fail("%s: %s", path, strerror(errno));
    size_t size = ftell(file);
    char *text = allocate(1, size + 1);
    rewind(file);
    if (fread(text, 1, size, file) != size)
        fail("cannot read %s", path);
    fclose(file);
    return text;
}

static size_t write_http(char **request)
{
    char *text = read_file(options.request), *end = strstr(text, "\n\n"), *at;
    if (!end)
        fail("%s: no empty line ends the head", options.request);
    char *body = end + 2;
    *end = '\0';
    size_t body_length = options.size ? options.size : strlen(body);
    at = *request = allocate(2, strlen(text) + body_length + HEAD_MAX);
    for (char *line = strtok(text, "\n"); line; line = strtok(NULL, "\n"))
        at += sprintf(at, "%s\r\n", line);
    if (body_length)
        at += sprintf(at, "Content-Length: %zu\r\n", body_length);
    at += sprintf(at, "\r\n");
    if (options.size) {
        memset(at, 'a', body_length);
        memcpy(at, NO_NUMBER, body_length < DIGITS ? body_length : DIGITS);
    } else {
        memcpy(at, body, body_length);
    }
    at += body_length;
    for (char *place = *request; (place = memmem(place, at - place, NO_NUMBER, DIGITS)); place += DIGITS)
        put_number_at(place - *request);
    free(text);
    return at - *request;
}

static void prepare_messages(void)
{
    char *request = options.mode == HTTP ? NULL : allocate(1, options.size + 16);

    switch (options.mode) {
    case WS:
        request_length = write_ws_message(request);
        reply_head_length = write_ws_head(reply_head, 0);
        break;
    case FRAME:
        request_length = write_frame(request);
        reply_head_length = 4;
        memcpy(reply_head, request, reply_head_length);
        break;
    case HTTP:
        request_length = write_http(&request);
        break;
    default:
        request_length = write_plain(request);
    }
    batch_length = request_length * options.depth;
    batch = allocate(1, batch_length);
    for (int i = 0; i < options.depth; i++)
        memcpy(batch + i * request_length, request, request_length);
    free(request);
}

/* Give the first `count` requests of the batch numbers that were not used before. */
static void number_requests(size_t count)
{
    for (char *request = batch; count--; request += request_length) {
        last_number++;
        for (int place = 0; place < place_count; place++) {
            char *at = request + places[place];
            uint32_t number = last_number;
            for (int i = DIGITS; i--; number /= 10)
                at[i] = ('0' + number % 10) ^ (options.mode == WS ? mask[i & 3] : 0);
        }
    }
}

/* The length of the HTTP header at data, 0 if it is incomplete, -1 if it is not a 200 with a Content-Length. */
static ssize_t read_http_head(char *data, size_t length, size_t *body)
{
    char *end = memmem(data, length, "\r\n\r\n", 4);
    if (!end)
        return 0;
    *end = '\0';
    char *field = strcasestr(data, "\r\nContent-Length:");
    if (strncmp(data, "HTTP/1.1 200", 12) != 0 || !field)
        return -1;
    *body = strtoul(field + sizeof "\r\nContent-Length:" - 1, NULL, 10);
    return end + 4 - data;
}

static ssize_t read_fixed_head(const char *data, size_t length, size_t *body)
{
    size_t common = length < reply_head_length ? length : reply_head_length;
    if (memcmp(data, reply_head, common) != 0)
        return -1;
    *body = options.size;
    return common == reply_head_length ? (ssize_t)common : 0;
}

/* The length of the head of a reply at data (0 = more is needed, -1 = wrong) and the length of the body that follows it. */
static ssize_t read_head(char *data, size_t length, size_t *body)
{
    return options.mode == HTTP ? read_http_head(data, length, body) : read_fixed_head(data, length, body);
}

/* ---- TLS ------------------------------------------------------------------------------------------------------------------------ */

#ifdef TLS

static SSL_CTX *tls_context;

static void prepare_tls(void)
{
    tls_context = SSL_CTX_new(TLS_client_method());
    SSL_CTX_set_mode(tls_context, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
}

/* What read and write would have returned, errno included. */
static ssize_t plain_result(struct connection *c, int result)
{
    if (result > 0)
        return result;
    switch (SSL_get_error(c->tls, result)) {
    case SSL_ERROR_WANT_READ:
    case SSL_ERROR_WANT_WRITE:
        errno = EAGAIN;
        return -1;
    case SSL_ERROR_ZERO_RETURN:
        return 0;
    default:
        errno = EPROTO;
        return -1;
    }
}

static ssize_t receive(struct connection *c, void *buffer, size_t size)
{
    return c->tls ? plain_result(c, SSL_read(c->tls, buffer, size)) : read(c->fd, buffer, size);
}

static ssize_t transmit(struct connection *c, const void *data, size_t size)
{
    return c->tls ? plain_result(c, SSL_write(c->tls, data, size)) : write(c->fd, data, size);
}

/* Goes on with the handshake; true when it is complete. */
static bool secure(struct connection *c)
{
    if (!c->tls) {
        c->tls = SSL_new(tls_context);
        SSL_set_fd(c->tls, c->fd);
        SSL_set_connect_state(c->tls);
    }
    ssize_t result = plain_result(c, SSL_do_handshake(c->tls));
    if (result <= 0 && errno != EAGAIN)
        kill_connection(c, "the TLS handshake fails");
    return result > 0;
}

#else

static void prepare_tls(void)
{
    fail("built without TLS");
}

static ssize_t receive(struct connection *c, void *buffer, size_t size)
{
    return read(c->fd, buffer, size);
}

static ssize_t transmit(struct connection *c, const void *data, size_t size)
{
    return write(c->fd, data, size);
}

static bool secure(struct connection *c)
{
    (void)c;
    return false;
}

#endif

/* ---- sending -------------------------------------------------------------------------------------------------------------------- */

static void watch(struct connection *c, int operation, uint32_t events)
{
    struct epoll_event event = {.events = events, .data.ptr = c};
    if (epoll_ctl(poller, operation, c->fd, &event) < 0)
        fail("epoll_ctl: %s", strerror(errno));
}

static void flush(struct connection *c)
{
    if (c->state != UP)
        return;
    while (c->unsent) {
        size_t chunk = batch_length - c->position;
        if (chunk > c->unsent)
            chunk = c->unsent;
        if (c->position == 0) {
            number_requests((chunk + request_length - 1) / request_length);
            c->excepted = options.except && last_number % options.except == 0;
        }
        ssize_t wrote = transmit(c, batch + c->position, chunk);
        if (wrote < 0) {
            if (errno != EAGAIN)
                return kill_connection(c, strerror(errno));
            if (!c->blocked)
                watch(c, EPOLL_CTL_MOD, EPOLLIN | EPOLLOUT);
            c->blocked = true;
            return;
        }
        c->unsent -= wrote;
        c->position = (c->position + wrote) % request_length;
    }
    if (c->blocked)
        watch(c, EPOLL_CTL_MOD, EPOLLIN);
    c->blocked = false;
}

static void queue_message(struct connection *c)
{
    c->sent_at[(c->oldest + c->in_flight++) % options.depth] = clock_now;
    c->unsent += request_length;
}

/* --inflight: send one message on the next active connection that has room for it. */
static void send_in_turn(void)
{
    for (int tried = 0; tried < options.active; tried++) {
        turn = (turn + 1) % options.active;
        struct connection *c = &connections[turn];
        if (c->state == UP && c->in_flight < (uint32_t)options.depth) {
            queue_message(c);
            return flush(c);
        }
    }
}

static void begin_load(void)
{
    read_clock();
    if (options.inflight) {
        turn = options.active - 1;
        for (int i = 0; i < options.inflight; i++)
            send_in_turn();
        return;
    }
    for (int i = 0; i < options.active; i++) {
        struct connection *c = &connections[i];
        for (int k = 0; k < options.depth && (!options.count || (uint64_t)k < options.count); k++)
            queue_message(c);
        flush(c);
    }
}

/* ---- receiving ------------------------------------------------------------------------------------------------------------------ */

static void kill_connection(struct connection *c, const char *why)
{
    if (c->state == DEAD)
        return;
    if (c->state < UP)
        fail("connection %td of %d does not open: %s", c - connections + 1, options.connections, why);
    if (++dead <= COMPLAINTS)
        fprintf(stderr, "load: connection %td died: %s\n", c - connections + 1, why);
    close(c->fd);
    c->state = DEAD;
    c->unsent = 0;
}

static void record_latency(uint64_t nanoseconds)
{
    uint64_t microseconds = nanoseconds / 1000;
    if (microseconds > slowest)
        slowest = microseconds;
    histogram[microseconds < HISTOGRAM ? microseconds : HISTOGRAM]++;
    recorded++;
}

/* One reply is complete: count it and queue what follows from it. */
static void finish_reply(struct connection *c)
{
    if (!c->excepted)
        record_latency(clock_now - c->sent_at[c->oldest]);
    messages++;
    c->in_body = false;
    c->oldest = (c->oldest + 1) % options.depth;
    c->in_flight--;
    c->answered++;
    if (options.count && c->answered == options.count)
        unfinished--;
    if (options.inflight)
        send_in_turn();
    else if (!options.count || c->answered + c->in_flight < options.count)
        queue_message(c);
}

/* Takes the head of a reply from data, across reads if need be. Returns how many bytes of data it took, or -1 if the head is wrong.
 * Sets in_body once the head is complete. */
static ssize_t take_head(struct connection *c, char *data, size_t length)
{
    if (options.mode == TCP || options.mode == TEXT) { /* no head: a reply is as long as its request */
        c->body = options.size;
        c->in_body = true;
        return 0;
    }
    size_t kept = c->head_length;
    size_t more = length < HEAD_MAX - kept ? length : HEAD_MAX - kept;
    if (kept) {
        memcpy(c->head + kept, data, more);
        data = c->head;
        length = kept + more;
    }
    ssize_t head = read_head(data, length, &c->body);
    if (head < 0 || (head == 0 && length >= HEAD_MAX))
        return -1;
    if (head > 0) {
        c->in_body = true;
        c->head_length = 0;
        return head - kept;
    }
    if (!c->head)
        c->head = allocate(1, HEAD_MAX + 1);
    if (!kept)
        memcpy(c->head, data, length);
    c->head_length = length;
    return more;
}

/* Splits what arrived into replies. Returns NULL, or what is wrong with it. */
static const char *consume(struct connection *c, char *data, size_t length)
{
    while (length) {
        if (!c->in_flight)
            return "more was sent than was asked for";
        if (!c->in_body) {
            ssize_t taken = take_head(c, data, length);
            if (taken < 0)
                return "wrong head of a reply";
            data += taken;
            length -= taken;
        }
        if (!c->in_body)
            continue;
        size_t chunk = length < c->body ? length : c->body;
        data += chunk;
        length -= chunk;
        c->body -= chunk;
        if (c->body)
            continue;
        if (options.mode == TEXT && data[-1] != '\n')
            return "no newline where the reply should end";
        finish_reply(c);
    }
    return NULL;
}

static void on_readable(struct connection *c)
{
    static char buffer[BUFFER];
    ssize_t got = receive(c, buffer, sizeof buffer);

    if (got < 0 && errno == EAGAIN)
        return;
    if (got <= 0)
        return kill_connection(c, got ? strerror(errno) : "closed by the server");
    const char *wrong = consume(c, buffer, got);
    if (wrong)
        return kill_connection(c, wrong);
    flush(c);
}

/* ---- opening -------------------------------------------------------------------------------------------------------------------- */

/* Spreads loopback connections over several source addresses, so that neither their number nor the TIME_WAIT of earlier runs exhausts
 * the ports. The kernel chooses the port at connect(), where it may share one between different source addresses. */
static void bind_source(int fd, int number)
{
    int on = 1;
    struct sockaddr_in source = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK + number % SOURCES)};

    if (ntohl(options.server.sin_addr.s_addr) >> 24 != 127)
        return;
    setsockopt(fd, SOL_IP, IP_BIND_ADDRESS_NO_PORT, &on, sizeof on);
    if (bind(fd, (struct sockaddr *)&source, sizeof source) < 0)
        fail("bind: %s", strerror(errno));
}

static void open_connection(struct connection *c)
{
    int on = 1;

    c->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    if (c->fd < 0)
        fail("socket: %s", strerror(errno));
    bind_source(c->fd, c - connections);
    setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    c->state = CONNECTING;
    if (connect(c->fd, (struct sockaddr *)&options.server, sizeof options.server) < 0 && errno != EINPROGRESS)
        kill_connection(c, strerror(errno));
    watch(c, EPOLL_CTL_ADD, EPOLLOUT);
    opening++;
}

static void opened(struct connection *c)
{
    c->state = UP;
    opening--;
    up++;
}

static void start_protocol(struct connection *c)
{
    if (options.mode != WS)
        return opened(c);
    if (transmit(c, HANDSHAKE, sizeof HANDSHAKE - 1) != sizeof HANDSHAKE - 1)
        kill_connection(c, "cannot send the handshake");
    c->state = HANDSHAKING;
    c->head = allocate(1, HEAD_MAX + 1);
}

static void on_securing(struct connection *c)
{
    if (secure(c))
        start_protocol(c);
}

static void on_connected(struct connection *c)
{
    int error = 0;
    socklen_t length = sizeof error;

    getsockopt(c->fd, SOL_SOCKET, SO_ERROR, &error, &length);
    if (error)
        kill_connection(c, strerror(error));
    watch(c, EPOLL_CTL_MOD, EPOLLIN);
    if (!options.tls)
        return start_protocol(c);
    c->state = SECURING;
    on_securing(c);
}

static void on_handshake(struct connection *c)
{
    ssize_t got = receive(c, c->head + c->head_length, HEAD_MAX - c->head_length);

    if (got < 0 && errno == EAGAIN)
        return;
    if (got <= 0)
        kill_connection(c, got ? strerror(errno) : "closed during the handshake");
    c->head_length += got;
    c->head[c->head_length] = '\0';
    char *end = strstr(c->head, "\r\n\r\n");
    if (!end)
        return;
    if (strncmp(c->head, "HTTP/1.1 101", 12) != 0 || !strstr(c->head, ACCEPT) || end[4])
        kill_connection(c, c->head);
    c->head_length = 0;
    free(c->head);
    c->head = NULL;
    opened(c);
}

/* ---- the loop ------------------------------------------------------------------------------------------------------------------- */

static void on_event(struct connection *c, uint32_t events)
{
    switch (c->state) {
    case CONNECTING:
        return on_connected(c);
    case SECURING:
        return on_securing(c);
    case HANDSHAKING:
        return on_handshake(c);
    case UP:
        if (events & EPOLLOUT)
            flush(c);
        if (c->state == UP && events & ~EPOLLOUT)
            on_readable(c);
        return;
    default: /* died earlier in the same batch of events */
        return;
    }
}

/* Waits for events, at most until deadline (monotonic ns), and handles them. */
static void run_events(uint64_t deadline)
{
    struct epoll_event events[EVENTS];
    int64_t left = (int64_t)(deadline - clock_now) / 1000000 + 1;
    int count = epoll_wait(poller, events, EVENTS, left < 0 ? 0 : left > 1000 ? 1000 : left);

    for (int i = 0; i < count; i++) {
        read_clock();
        on_event(events[i].data.ptr, events[i].events);
    }
    read_clock();
}

static void open_all(void)
{
    int next = 0;
    uint64_t deadline = read_clock() + options.open_timeout * SECOND;

    while (up < options.connections) {
        if (stopped)
            fail("stopped while opening");
        while (next < options.connections && opening < OPENING_MAX)
            open_connection(&connections[next++]);
        run_events(deadline);
        if (clock_now > deadline)
            fail("only %d of %d connections are open after %.0f s", up, options.connections, options.open_timeout);
    }
}

static bool finished(void)
{
    return stopped || dead == options.connections || (options.count && !unfinished);
}

static void run_until(uint64_t deadline)
{
    while (clock_now < deadline && !finished())
        run_events(deadline);
}

static void say(const char *line)
{
    puts(line);
    fflush(stdout);
}

static void start_window(void)
{
    messages = recorded = slowest = 0;
    memset(histogram, 0, sizeof histogram);
    say("start");
}

static uint64_t percentile(double share)
{
    uint64_t seen = 0;
    for (uint64_t microseconds = 0; microseconds < HISTOGRAM; microseconds++) {
        seen += histogram[microseconds];
        if (seen && seen >= share * recorded)
            return microseconds;
    }
    return slowest;
}

static void report(double seconds)
{
    printf("{\"mode\": \"%s\", \"connections\": %d, \"messages\": %llu, \"seconds\": %.6f, \"rate\": %.0f, \"p50_us\": %llu, "
           "\"p99_us\": %llu, \"p999_us\": %llu, \"max_us\": %llu, \"dead\": %d, \"unfinished\": %d}\n",
           MODES[options.mode], options.connections, (unsigned long long)messages, seconds, seconds > 0 ? messages / seconds : 0,
           (unsigned long long)percentile(0.5), (unsigned long long)percentile(0.99), (unsigned long long)percentile(0.999),
           (unsigned long long)slowest, dead, unfinished);
    fflush(stdout);
}

/* ---- the command line ----------------------------------------------------------------------------------------------------------- */

static void usage(void)
{
    fprintf(stderr, "usage: load tcp|text|frame|ws|http|tls|https HOST PORT [-c connections] [-d depth] [-s size] [-r request]\n"
                    "            [-t seconds] [-w warmup] [-a active] [-i inflight] [-n count] [-x except] [--hold]\n"
                    "            [--open-timeout seconds]\n");
    exit(2);
}

static void parse_arguments(int argc, char **argv)
{
    static const struct option names[] = {
        {"connections", 1, 0, 'c'}, {"depth", 1, 0, 'd'},  {"size", 1, 0, 's'},     {"seconds", 1, 0, 't'},
        {"warmup", 1, 0, 'w'},      {"active", 1, 0, 'a'}, {"inflight", 1, 0, 'i'}, {"count", 1, 0, 'n'},
        {"request", 1, 0, 'r'},     {"except", 1, 0, 'x'}, {"hold", 0, 0, 'H'},     {"open-timeout", 1, 0, 'o'},
        {0}};
    int option;

    while ((option = getopt_long(argc, argv, "c:d:s:t:w:a:i:n:r:x:", names, NULL)) != -1) {
        switch (option) {
        case 'c': options.connections = atoi(optarg); break;
        case 'd': options.depth = atoi(optarg); break;
        case 's': options.size = strtoul(optarg, NULL, 10); break;
        case 't': options.seconds = atof(optarg); break;
        case 'w': options.warmup = atof(optarg); break;
        case 'a': options.active = atoi(optarg); break;
        case 'i': options.inflight = atoi(optarg); break;
        case 'n': options.count = strtoull(optarg, NULL, 10); break;
        case 'r': options.request = optarg; break;
        case 'x': options.except = strtoul(optarg, NULL, 10); break;
        case 'H': options.hold = true; break;
        case 'o': options.open_timeout = atof(optarg); break;
        default: usage();
        }
    }
    if (argc - optind != 3)
        usage();
    while (strcmp(argv[optind], MODES[options.mode]) != 0)
        if (++options.mode > SECURE_HTTP)
            usage();
    options.tls = options.mode >= SECURE_TCP;
    if (options.tls)
        options.mode = options.mode == SECURE_TCP ? TCP : HTTP;
    if (!options.size && options.mode != HTTP)
        options.size = 64;
    options.server.sin_family = AF_INET;
    options.server.sin_port = htons(atoi(argv[optind + 2]));
    if (inet_pton(AF_INET, argv[optind + 1], &options.server.sin_addr) != 1)
        usage();
    if (!options.active || options.active > options.connections)
        options.active = options.connections;
    if (options.connections < 1 || options.depth < 1 || options.seconds <= 0)
        usage();
    if (options.mode == HTTP && !options.request)
        fail("http needs --request");
    if (options.except && options.depth > 1)
        fail("--except needs a depth of 1");
    if (options.inflight && (options.count || options.inflight > options.active * options.depth))
        fail("--inflight does not go with --count, nor above active connections times depth");
    if (options.count)
        unfinished = options.active;
}

static void on_signal(int number)
{
    (void)number;
    stopped = 1;
}

static void prepare_process(void)
{
    struct sigaction stop = {.sa_handler = on_signal};

    sigaction(SIGTERM, &stop, NULL);
    sigaction(SIGINT, &stop, NULL);
    signal(SIGPIPE, SIG_IGN);
    alarm(options.open_timeout + options.warmup + options.seconds + 30); /* if all else fails */
    poller = epoll_create1(0);
    if (options.tls)
        prepare_tls();
    connections = allocate(options.connections, sizeof *connections);
    for (int i = 0; i < options.active; i++)
        connections[i].sent_at = allocate(options.depth, sizeof(uint64_t));
}

int main(int argc, char **argv)
{
    parse_arguments(argc, argv);
    prepare_process();
    prepare_messages();
    open_all();
    say("ready");
    uint64_t started = read_clock();
    if (!options.hold || options.count)
        begin_load();
    if (options.hold && options.count) {
        run_until(started + options.open_timeout * SECOND);
        options.count = 0;
        started = read_clock();
    }
    if (options.warmup > 0) {
        run_until(started + options.warmup * SECOND);
        started = read_clock();
    }
    start_window();
    run_until(started + options.seconds * SECOND);
    report((double)(clock_now - started) / SECOND);
    return dead || unfinished ? 1 : 0;
}
