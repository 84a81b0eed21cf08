// holdfast-holder: keeps file descriptors while the daemon is away (src/holder/README.md).
//
//   holdfast-holder [--foreground] SOCKET
//
// Returns when the socket can be connected to (unless --foreground, for a systemd unit of its own).
// Exit: 0 started (or another one already serves that socket and --foreground was not given), 1
// cannot, 2 wrong use. SIGTERM ends it only while it holds nothing: whoever stops it with volumes
// attached would turn a pause into I/O errors.
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <string>
#include <vector>

#include "base/open_files.h"
#include "holder/store.h"

namespace hf::holder {
namespace {

volatile sig_atomic_t g_asked_to_stop = 0;

void on_term(int) {
  g_asked_to_stop = 1;
}

int fail(const std::string& what) {
  fprintf(stderr, "holdfast-holder: %s: %s\n", what.c_str(), strerror(errno));
  return 1;
}

// The lock is the proof of being the only one: it goes with the process, however that ends.
int take_lock(const std::string& socket_path) {
  const std::string path = socket_path + ".lock";
  const int fd = open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
  if (fd < 0) return -1;
  if (flock(fd, LOCK_EX | LOCK_NB) != 0) {
    const int saved = errno;
    close(fd);
    errno = saved;
    return -1;
  }
  return fd;
}

int make_socket(const std::string& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.size() >= sizeof address.sun_path) {
    errno = ENAMETOOLONG;
    return -1;
  }
  memcpy(address.sun_path, path.c_str(), path.size());
  const int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (fd < 0) return -1;
  unlink(path.c_str());  // we hold the lock: whoever made it is dead
  const mode_t old = umask(0177);
  const bool bound = bind(fd, reinterpret_cast<sockaddr*>(&address), sizeof address) == 0;
  umask(old);
  if (bound && listen(fd, kClientsMax) == 0) return fd;
  const int saved = errno;
  close(fd);
  errno = saved;
  return -1;
}

bool peer_may(int fd) {
  ucred peer{};
  socklen_t size = sizeof peer;
  if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &size) != 0) return false;
  return peer.uid == 0 || peer.uid == geteuid();
}

// One request and its reply. False when the client has gone or misbehaved.
bool serve_one(Store& store, int client) {
  Message request;
  memset(&request, 0, sizeof request);
  iovec io{&request, sizeof request};
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))];
  msghdr message{};
  message.msg_iov = &io;
  message.msg_iovlen = 1;
  message.msg_control = control;
  message.msg_controllen = sizeof control;
  const ssize_t n = recvmsg(client, &message, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);
  if (n < 0) return errno == EAGAIN || errno == EINTR;
  if (n == 0) return false;
  int fd = -1;
  // The control buffer has room for one: the kernel has closed any further ones (MSG_CTRUNC).
  const cmsghdr* header = CMSG_FIRSTHDR(&message);
  if (header != nullptr && header->cmsg_level == SOL_SOCKET && header->cmsg_type == SCM_RIGHTS) {
    memcpy(&fd, CMSG_DATA(header), sizeof fd);
  }
  const bool truncated = (message.msg_flags & (MSG_CTRUNC | MSG_TRUNC)) != 0;
  int reply_fd = -1;
  Message reply = store.handle(request, truncated ? 0 : static_cast<size_t>(n), fd, &reply_fd);
  iovec out{&reply, sizeof reply};
  msghdr answer{};
  answer.msg_iov = &out;
  answer.msg_iovlen = 1;
  if (reply_fd >= 0) {
    memset(control, 0, sizeof control);
    answer.msg_control = control;
    answer.msg_controllen = sizeof control;
    cmsghdr* rights = CMSG_FIRSTHDR(&answer);
    rights->cmsg_level = SOL_SOCKET;
    rights->cmsg_type = SCM_RIGHTS;
    rights->cmsg_len = CMSG_LEN(sizeof(int));
    memcpy(CMSG_DATA(rights), &reply_fd, sizeof reply_fd);
  }
  // A client that does not read its replies is dropped rather than waited for.
  return sendmsg(client, &answer, MSG_NOSIGNAL | MSG_DONTWAIT) ==
         static_cast<ssize_t>(sizeof reply);
}

void accept_one(int listener, std::vector<int>& clients) {
  const int client = accept4(listener, nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK);
  if (client < 0) return;
  if (!peer_may(client) || clients.size() >= kClientsMax) {
    fprintf(stderr, "holdfast-holder: connection refused (%s)\n",
            clients.size() >= kClientsMax ? "too many clients" : "not root");
    close(client);
    return;
  }
  clients.push_back(client);
}

int serve(int listener) {
  Store store;
  std::vector<int> clients;
  // Signals are let in while waiting only, so that none is lost between the test and the wait.
  sigset_t waiting;
  sigemptyset(&waiting);
  for (;;) {
    if (g_asked_to_stop != 0) {
      if (store.size() == 0) return 0;
      fprintf(stderr, "holdfast-holder: asked to stop, but %zu volumes need it: staying\n",
              store.size());
      g_asked_to_stop = 0;
    }
    std::vector<pollfd> polls;
    polls.push_back({listener, POLLIN, 0});
    for (const int client : clients) polls.push_back({client, POLLIN, 0});
    if (ppoll(polls.data(), polls.size(), nullptr, &waiting) < 0) {
      if (errno == EINTR) continue;
      return fail("poll");
    }
    for (size_t i = polls.size(); i-- > 1;) {
      const bool stays = polls[i].revents == 0 || serve_one(store, polls[i].fd);
      // At once: whoever asked in the same round sees the connection end, and asks the next holder.
      if (store.ended()) return 0;
      if (stays) continue;
      close(polls[i].fd);
      clients.erase(clients.begin() + static_cast<long>(i) - 1);
    }
    if (polls[0].revents != 0) accept_one(listener, clients);
  }
}

// Lets go of what the starter gave us: its terminal, its folder, its descriptors, its session.
bool detach() {
  const pid_t child = fork();
  if (child < 0) return false;
  if (child > 0) _exit(0);
  setsid();
  const int null = open("/dev/null", O_RDWR | O_CLOEXEC);
  if (null < 0) return false;
  dup2(null, 0);
  dup2(null, 1);
  dup2(null, 2);
  close(null);
  return true;
}

int start(const std::string& path, bool foreground) {
  const int lock = take_lock(path);
  if (lock < 0) {
    if (errno != EWOULDBLOCK) return fail("lock " + path + ".lock");
    if (!foreground) return 0;
    fprintf(stderr, "holdfast-holder: another one already serves %s\n", path.c_str());
    return 1;
  }
  const int listener = make_socket(path);
  if (listener < 0) return fail("listen on " + path);
  if (chdir("/") != 0) return fail("chdir /");
  struct sigaction action {};
  action.sa_handler = on_term;
  sigaction(SIGTERM, &action, nullptr);
  sigaction(SIGINT, &action, nullptr);
  signal(SIGHUP, SIG_IGN);
  signal(SIGPIPE, SIG_IGN);
  sigset_t blocked;
  sigemptyset(&blocked);
  sigaddset(&blocked, SIGTERM);
  sigaddset(&blocked, SIGINT);
  sigprocmask(SIG_BLOCK, &blocked, nullptr);
  if (!foreground && !detach()) return fail("fork");
  prctl(PR_SET_NAME, "holdfast-holder");
  hf::allow_all_open_files();
  // The last to be killed when memory runs out; where it is not allowed, it stays as it is.
  const int score = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);
  if (score >= 0) {
    if (write(score, "-999", 4) != 4) errno = 0;
    close(score);
  }
  return serve(listener);
}

}  // namespace
}  // namespace hf::holder

int main(int argc, char** argv) {
  bool foreground = false;
  const char* path = nullptr;
  bool usage = argc < 2;
  for (int i = 1; i < argc; ++i) {
    if (strcmp(argv[i], "--foreground") == 0) {
      foreground = true;
    } else if (path == nullptr && argv[i][0] == '/') {
      path = argv[i];
    } else {
      usage = true;
    }
  }
  if (usage || path == nullptr) {
    fprintf(stderr, "usage: holdfast-holder [--foreground] /absolute/path/of/socket\n");
    return 2;
  }
  return hf::holder::start(path, foreground);
}
