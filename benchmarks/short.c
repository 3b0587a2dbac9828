/* short: short connections in a loop, to see whether a server refuses, resets or forgets any of them, say while it reloads.
 *
 *   usage: short tcp|http HOST PORT [-l loops] [-t seconds]
 *          short unix PATH [-l loops] [-t seconds]
 *
 * Each of the concurrent loops (threads) connects, sends one request, reads the whole reply and closes, until the time is over or SIGTERM
 * or SIGINT arrives; what has been started is finished first. The reply must be the request again (tcp, unix), or a 200 with as many bytes as
 * its Content-Length says (http, with Connection: close).
 *
 * Prints "ready" after the first answered connection of every loop, and at the end one line of JSON: how many connections were
 * answered, and how the others failed. Exits 1 if any failed.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <getopt.h>
#include <netinet/in.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

enum {
    LOOPS_MAX = 64,
    REPLY_MAX = 8192,
    SOURCES = 64,        /* source addresses, so that TIME_WAIT does not exhaust the ports */
    REPLY_TIMEOUT = 10,  /* seconds to wait for connect, for sending and for each part of a reply */
    COMPLAINTS = 5,      /* failures explained on stderr */
};

static const char TCP_REQUEST[] = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
static const char HTTP_REQUEST[] = "GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n";

enum outcome { ANSWERED, REFUSED, RESET, CUT, TIMED_OUT, WRONG, OTHER, OUTCOMES };
static const char *const OUTCOME_NAMES[] = {"answered", "refused", "reset", "cut", "timed_out", "wrong", "other"};

static struct sockaddr_in server;
static struct sockaddr_un local = {.sun_family = AF_UNIX};
static bool http, unix_socket;
static double seconds = 3;
static int loops = 4;
static volatile sig_atomic_t stopped;
static atomic_ulong counts[OUTCOMES];
static atomic_ulong sources;
static atomic_int complaints, started;
static _Atomic double slowest;

static double read_clock(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec + t.tv_nsec / 1e9;
}

static void raise_to(_Atomic double *highest, double value)
{
    double seen = atomic_load(highest);
    while (value > seen && !atomic_compare_exchange_weak(highest, &seen, value))
        ;
}

/* What errno says about the end of a connection. EPIPE: the server closed before it had read, so its reset is already here. */
static enum outcome failure(const char *step)
{
    int error = errno;

    if (atomic_fetch_add(&complaints, 1) < COMPLAINTS)
        fprintf(stderr, "short: %s: %s\n", step, strerror(error));
    switch (error) {
    case ECONNREFUSED: return REFUSED;
    case ECONNRESET:
    case EPIPE: return RESET;
    case EAGAIN:
    case EINPROGRESS:
    case ETIMEDOUT: return TIMED_OUT;
    default: return OTHER;
    }
}

static enum outcome wrong(enum outcome outcome, const char *what, size_t got)
{
    if (atomic_fetch_add(&complaints, 1) < COMPLAINTS)
        fprintf(stderr, "short: %s after %zu bytes\n", what, got);
    return outcome;
}

/* Whether an HTTP response is complete: -1 = it is not what was asked for, 0 = there is more to come, 1 = complete. */
static int check_http(char *reply, size_t length)
{
    reply[length] = '\0';
    char *end = strstr(reply, "\r\n\r\n");
    char *field = strcasestr(reply, "\r\nContent-Length:");
    if (!end)
        return 0;
    if (strncmp(reply, "HTTP/1.1 200", 12) != 0 || !field || field > end)
        return -1;
    size_t whole = end + 4 - reply + strtoul(field + sizeof "\r\nContent-Length:" - 1, NULL, 10);
    return length < whole ? 0 : length == whole ? 1 : -1;
}

static int check_tcp(const char *reply, size_t length)
{
    size_t whole = sizeof TCP_REQUEST - 1;
    if (length > whole || memcmp(reply, TCP_REQUEST, length) != 0)
        return -1;
    return length == whole;
}

static enum outcome read_reply(int fd)
{
    char reply[REPLY_MAX + 1];
    size_t length = 0;

    while (length < REPLY_MAX) {
        ssize_t got = recv(fd, reply + length, REPLY_MAX - length, 0);
        if (got < 0)
            return failure("recv");
        if (got == 0)
            return wrong(CUT, "closed by the server", length);
        length += got;
        int complete = http ? check_http(reply, length) : check_tcp(reply, length);
        if (complete > 0)
            return ANSWERED;
        if (complete < 0)
            break;
    }
    return wrong(WRONG, "wrong reply", length);
}

static int connect_to_server(int fd)
{
    if (unix_socket)
        return connect(fd, (struct sockaddr *)&local, sizeof local);
    return connect(fd, (struct sockaddr *)&server, sizeof server);
}

static enum outcome exchange(int fd)
{
    const char *request = http ? HTTP_REQUEST : TCP_REQUEST;
    size_t length = strlen(request);

    if (connect_to_server(fd) < 0)
        return failure("connect");
    if (send(fd, request, length, MSG_NOSIGNAL) != (ssize_t)length)
        return failure("send");
    return read_reply(fd);
}

static int open_socket(void)
{
    int on = 1;
    struct timeval timeout = {.tv_sec = REPLY_TIMEOUT};
    struct sockaddr_in source = {.sin_family = AF_INET};
    int fd = socket(unix_socket ? AF_UNIX : AF_INET, SOCK_STREAM, 0);

    if (fd < 0) {
        perror("short: socket");
        exit(1);
    }
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof timeout);
    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &timeout, sizeof timeout);
    if (!unix_socket && ntohl(server.sin_addr.s_addr) >> 24 == 127) {
        source.sin_addr.s_addr = htonl(INADDR_LOOPBACK + atomic_fetch_add(&sources, 1) % SOURCES);
        setsockopt(fd, SOL_IP, IP_BIND_ADDRESS_NO_PORT, &on, sizeof on);
        if (bind(fd, (struct sockaddr *)&source, sizeof source) < 0)
            perror("short: bind");
    }
    return fd;
}

static void *run_loop(void *deadline)
{
    bool first = true;

    while (!stopped && read_clock() < *(double *)deadline) {
        double begun = read_clock();
        int fd = open_socket();
        atomic_fetch_add(&counts[exchange(fd)], 1);
        close(fd);
        raise_to(&slowest, read_clock() - begun);
        if (first && atomic_fetch_add(&started, 1) + 1 == loops) {
            puts("ready");
            fflush(stdout);
        }
        first = false;
    }
    return NULL;
}

static void on_signal(int number)
{
    (void)number;
    stopped = 1;
}

static void usage(void)
{
    fprintf(stderr, "usage: short tcp|http HOST PORT [-l loops] [-t seconds]\n       short unix PATH [-l loops] [-t seconds]\n");
    exit(2);
}

static void parse_arguments(int argc, char **argv)
{
    int option;

    while ((option = getopt(argc, argv, "l:t:")) != -1) {
        switch (option) {
        case 'l': loops = atoi(optarg); break;
        case 't': seconds = atof(optarg); break;
        default: usage();
        }
    }
    unix_socket = argc > optind && strcmp(argv[optind], "unix") == 0;
    if (argc - optind != (unix_socket ? 2 : 3) || loops < 1 || loops > LOOPS_MAX || seconds <= 0)
        usage();
    if (unix_socket) {
        if (strlen(argv[optind + 1]) >= sizeof local.sun_path)
            usage();
        strcpy(local.sun_path, argv[optind + 1]);
        return;
    }
    http = strcmp(argv[optind], "http") == 0;
    if (!http && strcmp(argv[optind], "tcp") != 0)
        usage();
    server.sin_family = AF_INET;
    server.sin_port = htons(atoi(argv[optind + 2]));
    if (inet_pton(AF_INET, argv[optind + 1], &server.sin_addr) != 1)
        usage();
}

static unsigned long report(void)
{
    unsigned long failed = 0;

    printf("{\"mode\": \"%s\", \"slowest_ms\": %.1f", unix_socket ? "unix" : http ? "http" : "tcp", slowest * 1e3);
    for (int outcome = 0; outcome < OUTCOMES; outcome++) {
        printf(", \"%s\": %lu", OUTCOME_NAMES[outcome], (unsigned long)counts[outcome]);
        if (outcome != ANSWERED)
            failed += counts[outcome];
    }
    puts("}");
    fflush(stdout);
    return failed;
}

int main(int argc, char **argv)
{
    pthread_t threads[LOOPS_MAX];
    struct sigaction stop = {.sa_handler = on_signal, .sa_flags = SA_RESTART};

    parse_arguments(argc, argv);
    sigaction(SIGTERM, &stop, NULL);
    sigaction(SIGINT, &stop, NULL);
    double deadline = read_clock() + seconds;
    for (int i = 0; i < loops; i++)
        pthread_create(&threads[i], NULL, run_loop, &deadline);
    for (int i = 0; i < loops; i++)
        pthread_join(threads[i], NULL);
    return report() ? 1 : 0;
}
