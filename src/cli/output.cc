#include "cli/output.h"

#include <google/protobuf/descriptor.h>
#include <google/protobuf/timestamp.pb.h>

#include <algorithm>
#include <cstdio>

#include "base/utc.h"

namespace hf::cli {
namespace {

using google::protobuf::FieldDescriptor;
using google::protobuf::Message;
using google::protobuf::Reflection;
using nlohmann::json;

json scalar(const Message& m, const Reflection& r, const FieldDescriptor* f) {
  switch (f->cpp_type()) {
    case FieldDescriptor::CPPTYPE_INT32:
      return r.GetInt32(m, f);
    case FieldDescriptor::CPPTYPE_INT64:
      return r.GetInt64(m, f);
    case FieldDescriptor::CPPTYPE_UINT32:
      return r.GetUInt32(m, f);
    case FieldDescriptor::CPPTYPE_UINT64:
      return r.GetUInt64(m, f);
    case FieldDescriptor::CPPTYPE_DOUBLE:
      return r.GetDouble(m, f);
    case FieldDescriptor::CPPTYPE_FLOAT:
      return r.GetFloat(m, f);
    case FieldDescriptor::CPPTYPE_BOOL:
      return r.GetBool(m, f);
    case FieldDescriptor::CPPTYPE_ENUM:
      return r.GetEnum(m, f)->name();
    case FieldDescriptor::CPPTYPE_STRING:
      return r.GetString(m, f);
    case FieldDescriptor::CPPTYPE_MESSAGE:
      return r.HasField(m, f) ? to_json(r.GetMessage(m, f)) : json(nullptr);
  }
  return nullptr;
}

json repeated(const Message& m, const Reflection& r, const FieldDescriptor* f) {
  json out = f->is_map() ? json::object() : json::array();
  const int count = r.FieldSize(m, f);
  for (int i = 0; i < count; ++i) {
    if (f->cpp_type() == FieldDescriptor::CPPTYPE_MESSAGE) {
      const Message& item = r.GetRepeatedMessage(m, f, i);
      if (!f->is_map()) {
        out.push_back(to_json(item));
        continue;
      }
      const auto* entry = item.GetDescriptor();
      const std::string key = item.GetReflection()->GetString(item, entry->map_key());
      out[key] = scalar(item, *item.GetReflection(), entry->map_value());
    } else {
      HF_ASSERT(f->cpp_type() == FieldDescriptor::CPPTYPE_STRING, "{}", f->full_name());
      out.push_back(r.GetRepeatedString(m, f, i));
    }
  }
  return out;
}

std::string cell_text(const std::string& cell) {
  return cell.empty() ? "-" : cell;
}

}  // namespace

json to_json(const Message& message) {
  if (message.GetDescriptor()->full_name() == "google.protobuf.Timestamp") {
    const auto& time = static_cast<const google::protobuf::Timestamp&>(message);
    return format_utc(time.seconds());
  }
  json out = json::object();
  const Reflection& reflection = *message.GetReflection();
  const auto* descriptor = message.GetDescriptor();
  for (int i = 0; i < descriptor->field_count(); ++i) {
    const FieldDescriptor* field = descriptor->field(i);
    out[field->name()] = field->is_repeated() ? repeated(message, reflection, field)
                                              : scalar(message, reflection, field);
  }
  return out;
}

std::string Table::text() const {
  std::vector<size_t> widths(rows_[0].size(), 0);
  for (const auto& row : rows_) {
    for (size_t i = 0; i < row.size(); ++i)
      widths[i] = std::max(widths[i], cell_text(row[i]).size());
  }
  std::string out;
  for (const auto& row : rows_) {
    std::string line;
    for (size_t i = 0; i < row.size(); ++i) {
      line += i + 1 == row.size() ? cell_text(row[i])
                                  : fmt::format("{:<{}}  ", cell_text(row[i]), widths[i]);
    }
    out += line + "\n";
  }
  return out;
}

void Fields::add(std::string name, std::string value) {
  if (!value.empty()) fields_.emplace_back(std::move(name), std::move(value));
}

std::string Fields::text() const {
  size_t width = 0;
  for (const auto& field : fields_) width = std::max(width, field.first.size());
  std::string out;
  for (const auto& [name, value] : fields_) {
    out += fmt::format("{:<{}} {}\n", name + ":", width + 1, value);
  }
  return out;
}

void Output::print(const Message& message, const std::string& for_people) const {
  print_text(json ? to_json(message).dump(2) + "\n" : for_people);
}

void Output::print_text(const std::string& text) const {
  std::fwrite(text.data(), 1, text.size(), stdout);
  std::fflush(stdout);
}

int Output::fail(const Error& error) const {
  const ErrorInfo& info = error.info();
  if (json) {
    const nlohmann::json body = {{"error",
                                  {{"code", fmt::format("HF{}", static_cast<int>(info.code))},
                                   {"name", std::string(info.name)},
                                   {"message", error.message()}}}};
    std::fprintf(stderr, "%s\n",
                 body.dump(2, ' ', false, nlohmann::json::error_handler_t::replace).c_str());
  } else {
    std::fprintf(stderr, "holdfast: %s\n", error.to_string().c_str());
  }
  return info.exit_code;
}

}  // namespace hf::cli
