#include "cluster/records.h"

#include <fmt/format.h>

#include <array>
#include <nlohmann/json.hpp>

#include "state/record_text.h"
#include "volume/spec/codec.h"

namespace hf::cluster {
namespace {

using Json = nlohmann::ordered_json;

// Names of enumerators, in their order: they are stored, so they never change.
constexpr std::array<std::string_view, 3> names_of(LifeState) {
  return {"creating", "ready", "deleting"};
}
constexpr std::array<std::string_view, 3> names_of(VolumePhase) {
  return {"detached", "recovering", "active"};
}
constexpr std::array<std::string_view, 3> names_of(MemberState) {
  return {"member", "joining", "leaving"};
}
constexpr std::array<std::string_view, 3> names_of(HolderState) {
  return {"arriving", "held", "leaving"};
}
constexpr std::array<std::string_view, 5> names_of(ExportKind) {
  return {"none", "ublk", "nbd", "fuse_loop", "nbd_server"};
}

// One list of fields per record serves both directions: `Writer` puts each into a JSON object,
// `Reader` takes each out of one and remembers the first that is missing or wrong.
class Writer {
 public:
  static constexpr bool kReads = false;
  template <typename T>
  void field(const char* name, T& value) {
    out_[name] = to_json(value);
  }
  template <typename T>
  void field_since(uint32_t, const char* name, T& value) {
    field(name, value);
  }
  Json take() { return std::move(out_); }

  static Json to_json(const std::string& value) { return value; }
  static Json to_json(bool value) { return value; }
  static Json to_json(uint32_t value) { return value; }
  static Json to_json(uint64_t value) { return value; }
  static Json to_json(WallTime value) { return value.ns; }
  template <typename Tag>
  static Json to_json(const Id<Tag>& id) {
    return id.is_nil() ? std::string() : id.to_string();
  }
  static Json to_json(const std::map<std::string, std::string>& value) { return value; }
  static Json to_json(const VolumeSpec& spec) {
    const Result<std::string> text = spec::to_json(spec);
    HF_ASSERT(text.ok(), "a spec is validated before it is recorded: {}", text.error().to_string());
    return text.value();
  }
  template <typename T>
  requires std::is_enum_v<T>
  static Json to_json(T value) { return std::string(names_of(value)[static_cast<size_t>(value)]); }
  template <typename T>
  static Json to_json(const std::vector<T>& list) {
    Json out = Json::array();
    for (const T& item : list) out.push_back(to_json(item));
    return out;
  }
  template <typename T>
  static Json to_json(const std::optional<T>& value) {
    return value ? to_json(*value) : Json(nullptr);
  }
  template <typename T>
  requires requires(Writer& w, T& t) { fields(w, t); }
  static Json to_json(const T& value) {
    Writer inner;
    fields(inner, const_cast<T&>(value));
    return inner.take();
  }

 private:
  Json out_ = Json::object();
};

class Reader {
 public:
  static constexpr bool kReads = true;
  Reader(const Json& in, uint32_t version) : in_(in), version_(version) {
    if (!in.is_object()) fail("an object");
  }
  template <typename T>
  void field(const char* name, T& value) {
    if (!error_.empty()) return;
    const auto found = in_.find(name);
    if (found == in_.end()) return fail(name);
    ++used_;
    if (!from_json(*found, value)) fail(name);
  }
  // One that records of an older version do not have.
  template <typename T>
  void field_since(uint32_t version, const char* name, T& value) {
    if (version_ >= version) field(name, value);
  }
  // "" when every field was there, well formed, and nothing else was.
  std::string error() const {
    if (error_.empty() && used_ != in_.size()) return "a field that this version does not know";
    return error_;
  }

 private:
  void fail(const std::string& what) {
    if (error_.empty()) error_ = what + (inner_.empty() ? "" : ": " + inner_);
  }
  bool from_json(const Json& in, std::string& out) {
    if (!in.is_string()) return false;
    out = in.get_ref<const std::string&>();
    return true;
  }
  bool from_json(const Json& in, bool& out) {
    if (!in.is_boolean()) return false;
    out = in.get<bool>();
    return true;
  }
  bool from_json(const Json& in, uint64_t& out) {
    if (!in.is_number_unsigned()) return false;
    out = in.get<uint64_t>();
    return true;
  }
  bool from_json(const Json& in, uint32_t& out) {
    if (!in.is_number_unsigned() || in.get<uint64_t>() > UINT32_MAX) return false;
    out = in.get<uint32_t>();
    return true;
  }
  bool from_json(const Json& in, WallTime& out) {
    if (!in.is_number_integer()) return false;
    out.ns = in.get<int64_t>();
    return true;
  }
  template <typename Tag>
  bool from_json(const Json& in, Id<Tag>& out) {
    if (!in.is_string()) return false;
    const std::string& text = in.get_ref<const std::string&>();
    out = Id<Tag>();
    if (text.empty()) return true;
    const auto id = Id<Tag>::parse(text);
    if (id) out = *id;
    return id.has_value();
  }
  bool from_json(const Json& in, std::map<std::string, std::string>& out) {
    if (!in.is_object()) return false;
    for (const auto& [key, value] : in.items()) {
      if (!value.is_string()) return false;
      out[key] = value.get_ref<const std::string&>();
    }
    return true;
  }
  bool from_json(const Json& in, VolumeSpec& out) {
    if (!in.is_string()) return false;
    Result<VolumeSpec> spec = spec::from_json(in.get_ref<const std::string&>());
    if (!spec.ok()) {
      inner_ = spec.error().to_string();
      newer_ = newer_ || spec.code() == ErrorCode::kNewerFormat;
      return false;
    }
    out = std::move(spec).value();
    return true;
  }
  template <typename T>
  requires std::is_enum_v<T>
  bool from_json(const Json& in, T& out) {
    if (!in.is_string()) return false;
    const auto& names = names_of(out);
    for (size_t i = 0; i < names.size(); ++i) {
      if (in.get_ref<const std::string&>() != names[i]) continue;
      out = static_cast<T>(i);
      return true;
    }
    return false;
  }
  template <typename T>
  bool from_json(const Json& in, std::vector<T>& out) {
    if (!in.is_array()) return false;
    for (const Json& item : in) {
      T value;
      if (!from_json(item, value)) return false;
      out.push_back(std::move(value));
    }
    return true;
  }
  template <typename T>
  bool from_json(const Json& in, std::optional<T>& out) {
    out.reset();
    if (in.is_null()) return true;
    T value;
    if (!from_json(in, value)) return false;
    out = std::move(value);
    return true;
  }
  template <typename T>
  requires requires(Reader& r, T& t) { fields(r, t); }
  bool from_json(const Json& in, T& out) {
    Reader reader(in, version_);
    fields(reader, out);
    inner_ = reader.error();
    return inner_.empty();
  }

  const Json& in_;
  const uint32_t version_;  // of the record, also for what it is made of
  size_t used_ = 0;
  std::string error_;
  std::string inner_;

 public:
  bool newer_ = false;
};

template <typename V>
void fields(V& v, Stamp& r) {
  v.field("generation", r.generation);
  v.field("writer", r.writer);
}

template <typename V>
void fields(V& v, MemberRecord& r) {
  v.field("node", r.node);
  v.field("pool", r.pool);
  v.field("replica", r.replica);
  v.field("left_generation", r.left_generation);
  v.field_since(4, "state", r.state);
  v.field_since(4, "away_since_ns", r.away_since);
}

template <typename V>
void fields(V& v, CloneSource& r) {
  v.field("volume", r.volume);
  v.field("replica", r.replica);
  v.field("snapshot", r.snapshot);
  v.field("size_bytes", r.size_bytes);
}

template <typename V>
void fields(V& v, FsRecord& r) {
  v.field("formatted", r.formatted);
  v.field_since(2, "formatting", r.formatting);
  v.field("uuid", r.uuid);
  v.field("bytes", r.bytes);
}

template <typename V>
void fields(V& v, VolumeRecord& r) {
  v.field("stamp", r.stamp);
  v.field("id", r.id);
  v.field("name", r.name);
  v.field("created_spec", r.created_spec);
  v.field("spec", r.spec);
  v.field("state", r.state);
  v.field("size_bytes", r.size_bytes);
  v.field("created_ns", r.created);
  v.field("parent", r.parent);
  v.field("epoch", r.epoch);
  v.field("phase", r.phase);
  v.field("coordinator", r.coordinator);
  v.field("coordinator_instance", r.coordinator_instance);
  v.field("lineage", r.lineage);
  v.field("members", r.members);
  v.field("in_sync", r.in_sync);
  v.field_since(3, "replicated", r.replicated);
  v.field("fs", r.fs);
  v.field("resizing_to_bytes", r.resizing_to_bytes);
  v.field("restoring", r.restoring);
  v.field("source", r.source);
}

template <typename V>
void fields(V& v, SnapshotRecord& r) {
  v.field("stamp", r.stamp);
  v.field("id", r.id);
  v.field("name", r.name);
  v.field("volume", r.volume);
  v.field("state", r.state);
  v.field("size_bytes", r.size_bytes);
  v.field("created_ns", r.created);
  v.field("labels", r.labels);
  v.field("fs", r.fs);
  v.field_since(2, "frozen", r.frozen);
}

template <typename V>
void fields(V& v, HolderRecord& r) {
  v.field("holder", r.holder);
  v.field("target", r.target);
  v.field("read_only", r.read_only);
  v.field("count", r.count);
  v.field("state", r.state);
  v.field("since_ns", r.since);
}

template <typename V>
void fields(V& v, AttachmentRecord& r) {
  v.field("stamp", r.stamp);
  v.field("volume", r.volume);
  v.field("node", r.node);
  v.field("boot", r.boot);
  v.field("epoch", r.epoch);
  v.field("attached", r.attached);
  v.field("pinned", r.pinned);
  v.field("mounted", r.mounted);
  v.field_since(2, "freezing", r.freezing);
  v.field("kind", r.kind);
  v.field("device", r.device);
  v.field("since_ns", r.since);
  v.field("holders", r.holders);
}

template <typename V>
void fields(V& v, ScrubFindings& r) {
  v.field("done_to", r.done_to);
  v.field("compared_bytes", r.compared_bytes);
  v.field("mended_bytes", r.mended_bytes);
  v.field("undecided_bytes", r.undecided_bytes);
  v.field("lost_bytes", r.lost_bytes);
  v.field("all_members", r.all_members);
}

template <typename V>
void fields(V& v, ScrubRecord& r) {
  v.field("stamp", r.stamp);
  v.field("volume", r.volume);
  v.field("begun_ns", r.begun);
  v.field("so_far", r.so_far);
  v.field("ended_ns", r.ended);
  v.field("last", r.last);
  v.field("message", r.message);
}

template <typename V>
void fields(V& v, PoolRecord& r) {
  v.field("stamp", r.stamp);
  v.field("id", r.id);
  v.field("node", r.node);
  v.field("path", r.path);
  v.field("state", r.state);
  v.field("size_bytes", r.size_bytes);
  v.field("io_class", r.io_class);
  v.field("created_ns", r.created);
}

template <typename V>
void fields(V& v, NodeRecord& r) {
  v.field("stamp", r.stamp);
  v.field("id", r.id);
  v.field("name", r.name);
  v.field("address", r.address);
  v.field("version", r.version);
  v.field("started_ns", r.started);
  v.field_since(2, "draining", r.draining);
  v.field_since(3, "region", r.domain.region);
  v.field_since(3, "zone", r.domain.zone);
  v.field_since(3, "rack", r.domain.rack);
}

template <typename V>
void fields(V& v, NameRecord& r) {
  v.field("stamp", r.stamp);
  v.field("id", r.id);
}

Error broken(std::string_view key, std::string_view kind, std::string_view why) {
  return make_error(ErrorCode::kCorruption, "the state store's {} record {} is damaged: {}", kind,
                    key, why);
}

}  // namespace

template <typename Record>
std::string encode_record(const Record& record) {
  const std::string body =
      Writer::to_json(record).dump(-1, ' ', false, Json::error_handler_t::replace);
  return state::seal_record(Record::kKind, Record::kVersion, body);
}

template <typename Record>
Result<Record> decode_record(std::string_view key, std::string_view text) {
  const std::optional<state::RecordText> head = state::open_record(Record::kKind, text);
  if (!head) return broken(key, Record::kKind, "its first line is not that of such a record");
  if (!head->intact) return broken(key, Record::kKind, "its checksum does not match");
  if (head->version > Record::kVersion) {
    return make_error(
        ErrorCode::kNewerFormat,
        "the state store's {} record {} has version {}, this holdfast knows up to {}; install "
        "the newer one again",
        Record::kKind, key, head->version, Record::kVersion);
  }
  const Json body = Json::parse(head->body, nullptr, false);
  if (body.is_discarded()) return broken(key, Record::kKind, "it is not JSON");
  Record record;
  Reader reader(body, head->version);
  fields(reader, record);
  if (reader.newer_)
    return Error(ErrorCode::kNewerFormat, fmt::format("{}: {}", key, reader.error()));
  if (!reader.error().empty()) return broken(key, Record::kKind, reader.error());
  return record;
}

template std::string encode_record(const VolumeRecord&);
template std::string encode_record(const SnapshotRecord&);
template std::string encode_record(const AttachmentRecord&);
template std::string encode_record(const ScrubRecord&);
template std::string encode_record(const PoolRecord&);
template std::string encode_record(const NodeRecord&);
template std::string encode_record(const NameRecord&);
template Result<VolumeRecord> decode_record(std::string_view, std::string_view);
template Result<SnapshotRecord> decode_record(std::string_view, std::string_view);
template Result<AttachmentRecord> decode_record(std::string_view, std::string_view);
template Result<ScrubRecord> decode_record(std::string_view, std::string_view);
template Result<PoolRecord> decode_record(std::string_view, std::string_view);
template Result<NodeRecord> decode_record(std::string_view, std::string_view);
template Result<NameRecord> decode_record(std::string_view, std::string_view);

}  // namespace hf::cluster
