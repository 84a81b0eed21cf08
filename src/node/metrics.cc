#include "node/metrics.h"

#include <algorithm>

#include <prometheus/metric_family.h>
#include <prometheus/text_serializer.h>

#include <nlohmann/json.hpp>
#include <unordered_map>

namespace hf::node {
namespace {

using prometheus::ClientMetric;
using prometheus::MetricFamily;
using prometheus::MetricType;
using Labels = std::vector<std::pair<std::string, std::string>>;

class Families {
 public:
  void counter(const std::string& name, const std::string& help, const Labels& labels, double value) {
    ClientMetric metric = labelled(labels);
    metric.counter.value = value;
    family(name, help, MetricType::Counter).metric.push_back(std::move(metric));
  }
  void gauge(const std::string& name, const std::string& help, const Labels& labels, double value) {
    ClientMetric metric = labelled(labels);
    metric.gauge.value = value;
    family(name, help, MetricType::Gauge).metric.push_back(std::move(metric));
  }
  std::string text() const { return prometheus::TextSerializer().Serialize(families_); }

 private:
  static ClientMetric labelled(const Labels& labels) {
    ClientMetric metric;
    for (const auto& [name, value] : labels) {
      ClientMetric::Label label;
      label.name = name;
      label.value = value;
      metric.label.push_back(std::move(label));
    }
    return metric;
  }
  MetricFamily& family(const std::string& name, const std::string& help, MetricType type) {
    const auto [known, fresh] = by_name_.try_emplace(name, families_.size());
    if (!fresh) return families_[known->second];
    MetricFamily& made = families_.emplace_back();
    made.name = name;
    made.help = help;
    made.type = type;
    return made;
  }
  std::vector<MetricFamily> families_;
  std::unordered_map<std::string, size_t> by_name_;  // into families_
};

double number(uint64_t value) { return static_cast<double>(value); }

void add_pool(Families* out, const StoreHost::PoolView& pool) {
  const Labels labels = {{"pool", pool.id.to_string()}, {"path", pool.path}};
  const PoolStats& s = pool.stats;
  out->gauge("holdfast_pool_total_bytes", "Size of the pool's file system", labels, number(s.data_total_bytes));
  out->gauge("holdfast_pool_free_bytes", "Free bytes of the pool's file system", labels, number(s.data_free_bytes));
  out->gauge("holdfast_pool_journal_used_bytes", "Journal bytes not yet drained", labels, number(s.journal_used_bytes));
  out->gauge("holdfast_pool_overlay_bytes", "Payload in memory, not yet drained", labels, number(s.overlay_bytes));
  out->gauge("holdfast_pool_replicas", "Replicas in the pool", labels, number(s.replicas));
  out->gauge("holdfast_pool_failed", "1 when the pool is out of service", labels, s.failed ? 1 : 0);
  out->gauge("holdfast_pool_at_watermark", "1 when new volumes and snapshots are refused", labels, s.at_watermark ? 1 : 0);
  out->gauge("holdfast_pool_writable_bytes", "Free bytes, or fewer where the file system below has fewer", labels,
             number(s.writable_bytes));
  out->gauge("holdfast_pool_full_seconds", "How long new data has found no room; 0 when it does", labels,
             number(s.full_for / 1s));
  out->gauge("holdfast_pool_refuses_data", "1 when new data is refused", labels, s.refuses_data ? 1 : 0);
  out->gauge("holdfast_pool_held_writes", "Writes that wait for room", labels, number(s.held_writes));
  out->counter("holdfast_pool_journal_batches_total", "Durable journal writes", labels, number(s.batches));
  out->counter("holdfast_pool_journal_records_total", "Records in them", labels, number(s.records));
  out->counter("holdfast_pool_drained_bytes_total", "Bytes drained into the image", labels, number(s.drained_bytes));
}

void add_device(Families* out, const Labels& labels, const DeviceStats& s) {
  out->counter("holdfast_volume_reads_total", "Reads", labels, number(s.reads));
  out->counter("holdfast_volume_writes_total", "Writes and zeroes", labels, number(s.writes));
  out->counter("holdfast_volume_discards_total", "Discards", labels, number(s.discards));
  out->counter("holdfast_volume_flushes_total", "Flushes", labels, number(s.flushes));
  out->counter("holdfast_volume_read_bytes_total", "Bytes read", labels, number(s.read_bytes));
  out->counter("holdfast_volume_written_bytes_total", "Bytes written", labels, number(s.written_bytes));
  out->counter("holdfast_volume_errors_total", "Operations that failed", labels, number(s.errors));
  out->gauge("holdfast_volume_in_flight", "Operations in flight", labels, number(s.in_flight));
}

}  // namespace

std::string metrics_text(const StoreHost& host, const ReplicatedVolumes* volumes, const std::string& version) {
  Families families;
  families.gauge("holdfast_build_info", "Always 1", {{"version", version}}, 1);
  for (const StoreHost::PoolView& pool : host.pools()) add_pool(&families, pool);
  for (const auto& [replica, device] : host.devices()) {
    add_device(&families, {{"replica", replica.to_string()}}, device->stats());
  }
  if (volumes != nullptr) {
    for (const auto& [volume, device] : volumes->devices()) {
      const Labels labels = {{"volume", volume.to_string()}};
      add_device(&families, labels, device->stats());
      const std::vector<MemberStatus> members = device->coordinator().members();
      const auto in_sync = std::count_if(members.begin(), members.end(), [](const auto& m) { return m.in_sync; });
      families.gauge("holdfast_volume_replicas", "Replicas of a volume that this node serves", labels,
                     static_cast<double>(members.size()));
      families.gauge("holdfast_volume_replicas_in_sync", "Those that have every acknowledged write", labels,
                     static_cast<double>(in_sync));
    }
  }
  return families.text();
}

Task<Result<std::string>> HttpApi::metrics() { co_return metrics_text(host_, volumes_, version_); }

api::HttpResponse HttpApi::handle(const api::HttpRequest& request) {
  api::HttpResponse response;
  if (request.method != "GET") {
    response.status = 405;
    response.body = R"({"error":"only GET"})";
  } else if (request.target == "/metrics") {
    Result<std::string> text = bridge_.call<std::string>([this] { return metrics(); });
    response.status = text.ok() ? 200 : 503;
    response.content_type = "text/plain; version=0.0.4";
    response.body = text.ok() ? std::move(*text) : text.error().to_string() + "\n";
  } else if (request.target == "/healthz") {
    auto status = bridge_.call<cluster::ClusterStatus>([this] { return control_.status(); });
    const bool healthy = status.ok() && status->healthy;
    nlohmann::json body = {{"healthy", healthy}};
    if (!status.ok()) body["problems"] = {status.error().to_string()};
    else if (!healthy) body["problems"] = status->problems;
    response.status = healthy ? 200 : 503;
    response.body = body.dump() + "\n";
  } else {
    response.status = 404;
    response.body = R"({"error":"there are /healthz and /metrics"})";
  }
  return response;
}

}  // namespace hf::node
