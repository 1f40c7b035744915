/* The floor: what one publication to many subscribers costs at least.
 *
 * A bare send() for each subscriber in a loop, in C, on one thread. It speaks just enough WebSocket
 * (RFC 6455) and just enough of the load test's language to take part; it checks nothing, keeps no
 * order, and one slow reader stops it.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

enum { MAX_FDS = 65536, BUFFER = 8192, EVENTS = 256 };

struct connection {
    size_t filled;
    int upgraded;
    int place; /* among the subscribers, -1 if none */
    unsigned char buffer[BUFFER];
};

static struct connection *connections[MAX_FDS];
static int subscribers[MAX_FDS], subscriber_count;
static unsigned long long seq;

static void drop(int fd) {
    int place = connections[fd]->place;
    if (place >= 0) {
        subscribers[place] = subscribers[--subscriber_count];
        connections[subscribers[place]]->place = place;
    }
    free(connections[fd]);
    connections[fd] = NULL;
    close(fd);
}

static size_t pack(unsigned char *frame, const char *text, size_t size) {
    size_t head = 2;
    frame[0] = 0x81;
    if (size < 126) {
        frame[1] = size;
    } else {
        frame[1] = 126;
        frame[2] = size >> 8;
        frame[3] = size & 255;
        head = 4;
    }
    memcpy(frame + head, text, size);
    return head + size;
}

static void say(int fd, const char *text) {
    unsigned char frame[BUFFER];
    send(fd, frame, pack(frame, text, strlen(text)), MSG_NOSIGNAL);
}

static void publish(const char *data, size_t size) {
    char text[BUFFER + 256];
    unsigned char frame[BUFFER + 512];
    int length = snprintf(text, sizeof text,
        "{\"type\":\"message\",\"topic\":\"room:loadtest\",\"seq\":%llu,\"at\":1700000000000,"
        "\"from\":{\"user\":\"publisher-0\"},\"data\":%.*s", ++seq, (int)size, data);
    size_t total = pack(frame, text, length);
    for (int i = 0; i < subscriber_count; i++)
        send(subscribers[i], frame, total, MSG_NOSIGNAL);
}

static void on_text(int fd, char *text, size_t size) {
    text[size] = 0;
    char *data = strstr(text, "\"data\":");
    if (data != NULL) {
        publish(data + 7, text + size - (data + 7)); /* ends with the brace of the whole */
    } else if (strstr(text, "\"subscribe\"") != NULL) {
        connections[fd]->place = subscriber_count;
        subscribers[subscriber_count++] = fd;
        say(fd, "{\"type\":\"ok\",\"id\":1}");
    }
}

/* Return how many bytes the first whole frame took, 0 if there is none yet. */
static size_t take_frame(int fd, unsigned char *bytes, size_t filled) {
    if (filled < 6) return 0;
    size_t size = bytes[1] & 127, head = 2;
    if (size == 126) {
        size = bytes[2] << 8 | bytes[3];
        head = 4;
    }
    if (filled < head + 4 + size) return 0;
    unsigned char *mask = bytes + head, *payload = mask + 4;
    char text[BUFFER + 1];
    for (size_t i = 0; i < size; i++) text[i] = payload[i] ^ mask[i & 3];
    if ((bytes[0] & 15) == 1) on_text(fd, text, size);
    return head + 4 + size;
}

static void on_bytes(int fd) {
    struct connection *c = connections[fd];
    ssize_t got = recv(fd, c->buffer + c->filled, BUFFER - 1 - c->filled, MSG_DONTWAIT);
    if (got <= 0) {
        if (got == 0 || errno != EAGAIN) drop(fd);
        return;
    }
    c->filled += got;
    c->buffer[c->filled] = 0;
    size_t taken = 0, one;
    if (!c->upgraded) {
        char *end = strstr((char *)c->buffer, "\r\n\r\n");
        if (end == NULL) return;
        const char *answer = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n"
                             "Connection: Upgrade\r\n\r\n";
        send(fd, answer, strlen(answer), MSG_NOSIGNAL);
        say(fd, "{\"type\":\"welcome\"}");
        c->upgraded = 1;
        taken = end + 4 - (char *)c->buffer;
    }
    while ((one = take_frame(fd, c->buffer + taken, c->filled - taken)) > 0) taken += one;
    c->filled -= taken;
    memmove(c->buffer, c->buffer + taken, c->filled);
}

static void add(int epoll, int fd) {
    struct epoll_event event = {.events = EPOLLIN, .data.fd = fd};
    epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event);
}

static void take_connection(int epoll, int listener) {
    int yes = 1, fd = accept(listener, NULL, NULL);
    if (fd < 0 || fd >= MAX_FDS) {
        if (fd >= 0) close(fd);
        return;
    }
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
    connections[fd] = calloc(1, sizeof *connections[fd]);
    if (connections[fd] == NULL) exit(1);
    connections[fd]->place = -1;
    add(epoll, fd);
}

int main(int argc, char **argv) {
    if (argc != 2) return 2;
    int yes = 1, epoll = epoll_create1(0), listener = socket(AF_INET, SOCK_STREAM, 0);
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(atoi(argv[1])),
                                  .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
    if (bind(listener, (struct sockaddr *)&address, sizeof address) || listen(listener, 1024)) {
        perror("listen");
        return 1;
    }
    add(epoll, listener);
    struct epoll_event events[EVENTS];
    for (;;) {
        int count = epoll_wait(epoll, events, EVENTS, -1);
        for (int i = 0; i < count; i++) {
            int fd = events[i].data.fd;
            if (fd == listener)
                take_connection(epoll, listener);
            else
                on_bytes(fd);
        }
    }
}
