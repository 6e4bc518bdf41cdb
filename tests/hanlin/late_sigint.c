// Ctrl-C at the worst moment: after Python's last look at signals, before its process sleeps.
// LD_PRELOAD it; the first wait for more that comes after "word1" was written gets it.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

static int armed = 0;

static void strike(void) {
  if (armed) {
    armed = 0;
    kill(getpid(), SIGINT);
  }
}

ssize_t write(int file, const void *data, size_t size) {
  ssize_t (*real)(int, const void *, size_t) = dlsym(RTLD_NEXT, "write");
  ssize_t written = real(file, data, size);
  if (file == 1 && memmem(data, size, "word1", 5)) armed = 1;
  return written;
}

int poll(struct pollfd *files, nfds_t count, int timeout) {
  int (*real)(struct pollfd *, nfds_t, int) = dlsym(RTLD_NEXT, "poll");
  if (timeout && !real(files, count, 0)) strike();
  return real(files, count, timeout);
}

int epoll_wait(int set, struct epoll_event *events, int most, int timeout) {
  int (*real)(int, struct epoll_event *, int, int) = dlsym(RTLD_NEXT, "epoll_wait");
  int ready = timeout ? real(set, events, most, 0) : 0;
  if (ready) return ready;
  if (timeout) strike();
  return real(set, events, most, timeout);
}
