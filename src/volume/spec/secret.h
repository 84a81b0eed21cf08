// A passphrase or token in memory. It never prints: every formatter of this tree shows "***".
//
// Is: owned bytes that are overwritten before their memory is given back (destructor, assignment,
// move, clear). Copyable, since specs are values; every copy overwrites itself.
// Is not: protection against a reader of this process's memory, swap or core dumps.
// Never stored and never sent: the codecs of spec/codec.h leave it out.
#pragma once

#include <fmt/format.h>

#include <cstddef>
#include <memory>
#include <ostream>
#include <string_view>

namespace hf::spec {

class Secret {
 public:
  Secret() = default;
  explicit Secret(std::string_view text);
  Secret(const Secret& other) : Secret(other.reveal()) {}
  Secret(Secret&& other) noexcept;
  Secret& operator=(const Secret& other);
  Secret& operator=(Secret&& other) noexcept;
  ~Secret() { clear(); }

  bool empty() const { return size_ == 0; }
  void clear();
  // The bytes themselves, valid while this object lives unchanged. The one way to them: callers are
  // easy to find and to review.
  std::string_view reveal() const { return {bytes_.get(), size_}; }
  // Takes time that depends on the lengths alone.
  bool operator==(const Secret& other) const;

 private:
  std::unique_ptr<char[]> bytes_;
  size_t size_ = 0;
};

// What is shown instead of a secret: "***", or nothing where none is set.
inline std::string_view shown(const Secret& secret) {
  return secret.empty() ? "" : "***";
}

// For gtest and for accidents.
inline std::ostream& operator<<(std::ostream& out, const Secret& secret) {
  return out << shown(secret);
}

}  // namespace hf::spec

template <>
struct fmt::formatter<hf::spec::Secret> : fmt::formatter<std::string_view> {
  template <typename Context>
  auto format(const hf::spec::Secret& secret, Context& context) const {
    return fmt::formatter<std::string_view>::format(hf::spec::shown(secret), context);
  }
};
