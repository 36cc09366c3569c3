// SPDX-License-Identifier: MIT
/// The numbers of a run in files: means over the steps since the last record, as JSON lines, CSV or TensorBoard.
#pragma once

#include <boot/core/math.hpp>
#include <boot/io/log.hpp>
#include <boot/train/progress.hpp>
#include <boot/train/training_state.hpp>

#include <array>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

namespace boot::inline v0 {

/// Which files a training_log writes.
struct training_log_options {
  std::string folder;        ///< must be there; empty: nothing is written
  std::int64_t every = 50;   ///< steps between two records; the last step always gets one
  bool csv = false;          ///< log.csv besides log.jsonl
  bool tensorboard = false;  ///< events.out.tfevents.boot besides log.jsonl
};

/// Sums up steps and writes records. A record's "step" counts finished steps; "loss", the loss's named parts and
/// "gradient_norm" are means over the steps since the record before that were not skipped (NaN when all were), "rate" is
/// the last step's, "skipped" counts skipped steps of the whole run. Records hold no times: a resumed run writes the same
/// bytes.
class training_log {
 public:
  /// Remembers the options; files are opened by open().
  explicit training_log(training_log_options options) : options_(std::move(options)) {}

  /// Opens the files: emptied for a fresh run (`done` < 0), otherwise cut back to what was there after `done` steps.
  /// Throws boot::error when they cannot be written.
  void open(std::int64_t done) {
    if (options_.folder.empty() || jsonl_) return;
    const bool go_on = done >= 0;
    const std::string base = options_.folder + "/";
    jsonl_.emplace(base + "log.jsonl", go_on);
    if (options_.csv) csv_.emplace(base + "log.csv", go_on);
    if (options_.tensorboard) tensorboard_.emplace(base + "events.out.tfevents.boot", go_on);
    if (!go_on) return;
    jsonl_->resume_at(done + 1);
    if (csv_) csv_->resume_at(done + 1);
    if (tensorboard_) tensorboard_->resume_at(done + 1);
  }
  /// Closes the files; the next open() may cut them back again.
  void close() {
    jsonl_.reset();
    csv_.reset();
    tensorboard_.reset();
  }
  /// Takes a step in, and writes a record when one is due.
  void add(const step_info& info) {
    if (!jsonl_) return;
    if (!info.skipped) {
      ++count_;
      loss_ += info.loss.total;
      norm_ += info.gradient_norm;
      for (std::size_t i = 0; i < part_.size(); ++i) part_[i] += info.loss.part[i].second;
    }
    if (info.done() % options_.every != 0 && info.done() != info.steps) return;
    const double n = static_cast<double>(count_);  // 0/0 is the NaN that says "all skipped"
    values_.clear();
    values_.emplace_back("loss", loss_ / n);
    for (std::size_t i = 0; i < part_.size(); ++i)
      if (!info.loss.part[i].first.empty()) values_.emplace_back(info.loss.part[i].first, part_[i] / n);
    values_.emplace_back("gradient_norm", norm_ / n);
    values_.emplace_back("rate", info.rate);
    values_.emplace_back("skipped", static_cast<double>(info.skipped_steps));
    const std::span<const log_value> values(values_);
    jsonl_->write(info.done(), values);
    if (csv_) csv_->write(info.done(), values);
    if (tensorboard_) tensorboard_->write(info.done(), values);
    count_ = 0;
    loss_ = norm_ = 0;
    part_ = {};
  }
  /// Adds the sums since the last record to a state.
  void add_to(std::vector<state_number>& numbers) {
    numbers.push_back({"log.count", &count_});
    numbers.push_back({"log.loss", &loss_});
    numbers.push_back({"log.gradient_norm", &norm_});
    for (std::size_t i = 0; i < part_.size(); ++i) numbers.push_back({"log.part" + std::to_string(i), &part_[i]});
  }

 private:
  training_log_options options_;
  std::optional<jsonl_log> jsonl_;
  std::optional<csv_log> csv_;
  std::optional<tensorboard_log> tensorboard_;
  std::int64_t count_ = 0;
  double loss_ = 0, norm_ = 0;
  std::array<double, loss_report::max_parts> part_{};
  std::vector<log_value> values_;
};

}  // namespace boot::inline v0
