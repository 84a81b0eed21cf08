// Our server and other people's clients, over real sockets: nbdinfo, nbdcopy, fio, qemu-img, libnbd.
// A test whose tool is not installed is skipped and says so (tools/deps.sh installs group "test").
#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sstream>

#include "base/prng.h"
#include "block/nbd/nbd_server.h"
#include "block/nbd/testing/test_client.h"
#include "runtime/contract/contract_support.h"
#include "runtime/process.h"
#include "uring/real_world_under_test.h"
#include "volume/testing/memory_device.h"
#ifdef HF_HAS_LIBNBD
#include <libnbd.h>
#endif

namespace hf::nbd {
namespace {

constexpr uint64_t kSize = 64 * kMiB;

class NbdInterop : public ::testing::Test {
 protected:
  NbdInterop()
      : real_(make_real_world()),
        memory(std::make_shared<MemoryDevice>(kSize)),
        server(world(), table, NbdServerOptions()) {
    char dir[] = "/tmp/hf-nbd-XXXXXX";  // short: the clients' socket addresses have 108 bytes
    HF_ASSERT(mkdtemp(dir) != nullptr);
    dir_ = dir;
  }
  ~NbdInterop() override {
    std::error_code ignored;
    std::filesystem::remove_all(dir_, ignored);
  }
  World& world() { return real_->world(); }
  std::string path(const std::string& name) const { return dir_ + "/" + name; }
  std::string uri(const std::string& name) const {
    return "nbd+unix:///" + name + "?socket=" + path("nbd.sock");
  }
  std::string tcp_uri(const std::string& name) const {
    return "nbd://" + server.addresses()[1].substr(4) + "/" + name;
  }

  Task<void> start() {
    NbdExport writable;
    writable.name = "pg";
    writable.description = "a volume";
    writable.device = memory;
    Status added = table.add(std::move(writable));
    HF_ASSERT(added.ok());
    NbdExport frozen;
    frozen.name = "frozen";
    frozen.device = memory;
    frozen.read_only = true;
    added = table.add(std::move(frozen));
    HF_ASSERT(added.ok());
    const ListenOptions options;
    Status listening = co_await server.listen("unix:" + path("nbd.sock"), options);
    HF_ASSERT(listening.ok(), "{}", listening.error().to_string());
    listening = co_await server.listen("tcp:127.0.0.1:0", options);
    HF_ASSERT(listening.ok(), "{}", listening.error().to_string());
  }
  // Runs the body with the server up; stops it afterwards, whatever happened.
  void serve(std::function<Task<void>()> body) { real_->run(around(&body)); }
  Task<void> around(std::function<Task<void>()>* body) {
    co_await start();
    Task<void> inner = (*body)();
    co_await std::move(inner);
    co_await server.stop();
    EXPECT_EQ(server.connections(), 0u);
    EXPECT_EQ(server.counts().protocol_errors, 0u);
  }
  // Output of a program that must succeed; nothing and a skip where it is not installed.
  Task<std::string> tool(std::vector<std::string> argv) {
    const std::string name = argv[0];
    Result<CommandResult> ran = co_await world().process.run(std::move(argv), 100s);
    if (ran.code() == ErrorCode::kMissingFeature) {
      missing_ = name + " is not installed";
      co_return std::string();
    }
    EXPECT_TRUE(ran.ok()) << ran.error().to_string();
    if (!ran.ok()) co_return std::string();
    EXPECT_EQ(ran->exit_status, 0) << name << ": " << ran->output;
    co_return ran->output;
  }
  void skip_if_missing() {
    if (!missing_.empty()) GTEST_SKIP() << missing_;
  }
  void write_file(const std::string& name, ByteSpan bytes) {
    std::ofstream out(path(name), std::ios::binary);
    out.write(reinterpret_cast<const char*>(bytes.data()), static_cast<std::streamsize>(bytes.size()));
  }
  std::vector<std::byte> read_file(const std::string& name) {
    std::ifstream in(path(name), std::ios::binary);
    const std::string text((std::istreambuf_iterator<char>(in)), std::istreambuf_iterator<char>());
    const ByteSpan bytes = as_bytes(text);
    return {bytes.begin(), bytes.end()};
  }
  // Data with holes of many sizes, the same each time.
  static std::vector<std::byte> image() {
    std::vector<std::byte> bytes(kSize, std::byte{0});
    Prng prng(42);
    for (uint64_t at = 0; at < kSize;) {
      const uint64_t end = std::min(kSize, at + prng.between(1, 3 * kMiB));
      if (prng.chance(1, 2)) contract::fill_random(prng, MutableByteSpan(bytes).subspan(at, end - at));
      at = end;
    }
    return bytes;
  }

  Task<void> info();
  Task<void> copy();
  Task<void> fio(bool aligned);
  Task<void> qemu();
  Task<void> own_client();
  Task<void> libnbd();

  std::unique_ptr<contract::WorldUnderTest> real_;
  std::string dir_;
  std::string missing_;
  std::shared_ptr<MemoryDevice> memory;
  ExportTable table;
  NbdServer server;
};

Task<void> NbdInterop::info() {
  std::vector<std::string> argv = {"nbdinfo", uri("pg")};
  std::string text = co_await tool(std::move(argv));
  if (!missing_.empty()) co_return;
  for (const char* expected :
       {"newstyle-fixed", "structured packets", "export-size: 67108864 (64M)",
        "export=\"pg\"", "a volume", "base:allocation", "is_read_only: false",
        "can_multi_conn: true", "can_flush: true", "can_fua: true", "can_df: true",
        "can_fast_zero: true", "can_trim: true", "can_zero: true", "can_cache: true",
        "block_size_minimum: 1\n", "block_size_preferred: 4096", "block_size_maximum: 33554432"}) {
    EXPECT_NE(text.find(expected), std::string::npos) << expected << " is not in:\n" << text;
  }
  argv = {"nbdinfo", "--list", tcp_uri("")};
  text = co_await tool(std::move(argv));
  EXPECT_NE(text.find("export=\"pg\""), std::string::npos) << text;
  EXPECT_NE(text.find("export=\"frozen\""), std::string::npos) << text;
  EXPECT_NE(text.find("is_read_only: true"), std::string::npos) << text;
  const std::vector<std::byte> data(1 * kMiB, std::byte{1});
  Status wrote = co_await memory->write(4 * kMiB, data);
  EXPECT_TRUE(wrote.ok());
  argv = {"nbdinfo", "--map", uri("pg")};
  text = co_await tool(std::move(argv));
  // offset, length, state: 3 is hole and zero.
  std::istringstream in(text);
  uint64_t offset = 0, length = 0, state = 0;
  std::string word;
  std::vector<uint64_t> numbers;
  while (in >> offset >> length >> state >> word) {
    numbers.insert(numbers.end(), {offset, length, state});
  }
  const std::vector<uint64_t> expected = {0, 4 * kMiB, 3, 4 * kMiB, 1 * kMiB, 0,
                                          5 * kMiB, 59 * kMiB, 3};
  EXPECT_EQ(numbers, expected) << text;
}
TEST_F(NbdInterop, NbdinfoSeesWhatWeOffer) {
  serve([this] { return info(); });
  skip_if_missing();
}

Task<void> NbdInterop::copy() {
  const std::vector<std::byte> bytes = image();
  write_file("in", bytes);
  std::vector<std::string> argv = {"nbdcopy", "--connections=4", "--requests=32", "--flush",
                                   path("in"), uri("pg")};
  co_await tool(std::move(argv));
  if (!missing_.empty()) co_return;
  EXPECT_TRUE(memory->bytes() == bytes) << "what arrived differs";
  EXPECT_GT(memory->flushes, 0u);
  argv = {"nbdcopy", "--connections=4", tcp_uri("pg"), path("out")};
  co_await tool(std::move(argv));
  EXPECT_TRUE(read_file("out") == bytes) << "what came back differs";
  // One synchronous connection, as the simplest of clients.
  argv = {"nbdcopy", "--synchronous", "--connections=1", uri("frozen"), path("again")};
  co_await tool(std::move(argv));
  EXPECT_TRUE(read_file("again") == bytes);
}
TEST_F(NbdInterop, NbdcopyCopiesThereAndBackOverSeveralConnections) {
  serve([this] { return copy(); });
  skip_if_missing();
}

Task<void> NbdInterop::fio(bool aligned) {
  std::vector<std::string> argv = {
      "fio", "--name=t", "--ioengine=nbd", "--uri=" + uri("pg"), "--rw=randrw", "--size=64m",
      "--iodepth=32", "--verify=crc32c", "--verify_fatal=1", "--randseed=7",
      "--output=" + path("fio.log"), "--verify_state_save=0",
      // One size where blocks are cut: fio itself cannot verify a mixture of overlapping ones.
      aligned ? "--bsrange=4k-256k" : "--bs=7680"};
  co_await tool(std::move(argv));
  if (!missing_.empty()) co_return;
  EXPECT_GT(memory->writes, 100u);
}
TEST_F(NbdInterop, FioVerifiesRandomBlocks) {
  serve([this] { return fio(true); });
  skip_if_missing();
}
TEST_F(NbdInterop, FioVerifiesParts) {
  serve([this] { return fio(false); });
  skip_if_missing();
}

Task<void> NbdInterop::qemu() {
  const std::vector<std::byte> bytes = image();
  write_file("in", bytes);
  std::vector<std::string> argv = {"qemu-img", "convert", "-n", "-f", "raw", "-O", "raw", path("in"),
                                   uri("pg")};
  co_await tool(std::move(argv));
  if (!missing_.empty()) co_return;
  EXPECT_TRUE(memory->bytes() == bytes);
  argv = {"qemu-img", "compare", "-f", "raw", "-F", "raw", path("in"), uri("frozen")};
  const std::string text = co_await tool(std::move(argv));
  EXPECT_NE(text.find("identical"), std::string::npos) << text;
  argv = {"qemu-img", "bench", "-f", "raw", "-w", "-c", "2000", "-d", "32", "-s", "4k", uri("pg")};
  co_await tool(std::move(argv));
}
TEST_F(NbdInterop, QemuImgConvertsAndCompares) {
  serve([this] { return qemu(); });
  skip_if_missing();
}

// Eight connections of our own client at once, each a stripe of the device, slowly.
Task<void> stripe(World& world, std::string address, uint64_t number, uint64_t* done) {
  Result<std::unique_ptr<Stream>> stream = co_await world.net.connect(std::move(address), 5s);
  HF_CO_ASSERT_OK(stream);
  TestClient client(std::move(*stream));
  Status went = co_await client.go("pg", number % 2 == 0);
  HF_CO_ASSERT_OK(went);
  const std::vector<std::byte> data(4096 + number, static_cast<std::byte>(number + 1));
  for (uint64_t i = 0; i < 64; ++i) {
    const uint64_t at = number * 8 * kMiB + i * 100'003;
    const auto size = static_cast<uint32_t>(data.size());
    Result<TestReply> reply = co_await client.call(test_request(Command::kWrite, i, at, size), data);
    HF_CO_ASSERT_OK(reply);
    EXPECT_EQ(reply->nbd_errno, 0u);
    reply = co_await client.call(test_request(Command::kRead, i, at, size), ByteSpan());
    HF_CO_ASSERT_OK(reply);
    EXPECT_TRUE(reply->data == data);
    ++*done;
  }
}
Task<void> NbdInterop::own_client() {
  Gate gate;
  uint64_t done = 0;
  for (uint64_t i = 0; i < 8; ++i) {
    spawn(gate, stripe(world(), server.addresses()[i % 2], i, &done));
  }
  co_await gate.close();
  EXPECT_EQ(done, 8u * 64);
}
TEST_F(NbdInterop, ManyConnectionsAtOnce) {
  serve([this] { return own_client(); });
}

#ifdef HF_HAS_LIBNBD

struct Handle {
  Handle() : nbd(nbd_create()) { HF_ASSERT(nbd != nullptr); }
  ~Handle() { nbd_close(nbd); }
  nbd_handle* const nbd;
};

#define EXPECT_NBD(call) EXPECT_NE((call), -1) << nbd_get_error()
// The call fails, with this errno.
#define EXPECT_NBD_FAILS(call, expected)  \
  do {                                    \
    EXPECT_EQ((call), -1);                \
    EXPECT_EQ(nbd_get_errno(), expected); \
  } while (false)

int count_chunk(void* counts, const void*, size_t, uint64_t, unsigned status, int*) {
  ++(*static_cast<std::map<unsigned, int>*>(counts))[status];
  return 0;
}
int keep_extents(void* entries, const char*, uint64_t, uint32_t* found, size_t count, int*) {
  static_cast<std::vector<uint32_t>*>(entries)->assign(found, found + count);
  return 0;
}

// Everything that the protocol knows and libnbd can ask for, right and wrong.
void ask_all(const std::string& uri, const std::string& frozen_uri) {
  Handle handle;
  nbd_handle* h = handle.nbd;
  EXPECT_NBD(nbd_add_meta_context(h, LIBNBD_CONTEXT_BASE_ALLOCATION));
  EXPECT_NBD(nbd_connect_uri(h, uri.c_str()));
  EXPECT_NBD(nbd_set_strict_mode(h, 0));  // let it send what it knows to be wrong
  EXPECT_EQ(nbd_get_size(h), static_cast<int64_t>(kSize));
  EXPECT_EQ(nbd_can_multi_conn(h), 1);
  std::vector<char> out(1 * kMiB, 'x'), in(1 * kMiB);
  EXPECT_NBD(nbd_pwrite(h, out.data(), 3 * 4096 + 5, 4096 - 3, LIBNBD_CMD_FLAG_FUA));
  EXPECT_NBD(nbd_pread(h, in.data(), 3 * 4096 + 5, 4096 - 3, 0));
  EXPECT_TRUE(std::equal(in.begin(), in.begin() + 3 * 4096 + 5, out.begin()));
  std::map<unsigned, int> chunks;
  nbd_chunk_callback count{count_chunk, &chunks, nullptr};
  EXPECT_NBD(nbd_pread_structured(h, in.data(), 1 * kMiB, 0, count, 0));
  EXPECT_EQ(chunks[LIBNBD_READ_HOLE], 1);
  EXPECT_EQ(chunks[LIBNBD_READ_DATA], 1);
  chunks.clear();
  EXPECT_NBD(nbd_pread_structured(h, in.data(), 1 * kMiB, 0, count, LIBNBD_CMD_FLAG_DF));
  EXPECT_EQ(chunks[LIBNBD_READ_DATA], 1);
  EXPECT_EQ(chunks[LIBNBD_READ_HOLE], 0);
  std::vector<uint32_t> entries;
  nbd_extent_callback keep{keep_extents, &entries, nullptr};
  EXPECT_NBD(nbd_block_status(h, kSize, 0, keep, 0));
  EXPECT_EQ(entries, (std::vector<uint32_t>{5 * 4096, 0, static_cast<uint32_t>(kSize - 5 * 4096), 3}));
  EXPECT_NBD(nbd_block_status(h, 1000, 5 * 4096 - 100, keep, LIBNBD_CMD_FLAG_REQ_ONE));
  EXPECT_EQ(entries, (std::vector<uint32_t>{100, 0}));
  EXPECT_NBD(nbd_zero(h, 4096, 0, LIBNBD_CMD_FLAG_FAST_ZERO));
  EXPECT_NBD(nbd_zero(h, 777, 12345, LIBNBD_CMD_FLAG_NO_HOLE));
  EXPECT_NBD_FAILS(nbd_zero(h, 4096, 0, LIBNBD_CMD_FLAG_FAST_ZERO | LIBNBD_CMD_FLAG_NO_HOLE),
                   ENOTSUP);
  EXPECT_NBD(nbd_trim(h, kSize, 0, 0));
  EXPECT_NBD(nbd_cache(h, 4096, 0, 0));
  EXPECT_NBD(nbd_flush(h, 0));
  EXPECT_NBD_FAILS(nbd_pread(h, in.data(), 4096, kSize - 1, 0), EINVAL);
  EXPECT_NBD_FAILS(nbd_pwrite(h, in.data(), 4096, kSize - 1, 0), ENOSPC);
  EXPECT_NBD_FAILS(nbd_zero(h, 4096, kSize, 0), ENOSPC);
  EXPECT_NBD_FAILS(nbd_trim(h, 4096, kSize, 0), EINVAL);
  EXPECT_NBD_FAILS(nbd_trim(h, 4096, 0, LIBNBD_CMD_FLAG_NO_HOLE), EINVAL);
  EXPECT_NBD_FAILS(nbd_block_status(h, 4096, kSize, keep, 0), EINVAL);
  EXPECT_NBD(nbd_pread(h, in.data(), 4096, 0, 0));
  EXPECT_NBD(nbd_shutdown(h, 0));
  Handle frozen;
  EXPECT_NBD(nbd_connect_uri(frozen.nbd, frozen_uri.c_str()));
  EXPECT_NBD(nbd_set_strict_mode(frozen.nbd, 0));
  EXPECT_EQ(nbd_is_read_only(frozen.nbd), 1);
  EXPECT_NBD_FAILS(nbd_pwrite(frozen.nbd, in.data(), 4096, 0, 0), EPERM);
  EXPECT_NBD_FAILS(nbd_zero(frozen.nbd, 4096, 0, 0), EPERM);
  EXPECT_NBD(nbd_pread(frozen.nbd, in.data(), 4096, 0, 0));
  EXPECT_NBD(nbd_shutdown(frozen.nbd, 0));
}

// Old clients: EXPORT_NAME only, simple replies only.
void ask_in_the_old_way(const std::string& uri) {
  Handle handle;
  EXPECT_NBD(nbd_set_request_structured_replies(handle.nbd, false));
  EXPECT_NBD(nbd_set_handshake_flags(handle.nbd, 0));
  EXPECT_NBD(nbd_connect_uri(handle.nbd, uri.c_str()));
  std::vector<char> out(100'000, 'y'), in(100'000);
  EXPECT_NBD(nbd_pwrite(handle.nbd, out.data(), out.size(), 777, 0));
  EXPECT_NBD(nbd_pread(handle.nbd, in.data(), in.size(), 777, 0));
  EXPECT_TRUE(in == out);
  EXPECT_NBD(nbd_shutdown(handle.nbd, 0));
}

Task<void> NbdInterop::libnbd() {
  std::function<bool()> ask = [this] {
    ask_all(uri("pg"), uri("frozen"));
    ask_in_the_old_way(tcp_uri("pg"));
    return true;
  };
  bool done = co_await run_blocking<bool>(world().blocking, std::move(ask));
  EXPECT_TRUE(done);
}
TEST_F(NbdInterop, LibnbdGetsAllThatTheProtocolHas) {
  serve([this] { return libnbd(); });
}

#endif

}  // namespace
}  // namespace hf::nbd
