/* live: WebSockets that must notice nothing, however often the server is reloaded.
 *
 *   live PORT CONNECTIONS BUSY PERIOD_MS
 *
 * Opens CONNECTIONS WebSockets to 127.0.0.1:PORT and prints "open". Each of the first BUSY sends a numbered
 * message every PERIOD_MS, whether or not the echo of the one before has come. At SIGTERM, or after ten
 * minutes, it stops sending, waits up to three seconds for what is still owed, and prints one line of JSON:
 *
 *   sent, echoed         messages
 *   lost                 never echoed
 *   wrong                echoes out of order, doubled, or of another connection
 *   disconnected         WebSockets that ended, in whichever way
 *   silence_ms_max       the longest time that any message waited for its echo; p50, p99, p999 of all
 *
 * Linux, gcc. One thread, epoll.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { RING = 256, READ = 65536, BUCKETS = 20000, OPENING = 200, MOST_SECONDS = 600 };

struct connection {
    int fd;
    unsigned sent, echoed;       /* message numbers */
    int64_t *times;              /* of the last RING messages sent */
    unsigned char rest[512];     /* the beginning of a frame */
    unsigned held;
    int open;
};

static struct connection *all;
static int poller, port, disconnected, opened;
static long long sent, echoed, wrong, histogram[BUCKETS];
static int64_t longest;
static volatile sig_atomic_t stopping;

static void on_term(int number)
{
    (void)number;
    stopping = 1;
}

static int64_t now_us(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000 + t.tv_nsec / 1000;
}

static void fail(const char *what)
{
    fprintf(stderr, "live: %s: %s\n", what, strerror(errno));
    exit(1);
}

static void lose(struct connection *c)
{
    close(c->fd);
    c->fd = -1;
    disconnected++;
}

static void begin(struct connection *c, int number)
{
    static const char request[] = "GET / HTTP/1.1\r\nHost: live\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                                  "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n";
    struct sockaddr_in from = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(0x7f000001 + number % 4)};
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(0x7f000001), .sin_port = htons(port)};
    int one = 1;
    c->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (c->fd < 0) fail("socket");
    setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    setsockopt(c->fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &one, sizeof one);
    if (bind(c->fd, (void *)&from, sizeof from) || connect(c->fd, (void *)&to, sizeof to)) fail("connect");
    if (write(c->fd, request, sizeof request - 1) < 0) fail("handshake");
    fcntl(c->fd, F_SETFL, O_NONBLOCK);
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = c};
    if (epoll_ctl(poller, EPOLL_CTL_ADD, c->fd, &event)) fail("epoll_ctl");
}

static void say(struct connection *c, int number)
{
    unsigned char frame[64] = {0x81, 0, 1, 2, 3, 4};
    int length = snprintf((char *)frame + 6, sizeof frame - 6, "%d:%u", number, c->sent);
    frame[1] = 0x80 | length;
    for (int i = 0; i < length; i++) frame[6 + i] ^= frame[2 + i % 4];
    c->times[c->sent++ % RING] = now_us();
    sent++;
    if (write(c->fd, frame, 6 + length) != 6 + length) lose(c);
}

static void heard(struct connection *c, const char *text, unsigned length)
{
    char copy[128] = {0};
    int number;
    unsigned message;
    memcpy(copy, text, length < sizeof copy - 1 ? length : sizeof copy - 1);
    if (sscanf(copy, "%d:%u", &number, &message) != 2 || number != c - all || message != c->echoed) {
        wrong++;
        return;
    }
    int64_t took = now_us() - c->times[c->echoed++ % RING];
    echoed++;
    if (took > longest) longest = took;
    histogram[took / 100 < BUCKETS ? took / 100 : BUCKETS - 1]++;
}

static void readable(struct connection *c)
{
    static unsigned char buffer[READ + sizeof c->rest + 1];
    memcpy(buffer, c->rest, c->held);
    ssize_t got = read(c->fd, buffer + c->held, READ);
    if (got < 0 && errno == EAGAIN) return;
    if (got <= 0) {
        lose(c);
        return;
    }
    unsigned size = c->held + got, at = 0;
    if (!c->open) {
        buffer[size] = 0;
        char *end = strstr((char *)buffer, "\r\n\r\n");
        if (end) {
            if (strncmp((char *)buffer, "HTTP/1.1 101 ", 13)) fail("the handshake was refused");
            c->open = 1;
            opened++;
            at = (unsigned char *)end + 4 - buffer;
        }
    }
    while (c->open && size - at >= 2 && size - at >= 2u + buffer[at + 1]) {
        if (buffer[at] != 0x81 || buffer[at + 1] > 125) {
            lose(c);
            return;
        }
        heard(c, (char *)buffer + at + 2, buffer[at + 1]);
        at += 2 + buffer[at + 1];
    }
    c->held = size - at;
    if (c->held > sizeof c->rest) fail("a frame that is too long");
    memcpy(c->rest, buffer + at, c->held);
}

static void poll_once(int timeout)
{
    struct epoll_event events[512];
    int n = epoll_wait(poller, events, 512, timeout);
    for (int i = 0; i < n; i++) {
        struct connection *c = events[i].data.ptr;
        if (c && c->fd >= 0) readable(c);
    }
}

static double percentile(double part)
{
    long long seen = 0;
    for (int i = 0; i < BUCKETS; i++)
        if ((seen += histogram[i]) >= part * echoed && seen) return i / 10.0;
    return BUCKETS / 10.0;
}

int main(int argc, char **argv)
{
    if (argc != 5) {
        fprintf(stderr, "usage: live PORT CONNECTIONS BUSY PERIOD_MS\n");
        return 2;
    }
    signal(SIGTERM, on_term);
    port = atoi(argv[1]);
    int count = atoi(argv[2]), busy = atoi(argv[3]);
    int64_t period = atoll(argv[4]) * 1000;
    struct rlimit limit;
    getrlimit(RLIMIT_NOFILE, &limit);
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit);
    all = calloc(count, sizeof *all);
    poller = epoll_create1(EPOLL_CLOEXEC);
    for (int i = 0; i < count; i++) {
        if (i < busy) all[i].times = calloc(RING, sizeof(int64_t));
        begin(&all[i], i);
        while (i - opened > OPENING) poll_once(100);
    }
    while (opened < count && !disconnected) poll_once(100);
    puts("open");
    fflush(stdout);
    int64_t begun = now_us(), turn = 0; /* message `turn / busy` of connection `turn % busy` is due at its share of a period */
    while (!stopping && now_us() - begun < MOST_SECONDS * 1000000LL) {
        while (busy && begun + turn * period / busy <= now_us()) {
            struct connection *c = &all[turn % busy];
            if (c->fd >= 0 && c->sent - c->echoed < RING) say(c, turn % busy);
            turn++;
        }
        poll_once(1);
    }
    for (int64_t stop = now_us() + 3000000; echoed + wrong < sent && now_us() < stop;) poll_once(10);
    printf("{\"sent\": %lld, \"echoed\": %lld, \"lost\": %lld, \"wrong\": %lld, \"disconnected\": %d, "
           "\"silence_ms_p50\": %.1f, \"silence_ms_p99\": %.1f, \"silence_ms_p999\": %.1f, \"silence_ms_max\": %.1f}\n",
           sent, echoed, sent - echoed - wrong, wrong, disconnected, percentile(0.5), percentile(0.99), percentile(0.999),
           longest / 1000.0);
    return 0;
}
