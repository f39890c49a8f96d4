/*
 * The pretend vendor. It is C because it shares one core with the load: anything slower than the candidates would be
 * what we measure. One thread, one epoll; it allocates only when a connection opens or meets its largest body so far.
 *
 *   GET anything                                  200 {"object":"list","data":[],"streams":N}, N not yet complete
 *   POST with "stream":true, model bench-N        N events at once, then [DONE]
 *   POST with "stream":true, model bench-N-Mms    the same, one event every M milliseconds
 *   POST anything else                            one chat.completion of about 600 bytes
 *
 * It prints its port as its only line and ends when its standard input does, so that it cannot outlive the benchmark.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#include "mock-answers.h"
#include "mock-request.h"

#define MAX_FD 4096
#define FIRST_BUFFER (16u << 10)

/* What a stream still owes, in the order it is sent. */
enum phase { WORDS, LAST, USAGE, END, IDLE };

struct connection {
  int fd;
  char *buffer; size_t held, room;
  const struct bytes *sending; size_t sent;
  enum phase phase; int words_left, with_usage, blocked;
  int64_t pace_ns, due_ns;
};

static struct connection *connections[MAX_FD];
static struct connection *streams[MAX_FD]; static int stream_count;
static int poll_fd, timer_fd;

static int64_t now_ns(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static void forget_stream(struct connection *c) {
  for (int i = 0; i < stream_count; i++)
    if (streams[i] == c) { streams[i] = streams[--stream_count]; return; }
}

static void drop(struct connection *c) {
  forget_stream(c);
  connections[c->fd] = NULL;
  close(c->fd);
  free(c->buffer);
  free(c);
}

static void watch(struct connection *c, int for_room) {
  struct epoll_event e = { .events = EPOLLIN | (for_room ? EPOLLOUT : 0), .data.fd = c->fd };
  epoll_ctl(poll_fd, EPOLL_CTL_MOD, c->fd, &e);
  c->blocked = for_room;
}

/* 1: all of `sending` left; 0: the peer reads too slowly, epoll will say when; -1: gone. */
static int flush(struct connection *c) {
  while (c->sent < c->sending->length) {
    ssize_t n = send(c->fd, c->sending->at + c->sent, c->sending->length - c->sent, MSG_NOSIGNAL);
    if (n < 0 && errno == EAGAIN) { watch(c, 1); return 0; }
    if (n < 0) return -1;
    c->sent += (size_t)n;
  }
  c->sending = NULL;
  c->sent = 0;
  if (c->blocked) watch(c, 0);
  return 1;
}

static const struct bytes *next_event(struct connection *c) {
  switch (c->phase) {
    case WORDS:
      if (--c->words_left == 0) c->phase = LAST;
      return &word;
    case LAST: c->phase = c->with_usage ? USAGE : END; return &last;
    case USAGE: c->phase = END; return &usage;
    default: c->phase = IDLE; return &end;
  }
}

/* Sends what is due. 1: the answer is complete; 0: later; -1: gone. */
static int advance(struct connection *c, int64_t now) {
  for (;;) {
    if (c->sending != NULL) {
      int done = flush(c);
      if (done <= 0) return done;
    }
    if (c->phase == IDLE) { forget_stream(c); return 1; }
    /* Vendors send the last event, the usage and [DONE] together, so only the words keep the pace. */
    if (c->phase <= LAST && c->pace_ns > 0) {
      if (now < c->due_ns) return 0;
      c->due_ns += c->pace_ns;
    }
    c->sending = next_event(c);
  }
}

static int begin_answer(struct connection *c, const char *body, size_t length, int is_get) {
  c->phase = IDLE;
  if (is_get) {
    frame_count(stream_count);
    c->sending = &list;
    return advance(c, 0);
  }
  if (!find(body, length, "\"stream\":true") && !find(body, length, "\"stream\": true")) {
    c->sending = &plain;
    return advance(c, 0);
  }
  int events = 50, pace_ms = 0;
  const char *model = find(body, length, "\"bench-");
  if (model != NULL) sscanf(model, "\"bench-%d-%dms", &events, &pace_ms);
  c->words_left = events > 2 ? events - 1 : 1;
  c->phase = WORDS;
  c->with_usage = find(body, length, "\"include_usage\":true") != NULL;
  c->pace_ns = (int64_t)pace_ms * 1000000;
  c->due_ns = now_ns();
  c->sending = &stream_head;
  streams[stream_count++] = c;
  return advance(c, c->due_ns);
}

/* Answers every whole request held, one after another; stops at a stream, which goes on from the timer. */
static int serve(struct connection *c) {
  while (c->phase == IDLE && c->sending == NULL && c->held > 0) {
    size_t body_at = 0, body_length = 0;
    ssize_t used = whole_request(c->buffer, c->held, &body_at, &body_length);
    if (used < 0) return -1;
    if (used == 0) return 0;
    int done = begin_answer(c, c->buffer + body_at, body_length, c->buffer[0] == 'G');
    c->held -= (size_t)used;
    memmove(c->buffer, c->buffer + used, c->held);
    if (done < 0) return -1;
  }
  return 0;
}

static int receive(struct connection *c) {
  if (c->held == c->room) {
    if (c->room >= 2 * MAX_REQUEST) return -1;
    c->room *= 2;
    c->buffer = realloc(c->buffer, c->room);
    if (c->buffer == NULL) abort();
  }
  ssize_t n = recv(c->fd, c->buffer + c->held, c->room - c->held, 0);
  if (n < 0 && errno == EAGAIN) return 0;
  if (n <= 0) return -1;
  c->held += (size_t)n;
  return serve(c);
}

static void welcome(int listener) {
  int fd;
  while ((fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK)) >= 0) {
    if (fd >= MAX_FD) { close(fd); continue; }
    int on = 1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    struct connection *c = calloc(1, sizeof *c);
    if (c == NULL || (c->buffer = malloc(FIRST_BUFFER)) == NULL) abort();
    c->fd = fd;
    c->room = FIRST_BUFFER;
    c->phase = IDLE;
    connections[fd] = c;
    struct epoll_event e = { .events = EPOLLIN, .data.fd = fd };
    epoll_ctl(poll_fd, EPOLL_CTL_ADD, fd, &e);
  }
}

static void step(struct connection *c, int64_t now) {
  int done = advance(c, now);
  if (done < 0 || (done > 0 && serve(c) < 0)) drop(c);
}

static void run_due_streams(void) {
  int64_t now = now_ns(), soonest = INT64_MAX;
  /* Backwards, because a finished stream is replaced in its place by the last one. */
  for (int i = stream_count - 1; i >= 0; i--)
    if (!streams[i]->blocked && streams[i]->due_ns <= now) step(streams[i], now);
  for (int i = 0; i < stream_count; i++)
    if (!streams[i]->blocked && streams[i]->due_ns < soonest) soonest = streams[i]->due_ns;
  struct itimerspec at = { 0 };
  if (soonest != INT64_MAX) at.it_value = (struct timespec){ soonest / 1000000000, soonest % 1000000000 };
  timerfd_settime(timer_fd, TFD_TIMER_ABSTIME, &at, NULL);
}

static int listen_somewhere(void) {
  int listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
  struct sockaddr_in address = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
  socklen_t size = sizeof address;
  if (bind(listener, (struct sockaddr *)&address, size) != 0 || listen(listener, 1024) != 0 ||
      getsockname(listener, (struct sockaddr *)&address, &size) != 0) {
    perror("mock-upstream");
    exit(1);
  }
  printf("%d\n", ntohs(address.sin_port));
  fflush(stdout);
  return listener;
}

static void watch_also(int fd) {
  struct epoll_event e = { .events = EPOLLIN, .data.fd = fd };
  epoll_ctl(poll_fd, EPOLL_CTL_ADD, fd, &e);
}

int main(void) {
  signal(SIGPIPE, SIG_IGN);
  frame_answers();
  poll_fd = epoll_create1(0);
  timer_fd = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK);
  int listener = listen_somewhere();
  watch_also(listener);
  watch_also(timer_fd);
  /* Refused for a file or /dev/null, which cannot end: then it runs until it is killed. */
  watch_also(STDIN_FILENO);
  struct epoll_event ready[256];
  for (;;) {
    int count = epoll_wait(poll_fd, ready, 256, -1);
    for (int i = 0; i < count; i++) {
      int fd = ready[i].data.fd;
      uint64_t ticks;
      char ignored[64];
      if (fd == listener) { welcome(listener); continue; }
      if (fd == timer_fd) { (void)!read(timer_fd, &ticks, sizeof ticks); continue; }
      if (fd == STDIN_FILENO) { if (read(fd, ignored, sizeof ignored) <= 0) return 0; continue; }
      struct connection *c = connections[fd];
      if (c == NULL) continue;
      if (ready[i].events & (EPOLLERR | EPOLLHUP)) { drop(c); continue; }
      if ((ready[i].events & EPOLLIN) && receive(c) < 0) { drop(c); continue; }
      if (ready[i].events & EPOLLOUT) step(c, now_ns());
    }
    if (stream_count > 0) run_due_streams();
  }
}
