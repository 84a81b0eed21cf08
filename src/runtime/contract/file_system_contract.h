// The contract of FileSystem (runtime/file.h), as tests that every world passes: names,
// directories, links, clones, space, and whole small files.
#pragma once

#include <string>
#include <vector>

#include "runtime/contract/contract_support.h"
#include "runtime/contract/world_factory.h"

namespace hf::contract {

class FileSystemContract : public WorldTest {};
GTEST_ALLOW_UNINSTANTIATED_PARAMETERIZED_TEST(FileSystemContract);

inline Task<void> opening(World& world, std::string dir) {
  const std::string path = dir + "/f";
  Result<std::unique_ptr<File>> file = co_await world.fs.open(path, OpenOptions());
  EXPECT_EQ(file.code(), ErrorCode::kNotFound);
  HF_CO_ASSERT(!file.ok());
  EXPECT_NE(file.error().message().find(path), std::string::npos) << file.error().message();
  file = co_await world.fs.open(path, read_write());
  HF_CO_ASSERT_OK(file);
  Result<size_t> n = co_await (*file)->write_at(0, as_bytes("content"));
  HF_CO_ASSERT_OK(n);
  OpenOptions options = read_write();
  options.exclusive = true;
  file = co_await world.fs.open(path, options);
  EXPECT_EQ(file.code(), ErrorCode::kAlreadyExists);
  file = co_await world.fs.open(path, read_write());
  HF_CO_ASSERT_OK(file);
  EXPECT_EQ(*(*file)->size(), 7u);
  options = read_write();
  options.truncate = true;
  file = co_await world.fs.open(path, options);
  HF_CO_ASSERT_OK(file);
  EXPECT_EQ(*(*file)->size(), 0u);
  file = co_await world.fs.open(dir + "/no/f", read_write());
  EXPECT_EQ(file.code(), ErrorCode::kNotFound);
  file = co_await world.fs.open(dir, read_write());
  EXPECT_FALSE(file.ok());
}

TEST_P(FileSystemContract, OpenMakesFindsAndRefuses) {
  run(opening(world(), under_test().scratch_dir()));
}

inline Task<void> directories(World& world, std::string dir) {
  FileSystem& fs = world.fs;
  Status status = co_await fs.make_directory(dir + "/d", 0700);
  HF_CO_ASSERT_OK(status);
  status = co_await fs.make_directory(dir + "/d", 0700);
  EXPECT_EQ(status.code(), ErrorCode::kAlreadyExists);
  status = co_await fs.make_directory(dir + "/no/d", 0700);
  EXPECT_EQ(status.code(), ErrorCode::kNotFound);
  for (const char* name : {"b", "a", "c"}) {
    const std::string path = dir + "/d/" + name;
    status = co_await fs.write_file_atomic(path, name, 0600);
    HF_CO_ASSERT_OK(status);
  }
  status = co_await fs.make_directory(dir + "/d/0", 0755);
  HF_CO_ASSERT_OK(status);
  Result<std::vector<DirectoryEntry>> entries = co_await fs.list(dir + "/d");
  HF_CO_ASSERT_OK(entries);
  HF_CO_ASSERT(entries->size() == 4);
  EXPECT_EQ((*entries)[0].name, "0");
  EXPECT_EQ((*entries)[0].type, FileType::kDirectory);
  EXPECT_EQ((*entries)[1].name, "a");
  EXPECT_EQ((*entries)[1].type, FileType::kRegular);
  EXPECT_EQ((*entries)[3].name, "c");
  status = co_await fs.remove_directory(dir + "/d");
  EXPECT_EQ(status.code(), ErrorCode::kNotEmpty);
  status = co_await fs.remove_directory(dir + "/d/a");
  EXPECT_FALSE(status.ok());
  status = co_await fs.unlink(dir + "/d/0");
  EXPECT_FALSE(status.ok());
  status = co_await fs.remove_directory(dir + "/d/0");
  HF_CO_ASSERT_OK(status);
  status = co_await fs.remove_directory(dir + "/d/0");
  EXPECT_EQ(status.code(), ErrorCode::kNotFound);
  entries = co_await fs.list(dir + "/no");
  EXPECT_EQ(entries.code(), ErrorCode::kNotFound);
  entries = co_await fs.list(dir + "/d/a");
  EXPECT_FALSE(entries.ok());
}

TEST_P(FileSystemContract, DirectoriesListSortedAndRefuseWhatTheyMust) {
  run(directories(world(), under_test().scratch_dir()));
}

inline Task<void> stats(World& world, std::string dir) {
  Status status = co_await world.fs.write_file_atomic(dir + "/f", "12345", 0640);
  HF_CO_ASSERT_OK(status);
  Result<FileInfo> info = co_await world.fs.stat(dir + "/f");
  HF_CO_ASSERT_OK(info);
  EXPECT_EQ(info->type, FileType::kRegular);
  EXPECT_EQ(info->size, 5u);
  EXPECT_EQ(info->link_count, 1u);
  EXPECT_EQ(info->mode, 0640u);
  info = co_await world.fs.stat(dir);
  HF_CO_ASSERT_OK(info);
  EXPECT_EQ(info->type, FileType::kDirectory);
  info = co_await world.fs.stat(dir + "/no");
  EXPECT_EQ(info.code(), ErrorCode::kNotFound);
}

TEST_P(FileSystemContract, StatTellsTypeSizeAndMode) {
  run(stats(world(), under_test().scratch_dir()));
}

inline Task<void> renaming(World& world, std::string dir) {
  FileSystem& fs = world.fs;
  Status status = co_await fs.write_file_atomic(dir + "/a", "first", 0600);
  HF_CO_ASSERT_OK(status);
  status = co_await fs.write_file_atomic(dir + "/b", "second", 0600);
  HF_CO_ASSERT_OK(status);
  Result<std::unique_ptr<File>> old = co_await fs.open(dir + "/b", OpenOptions());
  HF_CO_ASSERT_OK(old);
  status = co_await fs.rename(dir + "/a", dir + "/b");
  HF_CO_ASSERT_OK(status);
  Result<std::string> content = co_await fs.read_file(dir + "/b", 100);
  HF_CO_ASSERT_OK(content);
  EXPECT_EQ(*content, "first");
  content = co_await fs.read_file(dir + "/a", 100);
  EXPECT_EQ(content.code(), ErrorCode::kNotFound);
  // Who had the replaced file open still has it.
  std::byte buffer[10];
  Result<size_t> n = co_await (*old)->read_at(0, buffer);
  HF_CO_ASSERT_OK(n);
  EXPECT_EQ(text_of(ByteSpan(buffer).first(*n)), "second");
  status = co_await fs.rename(dir + "/a", dir + "/c");
  EXPECT_EQ(status.code(), ErrorCode::kNotFound);
  status = co_await fs.make_directory(dir + "/d", 0700);
  HF_CO_ASSERT_OK(status);
  status = co_await fs.rename(dir + "/b", dir + "/d/b");
  HF_CO_ASSERT_OK(status);
  status = co_await fs.rename(dir + "/d", dir + "/e");
  HF_CO_ASSERT_OK(status);
  content = co_await fs.read_file(dir + "/e/b", 100);
  HF_CO_ASSERT_OK(content);
  EXPECT_EQ(*content, "first");
  status = co_await fs.sync_dir(dir + "/e");
  EXPECT_TRUE(status.ok());
  status = co_await fs.sync_dir(dir + "/d");
  EXPECT_EQ(status.code(), ErrorCode::kNotFound);
}

TEST_P(FileSystemContract, RenameReplacesAndMoves) {
  run(renaming(world(), under_test().scratch_dir()));
}

inline Task<void> unlinking(World& world, std::string dir) {
  FileSystem& fs = world.fs;
  Result<std::unique_ptr<File>> file = co_await fs.open(dir + "/f", read_write());
  HF_CO_ASSERT_OK(file);
  Status status = co_await fs.unlink(dir + "/f");
  HF_CO_ASSERT_OK(status);
  status = co_await fs.unlink(dir + "/f");
  EXPECT_EQ(status.code(), ErrorCode::kNotFound);
  Result<size_t> n = co_await (*file)->write_at(0, as_bytes("still here"));
  HF_CO_ASSERT_OK(n);
  std::byte buffer[10];
  n = co_await (*file)->read_at(0, buffer);
  HF_CO_ASSERT_OK(n);
  EXPECT_EQ(text_of(ByteSpan(buffer).first(*n)), "still here");
}

TEST_P(FileSystemContract, AnUnlinkedFileLivesWhileItIsOpen) {
  run(unlinking(world(), under_test().scratch_dir()));
}

inline Task<void> linking(World& world, std::string dir) {
  FileSystem& fs = world.fs;
  Status status = co_await fs.write_file_atomic(dir + "/a", "shared", 0600);
  HF_CO_ASSERT_OK(status);
  status = co_await fs.link(dir + "/a", dir + "/b");
  HF_CO_ASSERT_OK(status);
  status = co_await fs.link(dir + "/a", dir + "/b");
  EXPECT_EQ(status.code(), ErrorCode::kAlreadyExists);
  status = co_await fs.link(dir + "/no", dir + "/c");
  EXPECT_EQ(status.code(), ErrorCode::kNotFound);
  Result<FileInfo> a = co_await fs.stat(dir + "/a");
  HF_CO_ASSERT_OK(a);
  Result<FileInfo> b = co_await fs.stat(dir + "/b");
  HF_CO_ASSERT_OK(b);
  EXPECT_EQ(a->inode, b->inode);
  EXPECT_EQ(a->link_count, 2u);
  status = co_await fs.unlink(dir + "/a");
  HF_CO_ASSERT_OK(status);
  Result<std::string> content = co_await fs.read_file(dir + "/b", 100);
  HF_CO_ASSERT_OK(content);
  EXPECT_EQ(*content, "shared");
}

TEST_P(FileSystemContract, HardLinksAreOneFile) {
  run(linking(world(), under_test().scratch_dir()));
}

inline Task<void> cloning(World& world, std::string dir) {
  FileSystem& fs = world.fs;
  Result<std::unique_ptr<File>> file = co_await fs.open(dir + "/a", read_write());
  HF_CO_ASSERT_OK(file);
  const std::string data(kMiB, 'x');
  Result<size_t> n = co_await (*file)->write_at(0, as_bytes(data));
  HF_CO_ASSERT_OK(n);
  n = co_await (*file)->sync_data();
  HF_CO_ASSERT_OK(n);
  Status status = co_await fs.reflink(dir + "/a", dir + "/b");
  HF_CO_ASSERT_OK(status);
  status = co_await fs.reflink(dir + "/a", dir + "/b");
  EXPECT_EQ(status.code(), ErrorCode::kAlreadyExists);
  status = co_await fs.reflink(dir + "/no", dir + "/c");
  EXPECT_EQ(status.code(), ErrorCode::kNotFound);
  Result<FileInfo> none = co_await fs.stat(dir + "/c");
  EXPECT_EQ(none.code(), ErrorCode::kNotFound);
  n = co_await (*file)->write_at(5000, as_bytes("original"));
  HF_CO_ASSERT_OK(n);
  Result<std::unique_ptr<File>> clone = co_await fs.open(dir + "/b", read_write());
  HF_CO_ASSERT_OK(clone);
  n = co_await (*clone)->write_at(9000, as_bytes("clone"));
  HF_CO_ASSERT_OK(n);
  Result<std::string> content = co_await fs.read_file(dir + "/a", kMiB);
  HF_CO_ASSERT_OK(content);
  std::string expected = data;
  expected.replace(5000, 8, "original");
  EXPECT_EQ(*content, expected);
  content = co_await fs.read_file(dir + "/b", kMiB);
  HF_CO_ASSERT_OK(content);
  expected = data;
  expected.replace(9000, 5, "clone");
  EXPECT_EQ(*content, expected);
}

TEST_P(FileSystemContract, AReflinkIsACopyOnWriteClone) {
  if (!under_test().has_reflinks()) GTEST_SKIP() << "no reflinks here";
  run(cloning(world(), under_test().scratch_dir()));
}

inline Task<void> no_clones(World& world, std::string dir) {
  Status status = co_await world.fs.write_file_atomic(dir + "/a", "x", 0600);
  HF_CO_ASSERT_OK(status);
  status = co_await world.fs.reflink(dir + "/a", dir + "/b");
  EXPECT_EQ(status.code(), ErrorCode::kMissingFeature);
  Result<FileInfo> none = co_await world.fs.stat(dir + "/b");
  EXPECT_EQ(none.code(), ErrorCode::kNotFound);
}

TEST_P(FileSystemContract, WhereReflinksCannotBeTheyAreRefusedWithoutTrace) {
  if (under_test().has_reflinks()) GTEST_SKIP() << "reflinks work here";
  run(no_clones(world(), under_test().scratch_dir()));
}

inline Task<void> whole_files(World& world, std::string dir) {
  FileSystem& fs = world.fs;
  const std::string big(100'000, 'b');
  Status status = co_await fs.write_file_atomic(dir + "/f", big, 0600);
  HF_CO_ASSERT_OK(status);
  status = co_await fs.write_file_atomic(dir + "/f", "small", 0600);
  HF_CO_ASSERT_OK(status);
  Result<std::string> content = co_await fs.read_file(dir + "/f", 5);
  HF_CO_ASSERT_OK(content);
  EXPECT_EQ(*content, "small");
  content = co_await fs.read_file(dir + "/f", 4);
  EXPECT_EQ(content.code(), ErrorCode::kLimitExceeded);
  content = co_await fs.read_file(dir + "/no", 4);
  EXPECT_EQ(content.code(), ErrorCode::kNotFound);
  Result<std::vector<DirectoryEntry>> entries = co_await fs.list(dir);
  HF_CO_ASSERT_OK(entries);
  EXPECT_EQ(entries->size(), 1u) << "the temporary stays behind";
}

TEST_P(FileSystemContract, WholeSmallFiles) {
  run(whole_files(world(), under_test().scratch_dir()));
}

inline Task<void> spaces(World& world, std::string dir) {
  Result<SpaceInfo> before = co_await world.fs.space(dir);
  HF_CO_ASSERT_OK(before);
  EXPECT_GT(before->total_bytes, 0u);
  EXPECT_LE(before->free_bytes, before->total_bytes);
  EXPECT_LE(before->free_inodes, before->total_inodes);
  Result<SpaceInfo> none = co_await world.fs.space(dir + "/no");
  EXPECT_EQ(none.code(), ErrorCode::kNotFound);
}

TEST_P(FileSystemContract, SpaceIsSane) {
  run(spaces(world(), under_test().scratch_dir()));
}

}  // namespace hf::contract
