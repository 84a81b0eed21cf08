// How many files a process may have open. The usual soft limit of 1024 is one for old programs with select(); each
// attached volume takes some, in the daemon and in the holder.
#pragma once

#include <sys/resource.h>

namespace hf {

// Takes the soft limit up to the hard one. Where that is refused it stays as it is.
inline void allow_all_open_files() {
  rlimit limit{};
  if (::getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur == limit.rlim_max) return;
  limit.rlim_cur = limit.rlim_max;
  (void)::setrlimit(RLIMIT_NOFILE, &limit);
}

}  // namespace hf
