// NbdServer: serves block devices by name to any NBD client, on Unix and TCP sockets. Loop thread
// only.
//
//   NbdServer server(world, NbdServerOptions());
//   server.add_export(…);
//   co_await server.listen("unix:/run/holdfast/nbd.sock", ListenOptions());
//   …
//   co_await server.stop();
//
// What is served of the protocol: docs/formats/nbd.md. There is no authentication and no encryption
// in it: a Unix socket is guarded by its permissions, a TCP address belongs on a trusted network.
//
// Bounds: `connections_max` connections; per connection those of Transmission, and for the
// handshake `handshake_timeout`, Negotiation::kOptionsMax options of kOptionBytesMax each.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/intrusive_list.h"
#include "block/nbd/nbd_negotiation.h"
#include "block/nbd/nbd_transmission.h"
#include "runtime/clock.h"
#include "runtime/world.h"

namespace hf::nbd {

struct NbdServerOptions {
  size_t connections_max = 256;  // further ones are closed at once
  Duration handshake_timeout = 30s;
  // How long a stop waits for clients to take the answers to what was in progress. Operations of
  // the device itself are always awaited.
  Duration drain_timeout = 10s;
};

struct NbdExport {
  NbdExport() = default;
  std::string name;         // 1 to kStringMax bytes without NUL
  std::string description;  // for people; may be empty
  std::shared_ptr<BlockDevice> device;
  bool read_only = false;
};

struct NbdServerCounts {
  uint64_t connections = 0;         // accepted since the start
  uint64_t refused = 0;             // closed because of connections_max
  uint64_t protocol_errors = 0;     // connections ended by what their client sent
  TransmissionCounts transmission;  // of connections that have ended
};

class NbdServer {
 public:
  NbdServer(World& world, NbdServerOptions options);
  // After stop(), or before the first listen().
  ~NbdServer();
  NbdServer(const NbdServer&) = delete;
  NbdServer& operator=(const NbdServer&) = delete;

  // Listens there as well. Errors are Network::listen's.
  Task<Status> listen(std::string address, ListenOptions options);
  // Where it listens, with the ports that the system chose.
  std::vector<std::string> addresses() const;

  // kAlreadyExists, kInvalidArgument (name). The size is asked for at every request: after a resize
  // old clients may use the new space, new ones are told of it.
  Status add_export(NbdExport item);
  // No new connection from now on; those in use are drained and closed. Returns when nobody uses
  // the device any more. kNotFound.
  Task<Status> remove_export(std::string name);

  // Stops listening, answers what is in progress, closes all connections. Idempotent.
  Task<void> stop();

  size_t connections() const { return open_; }
  const NbdServerCounts& counts() const { return counts_; }

 private:
  struct Export {
    NbdExport item;
    std::shared_ptr<BlockDevice> bytes;  // item.device behind the filter that all connections share
    Gate users;
  };
  struct Connection;
  class Catalogue final : public ExportCatalogue {
   public:
    explicit Catalogue(const NbdServer& server) : server_(server) {}
    std::optional<ExportFacts> find(std::string_view name) const override;
    void for_each(const std::function<void(const ExportFacts&)>& visit) const override;

   private:
    const NbdServer& server_;
  };

  Task<void> accept_loop(Listener& listener);
  Task<void> serve(std::unique_ptr<Stream> stream);
  Task<Status> handshake(Connection& connection, Negotiation& negotiation, bool* transmit);
  Task<Status> transmit(Connection& connection, const Negotiation& negotiation);
  Task<Status> converse(Connection& connection);
  // Closes the stream when the time is up, unless `cancel` comes first.
  Task<void> close_after(Stream& stream, Duration timeout, CancelToken cancel);
  Task<void> drain(Connection& connection);
  void drain_where(const std::function<bool(const Connection&)>& chosen);
  void log_end(const Connection& connection, const Status& ended);

  World& world_;
  const NbdServerOptions options_;
  BufferPool buffers_;
  Catalogue catalogue_;
  std::map<std::string, std::shared_ptr<Export>, std::less<>> exports_;
  std::vector<std::unique_ptr<Listener>> listeners_;
  IntrusiveList<Connection> connections_;
  size_t open_ = 0;
  NbdServerCounts counts_;
  CancelSource stopping_;
  Gate gate_;
};

}  // namespace hf::nbd
