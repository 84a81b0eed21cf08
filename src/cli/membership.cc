// holdfast cluster …
#include <poll.h>

#include <chrono>
#include <cstdio>
#include <fstream>
#include <iostream>
#include <memory>

#include "base/utc.h"
#include "cli/commands.h"
#include "holdfast/v1/holdfast.grpc.pb.h"

namespace hf::cli {
namespace {

namespace v1 = holdfast::v1;
using Stub = v1::Membership::Stub;

constexpr std::chrono::seconds kBackPatience{120};  // for the daemon that begins anew
constexpr int kLookAgainMs = 200;
constexpr size_t kMaxTokenText = 4096;

struct EtcdArgs {
  std::string url, ca, cert, key, user, password_file;
};

void add_etcd_options(CLI::App* app, EtcdArgs* args) {
  app->add_option("--etcd-ca", args->ca, "certificate of the authority that signed etcd's (PEM)");
  app->add_option("--etcd-cert", args->cert, "this node's certificate, where etcd asks for one");
  app->add_option("--etcd-key", args->key, "and its key");
  app->add_option("--etcd-user", args->user, "user, where etcd has authentication on");
  app->add_option("--etcd-password-file", args->password_file,
                  "file whose first line is the password");
}

void fill(const EtcdArgs& args, v1::EtcdAccess* out) {
  out->set_url(args.url);
  out->set_ca_file(args.ca);
  out->set_cert_file(args.cert);
  out->set_key_file(args.key);
  out->set_user(args.user);
  out->set_password_file(args.password_file);
}

std::string describe(const v1::MembershipStatus& status) {
  Fields fields;
  fields.add("cluster", status.cluster());
  fields.add("node", status.node());
  if (!status.member()) {
    fields.add("member", "no: this node stands alone");
    return fields.text();
  }
  fields.add("address", status.address());
  fields.add("state store", status.state_store());
  std::string here = status.carries_state_store() ? "a member is on this node" : "not on this node";
  if (status.state_store_voters() > 0) {
    here += fmt::format(", {} vote", status.state_store_voters());
  }
  fields.add("carried", here);
  fields.add("lets nodes join", status.signs() ? "yes" : "no, other nodes do");
  return fields.text();
}

// The daemon ends its work and begins anew in the same process; volumes pause meanwhile.
Result<v1::MembershipStatus> wait_for_another(const std::string& socket, const std::string& instance) {
  const auto until = std::chrono::steady_clock::now() + kBackPatience;
  while (std::chrono::steady_clock::now() < until) {
    ::poll(nullptr, 0, kLookAgainMs);
    Client client(socket);
    Stub stub(client.channel());
    auto now = client.call<v1::MembershipStatus>(stub, &Stub::Status, v1::MembershipStatusRequest());
    if (now.ok() && now->instance() != instance) return now;
  }
  return make_error(ErrorCode::kTimeout,
                    "this node is a member now, but its daemon has not come back within {} s: it may "
                    "wait for the state store (journalctl -u holdfastd, systemctl status holdfastd)",
                    kBackPatience.count());
}

int finish(const Context& context, const v1::ClusterChange& change, const std::string& done) {
  Result<v1::MembershipStatus> now = change.already()
                                         ? Result<v1::MembershipStatus>(change.before())
                                         : wait_for_another(context.socket, change.before().instance());
  if (!now.ok()) return context.output.fail(now.error());
  std::string text = change.already() ? "nothing to do: this node is in a cluster already\n" : done;
  context.output.print(*now, text + describe(*now));
  return 0;
}

void add_init(CLI::App& parent, Context& context) {
  struct Args {
    std::string address;
    EtcdArgs etcd;
  };
  auto args = std::make_shared<Args>();
  CLI::App* app = parent.add_subcommand("init", "Make this node the first of a cluster");
  app->add_option("--address", args->address,
                  "numeric address by which other nodes reach this one; default: that of the default "
                  "route");
  app->add_option("--kv", args->etcd.url,
                  "keep the state in an etcd that is there: etcd://host[:port],… or "
                  "etcd+tls://…; default: an etcd member of our own on this node");
  add_etcd_options(app, &args->etcd);
  app->footer(
      "Pools and volumes of this node come along. All that is known of them moves into etcd, then the "
      "daemon begins anew: containers that write see a pause of some seconds, no error.\n\n"
      "Examples:\n  holdfast cluster init\n  holdfast cluster init --address 10.0.0.1\n"
      "  holdfast cluster init --kv etcd+tls://kv1,kv2,kv3 --etcd-ca /etc/kv/ca.pem");
  app->callback([&context, args] {
    context.action = [&context, args](Client& client) {
      Stub stub(client.channel());
      v1::InitClusterRequest request;
      request.set_address(args->address);
      fill(args->etcd, request.mutable_etcd());
      auto change = client.call<v1::ClusterChange>(stub, &Stub::Init, request);
      if (!change.ok()) return context.output.fail(change.error());
      return finish(context, *change,
                    fmt::format("the cluster is made; {} records moved into etcd\n"
                                "for each further node: holdfast cluster token create\n",
                                change->records_moved()));
    };
  });
}

// The one word, from where it is not seen by `ps`.
Result<std::string> read_token(const std::string& word, const std::string& file) {
  if (!word.empty() && word != "-") {
    if (file.empty()) return word;
    return make_error(ErrorCode::kInvalidArgument, "give the token or --token-file, not both");
  }
  if (word.empty() && file.empty()) {
    return make_error(ErrorCode::kInvalidArgument,
                      "give the token, - to read it from standard input, or --token-file; `holdfast "
                      "cluster token create` on a node of the cluster makes one");
  }
  std::string text(kMaxTokenText, '\0');
  std::ifstream stream;
  if (!file.empty()) {
    stream.open(file, std::ios::binary);
    if (!stream) return make_error(ErrorCode::kNotFound, "the token file {} cannot be read", file);
  }
  std::istream& in = file.empty() ? std::cin : stream;
  in.read(text.data(), static_cast<std::streamsize>(text.size()));
  text.resize(static_cast<size_t>(in.gcount()));
  return text;
}

void add_join(CLI::App& parent, Context& context) {
  struct Args {
    std::string token, file, address;
    EtcdArgs etcd;
  };
  auto args = std::make_shared<Args>();
  CLI::App* app = parent.add_subcommand("join", "Make this node one of a cluster, by a token");
  app->add_option("token", args->token,
                  "what `holdfast cluster token create` printed; - reads it from standard input");
  app->add_option("--token-file", args->file, "file that holds the token");
  app->add_option("--address", args->address,
                  "numeric address by which other nodes reach this one; default: that of the default "
                  "route");
  add_etcd_options(app, &args->etcd);
  app->footer(
      "The node must have no pools and volumes of its own yet. The same command again finishes what "
      "was interrupted. A word on the command line is seen by everybody on the machine while the "
      "command runs; - and --token-file are not. The --etcd options are for clusters whose state "
      "is in an etcd of their own choice (cluster init --kv).\n\n"
      "Examples:\n  holdfast cluster join hf1.mzxw6…\n  ssh node1 holdfast cluster token create | "
      "holdfast cluster join -");
  app->callback([&context, args] {
    context.action = [&context, args](Client& client) {
      Result<std::string> token = read_token(args->token, args->file);
      if (!token.ok()) return context.output.fail(token.error());
      Stub stub(client.channel());
      v1::JoinClusterRequest request;
      request.set_token(*token);
      request.set_address(args->address);
      fill(args->etcd, request.mutable_etcd());
      auto change = client.call<v1::ClusterChange>(stub, &Stub::Join, request);
      if (!change.ok()) return context.output.fail(change.error());
      return finish(context, *change, "this node has joined the cluster\n");
    };
  });
}

// "90s", "30m", "1h", "7d".
Result<uint64_t> parse_ttl(const std::string& text) {
  const std::pair<char, uint64_t> units[] = {{'s', 1}, {'m', 60}, {'h', 3600}, {'d', 86400}};
  const size_t digits = text.find_first_not_of("0123456789");
  for (const auto& [unit, seconds] : units) {
    if (digits == 0 || digits > 6 || digits + 1 != text.size() || text.back() != unit) continue;
    const uint64_t value = std::stoull(text) * seconds;
    if (value >= 60 && value <= 7 * 86400) return value;
  }
  return make_error(ErrorCode::kInvalidArgument, "--ttl {}: give 1m to 7d, as 30m, 1h or 2d",
                    text.substr(0, 32));
}

void add_token(CLI::App& parent, Context& context) {
  CLI::App* token = parent.add_subcommand("token", "Tokens by which nodes join");
  auto ttl = std::make_shared<std::string>("1h");
  CLI::App* create = token->add_subcommand("create", "Make a token: one node joins by it, once");
  create->add_option("--ttl", *ttl, "how long it is good for: 1m to 7d")->capture_default_str();
  create->footer(
      "The token alone is on standard output. It is a secret until it is used. The first three nodes of "
      "a cluster carry its state store; the token of each decides that.\n\n"
      "Examples:\n  holdfast cluster token create\n  holdfast cluster token create --ttl 10m");
  create->callback([&context, ttl] {
    context.action = [&context, ttl](Client& client) {
      Result<uint64_t> seconds = parse_ttl(*ttl);
      if (!seconds.ok()) return context.output.fail(seconds.error());
      Stub stub(client.channel());
      v1::CreateTokenRequest request;
      request.set_ttl_seconds(*seconds);
      auto made = client.call<v1::JoinToken>(stub, &Stub::CreateToken, request);
      if (!made.ok()) return context.output.fail(made.error());
      context.output.print(*made, made->token() + "\n");
      if (!context.output.json) {
        std::fprintf(stderr, "good for one node until %s%s; there: holdfast cluster join <token>\n",
                     format_utc(made->expires().seconds()).c_str(),
                     made->carries_state_store() ? ", which will carry the state store" : "");
      }
      return 0;
    };
  });
  CLI::App* list = token->add_subcommand("list", "List tokens, used and expired ones for a day");
  list->alias("ls");
  list->footer("The secret of a token is nowhere but in its text.\n\nExamples:\n  holdfast cluster token list");
  list->callback([&context] {
    context.action = [&context](Client& client) {
      Stub stub(client.channel());
      auto all = client.call<v1::ListTokensResponse>(stub, &Stub::ListTokens, v1::ListTokensRequest());
      if (!all.ok()) return context.output.fail(all.error());
      Table table({"ID", "STATE", "EXPIRES", "STATE STORE", "NODE"});
      for (const v1::TokenState& t : all->tokens()) {
        table.add({t.id(), t.state(), format_utc(t.expires().seconds()),
                   t.carries_state_store() ? "yes" : "no", t.node()});
      }
      context.output.print(*all, table.text());
      return 0;
    };
  });
  auto id = std::make_shared<std::string>();
  CLI::App* revoke = token->add_subcommand("revoke", "Take a token back");
  revoke->add_option("id", *id, "as `holdfast cluster token list` shows it")->required();
  revoke->footer(
      "A node that has joined by it already stays.\n\nExamples:\n"
      "  holdfast cluster token revoke 0b9ab3ec-2f5c-4d3e-9d57-6a4f4cf3a1c2");
  revoke->callback([&context, id] {
    context.action = [&context, id](Client& client) {
      Stub stub(client.channel());
      v1::RevokeTokenRequest request;
      request.set_id(*id);
      auto gone = client.call<v1::RevokeTokenResponse>(stub, &Stub::RevokeToken, request);
      if (!gone.ok()) return context.output.fail(gone.error());
      context.output.print(*gone, "the token is no longer good\n");
      return 0;
    };
  });
}

}  // namespace

void add_membership_commands(CLI::App& app, Context& context) {
  CLI::App* cluster = app.add_subcommand("cluster", "Make a cluster, and join one");
  add_init(*cluster, context);
  add_join(*cluster, context);
  CLI::App* status = cluster->add_subcommand("status", "Say what this node is a member of");
  status->footer(
      "How the cluster is: `holdfast status`.\n\nExamples:\n  holdfast cluster status --json");
  status->callback([&context] {
    context.action = [&context](Client& client) {
      Stub stub(client.channel());
      auto now = client.call<v1::MembershipStatus>(stub, &Stub::Status, v1::MembershipStatusRequest());
      if (!now.ok()) return context.output.fail(now.error());
      context.output.print(*now, describe(*now));
      return 0;
    };
  });
  add_token(*cluster, context);
}

}  // namespace hf::cli
