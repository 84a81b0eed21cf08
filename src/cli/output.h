// What the commands print.
#pragma once

#include <google/protobuf/message.h>

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "base/error.h"

namespace hf::cli {

// A message as JSON: snake_case names, every field, 64-bit numbers as numbers, timestamps as RFC 3339.
nlohmann::json to_json(const google::protobuf::Message& message);

// Aligned columns, the first row being the head. An empty cell prints as "-".
class Table {
 public:
  explicit Table(std::vector<std::string> head) { rows_.push_back(std::move(head)); }
  void add(std::vector<std::string> row) { rows_.push_back(std::move(row)); }
  bool empty() const { return rows_.size() == 1; }
  std::string text() const;

 private:
  std::vector<std::vector<std::string>> rows_;
};

// "name:   value" lines with the values in one column.
class Fields {
 public:
  void add(std::string name, std::string value);
  std::string text() const;

 private:
  std::vector<std::pair<std::string, std::string>> fields_;
};

struct Output {
  bool json = false;

  void print(const google::protobuf::Message& message, const std::string& for_people) const;
  void print_text(const std::string& text) const;
  // Says the error and returns the exit code.
  int fail(const Error& error) const;
};

}  // namespace hf::cli
