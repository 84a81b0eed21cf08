// NbdServer: serves block devices by name to any NBD client, on Unix and TCP sockets. Loop thread
// only.
//
//   NbdServer server(world, exports, NbdServerOptions());
//   co_await server.listen("unix:/run/holdfast/nbd.sock", ListenOptions());
//   …
//   co_await server.stop();
//
// What is served of the protocol: docs/formats/nbd.md. There is no authentication and no encryption
// in it: a Unix socket is guarded by its permissions, a TCP address belongs on a trusted network.
//
// Bounds: `connections_max` connections, kMemoryBytesMax of request data of all of them (and a
// little more, see MemoryBudget: a pool that waits for space does not stop the clients of others);
// per connection those of Transmission, and for the handshake `handshake_timeout`,
// Negotiation::kOptionsMax options of kOptionBytesMax each. A client that is silent in the middle
// of a request, or takes none of an answer (Transmission::kSendBytesMax of it), for `stall_timeout`
// loses its connection; a slow one is waited for, and an idle one may stay.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/intrusive_list.h"
#include "block/nbd/export_source.h"
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
  Duration stall_timeout = 120s;
};

struct NbdServerCounts {
  uint64_t connections = 0;         // accepted since the start
  uint64_t refused = 0;             // closed because of connections_max
  uint64_t protocol_errors = 0;     // connections ended by what their client sent
  uint64_t stalled = 0;             // connections ended by stall_timeout
  TransmissionCounts transmission;  // of connections that have ended
};

class NbdServer {
 public:
  static constexpr uint64_t kMemoryBytesMax = 256 * kMiB;

  // `exports` outlives the server.
  NbdServer(World& world, ExportSource& exports, NbdServerOptions options);
  // After stop(), or before the first listen().
  ~NbdServer();
  NbdServer(const NbdServer&) = delete;
  NbdServer& operator=(const NbdServer&) = delete;

  // Listens there as well. Errors are Network::listen's.
  Task<Status> listen(std::string address, ListenOptions options);
  // Where it listens, with the ports that the system chose.
  std::vector<std::string> addresses() const;

  // Drains and closes the connections that use this export (canonical name). Returns when there are
  // none.
  Task<void> disconnect(std::string name);

  // Stops listening, answers what is in progress, closes all connections. Idempotent.
  Task<void> stop();

  size_t connections() const { return open_; }
  const NbdServerCounts& counts() const { return counts_; }

 private:
  struct Connection;
  class Asked;

  Task<void> accept_loop(Listener& listener);
  Task<void> serve(std::unique_ptr<Stream> stream);
  Task<Status> handshake(Connection& connection, Negotiation& negotiation, Asked& asked);
  Task<Status> answer_options(Connection& connection, Negotiation& negotiation, Asked& asked);
  // Asks the exports for what the option is about; opens the export where it is to be entered.
  Task<Status> look_up(Connection& connection, uint32_t option, ByteSpan data, Asked& asked);
  Task<void> close_export(Connection& connection);
  Task<Status> transmit(Connection& connection, const Negotiation& negotiation);
  Task<Status> converse(Connection& connection);
  // Closes the stream when the time is up, unless `cancel` comes first.
  Task<void> close_after(Stream& stream, Duration timeout, CancelToken cancel);
  Task<void> drain(Connection& connection);
  void drain_where(const std::function<bool(const Connection&)>& chosen);
  Task<void> watch_stalls();
  void log_end(const Connection& connection, const Status& ended);

  World& world_;
  const NbdServerOptions options_;
  ExportSource& exports_;
  BufferPool buffers_;
  MemoryBudget memory_{kMemoryBytesMax};
  std::vector<std::unique_ptr<Listener>> listeners_;
  IntrusiveList<Connection> connections_;
  Signal export_closed_;
  size_t open_ = 0;
  NbdServerCounts counts_;
  CancelSource stopping_;
  Gate gate_;
};

}  // namespace hf::nbd
