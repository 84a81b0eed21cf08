// The command line that Mesos' docker/volume isolator expects.
#pragma once

namespace hf::cli {

// Exit code of the process. Standard output has the mount point and nothing else; errors go to standard error, which the
// agent shows.
int run_dvdcli(int argc, char** argv);

}  // namespace hf::cli
