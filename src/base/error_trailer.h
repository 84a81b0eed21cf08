// The gRPC trailer in which an error's code travels: "HF1007 no_space", so that clients need not parse sentences.
#pragma once

namespace hf {

inline constexpr char kErrorTrailer[] = "holdfast-error";

}  // namespace hf
