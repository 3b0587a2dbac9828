/* rooms: members of groups, and publishers, over WebSockets; every message is followed to every
 * member.
 *
 *   rooms PORT[,PORT…] MEMBERS GROUPS [options]
 *
 *     -P, --publish-ports PORT[,PORT…]   where publishers connect (default: PORT)
 *     -p, --publishers N   connections that publish (default 1); to group g, connection g % N
 *     -f, --in-flight N    messages in flight in each group (default 1): the next one is sent
 *                          when one has reached every member
 *     -r, --rate N         N messages a second instead, in turn over the groups, whether they
 *                          arrive or not
 *     -s, --size BYTES     of a message (default 100)
 *     -t, --seconds S      length of the measured window (default 3)
 *     -w, --warmup S       load before the window begins, not counted (default 0.5)
 *     -j, --joins N        groups that each member joins (default 1): the next N, and again from
 *                          the first; with N > 1 nothing is published
 *         --path PATH      of the handshake (default /)
 *         --socketio       messages are events of Socket.IO 5 named "m"
 *         --hold           join, then stay until the time is over
 *
 * A client says "#j GROUP" and is told "#J GROUP" when it has joined. A message that is to be
 * published is "#p GROUP NUMBER xxx…", and members get it as it is. A publisher may be told
 * "#o GROUP NUMBER" (published) or "#n GROUP NUMBER" (refused); a member "#g GROUP" (some may be
 * missing) and "#e GROUP" (a member has joined or left).
 *
 * Prints "ready" when all have joined, "start" when the window begins, "end" at its end, and one
 * line of JSON: SIGTERM ends it early. After the end nothing is sent; what is owed is waited for up
 * to 3 seconds.
 *
 *   published, delivered, seconds     in the window
 *   sent, arrived                     in all
 *   lost        members' messages that did not come, and were not refused
 *   silent      those of them that were published ("#o") and whose member was not told of a gap
 *   doubled, disordered               members' messages that came again, or after a later one
 *   disconnected, presence, told      connections that ended; "#e" since the start; members that
 *                                     were told of a gap
 *   refused, silence_ms               messages that were refused; the longest time without a "#o",
 *                                     while there was load
 *   p50_us, p99_us, max_us            from the sending of a message to its last member, in the
 *                                     window
 *
 * Linux, gcc. One thread, epoll.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum {
    READ = 65536,
    REST = 4096,       /* longest frame */
    OPENING = 200,     /* connections being opened at a time */
    SOURCES = 64,      /* source addresses */
    PORTS = 16,
    REMEMBERED = 2048, /* latest messages of a group that are followed */
    OWED_SECONDS = 3,
    MOST_LATENCIES = 1 << 20,
};

static const int64_t SECOND = 1000000;

enum state { OPENED, HANDSHAKING, GREETED, UP, ENDED };

struct connection {
    int fd;
    enum state state;
    int number;        /* of a member; -1: it publishes */
    int joined;        /* groups that it was told it is in */
    bool told;         /* of a gap */
    unsigned next;     /* the number of the message that it expects */
    uint64_t *seen;    /* a bit for each of the last REMEMBERED messages */
    unsigned held;
    unsigned char *rest;
};

struct group {
    unsigned members;
    unsigned sent;     /* messages */
    struct message { int64_t at; unsigned reached; char fate; } *messages;
    /* the last REMEMBERED; fate: 'o', 'n', 0 */
};

static struct {
    int ports[PORTS], port_count, publish_ports[PORTS], publish_port_count;
    int members, groups, publishers, in_flight, size, joins;
    double rate, seconds, warmup;
    const char *path;
    bool socketio, hold;
} options = {.publishers = 1, .in_flight = 1, .size = 100, .joins = 1, .seconds = 3,
             .warmup = 0.5, .path = "/"};

static struct connection *all, *publishers;
static struct group *groups;
static int poller, up, joined;
static bool is_counted, is_loading;
static long long published, delivered, sent, arrived, doubled, disordered, disconnected, presence;
static long long refused, acknowledged;
static int64_t acknowledged_at, silence, loading_since;
static uint32_t *latencies;
static int latency_count;
static volatile sig_atomic_t stopping;

static void fail(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    fputs("rooms: ", stderr);
    vfprintf(stderr, format, arguments);
    fputc('\n', stderr);
    exit(1);
}

static void on_term(int number)
{
    (void)number;
    stopping = 1;
}

static int64_t now_us(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * SECOND + t.tv_nsec / 1000;
}

static void *allocate(size_t count, size_t size)
{
    void *memory = calloc(count ? count : 1, size);
    if (!memory) fail("out of memory");
    return memory;
}

/* ---- WebSocket ------------------------------------------------------------------------------- */

static void end(struct connection *c)
{
    if (c->state == ENDED) return;
    close(c->fd);
    c->state = ENDED;
    disconnected++;
}

static void put(struct connection *c, const char *text, size_t length)
{
    unsigned char frame[REST + 16] = {0x81};
    size_t head = 2;

    if (c->state == ENDED) return;
    if (length < 126) {
        frame[1] = 0x80 | length;
    } else {
        frame[1] = 0x80 | 126;
        frame[2] = length >> 8;
        frame[3] = length;
        head = 4;
    }
    static const unsigned char mask[4] = {0x11, 0x22, 0x33, 0x44};
    memcpy(frame + head, mask, 4);
    head += 4;
    for (size_t i = 0; i < length; i++) frame[head + i] = text[i] ^ mask[i & 3];
    if (write(c->fd, frame, head + length) != (ssize_t)(head + length)) end(c);
}

/* A text of ours. */
static void say(struct connection *c, const char *text)
{
    char event[REST];
    int length = snprintf(event, sizeof event, options.socketio ? "42[\"m\",\"%s\"]" : "%s", text);
    put(c, event, length);
}

static void begin(struct connection *c, int number, int port)
{
    char request[512];
    struct sockaddr_in from = {.sin_family = AF_INET,
                               .sin_addr.s_addr = htonl(0x7f000001 + number % SOURCES)};
    struct sockaddr_in to = {
        .sin_family = AF_INET, .sin_addr.s_addr = htonl(0x7f000001), .sin_port = htons(port)};
    int one = 1;

    c->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (c->fd < 0) fail("socket: %s", strerror(errno));
    setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    setsockopt(c->fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &one, sizeof one);
    if (bind(c->fd, (void *)&from, sizeof from) || connect(c->fd, (void *)&to, sizeof to))
        fail("connect: %s", strerror(errno));
    int length = snprintf(request, sizeof request,
                          "GET %s HTTP/1.1\r\nHost: 127.0.0.1:%d\r\n"
                           "Upgrade: websocket\r\nConnection: Upgrade\r\n"
                          "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
                           "Sec-WebSocket-Version: 13\r\n\r\n",
                           options.path, port);
    if (write(c->fd, request, length) != length) fail("handshake: %s", strerror(errno));
    fcntl(c->fd, F_SETFL, O_NONBLOCK);
    c->state = HANDSHAKING;
    c->rest = allocate(1, REST);
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = c};
    if (epoll_ctl(poller, EPOLL_CTL_ADD, c->fd, &event)) fail("epoll_ctl: %s", strerror(errno));
}

/* ---- messages -------------------------------------------------------------------------------- */

static void publish(int number)
{
    struct group *group = &groups[number];
    char text[REST];
    int length = snprintf(text, sizeof text, "#p %d %u ", number, group->sent);

    while (length < options.size) text[length++] = 'x';
    text[length] = 0;
    group->messages[group->sent++ % REMEMBERED] = (struct message){.at = now_us()};
    sent++;
    if (is_counted) published++;
    say(&publishers[number % options.publishers], text);
}

static void greeted(struct connection *c)
{
    char text[32];

    c->state = UP;
    up++;
    for (int i = 0; c->number >= 0 && i < options.joins; i++) {
        snprintf(text, sizeof text, "#j %d", (c->number * options.joins + i) % options.groups);
        say(c, text);
    }
}

static bool has_seen(struct connection *c, unsigned number)
{
    return c->seen[number % REMEMBERED / 64] >> number % 64 & 1;
}

static void got_message(struct connection *c, int number, unsigned message)
{
    struct group *group = &groups[number];

    if (c->number < 0) return; /* it went to all connections */
    if (number != c->number % options.groups || message >= group->sent)
        fail("a message that was not for its receiver");
    arrived++;
    if (is_counted) delivered++;
    if (message < c->next && (c->next - message > REMEMBERED || has_seen(c, message))) {
        doubled++;
        return;
    }
    if (message < c->next) disordered++;
    for (; c->next <= message; c->next++)
        c->seen[c->next % REMEMBERED / 64] &= ~(1ull << c->next % 64);
    c->seen[message % REMEMBERED / 64] |= 1ull << message % 64;
    struct message *followed = &group->messages[message % REMEMBERED];
    if (group->sent - message > REMEMBERED || ++followed->reached < group->members) return;
    if (is_counted && latency_count < MOST_LATENCIES)
        latencies[latency_count++] = now_us() - followed->at;
    if (is_loading && !options.rate) publish(number);
}

static void got_fate(int number, unsigned message, char fate)
{
    int64_t now = now_us();

    if (groups[number].sent - message <= REMEMBERED)
        groups[number].messages[message % REMEMBERED].fate = fate;
    if (fate == 'n') {
        refused++;
        return;
    }
    acknowledged++;
    if (is_loading && acknowledged_at && now - acknowledged_at > silence)
        silence = now - acknowledged_at;
    acknowledged_at = now;
}

static void got_text(struct connection *c, char *text)
{
    char *at = strchr(text, '#'), what;
    int number;
    unsigned message = 0;

    if (options.socketio && !strcmp(text, "2")) {
        put(c, "3", 1);
        return;
    }
    if (options.socketio && c->state == GREETED) {
        if (text[0] == '0') put(c, "40", 2);
        if (!strncmp(text, "40", 2)) greeted(c);
        return;
    }
    if (!at || sscanf(at, "#%c %d %u", &what, &number, &message) < 2 || number < 0 ||
        number >= options.groups)
        fail("not understood: %.60s", text);
    switch (what) {
    case 'J': c->joined++; joined++; break;
    case 'p': got_message(c, number, message); break;
    case 'o': case 'n': got_fate(number, message, what); break;
    case 'g': c->told = true; break;
    case 'e': presence++; break;
    default: fail("not understood: %.60s", text);
    }
}

static void readable(struct connection *c)
{
    static unsigned char buffer[READ + REST + 1];
    memcpy(buffer, c->rest, c->held);
    ssize_t got = read(c->fd, buffer + c->held, READ);
    if (got < 0 && errno == EAGAIN) return;
    if (got <= 0) {
        end(c);
        return;
    }
    unsigned size = c->held + got, at = 0;
    if (c->state == HANDSHAKING) {
        buffer[size] = 0;
        char *tail = strstr((char *)buffer, "\r\n\r\n");
        if (tail) {
            if (strncmp((char *)buffer, "HTTP/1.1 101 ", 13))
                fail("the handshake was refused: %.60s", buffer);
            at = (unsigned char *)tail + 4 - buffer;
            c->state = GREETED;
            if (!options.socketio) greeted(c);
        }
    }
    while (c->state != HANDSHAKING && c->state != ENDED && size - at >= 2) {
        unsigned head = 2, length = buffer[at + 1];
        if (length == 127 || length & 0x80) fail("a frame that is too long or masked");
        if (length == 126) {
            head = 4;
            if (size - at < head) break;
            length = buffer[at + 2] << 8 | buffer[at + 3];
        }
        if (size - at < head + length) break;
        unsigned char *text = buffer + at + head, opcode = buffer[at] & 15, after = text[length];
        at += head + length;
        text[length] = 0;
        if (opcode == 8) end(c);
        else if (opcode == 1 || opcode == 2) got_text(c, (char *)text);
        text[length] = after;
    }
    c->held = size - at;
    if (c->held > REST) fail("a frame that is too long");
    memcpy(c->rest, buffer + at, c->held);
}

static void poll_once(int timeout)
{
    struct epoll_event events[512];
    int n = epoll_wait(poller, events, 512, timeout);
    for (int i = 0; i < n; i++) {
        struct connection *c = events[i].data.ptr;
        if (c->state != ENDED) readable(c);
    }
}

/* ---- the run --------------------------------------------------------------------------------- */

static void open_all(void)
{
    int total = options.members + options.publishers;
    int64_t deadline = now_us() + 120 * SECOND;

    for (int i = 0; i < total; i++) {
        bool publishes = i >= options.members;
        struct connection *c = &all[i];
        c->number = publishes ? -1 : i;
        c->seen = publishes ? NULL : allocate(REMEMBERED / 64, sizeof(uint64_t));
        begin(c, i,
              publishes ? options.publish_ports[i % options.publish_port_count]
                        : options.ports[i % options.port_count]);
        while (i - up > OPENING && !stopping && now_us() < deadline) poll_once(100);
        if (stopping || now_us() > deadline) fail("%d of %d connections are open", up, total);
    }
    while (up < total || joined < options.members * options.joins) {
        if (stopping || disconnected || now_us() > deadline)
            fail("%d connections are open, %lld ended, %d groups joined", up, disconnected, joined);
        poll_once(100);
    }
}

static void load_until(int64_t until)
{
    static int64_t turn;

    while (!stopping && now_us() < until) {
        while (options.rate && is_loading &&
               loading_since + (int64_t)(turn * SECOND / options.rate) <= now_us())
            publish(turn++ % options.groups);
        poll_once(1);
    }
}

static void start_load(void)
{
    is_loading = true;
    loading_since = now_us();
    for (int i = 0; !options.rate && i < options.groups * options.in_flight; i++)
        publish(i % options.groups);
}

static bool is_owed(void)
{
    long long due = 0;
    for (int i = 0; i < options.groups; i++) due += (long long)groups[i].sent * groups[i].members;
    return arrived < due;
}

static int compare(const void *a, const void *b)
{
    uint32_t first = *(const uint32_t *)a, second = *(const uint32_t *)b;
    return first < second ? -1 : first > second;
}

static unsigned percentile(double part)
{
    return latency_count ? latencies[(int)(part * (latency_count - 1))] : 0;
}

static void report(double seconds)
{
    long long lost = 0, silent = 0, told = 0;

    for (int i = 0; i < options.members && options.joins == 1; i++) {
        struct connection *c = &all[i];
        struct group *group = &groups[i % options.groups];
        told += c->told;
        unsigned first = group->sent > REMEMBERED ? group->sent - REMEMBERED : 0;
        for (unsigned number = first; number < group->sent; number++) {
            char fate = group->messages[number % REMEMBERED].fate;
            if ((number < c->next && has_seen(c, number)) || fate == 'n') continue;
            lost++;
            if (fate == 'o' && !c->told) silent++;
        }
    }
    qsort(latencies, latency_count, sizeof *latencies, compare);
    printf("{\"published\": %lld, \"delivered\": %lld, \"seconds\": %.6f, \"sent\": %lld, "
           "\"arrived\": %lld, \"lost\": %lld, \"silent\": %lld, \"doubled\": %lld, "
           "\"disordered\": %lld, \"disconnected\": %lld, \"presence\": %lld, \"told\": %lld, "
           "\"refused\": %lld, \"acknowledged\": %lld, \"silence_ms\": %.1f, \"p50_us\": %u, "
           "\"p99_us\": %u, \"max_us\": %u}\n",
           published, delivered, seconds, sent, arrived, lost, silent, doubled, disordered,
           disconnected, presence, told, refused,
           acknowledged, silence / 1000.0, percentile(0.5), percentile(0.99), percentile(1));
    fflush(stdout);
}

static int read_ports(const char *text, int *ports)
{
    int count = 0;
    for (const char *at = text; at && count < PORTS;
         at = strchr(at, ',') ? strchr(at, ',') + 1 : NULL)
        ports[count++] = atoi(at);
    return count;
}

static void parse_arguments(int argc, char **argv)
{
    static const struct option names[] = {
        {"publish-ports", 1, 0, 'P'}, {"publishers", 1, 0, 'p'}, {"in-flight", 1, 0, 'f'},
        {"rate", 1, 0, 'r'}, {"size", 1, 0, 's'}, {"seconds", 1, 0, 't'},
        {"warmup", 1, 0, 'w'}, {"joins", 1, 0, 'j'}, {"path", 1, 0, 'a'},
        {"socketio", 0, 0, 'S'}, {"hold", 0, 0, 'H'}, {0}};
    int option;

    while ((option = getopt_long(argc, argv, "P:p:f:r:s:t:w:j:", names, NULL)) != -1) {
        switch (option) {
        case 'P': options.publish_port_count = read_ports(optarg, options.publish_ports); break;
        case 'p': options.publishers = atoi(optarg); break;
        case 'f': options.in_flight = atoi(optarg); break;
        case 'r': options.rate = atof(optarg); break;
        case 's': options.size = atoi(optarg); break;
        case 't': options.seconds = atof(optarg); break;
        case 'w': options.warmup = atof(optarg); break;
        case 'j': options.joins = atoi(optarg); break;
        case 'a': options.path = optarg; break;
        case 'S': options.socketio = true; break;
        case 'H': options.hold = true; break;
        default: exit(2);
        }
    }
    if (argc - optind != 3) fail("usage: rooms PORT[,PORT] MEMBERS GROUPS [options]");
    options.port_count = read_ports(argv[optind], options.ports);
    options.members = atoi(argv[optind + 1]);
    options.groups = atoi(argv[optind + 2]);
    if (!options.publish_port_count) {
        memcpy(options.publish_ports, options.ports, sizeof options.ports);
        options.publish_port_count = options.port_count;
    }
    if (options.size > REST - 64 || options.groups < 1 || options.publishers < 1)
        fail("values out of range");
    if (options.joins > 1) options.hold = true;
}

int main(int argc, char **argv)
{
    struct rlimit limit;

    parse_arguments(argc, argv);
    signal(SIGTERM, on_term);
    signal(SIGINT, on_term);
    signal(SIGPIPE, SIG_IGN);
    alarm(120 + options.warmup + options.seconds + OWED_SECONDS + 10); /* if all else fails */
    getrlimit(RLIMIT_NOFILE, &limit);
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit);
    poller = epoll_create1(EPOLL_CLOEXEC);
    all = allocate(options.members + options.publishers, sizeof *all);
    publishers = all + options.members;
    groups = allocate(options.groups, sizeof *groups);
    latencies = allocate(MOST_LATENCIES, sizeof *latencies);
    for (int i = 0; i < options.members; i++) groups[i % options.groups].members++;
    for (int i = 0; i < options.groups; i++)
        groups[i].messages = allocate(REMEMBERED, sizeof *groups[i].messages);
    open_all();
    puts("ready");
    fflush(stdout);
    if (!options.hold) {
        start_load();
        load_until(now_us() + options.warmup * SECOND);
    }
    is_counted = true;
    presence = 0;
    puts("start");
    fflush(stdout);
    int64_t began = now_us();
    load_until(began + options.seconds * SECOND);
    is_counted = is_loading = false;
    double seconds = (double)(now_us() - began) / SECOND;
    puts("end");
    fflush(stdout);
    for (int64_t until = now_us() + OWED_SECONDS * SECOND; is_owed() && now_us() < until;)
        poll_once(10);
    report(seconds);
    return 0;
}
