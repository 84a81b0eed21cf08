// What a file system cannot live without, found in images that the real mkfs has made.
#include "store/fs_vitals.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <regex>
#include <string>

#include "base/prng.h"
#include "runtime/test_loop.h"

namespace hf {
namespace {

class Vitals : public testing::Test {
 protected:
  ~Vitals() override {
    if (fd_ >= 0) close(fd_);
    if (!path_.empty()) unlink(path_.c_str());
  }
  // An image of so many MiB, made by `command PATH`.
  void make(const std::string& command, uint64_t mib) {
    char path[] = "/tmp/hf-vitals-XXXXXX";
    fd_ = mkstemp(path);
    ASSERT_GE(fd_, 0);
    path_ = path;
    ASSERT_EQ(ftruncate(fd_, static_cast<off_t>(mib * kMiB)), 0);
    blocks_ = mib * kMiB / kBlockSize;
    ASSERT_EQ(output(command + " " + path_ + " >/dev/null 2>&1; echo $?"), "0\n") << command;
  }
  static std::string output(const std::string& command) {
    FILE* pipe = popen(("PATH=$PATH:/sbin:/usr/sbin; " + command).c_str(), "r");
    std::string out;
    char some[4096];
    for (size_t n; (n = fread(some, 1, sizeof some, pipe)) > 0;) out.append(some, n);
    pclose(pipe);
    return out;
  }
  Status load(uint64_t block, MutableByteSpan out) const {
    const ssize_t got = pread(fd_, out.data(), out.size(), static_cast<off_t>(block * kBlockSize));
    return got == static_cast<ssize_t>(out.size()) ? Status()
                                                   : Status(Error(ErrorCode::kIo, "short"));
  }
  Task<Status> read(uint64_t block, MutableByteSpan out) { co_return load(block, out); }
  Task<Status> look(FsVitals* out) {
    const FsVitals::Reader reader = [this](uint64_t block, MutableByteSpan to) {
      return read(block, to);
    };
    Result<FsVitals> found = co_await FsVitals::find(reader, blocks_);
    HF_CO_TRY(found);
    *out = std::move(*found);
    co_return Status();
  }
  FsVitals find() {
    TestLoop loop;
    FsVitals vitals;
    EXPECT_TRUE(loop.run(look(&vitals)).ok());
    return vitals;
  }
  bool touches(const FsVitals& vitals, uint64_t block, uint64_t count = 1) const {
    AlignedBuffer data(count * kBlockSize);
    EXPECT_TRUE(load(block, data.span()).ok());
    return vitals.touches(block, data.span());
  }
  // The first block that begins with these bytes; 0: none.
  uint64_t find_block(std::string_view begin) const {
    AlignedBuffer data(kBlockSize);
    for (uint64_t block = 1; block < blocks_; ++block) {
      if (load(block, data.span()).ok() &&
          std::memcmp(data.data(), begin.data(), begin.size()) == 0)
        return block;
    }
    return 0;
  }

  std::string path_;
  int fd_ = -1;
  uint64_t blocks_ = 0;
};

// Large enough that the journal's extents do not fit into its inode.
TEST_F(Vitals, OfExt4AreItsJournalAndItsTables) {
  for (const auto& [mib, options] : {std::pair<uint64_t, const char*>{512, ""},
                                     {160 * 1024, ""},
                                     {2048, "-O ^64bit,^flex_bg"}}) {
    SCOPED_TRACE(mib);
    make(std::string("mkfs.ext4 -qF -b 4096 ") + options, mib);
    const FsVitals vitals = find();
    uint64_t seen = 0, total = 0;
    // "  Inode table at 1059-1570 (+1059)", "  Block bitmap at 1025 (+1025), Inode bitmap at …", and the journal's extents as debugfs shows them:
    // "(0-32766):98304-131070".
    const std::string tables = output("dumpe2fs " + path_ + " 2>/dev/null | grep -o 'Inode table at [0-9-]*'");
    const std::string bitmaps =
        output("dumpe2fs " + path_ + " 2>/dev/null | grep -o '[a-z]* bitmap at [0-9]*'");
    const std::string journal =
        output("debugfs -R 'stat <8>' " + path_ + " 2>/dev/null | grep -A1 EXTENTS: | tail -1");
    const std::regex table("table at ([0-9]+)-([0-9]+)"),
        bitmap("at (([0-9]+))"), extent("\\([0-9]+-[0-9]+\\):([0-9]+)-([0-9]+)");
    for (const auto& [text, pattern] : {std::pair(&tables, &table), std::pair(&bitmaps, &bitmap),
                                        std::pair(&journal, &extent)}) {
      for (std::sregex_iterator at(text->begin(), text->end(), *pattern), end; at != end;
           ++at, ++seen) {
        const uint64_t first = std::stoull((*at)[1]), last = std::stoull((*at)[2]);
        EXPECT_TRUE(touches(vitals, first)) << first;
        EXPECT_TRUE(touches(vitals, last)) << last;
        EXPECT_TRUE(touches(vitals, first - 1, 2)) << first;
        total += last - first + 1;
      }
    }
    EXPECT_GE(seen, 3 * (mib / 128) + 1);
    uint64_t found = 0;
    for (const BlockRange& range : vitals.ranges()) found += range.count;
    EXPECT_EQ(found, total) << tables << bitmaps << journal;
    EXPECT_FALSE(touches(vitals, blocks_ - 1));
    EXPECT_FALSE(vitals.has_trees());
    close(std::exchange(fd_, -1));
    unlink(std::exchange(path_, "").c_str());
  }
}

// A directory of many blocks, one of which an index makes of it, and a file of many extents beside one of data.
TEST_F(Vitals, OfExt4AreItsDirectoriesAndExtents) {
  char folder[] = "/tmp/hf-vitals-XXXXXX";
  ASSERT_NE(mkdtemp(folder), nullptr);
  const std::string at = folder;
  const std::string fill =
      "mkdir " + at + "/d && cd " + at +
      "/d && for i in $(seq 2000); do : > a-name-that-is-long-enough-to-fill-a-block-soon-$i; done && cd .. && "
      "head -c 1048576 /dev/urandom > data && for i in $(seq 0 2 2000); do "
      "printf x | dd of=holes bs=4096 seek=$i conv=notrunc status=none; done; echo $?";
  ASSERT_EQ(output(fill), "0\n");
  make("mkfs.ext4 -qF -b 4096 -d " + at, 64);
  output("e2fsck -fyD " + path_);  // indexes the directory
  const FsVitals vitals = find();
  const auto blocks_of = [this](const std::string& name) {
    std::vector<uint64_t> blocks;
    const std::string text = output("debugfs -R 'blocks " + name + "' " + path_ + " 2>/dev/null");
    const std::regex number("[0-9]+");
    for (std::sregex_iterator each(text.begin(), text.end(), number), end; each != end; ++each) {
      blocks.push_back(std::stoull(each->str()));
    }
    return blocks;
  };
  const std::vector<uint64_t> directory = blocks_of("/d"), data = blocks_of("/data");
  EXPECT_GT(directory.size(), 30u);
  EXPECT_EQ(data.size(), 256u);
  for (const uint64_t block : directory) EXPECT_TRUE(touches(vitals, block)) << block;
  for (const uint64_t block : data) EXPECT_FALSE(touches(vitals, block)) << block;
  // "(ETB0):1234" and the like: blocks of the extent tree.
  const std::string tree = output("debugfs -R 'stat /holes' " + path_ + " 2>/dev/null");
  const std::regex node("\\(ETB[0-9]+\\):([0-9]+)");
  uint64_t nodes = 0;
  for (std::sregex_iterator each(tree.begin(), tree.end(), node), end; each != end; ++each, ++nodes) {
    EXPECT_TRUE(touches(vitals, std::stoull((*each)[1])));
  }
  EXPECT_GE(nodes, 3u);
  output("rm -r " + at);
}

TEST_F(Vitals, OfXfsIsItsLog) {
  make("mkfs.xfs -q -s size=4096", 512);
  const FsVitals vitals = find();
  ASSERT_EQ(vitals.ranges().size(), 1u);
  const uint64_t log = find_block("\xfe\xed\xba\xbe");  // the log's first record
  EXPECT_EQ(vitals.ranges()[0].first, log);
  EXPECT_GE(vitals.ranges()[0].count, 1000u);
  EXPECT_TRUE(touches(vitals, log, 16));
  EXPECT_FALSE(touches(vitals, log - 1));
}

TEST_F(Vitals, OfBtrfsAreItsTreeBlocks) {
  make("mkfs.btrfs -q", 256);
  const FsVitals vitals = find();
  EXPECT_TRUE(vitals.has_trees());
  EXPECT_TRUE(vitals.ranges().empty());
  AlignedBuffer super(kBlockSize), data(kBlockSize);
  ASSERT_TRUE(load(16, super.span()).ok());
  uint64_t trees = 0;
  for (uint64_t block = 17; block < blocks_; ++block) {
    ASSERT_TRUE(load(block, data.span()).ok());
    const bool is_tree = std::memcmp(data.data() + 32, super.data() + 32, 16) == 0;
    EXPECT_EQ(vitals.touches(block, data.span()), is_tree) << block;
    trees += is_tree ? 1 : 0;
  }
  EXPECT_GT(trees, 5u);
}

TEST_F(Vitals, OfOtherThingsAreNone) {
  make("true", 16);
  EXPECT_TRUE(find().ranges().empty());
  EXPECT_FALSE(find().has_trees());
}

// Any bytes behind the magic: nothing but wrong answers may come of it.
TEST_F(Vitals, BearAnyBytes) {
  Prng prng(7);
  for (int round = 0; round < 300; ++round) {
    make("true", 16);
    AlignedBuffer block(kBlockSize);
    for (size_t i = 0; i < kBlockSize; ++i) block.data()[i] = static_cast<std::byte>(prng.next());
    if (round % 3 == 0) {
      std::memcpy(block.data() + 1024 + 0x38, "\x53\xef", 2);
      std::memcpy(block.data() + 1024 + 0x18, "\x02\0\0\0", 4);
      block.data()[1024 + 0xfd] = std::byte{1};
      std::memcpy(block.data() + 1024 + 0x10c, "\x0a\xf3", 2);
      if (prng.chance(1, 2)) std::memcpy(block.data() + 1024 + 0x10c + 6, "\1\0", 2);
    } else if (round % 3 == 1) {
      std::memcpy(block.data(), "XFSB\0\0\x10\0", 8);
    }
    ASSERT_EQ(pwrite(fd_, block.data(), kBlockSize, 0), static_cast<ssize_t>(kBlockSize));
    const FsVitals vitals = find();
    for (const BlockRange& range : vitals.ranges()) EXPECT_LE(range.first + range.count, blocks_);
    close(std::exchange(fd_, -1));
    unlink(std::exchange(path_, "").c_str());
  }
}

}  // namespace
}  // namespace hf
