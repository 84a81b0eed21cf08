// The one error table, and Result<T>.
//
// Codes are stable: they are stored, sent and shown ("HF1007 no_space"); a number is never reused and
// never changes its meaning. The message is for a person: what failed, which thing, why, and what to
// do about it. Log an error once, where it is born.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <variant>

#include "base/assert.h"

namespace hf {

enum class ErrorCode : uint16_t {
  kOk = 0,
  // What the caller gave.
  kInvalidArgument = 1001,    // malformed or out of range
  kInvalidSpec = 1002,        // a volume spec or inline string that does not parse or validate
  kNotFound = 1003,           // volume, snapshot, pool, node … of that name or id
  kAlreadyExists = 1004,      // the same name with another meaning
  kSpecMismatch = 1005,       // an existing volume, asked for again with another spec
  kNotSupported = 1006,       // understood, and not to be had in this version or on this machine
  kNoSpace = 1007,            // pool above its watermark, or file system full
  kInUse = 1008,              // attached, mounted, or has dependants
  kNotAttached = 1009,        // the operation needs an attached volume
  kPermissionDenied = 1010,   // who asks may not, or the process lacks a privilege
  kUnauthenticated = 1011,
  kLimitExceeded = 1012,      // a bound of ours (sessions, queue, snapshots, devices)
  kFailedPrecondition = 1013, // a state that the operation needs does not hold (says which)
  kConfirmationNeeded = 1014, // destructive, and neither --yes nor --force was given
  // The world.
  kIo = 2001,              // a read or write failed at the device
  kCorruption = 2002,      // a checksum, magic or invariant of stored bytes does not hold
  kNewerFormat = 2003,     // written by a newer version; this one does not touch it
  kWrongOwner = 2004,      // a pool or disk of another cluster or node
  kLocked = 2005,          // another process holds it
  kNotEmpty = 2006,        // a device or directory with somebody's data; --force overrides
  kReadOnly = 2007,        // the file system or device is read-only
  kMissingFeature = 2008,  // the kernel or machine lacks something (says what and how to get it)
  kFailedPool = 2009,      // the pool failed a durable write and is out of service until verified
  // Time, other parties, and this process.
  kTimeout = 3001,
  kCancelled = 3002,
  kUnavailable = 3003,     // try again: a peer, the state store or the daemon is away
  kConflict = 3004,        // compare-and-set lost; read again and decide anew
  kAmbiguous = 3005,       // may have happened: read back before deciding
  kFenced = 3006,          // a newer epoch exists; never serve under this one again
  kClosed = 3007,          // the object is shutting down or the peer closed the connection
  kProtocol = 3008,        // a peer or client broke the protocol
  kInternal = 9001,        // ours; please report
};

// Facts about a code, one row each in error.cc.
struct ErrorInfo {
  ErrorCode code;
  std::string_view name;  // "no_space"; stable, shown and logged
  int sys_errno;          // for FUSE and friends
  uint32_t nbd_errno;     // the NBD protocol's own error numbers
  int grpc_status;        // grpc::StatusCode as int
  int http_status;
  int exit_code;          // of the command line; documented in docs/operations/exit-codes.md
  bool retryable;         // the same request may succeed later, unchanged
  bool may_have_happened; // the effect may exist although the call failed
};

const ErrorInfo& error_info(ErrorCode code);
// All rows, for tests and for documentation. The first is kOk.
struct ErrorTable {
  const ErrorInfo* rows;
  size_t count;
};
ErrorTable error_table();

// The nearest code for an errno of the operating system (EIO → kIo, ENOSPC → kNoSpace, …).
ErrorCode code_from_errno(int sys_errno);

class [[nodiscard]] Error {
 public:
  Error(ErrorCode code, std::string message) : code_(code), message_(std::move(message)) {
    HF_ASSERT(code != ErrorCode::kOk);
  }
  // "open /x/pool.json: No such file or directory" with the code that fits.
  static Error from_errno(int sys_errno, std::string_view what);

  ErrorCode code() const { return code_; }
  const std::string& message() const { return message_; }
  const ErrorInfo& info() const { return error_info(code_); }
  // "HF1007 no_space: pool p0 is at its watermark …"
  std::string to_string() const;
  // The same code with "<context>: " before the message.
  Error with_context(std::string_view context) const;

 private:
  ErrorCode code_;
  std::string message_;
};

template <typename... A>
Error make_error(ErrorCode code, fmt::format_string<A...> format, A&&... args) {
  return Error(code, fmt::format(format, std::forward<A>(args)...));
}

// A value or an Error. Test with ok(); value() and error() assert.
template <typename T>
class [[nodiscard]] Result {
 public:
  using value_type = T;
  Result(T value) : state_(std::in_place_index<0>, std::move(value)) {}
  Result(Error error) : state_(std::in_place_index<1>, std::move(error)) {}

  bool ok() const { return state_.index() == 0; }
  explicit operator bool() const { return ok(); }
  T& value() & {
    HF_ASSERT(ok(), "{}", error_text());
    return *std::get_if<0>(&state_);
  }
  const T& value() const& {
    HF_ASSERT(ok(), "{}", error_text());
    return *std::get_if<0>(&state_);
  }
  T&& value() && {
    HF_ASSERT(ok(), "{}", error_text());
    return std::move(*std::get_if<0>(&state_));
  }
  T& operator*() & { return value(); }
  const T& operator*() const& { return value(); }
  T&& operator*() && { return std::move(*this).value(); }
  T* operator->() { return &value(); }
  const T* operator->() const { return &value(); }
  const Error& error() const {
    HF_ASSERT(!ok());
    return *std::get_if<1>(&state_);
  }
  ErrorCode code() const { return ok() ? ErrorCode::kOk : error().code(); }

 private:
  std::string error_text() const { return ok() ? std::string() : error().to_string(); }
  std::variant<T, Error> state_;
};

template <>
class [[nodiscard]] Result<void> {
 public:
  using value_type = void;
  Result() = default;
  Result(Error error) : error_(std::move(error)) {}
  bool ok() const { return !error_.has_value(); }
  explicit operator bool() const { return ok(); }
  void value() const { HF_ASSERT(ok(), "{}", error_->to_string()); }
  const Error& error() const {
    HF_ASSERT(!ok());
    return *error_;
  }
  ErrorCode code() const { return ok() ? ErrorCode::kOk : error_->code(); }

 private:
  std::optional<Error> error_;
};

using Status = Result<void>;

}  // namespace hf

// In functions that return a Result (not in coroutines: see runtime/task.h for HF_CO_TRY).
#define HF_TRY(expr)                                  \
  do {                                                \
    if (auto&& hf_try_result = (expr); !hf_try_result.ok()) return hf_try_result.error(); \
  } while (false)
