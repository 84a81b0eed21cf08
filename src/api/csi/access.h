// VolumeCapability, and the parameters of a volume, in our words. Pure.
#pragma once

#include <string>
#include <vector>

#include "cluster/control.h"
#include "csi/v1/csi.pb.h"
#include "volume/spec/inline_parser.h"

namespace hf::api::csi_driver {

// How a volume is to be used.
struct Access {
  bool block = false;  // as a block device, not as a file system
  bool read_only = false;
  bool one_place = false;  // SINGLE_NODE_SINGLE_WRITER: at one target path at a time
  std::string fs_type;              // "": whichever it has
  std::vector<std::string> flags;   // mount options, without ro, rw and defaults
};

// kInvalidArgument: incomplete, or a mode with several nodes.
Result<Access> parse_access(const ::csi::v1::VolumeCapability& capability);

// Whether a volume that exists can be used so. kFailedPrecondition says what it is and what was asked for.
Status check_access(const Access& access, const cluster::VolumeInfo& volume);

using TextMap = google::protobuf::Map<std::string, std::string>;

// The spec's keys of a new volume: of `parameters` those that are not the sidecars' own, what the accesses say of its
// file system, and of `secrets` those that the spec knows. Neither its size nor its source.
Result<spec::OptionMap> volume_options(const TextMap& parameters, const TextMap& secrets,
                                       const std::vector<Access>& accesses);

// "abnormal" and why, for people.
void fill_condition(const cluster::VolumeInfo& from, ::csi::v1::VolumeCondition* to);

// Each capability read; kInvalidArgument where there is none, or where no one volume could have all of them.
Result<std::vector<Access>> parse_accesses(
    const google::protobuf::RepeatedPtrField<::csi::v1::VolumeCapability>& capabilities);

}  // namespace hf::api::csi_driver
