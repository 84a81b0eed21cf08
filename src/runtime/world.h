// World: one of each seam, as a room receives it. References stay valid for as long as the loop runs.
#pragma once

namespace hf {

class Loop;
class Clock;
class Random;
class FileSystem;
class Network;
class Process;
class BlockingPool;

struct World {
  Loop& loop;
  Clock& clock;
  Random& random;
  FileSystem& fs;
  Network& net;
  Process& process;
  BlockingPool& blocking;
};

}  // namespace hf
