#include "volume/spec/secret.h"

#include <string.h>  // explicit_bzero

#include <utility>

namespace hf::spec {

Secret::Secret(std::string_view text) : size_(text.size()) {
  if (text.empty()) return;
  bytes_ = std::make_unique<char[]>(text.size());
  memcpy(bytes_.get(), text.data(), text.size());
}

Secret::Secret(Secret&& other) noexcept
    : bytes_(std::move(other.bytes_)), size_(std::exchange(other.size_, 0)) {}

Secret& Secret::operator=(const Secret& other) {
  if (this != &other) *this = Secret(other);
  return *this;
}

Secret& Secret::operator=(Secret&& other) noexcept {
  if (this == &other) return *this;
  clear();
  bytes_ = std::move(other.bytes_);
  size_ = std::exchange(other.size_, 0);
  return *this;
}

void Secret::clear() {
  if (bytes_ != nullptr) explicit_bzero(bytes_.get(), size_);
  bytes_.reset();
  size_ = 0;
}

bool Secret::operator==(const Secret& other) const {
  if (size_ != other.size_) return false;
  unsigned difference = 0;
  for (size_t i = 0; i < size_; ++i) {
    difference |= static_cast<unsigned char>(bytes_[i] ^ other.bytes_[i]);
  }
  return difference == 0;
}

}  // namespace hf::spec
