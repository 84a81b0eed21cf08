// Our times in protobuf's.
#pragma once

#include <google/protobuf/timestamp.pb.h>

#include "runtime/clock.h"

namespace hf::api {

inline void fill_time(WallTime from, google::protobuf::Timestamp* to) {
  to->set_seconds(from.ns / 1'000'000'000);
  to->set_nanos(static_cast<int32_t>(from.ns % 1'000'000'000));
}

}  // namespace hf::api
