#include "sim/seed_runner.h"

#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <charconv>
#include <chrono>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <optional>
#include <sstream>
#include <vector>

namespace hf::sim {
namespace {

using SteadyClock = std::chrono::steady_clock;

double seconds_since(SteadyClock::time_point start) {
  return std::chrono::duration<double>(SteadyClock::now() - start).count();
}

std::vector<std::string> own_command_line() {
  std::ifstream in("/proc/self/cmdline", std::ios::binary);
  std::vector<std::string> args;
  for (std::string arg; std::getline(in, arg, '\0');) args.push_back(arg);
  return args;
}

uint64_t number_or_stop(const std::string& what, const std::string& text) {
  uint64_t value = 0;
  const auto parsed = std::from_chars(text.data(), text.data() + text.size(), value);
  if (parsed.ec != std::errc() || parsed.ptr != text.data() + text.size()) {
    fmt::print(stderr, "{}: \"{}\" is no number\n", what, text);
    std::exit(2);
  }
  return value;
}

std::optional<uint64_t> setting(const char* variable, const char* flag) {
  const std::vector<std::string> args = own_command_line();
  for (size_t i = 1; i < args.size(); ++i) {
    if (args[i] == flag && i + 1 < args.size()) return number_or_stop(flag, args[i + 1]);
    const std::string with_equals = std::string(flag) + "=";
    if (args[i].starts_with(with_equals)) {
      return number_or_stop(flag, args[i].substr(with_equals.size()));
    }
  }
  const char* value = std::getenv(variable);
  if (value == nullptr || value[0] == 0) return std::nullopt;
  return number_or_stop(variable, value);
}

// What the worker processes and their parent share.
struct Shared {
  std::atomic<uint64_t> next;  // offset of the next seed to take
  std::atomic<uint64_t> finished;
  std::atomic<bool> stop;
  std::atomic<uint64_t> running[kJobsMax];  // the seed that a worker is at
};

class Runner {
 public:
  Runner(const std::string& name, const SeedOptions& options, const SeedWorkload& workload)
      : options_(options), workload_(workload), start_(SteadyClock::now()) {
    report_.name = name;
  }
  SeedReport run() {
    if (options_.in_process) {
      run_here();
    } else {
      run_forked();
    }
    report_.seconds = seconds_since(start_);
    const std::vector<std::string> args = own_command_line();
    report_.repeat = fmt::format("{} --gtest_filter={} --seed {}", args.empty() ? "?" : args[0],
                                 report_.name, report_.failed_seed);
    if (report_.failed && options_.print) fmt::print(stderr, "{}\n", report_.text());
    return report_;
  }

 private:
  void failed(uint64_t seed, std::string failure) {
    if (report_.failed && report_.failed_seed < seed) return;
    report_.failed = true;
    report_.failed_seed = seed;
    report_.failure = std::move(failure);
  }
  void run_here() {
    for (uint64_t i = 0; i < options_.count && !report_.failed; ++i) {
      const Status status = workload_(options_.first + i, &report_.probes);
      ++report_.seeds_run;
      if (!status.ok()) failed(options_.first + i, status.error().to_string());
    }
  }
  bool is_over(uint64_t offset) const {
    if (options_.minutes > 0) return seconds_since(start_) >= 60.0 * options_.minutes;
    return offset >= options_.count;
  }
  void run_forked();
  [[noreturn]] void work(unsigned job, int out);
  void progress();
  void collect(const std::vector<pid_t>& workers, std::vector<std::string> outputs);
  void read_outputs(const std::vector<int>& pipes, std::vector<std::string>* outputs);

  const SeedOptions options_;
  const SeedWorkload& workload_;
  const SteadyClock::time_point start_;
  SeedReport report_;
  Shared* shared_ = nullptr;
  uint64_t minutes_told_ = 0;
};

// One line a minute, so that a long run is seen to live.
void Runner::progress() {
  const auto minutes = static_cast<uint64_t>(seconds_since(start_) / 60);
  if (minutes == minutes_told_) return;
  minutes_told_ = minutes;
  fmt::print(stderr, "{}: {} seeds passed in {} min\n", report_.name, shared_->finished.load(),
             minutes);
}

// The child's part. Its words to the parent: lines "F <seed> <message>" and "P <count> <probe>".
void Runner::work(unsigned job, int out) {
  ProbeCounts probes;
  std::string words;
  while (!shared_->stop) {
    const uint64_t offset = shared_->next.fetch_add(1);
    if (is_over(offset)) break;
    const uint64_t seed = options_.first + offset;
    shared_->running[job] = seed;
    ::alarm(kSeedSecondsMax);
    const Status status = workload_(seed, &probes);
    ++shared_->finished;
    if (status.ok()) {
      if (job == 0 && options_.print) progress();
      continue;
    }
    shared_->stop = true;
    std::string message = status.error().to_string();
    std::replace(message.begin(), message.end(), '\n', '\t');
    words += fmt::format("F {} {}\n", seed, message);
  }
  ::alarm(0);
  for (const auto& [name, count] : probes) words += fmt::format("P {} {}\n", count, name);
  for (size_t at = 0; at < words.size();) {
    const ssize_t n = ::write(out, words.data() + at, words.size() - at);
    if (n <= 0) std::_Exit(3);
    at += static_cast<size_t>(n);
  }
  std::fflush(nullptr);
  std::_Exit(0);
}

void Runner::run_forked() {
  void* memory =
      ::mmap(nullptr, sizeof(Shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  HF_ASSERT(memory != MAP_FAILED, "mmap: {}", std::strerror(errno));
  shared_ = new (memory) Shared{};
  std::fflush(nullptr);
  const unsigned jobs = std::clamp(options_.jobs, 1u, kJobsMax);
  std::vector<pid_t> workers;
  std::vector<int> pipes;
  for (unsigned job = 0; job < jobs; ++job) {
    int ends[2];
    HF_ASSERT(::pipe(ends) == 0, "pipe: {}", std::strerror(errno));
    const pid_t pid = ::fork();
    HF_ASSERT(pid >= 0, "fork: {}", std::strerror(errno));
    if (pid == 0) {
      ::close(ends[0]);
      for (const int fd : pipes) ::close(fd);
      work(job, ends[1]);
    }
    ::close(ends[1]);
    workers.push_back(pid);
    pipes.push_back(ends[0]);
  }
  std::vector<std::string> outputs(jobs);
  read_outputs(pipes, &outputs);
  collect(workers, std::move(outputs));
  report_.seeds_run = shared_->finished;
  ::munmap(memory, sizeof(Shared));
}

void Runner::read_outputs(const std::vector<int>& pipes, std::vector<std::string>* outputs) {
  for (size_t job = 0; job < pipes.size(); ++job) {
    char buffer[4096];
    while (true) {
      const ssize_t n = ::read(pipes[job], buffer, sizeof buffer);
      if (n < 0 && errno == EINTR) continue;
      if (n <= 0) break;
      (*outputs)[job].append(buffer, static_cast<size_t>(n));
    }
    ::close(pipes[job]);
  }
}

void Runner::collect(const std::vector<pid_t>& workers, std::vector<std::string> outputs) {
  for (size_t job = 0; job < workers.size(); ++job) {
    int status = 0;
    while (::waitpid(workers[job], &status, 0) < 0 && errno == EINTR) {
    }
    if (WIFSIGNALED(status) && WTERMSIG(status) == SIGALRM) {
      failed(shared_->running[job], fmt::format("took more than {} s", kSeedSecondsMax));
    } else if (WIFSIGNALED(status)) {
      failed(shared_->running[job], fmt::format("died of signal {} ({}); its last words are above",
                                                WTERMSIG(status), ::strsignal(WTERMSIG(status))));
    } else if (WEXITSTATUS(status) != 0) {
      failed(shared_->running[job], fmt::format("its process exited with {}", WEXITSTATUS(status)));
    }
    std::istringstream lines(outputs[job]);
    for (std::string line; std::getline(lines, line);) {
      std::istringstream words(line.substr(2));
      uint64_t number = 0;
      std::string rest;
      words >> number;
      words.get();
      std::getline(words, rest);
      if (line[0] == 'P') report_.probes[rest] += number;
      std::replace(rest.begin(), rest.end(), '\t', '\n');
      if (line[0] == 'F') failed(number, rest);
    }
  }
}

}  // namespace

SeedOptions SeedOptions::from_command_line(uint64_t default_count) {
  SeedOptions options;
  const std::optional<uint64_t> seeds = setting("HF_SEEDS", "--seeds");
  const std::optional<uint64_t> seed = setting("HF_SEED", "--seed");
  const std::optional<uint64_t> minutes = setting("HF_MINUTES", "--minutes");
  const std::optional<uint64_t> jobs = setting("HF_JOBS", "--jobs");
  options.first = seed.value_or(1);
  options.count = seeds.value_or(default_count);
  options.minutes = minutes.value_or(0);
  if (jobs) options.jobs = static_cast<unsigned>(std::clamp<uint64_t>(*jobs, 1, kJobsMax));
  if (seed && !seeds && !minutes) {
    options.count = 1;
    options.in_process = true;
  }
  return options;
}

SeedReport run_seeds(const std::string& name, const SeedOptions& options,
                     const SeedWorkload& workload) {
  return Runner(name, options, workload).run();
}

std::string SeedReport::text() const {
  if (ok()) return fmt::format("{}: {} seeds passed in {:.1f} s", name, seeds_run, seconds);
  return fmt::format("{}: seed {} failed: {}\nrepeat it with:\n  {}", name, failed_seed, failure,
                     repeat);
}

int run_seeds_main(const std::string& name, uint64_t default_count, const SeedWorkload& workload) {
  const SeedReport report =
      run_seeds(name, SeedOptions::from_command_line(default_count), workload);
  if (report.ok()) fmt::print("{}\n", report.text());
  return report.ok() ? 0 : 1;
}

}  // namespace hf::sim
