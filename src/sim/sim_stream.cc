#include "sim/sim_stream.h"

#include <algorithm>

namespace hf::sim {

// --- Pipe
// -------------------------------------------------------------------------------------------------

void Pipe::push(Chunk chunk) {
  const int to = 1 - from_;
  SimNet& net = connection_.net();
  chunk.at = std::max(last_arrival_, net.arrival(connection_.host(from_), connection_.host(to),
                                                 chunk.bytes.size()));
  const NetFaults& faults = net.faults();
  const uint64_t draw = net.prng().below(1'000'000);
  if (draw < faults.reset_ppm) {
    connection_.send_reset_to(0);
    connection_.send_reset_to(1);
  } else if (draw < uint64_t{faults.reset_ppm} + faults.stall_ppm) {
    chunk.at +=
        static_cast<SimTime>(net.prng().below(static_cast<uint64_t>(faults.stall_max.count()) + 1));
  }
  last_arrival_ = chunk.at;
  flying_.push_back(std::move(chunk));
  if (!is_scheduled()) net.loop().schedule(*this, flying_.front().at);
}

// Cuts `bytes` at random places: whole, or in pieces of any size.
void Pipe::send(ByteSpan bytes) {
  Prng& prng = connection_.net().prng();
  outstanding_ += bytes.size();
  while (!bytes.empty()) {
    size_t n = bytes.size();
    if (n > 1 && prng.chance(1, 2)) n = prng.between(1, n);
    Chunk chunk;
    chunk.bytes.assign(bytes.begin(), bytes.begin() + static_cast<std::ptrdiff_t>(n));
    push(std::move(chunk));
    bytes = bytes.subspan(n);
  }
}

void Pipe::send_end() {
  push(Chunk());
}

void Pipe::retry_later() {
  SimLoop& loop = connection_.net().loop();
  if (held_since_ < 0) held_since_ = loop.now();
  if (loop.now() - held_since_ > SimNet::kGiveUp.count()) {
    flying_.clear();
    connection_.reset(from_);
    return;
  }
  loop.schedule(*this, loop.now() + retry_.count());
  retry_ = std::min(retry_ * 2, SimNet::kRetryMax);
}

void Pipe::fire() {
  using State = Connection::EndState;
  SimNet& net = connection_.net();
  const int to = 1 - from_;
  if (connection_.state(from_) == State::kSilent && !net.is_up(connection_.host(from_)) &&
      net.is_blocked(connection_.host(from_), connection_.host(to))) {
    flying_.clear();  // nobody is left to send it again
    return;
  }
  if (net.is_blocked(connection_.host(from_), connection_.host(to)) ||
      !net.is_up(connection_.host(to))) {
    retry_later();
    return;
  }
  retry_ = SimNet::kRetryFirst;
  held_since_ = -1;
  Chunk chunk = std::move(flying_.front());
  flying_.pop_front();
  if (!flying_.empty()) net.loop().schedule(*this, flying_.front().at);
  net.loop().record("deliver", connection_.number(), static_cast<uint64_t>(from_),
                    chunk.bytes.size());
  if (connection_.state(to) != State::kOpen) {
    if (!chunk.bytes.empty()) connection_.send_reset_to(from_);
    return;
  }
  if (chunk.bytes.empty()) ended_ = true;
  arrived_.insert(arrived_.end(), chunk.bytes.begin(), chunk.bytes.end());
  connection_.wake(to);
}

size_t Pipe::take(MutableByteSpan out) {
  Prng& prng = connection_.net().prng();
  size_t n = std::min(out.size(), arrived_.size() - taken_);
  if (n > 1 && prng.chance(1, 4)) n = prng.between(1, n);
  std::memcpy(out.data(), arrived_.data() + taken_, n);
  taken_ += n;
  // Moved to the front only when half is gone, so that a byte is moved twice at most.
  if (taken_ * 2 >= arrived_.size()) {
    arrived_.erase(arrived_.begin(), arrived_.begin() + static_cast<std::ptrdiff_t>(taken_));
    taken_ = 0;
  }
  outstanding_ -= n;
  connection_.wake(from_);
  return n;
}

// --- Connection
// -------------------------------------------------------------------------------------------

Connection::Connection(SimNet& net, std::string client_host, std::string server_host)
    : net_(net),
      number_(net.next_number()),
      hosts_{std::move(client_host), std::move(server_host)},
      out_(*this, 0),
      back_(*this, 1),
      reset_to_client_(*this, 0),
      reset_to_server_(*this, 1) {
  net_.connections()[number_] = this;
}

Connection::~Connection() {
  net_.connections().erase(number_);
}

void Connection::detach(int side, EndState state) {
  streams_[side] = nullptr;
  if (states_[side] != EndState::kOpen) return;
  states_[side] = state;
  if (state != EndState::kClosed) return;
  // What was not read is an error to the one who sent it; otherwise the stream ends in order.
  if (from(1 - side).has_data()) {
    send_reset_to(1 - side);
  } else {
    from(side).send_end();
  }
}

void Connection::wake(int side) {
  if (streams_[side] != nullptr) streams_[side]->wake();
}

void Connection::reset(int side) {
  if (states_[side] != EndState::kOpen) return;
  states_[side] = EndState::kReset;
  net_.loop().record("stream_reset", number_, static_cast<uint64_t>(side));
  wake(side);
}

void Connection::send_reset_to(int side) {
  ResetOnItsWay& event = side == 0 ? reset_to_client_ : reset_to_server_;
  if (event.is_scheduled() || states_[side] != EndState::kOpen) return;
  net_.loop().schedule(event, net_.arrival(hosts_[1 - side], hosts_[side], 64));
}

void Connection::ResetOnItsWay::fire() {
  const std::string &to = connection_.host(side_), &from = connection_.host(1 - side_);
  if (!connection_.net().is_blocked(from, to)) connection_.reset(side_);
}

// --- SimStream
// --------------------------------------------------------------------------------------------

SimStream::SimStream(Incarnation& life, std::shared_ptr<Connection> connection, int side,
                     std::string peer)
    : life_(life), connection_(std::move(connection)), side_(side), peer_(std::move(peer)) {
  connection_->attach(side_, this);
  life_.add(static_cast<Held&>(*this));
}

SimStream::~SimStream() {
  HF_ASSERT(!reading_ && !writing_, "stream to {} destroyed with an operation in flight", peer_);
  close();
}

void SimStream::close() {
  Held::unlink();
  connection_->detach(side_, Connection::EndState::kClosed);
  wake();
}

void SimStream::sever(Death death) {
  Held::unlink();
  connection_->detach(
      side_, death == Death::kKill ? Connection::EndState::kClosed : Connection::EndState::kSilent);
}

void SimStream::wake() {
  if (reader_ != nullptr) reader_->finish(true);
  if (writer_ != nullptr) writer_->finish(true);
}

Status SimStream::check(const char* what) const {
  if (life_.is_dead()) return dead_error(what);
  switch (connection_->state(side_)) {
    case Connection::EndState::kOpen:
      return Status();
    case Connection::EndState::kClosed:
      return make_error(ErrorCode::kClosed, "{} {}: the stream was closed", what, peer_);
    default:
      return make_error(ErrorCode::kClosed, "{} {}: connection reset", what, peer_);
  }
}

Task<Result<size_t>> SimStream::read_some(MutableByteSpan out) {
  HF_ASSERT(!reading_, "two reads of the stream to {} at a time", peer_);
  HF_ASSERT(!out.empty());
  Pipe& pipe = connection_->from(1 - side_);
  while (true) {
    const Status open = check("read from");
    HF_CO_TRY(open);
    if (pipe.has_data()) co_return pipe.take(out);
    if (pipe.has_ended()) co_return size_t{0};
    Wait wait(life_);
    reader_ = &wait;
    reading_ = true;
    bool came = co_await wait;
    reading_ = false;
    reader_ = nullptr;
    if (!came) co_return dead_error("read from a stream");
  }
}

Task<Status> SimStream::write_all(std::span<const ByteSpan> segments) {
  HF_ASSERT(!writing_, "two writes of the stream to {} at a time", peer_);
  writing_ = true;
  Pipe& pipe = connection_->from(side_);
  Status status;
  for (const ByteSpan segment : segments) {
    for (ByteSpan rest = segment; !rest.empty();) {
      status = check("write to");
      if (!status.ok()) break;
      const size_t n = std::min(rest.size(), pipe.room());
      if (n > 0) {
        pipe.send(rest.first(n));
        rest = rest.subspan(n);
        continue;
      }
      Wait wait(life_);
      writer_ = &wait;
      bool came = co_await wait;
      writer_ = nullptr;
      if (!came) status = dead_error("write to a stream");
      if (!came) break;
    }
    if (!status.ok()) break;
  }
  if (status.ok()) status = check("write to");
  writing_ = false;
  co_return status;
}

// --- SimListener
// ------------------------------------------------------------------------------------------

SimListener::SimListener(Incarnation& life, SimNet& net, SimNet::Target target, std::string address,
                         int backlog)
    : life_(life),
      net_(net),
      target_(std::move(target)),
      address_(std::move(address)),
      backlog_(static_cast<size_t>(std::max(1, backlog))) {
  life_.add(static_cast<Held&>(*this));
  net_.listeners()[{target_.host, target_.port}] = this;
}

SimListener::~SimListener() {
  HF_ASSERT(acceptor_ == nullptr, "listener {} destroyed with an accept in flight", address_);
  close();
}

void SimListener::close() {
  if (closed_) return;
  closed_ = true;
  Held::unlink();
  net_.listeners().erase({target_.host, target_.port});
  queue_.clear();
  if (acceptor_ != nullptr) acceptor_->finish(true);
}

void SimListener::sever(Death) {
  if (closed_) return;
  closed_ = true;
  Held::unlink();
  net_.listeners().erase({target_.host, target_.port});
}

void SimListener::offer(std::unique_ptr<Stream> stream) {
  queue_.push_back(std::move(stream));
  if (acceptor_ != nullptr) acceptor_->finish(true);
}

Task<Result<std::unique_ptr<Stream>>> SimListener::accept() {
  HF_ASSERT(acceptor_ == nullptr, "two accepts of {} at a time", address_);
  while (true) {
    if (life_.is_dead()) co_return dead_error("accept");
    if (closed_) co_return make_error(ErrorCode::kClosed, "{} no longer listens", address_);
    if (!queue_.empty() && net_.accept_fails()) {
      co_return make_error(ErrorCode::kLimitExceeded, "accept on {}: too many open files", address_);
    }
    if (!queue_.empty()) {
      std::unique_ptr<Stream> stream = std::move(queue_.front());
      queue_.pop_front();
      co_return std::move(stream);
    }
    Wait wait(life_);
    acceptor_ = &wait;
    co_await wait;
    acceptor_ = nullptr;
  }
}

}  // namespace hf::sim
