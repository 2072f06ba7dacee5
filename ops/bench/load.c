/*
 * Load for one edge: N callers that send and receive G.711 RTP, and an agent on NATS that sends every frame back.
 *
 * A caller in Python costs more than the edge's side of the call, so that a measurement would show the caller. This
 * program costs a few percent of a core at 300 calls. It speaks no SIP: the bench places the calls and hands over ports.
 *
 *   load HOST NATS_PORT CALLS SECONDS        (NATS_PORT 0: callers only)
 *
 * Prints the callers' RTP ports on one line, reads the edge's RTP ports from standard input in the same order, sends
 * 50 packets a second per call, evenly spread over 20 ms, and prints one JSON object at the end. Arrival times are the
 * kernel's (SO_TIMESTAMPNS), so that waiting in this program does not count as the edge's jitter.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum {
    FRAME_NS = 20000000, PAYLOAD = 160, RTP_HEADER = 12, MAX_CALLS = 2000, BUCKETS = 100000, WARM_UP_FRAMES = 100,
    BUS_HEADER = 16, BUFFER = 1 << 20
};

struct call {
    int fd;
    struct sockaddr_in edge;
    uint16_t sequence, last_received;
    uint32_t timestamp, received, lost, out_of_order;
    int64_t next_send, last_arrival;
};

static struct call calls[MAX_CALLS];
static uint32_t deviations[BUCKETS]; /* |time between two packets - 20 ms| in units of 1 us */
static uint64_t deviation_count, sent, received, lost, out_of_order, bus_in, bus_out;
static int64_t deviation_max;
static char input[BUFFER], output[BUFFER];
static size_t input_length, output_length;
static int nats;

static int64_t now_ns(clockid_t clock) {
    struct timespec t;
    clock_gettime(clock, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static void die(const char *what) {
    fprintf(stderr, "load: %s: %s\n", what, strerror(errno));
    exit(1);
}

static void open_call(struct call *call, const char *host) {
    struct sockaddr_in local = {.sin_family = AF_INET};
    socklen_t length = sizeof local;
    int on = 1;
    inet_pton(AF_INET, host, &local.sin_addr);
    call->fd = socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK, 0);
    if (call->fd < 0 || bind(call->fd, (struct sockaddr *)&local, sizeof local) < 0) die("bind");
    setsockopt(call->fd, SOL_SOCKET, SO_TIMESTAMPNS, &on, sizeof on);
    getsockname(call->fd, (struct sockaddr *)&local, &length);
    call->edge = local;
    printf("%d ", ntohs(local.sin_port));
}

static void send_packet(struct call *call, uint32_t ssrc) {
    unsigned char packet[RTP_HEADER + PAYLOAD];
    uint16_t sequence = htons(call->sequence++);
    uint32_t timestamp = htonl(call->timestamp), source = htonl(ssrc);
    packet[0] = 0x80;
    packet[1] = 0;
    memcpy(packet + 2, &sequence, 2);
    memcpy(packet + 4, &timestamp, 4);
    memcpy(packet + 8, &source, 4);
    memset(packet + RTP_HEADER, 0x55, PAYLOAD);
    call->timestamp += PAYLOAD;
    if (sendto(call->fd, packet, sizeof packet, 0, (struct sockaddr *)&call->edge, sizeof call->edge) > 0) sent++;
}

static void count_arrival(struct call *call, const unsigned char *packet, int64_t at) {
    uint16_t sequence = (uint16_t)(packet[2] << 8 | packet[3]);
    received++;
    if (call->received++) {
        int16_t step = (int16_t)(sequence - call->last_received);
        if (step <= 0) { call->out_of_order++; return; }
        call->lost += (uint32_t)(step - 1);
        int64_t deviation = at - call->last_arrival - (int64_t)step * FRAME_NS;
        if (deviation < 0) deviation = -deviation;
        if (call->received > WARM_UP_FRAMES) {
            int64_t bucket = deviation / 1000;
            deviations[bucket < BUCKETS ? bucket : BUCKETS - 1]++;
            deviation_count++;
            if (deviation > deviation_max) deviation_max = deviation;
        }
    }
    call->last_received = sequence;
    call->last_arrival = at;
}

static void receive_packets(struct call *call) {
    unsigned char packet[2048], control[64];
    for (;;) {
        struct iovec part = {packet, sizeof packet};
        struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
        ssize_t length = recvmsg(call->fd, &message, MSG_DONTWAIT);
        if (length < 0) return;
        /* 192 to 223 in the second byte is RTCP (RFC 5761): a neighbour's port + 1 may be ours. */
        if (length < RTP_HEADER || (packet[1] >= 192 && packet[1] <= 223)) continue;
        struct cmsghdr *header = CMSG_FIRSTHDR(&message);
        struct timespec at = {0};
        if (header && header->cmsg_type == SO_TIMESTAMPNS) memcpy(&at, CMSG_DATA(header), sizeof at);
        count_arrival(call, packet, (int64_t)at.tv_sec * 1000000000 + at.tv_nsec);
    }
}

/* What came in while the calls were placed, and what that overflowed, is not the edge's loss. */
static void drain(int count) {
    char packet[2048];
    for (int i = 0; i < count; i++)
        while (recv(calls[i].fd, packet, sizeof packet, MSG_DONTWAIT) >= 0);
}

static void nats_connect(const char *host, int port) {
    struct sockaddr_in server = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    int on = 1, size = 4 << 20;
    const char *hello =
        "CONNECT {\"verbose\":false,\"pedantic\":false,\"name\":\"bench-agent\",\"lang\":\"c\",\"version\":\"1\"}\r\n"
        "SUB rt.*.*.audio.in 1\r\nPING\r\n";
    inet_pton(AF_INET, host, &server.sin_addr);
    nats = socket(AF_INET, SOCK_STREAM, 0);
    setsockopt(nats, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    setsockopt(nats, SOL_SOCKET, SO_RCVBUF, &size, sizeof size);
    if (connect(nats, (struct sockaddr *)&server, sizeof server) < 0) die("connect to NATS");
    if (write(nats, hello, strlen(hello)) < 0) die("write to NATS");
}

static void nats_flush(void) {
    size_t done = 0;
    while (done < output_length) {
        ssize_t length = send(nats, output + done, output_length - done, MSG_NOSIGNAL);
        if (length < 0) { if (errno == EINTR || errno == EAGAIN) continue; die("send to NATS"); }
        done += (size_t)length;
    }
    output_length = 0;
}

/* The frame that came in goes back as a frame of utterance 100, sentence 0, with the same number. */
static void echo_frame(const char *subject, size_t subject_length, const unsigned char *data, size_t length) {
    unsigned char header[BUS_HEADER];
    if (length < BUS_HEADER || subject_length < 3) return;
    if (output_length + subject_length + length + 64 > BUFFER) nats_flush();
    memcpy(header, data, BUS_HEADER);
    header[2] = 0;
    header[4] = 0;
    header[5] &= 0x0f;
    memcpy(header + 8, "\0\0\0\144\0\0\0\0", 8);
    output_length += (size_t)sprintf(output + output_length, "PUB %.*sout %zu\r\n", (int)(subject_length - 2), subject, length);
    memcpy(output + output_length, header, BUS_HEADER);
    memcpy(output + output_length + BUS_HEADER, data + BUS_HEADER, length - BUS_HEADER);
    memcpy(output + output_length + length, "\r\n", 2);
    output_length += length + 2;
    bus_out++;
}

static void nats_read(void) {
    ssize_t length = recv(nats, input + input_length, BUFFER - input_length, MSG_DONTWAIT);
    if (length == 0) { errno = ECONNRESET; die("NATS closed"); }
    if (length < 0) return;
    input_length += (size_t)length;
    size_t at = 0;
    for (;;) {
        char *line = input + at, *end = memmem(line, input_length - at, "\r\n", 2);
        if (!end) break;
        size_t line_length = (size_t)(end - line);
        if (line_length > 4 && !memcmp(line, "MSG ", 4)) {
            *end = 0;
            size_t body = (size_t)atol(strrchr(line, ' ') + 1);
            if (at + line_length + 2 + body + 2 > input_length) { *end = '\r'; break; }
            char *subject = line + 4;
            echo_frame(subject, strcspn(subject, " "), (unsigned char *)end + 2, body);
            bus_in++;
            at += line_length + 2 + body + 2;
            continue;
        }
        if (line_length == 4 && !memcmp(line, "PING", 4)) { memcpy(output + output_length, "PONG\r\n", 6); output_length += 6; }
        at += line_length + 2;
    }
    memmove(input, input + at, input_length - at);
    input_length -= at;
    nats_flush();
}

static double percentile_ms(double share) {
    uint64_t wanted = (uint64_t)((double)deviation_count * share), seen = 0;
    for (int bucket = 0; bucket < BUCKETS; bucket++)
        if ((seen += deviations[bucket]) > wanted) return (bucket + 1) / 1000.0;
    return 0;
}

static void run(int count, int seconds) {
    drain(count);
    int poll = epoll_create1(0);
    struct epoll_event event = {.events = EPOLLIN, .data.u32 = MAX_CALLS}, ready[256];
    if (nats > 0) epoll_ctl(poll, EPOLL_CTL_ADD, nats, &event);
    int64_t start = now_ns(CLOCK_MONOTONIC), stop = start + (int64_t)seconds * 1000000000, next = start;
    for (int i = 0; i < count; i++) {
        event.data.u32 = (uint32_t)i;
        epoll_ctl(poll, EPOLL_CTL_ADD, calls[i].fd, &event);
        calls[i].next_send = start + (int64_t)i * FRAME_NS / count;
    }
    for (int64_t now = start; now < stop; now = now_ns(CLOCK_MONOTONIC)) {
        if (now >= next) {
            next = now + FRAME_NS;
            for (int i = 0; i < count; i++) {
                if (calls[i].next_send <= now) { send_packet(&calls[i], 1000u + (uint32_t)i); calls[i].next_send += FRAME_NS; }
                if (calls[i].next_send < next) next = calls[i].next_send;
            }
        }
        int64_t wait_ns = next - now_ns(CLOCK_MONOTONIC);
        struct timespec wait = {0, wait_ns > 0 ? wait_ns : 0};
        int found = epoll_pwait2(poll, ready, 256, &wait, NULL);
        for (int i = 0; i < found; i++)
            if (ready[i].data.u32 == MAX_CALLS) nats_read(); else receive_packets(&calls[ready[i].data.u32]);
    }
}

int main(int argc, char **argv) {
    if (argc != 5) { fprintf(stderr, "usage: load HOST NATS_PORT CALLS SECONDS\n"); return 2; }
    int count = atoi(argv[3]);
    if (count < 1 || count > MAX_CALLS) { fprintf(stderr, "load: CALLS is 1 to %d\n", MAX_CALLS); return 2; }
    for (int i = 0; i < count; i++) open_call(&calls[i], argv[1]);
    puts("");
    fflush(stdout);
    for (int i = 0, port; i < count; i++) {
        if (scanf("%d", &port) != 1) { fprintf(stderr, "load: wants %d ports on standard input\n", count); return 2; }
        calls[i].edge.sin_port = htons((uint16_t)port);
    }
    if (atoi(argv[2])) nats_connect(argv[1], atoi(argv[2]));
    run(count, atoi(argv[4]));
    for (int i = 0; i < count; i++) { lost += calls[i].lost; out_of_order += calls[i].out_of_order; }
    printf("{\"calls\":%d,\"sent\":%lu,\"received\":%lu,\"lost\":%lu,\"out_of_order\":%lu,\"bus_in\":%lu,\"bus_out\":%lu,"
           "\"jitter_ms\":{\"p50\":%.3f,\"p95\":%.3f,\"p99\":%.3f,\"max\":%.3f,\"n\":%lu}}\n",
           count, sent, received, lost, out_of_order, bus_in, bus_out, percentile_ms(0.5), percentile_ms(0.95),
           percentile_ms(0.99), (double)deviation_max / 1e6, deviation_count);
    return 0;
}
