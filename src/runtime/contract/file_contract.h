// The contract of one File (runtime/file.h), as tests that every world passes. What concerns names
// and directories is in file_system_contract.h; power loss is the simulator's own matter.
#pragma once

#include <algorithm>
#include <cstring>
#include <vector>

#include "runtime/contract/contract_support.h"
#include "runtime/contract/world_factory.h"

namespace hf::contract {

class FileContract : public WorldTest {};
GTEST_ALLOW_UNINSTANTIATED_PARAMETERIZED_TEST(FileContract);

inline Task<void> write_then_read(World& world, std::string path) {
  Result<std::unique_ptr<File>> file = co_await world.fs.open(path, read_write());
  HF_CO_ASSERT_OK(file);
  Result<size_t> n = co_await (*file)->write_at(3, as_bytes("abcdef"));
  HF_CO_ASSERT_OK(n);
  EXPECT_EQ(*n, 6u);
  EXPECT_EQ(*(*file)->size(), 9u);
  std::byte buffer[20];
  n = co_await (*file)->read_at(0, buffer);
  HF_CO_ASSERT_OK(n);
  EXPECT_EQ(text_of(ByteSpan(buffer).first(*n)), std::string("\0\0\0abcdef", 9));
  n = co_await (*file)->read_at(5, MutableByteSpan(buffer).first(2));
  HF_CO_ASSERT_OK(n);
  EXPECT_EQ(text_of(ByteSpan(buffer).first(*n)), "cd");
  n = co_await (*file)->read_at(9, buffer);
  HF_CO_ASSERT_OK(n);
  EXPECT_EQ(*n, 0u);
  n = co_await (*file)->read_at(1000, buffer);
  HF_CO_ASSERT_OK(n);
  EXPECT_EQ(*n, 0u);
  EXPECT_EQ((*file)->path(), path);
}

TEST_P(FileContract, ReadsWhatWasWrittenAndStopsAtTheEnd) {
  run(write_then_read(world(), path("f")));
}

inline Task<void> write_kinds(World& world, std::string path) {
  Result<std::unique_ptr<File>> file = co_await world.fs.open(path, read_write());
  HF_CO_ASSERT_OK(file);
  Result<size_t> n = co_await (*file)->write_durable_at(0, as_bytes("durable "));
  HF_CO_ASSERT_OK(n);
  EXPECT_EQ(*n, 8u);
  const ByteSpan many[] = {as_bytes("one "), as_bytes(""), as_bytes("two "), as_bytes("three ")};
  n = co_await (*file)->write_many_at(8, many);
  HF_CO_ASSERT_OK(n);
  EXPECT_EQ(*n, 14u);
  const ByteSpan more[] = {as_bytes("four "), as_bytes("five")};
  n = co_await (*file)->write_many_durable_at(22, more);
  HF_CO_ASSERT_OK(n);
  EXPECT_EQ(*n, 9u);
  n = co_await (*file)->sync_data();
  HF_CO_ASSERT_OK(n);
  Result<std::string> content = co_await world.fs.read_file(path, 100);
  HF_CO_ASSERT_OK(content);
  EXPECT_EQ(*content, "durable one two three four five");
}

TEST_P(FileContract, EveryKindOfWriteArrives) {
  run(write_kinds(world(), path("f")));
}

inline Task<void> read_only(World& world, std::string path) {
  Status made = co_await world.fs.write_file_atomic(path, "content", 0600);
  HF_CO_ASSERT_OK(made);
  Result<std::unique_ptr<File>> file = co_await world.fs.open(path, OpenOptions());
  HF_CO_ASSERT_OK(file);
  Result<size_t> n = co_await (*file)->write_at(0, as_bytes("x"));
  EXPECT_FALSE(n.ok());
  Status cut = co_await (*file)->set_size(0);
  EXPECT_FALSE(cut.ok());
  Result<std::string> content = co_await world.fs.read_file(path, 100);
  HF_CO_ASSERT_OK(content);
  EXPECT_EQ(*content, "content");
}

TEST_P(FileContract, AFileOpenForReadingIsNotWritten) {
  run(read_only(world(), path("f")));
}

inline Task<void> sizes(World& world, std::string path) {
  Result<std::unique_ptr<File>> file = co_await world.fs.open(path, read_write());
  HF_CO_ASSERT_OK(file);
  const std::string data(10000, 'x');
  Result<size_t> n = co_await (*file)->write_at(0, as_bytes(data));
  HF_CO_ASSERT_OK(n);
  Status status = co_await (*file)->set_size(5000);
  HF_CO_ASSERT_OK(status);
  EXPECT_EQ(*(*file)->size(), 5000u);
  status = co_await (*file)->set_size(9000);
  HF_CO_ASSERT_OK(status);
  EXPECT_EQ(*(*file)->size(), 9000u);
  Result<std::string> content = co_await world.fs.read_file(path, 20000);
  HF_CO_ASSERT_OK(content);
  EXPECT_EQ(*content, std::string(5000, 'x') + std::string(4000, '\0'));
  status = co_await (*file)->set_size(kGiB);
  HF_CO_ASSERT_OK(status);
  std::byte last[10];
  n = co_await (*file)->read_at(kGiB - 5, last);
  HF_CO_ASSERT_OK(n);
  EXPECT_EQ(*n, 5u);
  EXPECT_TRUE(all_zero(ByteSpan(last).first(5)));
}

TEST_P(FileContract, SizeCutsAndGrowsWithZeroes) {
  run(sizes(world(), path("f")));
}

inline Task<void> holes(World& world, std::string path) {
  Result<std::unique_ptr<File>> file = co_await world.fs.open(path, read_write());
  HF_CO_ASSERT_OK(file);
  const std::string data(64 * kKiB, 'x');
  Result<size_t> n = co_await (*file)->write_durable_at(0, as_bytes(data));
  HF_CO_ASSERT_OK(n);
  Result<FileInfo> before = co_await world.fs.stat(path);
  HF_CO_ASSERT_OK(before);
  EXPECT_GE(before->allocated_bytes, 64 * kKiB);
  n = co_await (*file)->punch_hole(8 * kKiB + 100, 40 * kKiB);
  HF_CO_ASSERT_OK(n);
  n = co_await (*file)->zero_range(60 * kKiB + 1, 1000);
  HF_CO_ASSERT_OK(n);
  n = co_await (*file)->sync_data();
  HF_CO_ASSERT_OK(n);
  std::string expected = data;
  std::fill_n(expected.begin() + 8 * kKiB + 100, 40 * kKiB, '\0');
  std::fill_n(expected.begin() + 60 * kKiB + 1, 1000, '\0');
  Result<std::string> content = co_await world.fs.read_file(path, kMiB);
  HF_CO_ASSERT_OK(content);
  EXPECT_EQ(*content, expected);
  Result<FileInfo> after = co_await world.fs.stat(path);
  HF_CO_ASSERT_OK(after);
  EXPECT_LT(after->allocated_bytes, before->allocated_bytes);
  // Beyond the end: nothing changes.
  n = co_await (*file)->punch_hole(100 * kKiB, 40 * kKiB);
  HF_CO_ASSERT_OK(n);
  n = co_await (*file)->zero_range(60 * kKiB, 40 * kKiB);
  HF_CO_ASSERT_OK(n);
  EXPECT_EQ(*(*file)->size(), 64 * kKiB);
}

TEST_P(FileContract, HolesAndZeroRangesReadAsZeroesAndKeepTheSize) {
  if (!under_test().has_holes()) GTEST_SKIP() << "no fallocate here";
  run(holes(world(), path("f")));
}

inline Task<void> allocation(World& world, std::string path) {
  Result<std::unique_ptr<File>> file = co_await world.fs.open(path, read_write());
  HF_CO_ASSERT_OK(file);
  Result<size_t> n = co_await (*file)->write_at(0, as_bytes("head"));
  HF_CO_ASSERT_OK(n);
  n = co_await (*file)->allocate(0, kMiB);
  HF_CO_ASSERT_OK(n);
  EXPECT_EQ(*(*file)->size(), kMiB);
  Result<FileInfo> info = co_await world.fs.stat(path);
  HF_CO_ASSERT_OK(info);
  EXPECT_GE(info->allocated_bytes, kMiB);
  Result<std::string> content = co_await world.fs.read_file(path, kMiB);
  HF_CO_ASSERT_OK(content);
  EXPECT_EQ(*content, "head" + std::string(kMiB - 4, '\0'));
}

TEST_P(FileContract, AllocationGrowsReservesAndKeepsContent) {
  if (!under_test().has_holes()) GTEST_SKIP() << "no fallocate here";
  run(allocation(world(), path("f")));
}

inline Task<void> one_of_many(File& file, uint64_t i, int* done) {
  std::string data(kBlockSize, static_cast<char>('a' + i % 26));
  std::memcpy(data.data(), &i, sizeof i);
  Result<size_t> n = co_await file.write_at(i * kBlockSize, as_bytes(data));
  HF_CO_ASSERT_OK(n);
  std::string back(kBlockSize, '\0');
  MutableByteSpan into{reinterpret_cast<std::byte*>(back.data()), back.size()};
  n = co_await file.read_at(i * kBlockSize, into);
  HF_CO_ASSERT_OK(n);
  EXPECT_EQ(back, data);
  ++*done;
}

inline Task<void> many_in_flight(World& world, std::string path) {
  Result<std::unique_ptr<File>> file = co_await world.fs.open(path, read_write());
  HF_CO_ASSERT_OK(file);
  Gate gate;
  int done = 0;
  for (uint64_t i = 0; i < 300; ++i) spawn(gate, one_of_many(**file, i, &done));
  co_await gate.close();
  EXPECT_EQ(done, 300);
  EXPECT_EQ(*(*file)->size(), 300 * kBlockSize);
}

TEST_P(FileContract, HundredsOfOperationsInFlight) {
  run(many_in_flight(world(), path("f")));
}

inline Task<void> write_letter(File& file, ByteSpan data) {
  Result<size_t> n = co_await file.write_at(0, data);
  EXPECT_TRUE(n.ok());
}

inline Task<void> overlapping(World& world, std::string path) {
  Result<std::unique_ptr<File>> file = co_await world.fs.open(path, direct_read_write());
  HF_CO_ASSERT_OK(file);
  std::vector<AlignedBuffer> letters;
  for (int i = 0; i < 4; ++i) {
    letters.emplace_back(64 * kKiB);
    std::memset(letters.back().data(), 'a' + i, letters.back().size());
  }
  for (int round = 0; round < 20; ++round) {
    Gate gate;
    for (AlignedBuffer& letter : letters) spawn(gate, write_letter(**file, letter.span()));
    co_await gate.close();
    AlignedBuffer back(64 * kKiB);
    Result<size_t> n = co_await (*file)->read_at(0, back.span());
    HF_CO_ASSERT_OK(n);
    for (size_t at = 0; at < back.size(); at += 512) {
      const std::byte first = back.data()[at];
      EXPECT_TRUE(first >= std::byte{'a'} && first <= std::byte{'d'});
      EXPECT_EQ(std::memcmp(back.data() + at, back.data() + at + 1, 511), 0);
    }
  }
}

TEST_P(FileContract, OverlappingWritesGiveEitherContentSectorBySector) {
  if (!under_test().has_direct_io()) GTEST_SKIP() << "no direct I/O here";
  run(overlapping(world(), path("f")));
}

inline Task<void> locking(World& world, std::string path) {
  Result<std::unique_ptr<File>> first = co_await world.fs.open(path, read_write());
  HF_CO_ASSERT_OK(first);
  Result<std::unique_ptr<File>> second = co_await world.fs.open(path, read_write());
  HF_CO_ASSERT_OK(second);
  Status locked = (*first)->try_lock();
  HF_CO_ASSERT_OK(locked);
  locked = (*second)->try_lock();
  EXPECT_EQ(locked.code(), ErrorCode::kLocked);
  first->reset();
  locked = (*second)->try_lock();
  EXPECT_TRUE(locked.ok());
}

TEST_P(FileContract, ALockIsExclusiveAndEndsWithItsFile) {
  run(locking(world(), path("f")));
}

inline Task<void> direct_end(World& world, std::string path) {
  Result<std::unique_ptr<File>> file = co_await world.fs.open(path, direct_read_write());
  HF_CO_ASSERT_OK(file);
  EXPECT_TRUE((*file)->is_direct());
  AlignedBuffer data(2 * kBlockSize);
  std::memset(data.data(), 'd', data.size());
  Result<size_t> n = co_await (*file)->write_durable_at(kBlockSize, data.span());
  HF_CO_ASSERT_OK(n);
  Status cut = co_await (*file)->set_size(2 * kBlockSize + 10);
  HF_CO_ASSERT_OK(cut);
  AlignedBuffer back(4 * kBlockSize);
  n = co_await (*file)->read_at(0, back.span());
  HF_CO_ASSERT_OK(n);
  EXPECT_EQ(*n, 2 * kBlockSize + 10);
  EXPECT_TRUE(all_zero(back.span().first(kBlockSize)));
  EXPECT_EQ(text_of(back.span().subspan(kBlockSize, kBlockSize + 10)),
            std::string(kBlockSize + 10, 'd'));
  n = co_await (*file)->read_at(4 * kBlockSize, back.span());
  HF_CO_ASSERT_OK(n);
  EXPECT_EQ(*n, 0u);
}

TEST_P(FileContract, DirectReadsStopAtAnUnalignedEnd) {
  if (!under_test().has_direct_io()) GTEST_SKIP() << "no direct I/O here";
  run(direct_end(world(), path("f")));
}

// A random walk of all operations beside a model in memory.
class FileModel {
 public:
  FileModel(uint64_t seed, uint64_t unit) : prng_(seed), unit_(unit) {}

  Task<void> walk(World& world, std::string path, OpenOptions options, int steps) {
    Result<std::unique_ptr<File>> file = co_await world.fs.open(path, options);
    HF_CO_ASSERT_OK(file);
    for (int i = 0; i < steps; ++i) {
      co_await step(**file);
      if (::testing::Test::HasFailure()) co_return;
      EXPECT_EQ(*(*file)->size(), model_.size()) << "step " << i;
    }
    co_await compare(**file, 0, kSpan);
  }

 private:
  static constexpr uint64_t kSpan = 256 * kKiB;

  Task<void> step(File& file) {
    const uint64_t offset = prng_.below(kSpan / unit_) * unit_;
    const uint64_t length = prng_.between(1, std::max<uint64_t>(1, 40 * kKiB / unit_)) * unit_;
    switch (prng_.below(8)) {
      case 0:
        co_await compare(file, offset, length);
        break;
      case 1:
        co_await resize(file, prng_.below(kSpan));
        break;
      case 2:
        co_await clear(file, offset, length, true);
        break;
      case 3:
        co_await clear(file, offset, length, false);
        break;
      case 4:
        co_await sync(file);
        break;
      default:
        co_await write(file, offset, length);
        break;
    }
  }
  Task<void> write(File& file, uint64_t offset, uint64_t length) {
    AlignedBuffer data(length);
    fill_random(prng_, data.span());
    Result<size_t> n(0);
    switch (prng_.below(3)) {
      case 0:
        n = co_await file.write_at(offset, data.span());
        break;
      case 1:
        n = co_await file.write_durable_at(offset, data.span());
        break;
      default: {
        const uint64_t cut = round_down(prng_.below(length), std::max(unit_, uint64_t{1}));
        const ByteSpan parts[] = {data.span().first(cut), data.span().subspan(cut)};
        n = co_await file.write_many_at(offset, parts);
      }
    }
    HF_CO_ASSERT_OK(n);
    EXPECT_EQ(*n, length);
    if (model_.size() < offset + length) model_.resize(offset + length);
    std::memcpy(model_.data() + offset, data.data(), length);
  }
  Task<void> resize(File& file, uint64_t size) {
    Status status = co_await file.set_size(size);
    HF_CO_ASSERT_OK(status);
    model_.resize(size);
  }
  Task<void> clear(File& file, uint64_t offset, uint64_t length, bool hole) {
    Result<size_t> n(0);
    if (hole) {
      n = co_await file.punch_hole(offset, length);
    } else {
      n = co_await file.zero_range(offset, length);
    }
    HF_CO_ASSERT_OK(n);
    const uint64_t end = std::min<uint64_t>(offset + length, model_.size());
    if (offset < end) std::memset(model_.data() + offset, 0, end - offset);
  }
  Task<void> sync(File& file) {
    Result<size_t> n = co_await file.sync_data();
    HF_CO_ASSERT_OK(n);
    file.drop_cache();
  }
  Task<void> compare(File& file, uint64_t offset, uint64_t length) {
    AlignedBuffer back(length);
    Result<size_t> n = co_await file.read_at(offset, back.span());
    HF_CO_ASSERT_OK(n);
    const uint64_t size = model_.size();
    const uint64_t expected = offset >= size ? 0 : std::min(length, size - offset);
    EXPECT_EQ(*n, expected);
    if (*n == 0 || *n != expected) co_return;
    EXPECT_EQ(std::memcmp(back.data(), model_.data() + offset, *n), 0) << offset << "+" << length;
  }

  Prng prng_;
  const uint64_t unit_;
  std::vector<std::byte> model_;
};

TEST_P(FileContract, ARandomWalkMatchesAModelInMemory) {
  if (!under_test().has_holes()) GTEST_SKIP() << "no fallocate here";
  FileModel model(1, 1);
  run(model.walk(world(), path("f"), read_write(), 400));
}

TEST_P(FileContract, ARandomDirectWalkMatchesAModelInMemory) {
  if (!under_test().has_direct_io()) GTEST_SKIP() << "no direct I/O here";
  if (!under_test().has_holes()) GTEST_SKIP() << "no fallocate here";
  FileModel model(2, kBlockSize);
  run(model.walk(world(), path("f"), direct_read_write(), 400));
}

}  // namespace hf::contract
