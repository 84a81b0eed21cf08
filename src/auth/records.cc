#include "auth/records.h"

#include <nlohmann/json.hpp>

#include "state/record_text.h"

namespace hf::auth {
namespace {

using Json = nlohmann::json;

// One function per record names its fields, for writing and for reading.
class Writer {
 public:
  void field(const char* name, const std::string& value) { out_[name] = value; }
  void field(const char* name, bool value) { out_[name] = value; }
  void field(const char* name, uint64_t value) { out_[name] = value; }
  void field(const char* name, WallTime value) { out_[name] = value.ns; }
  void field(const char* name, const std::vector<std::string>& value) { out_[name] = value; }
  template <typename Tag>
  void field(const char* name, const Id<Tag>& id) {
    out_[name] = id.to_string();
  }
  template <typename T>
  void inside(const char* name, T& value) {
    Writer inner;
    fields(inner, value);
    out_[name] = std::move(inner.out_);
  }
  template <typename T>
  void each(const char* name, std::vector<T>& list) {
    out_[name] = Json::array();
    for (T& item : list) {
      Writer inner;
      fields(inner, item);
      out_[name].push_back(std::move(inner.out_));
    }
  }
  std::string text() const { return out_.dump(-1, ' ', false, Json::error_handler_t::replace); }

 private:
  Json out_ = Json::object();
};

class Reader {
 public:
  explicit Reader(const Json& in) : in_(in), failed_(!in.is_object()) {}
  void field(const char* name, std::string& value) {
    const Json* json = take(name);
    if (json != nullptr && want(json->is_string())) value = json->get<std::string>();
  }
  void field(const char* name, bool& value) {
    const Json* json = take(name);
    if (json != nullptr && want(json->is_boolean())) value = json->get<bool>();
  }
  void field(const char* name, uint64_t& value) {
    const Json* json = take(name);
    if (json != nullptr && want(json->is_number_unsigned())) value = json->get<uint64_t>();
  }
  void field(const char* name, WallTime& value) {
    const Json* json = take(name);
    if (json == nullptr || !want(json->is_number_integer())) return;
    if (want(!json->is_number_unsigned() || json->get<uint64_t>() <= INT64_MAX)) {
      value.ns = json->get<int64_t>();
    }
  }
  void field(const char* name, std::vector<std::string>& value) {
    const Json* json = take(name);
    if (json == nullptr || !want(json->is_array())) return;
    for (const Json& item : *json) {
      if (want(item.is_string())) value.push_back(item.get<std::string>());
    }
  }
  template <typename Tag>
  void field(const char* name, Id<Tag>& id) {
    std::string text;
    field(name, text);
    const auto parsed = Id<Tag>::parse(text);
    if (want(parsed.has_value())) id = *parsed;
  }
  template <typename T>
  void inside(const char* name, T& value) {
    const Json* json = take(name);
    if (json == nullptr) return;
    Reader inner(*json);
    fields(inner, value);
    want(inner.whole());
  }
  template <typename T>
  void each(const char* name, std::vector<T>& list) {
    const Json* json = take(name);
    if (json == nullptr || !want(json->is_array())) return;
    for (const Json& item : *json) {
      Reader inner(item);
      fields(inner, list.emplace_back());
      want(inner.whole());
    }
  }
  // Every field was there and well formed, and nothing else was.
  bool whole() const { return !failed_ && used_ == in_.size(); }

 private:
  const Json* take(const char* name) {
    if (failed_) return nullptr;
    const auto found = in_.find(name);
    if (!want(found != in_.end())) return nullptr;
    ++used_;
    return &*found;
  }
  bool want(bool holds) {
    failed_ = failed_ || !holds;
    return !failed_;
  }

  const Json& in_;
  size_t used_ = 0;
  bool failed_;
};

template <typename V>
void fields(V& v, TrustStamp& r) {
  v.field("generation", r.generation);
  v.field("writer", r.writer);
}
template <typename V>
void fields(V& v, CaRecord& r) {
  v.inside("stamp", r.stamp);
  v.field("cluster", r.cluster);
  v.field("bundle", r.bundle_pem);
  v.field("signing", r.signing);
}
template <typename V>
void fields(V& v, TokenRecord& r) {
  v.inside("stamp", r.stamp);
  v.field("id", r.id);
  v.field("secret_sha256", r.secret_hash);
  v.field("node", r.node);
  v.field("signer", r.signer);
  v.field("names", r.names);
  v.field("created_ns", r.created);
  v.field("expires_ns", r.expires);
  v.field("used_by", r.used_by);
  v.field("used_ns", r.used);
}
template <typename V>
void fields(V& v, IssuedCertificate& r) {
  v.field("serial", r.serial);
  v.field("not_before_ns", r.not_before);
  v.field("not_after_ns", r.not_after);
}
template <typename V>
void fields(V& v, NodeRecord& r) {
  v.inside("stamp", r.stamp);
  v.field("node", r.node);
  v.field("public_key", r.public_key);
  v.field("signer", r.signer);
  v.field("names", r.names);
  v.each("certificates", r.certificates);
  v.field("joined_ns", r.joined);
  v.field("revoked_ns", r.revoked);
}
template <typename V>
void fields(V& v, NameOwner& r) {
  v.inside("stamp", r.stamp);
  v.field("node", r.node);
}

Error broken(std::string_view key, std::string_view why) {
  return make_error(ErrorCode::kCorruption, "the record {} is damaged: {}", key, why);
}

// What the fields alone do not say.
bool is_sane(const CaRecord& r) {
  const Result<CaBundle> bundle = CaBundle::from_pem(r.bundle_pem);
  return bundle.ok() && bundle->cluster() == r.cluster && from_hex(r.signing).has_value();
}
bool is_sane(const TokenRecord& r) {
  return r.secret_hash.size() == 64 && from_hex(r.secret_hash) && from_hex(r.used_by) &&
         r.names.size() <= kMaxNames;
}
bool is_sane(const NodeRecord& r) {
  for (const IssuedCertificate& c : r.certificates) {
    if (c.serial.size() != 32 || !from_hex(c.serial) || c.serial[0] >= '8') return false;
  }
  return from_hex(r.public_key) && r.names.size() <= kMaxNames &&
         r.certificates.size() <= NodeRecord::kMaxCertificates;
}
bool is_sane(const NameOwner&) {
  return true;
}

}  // namespace

std::string ca_key() {
  return std::string(kTrustPrefix) + "ca";
}
std::string token_key(TokenId token) {
  return std::string(kTokenPrefix) + token.to_string();
}
std::string node_key(NodeId node) {
  return std::string(kNodePrefix) + node.to_string();
}
std::string name_key(const std::string& name) {
  return std::string(kTrustPrefix) + "names/" + name;
}

template <typename Record>
std::string encode_record(const Record& record) {
  Writer writer;
  fields(writer, const_cast<Record&>(record));
  return state::seal_record(Record::kKind, Record::kVersion, writer.text());
}

template <typename Record>
Result<Record> decode_record(std::string_view key, std::string_view text) {
  const std::optional<state::RecordText> head = state::open_record(Record::kKind, text);
  if (!head) return broken(key, "its first line is not that of such a record");
  if (!head->intact) return broken(key, "its checksum does not hold");
  if (head->version > Record::kVersion) {
    return make_error(ErrorCode::kNewerFormat,
                      "the record {} is of version {}, this daemon knows {}", key, head->version,
                      Record::kVersion);
  }
  const Json json = Json::parse(head->body, nullptr, false);
  Record record;
  Reader reader(json);
  fields(reader, record);
  if (head->version == 0 || !reader.whole())
    return broken(key, "a field is missing, ill-typed or unknown");
  if (!is_sane(record)) return broken(key, "a field has a value that it cannot have");
  return record;
}

template std::string encode_record(const CaRecord&);
template std::string encode_record(const TokenRecord&);
template std::string encode_record(const NodeRecord&);
template std::string encode_record(const NameOwner&);
template Result<CaRecord> decode_record(std::string_view, std::string_view);
template Result<TokenRecord> decode_record(std::string_view, std::string_view);
template Result<NodeRecord> decode_record(std::string_view, std::string_view);
template Result<NameOwner> decode_record(std::string_view, std::string_view);

}  // namespace hf::auth
