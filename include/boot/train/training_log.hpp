// SPDX-License-Identifier: MIT
/// The numbers of a run in files: means over the steps since the last record, as JSON lines, CSV or TensorBoard.
#pragma once

#include <boot/core/math.hpp>
#include <boot/io/log.hpp>
#include <boot/train/progress.hpp>
#include <boot/train/training_state.hpp>

#include <array>
#include <cstdint>
#include <limits>
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
  /// When they are open already, writes the record that the disk refused before, if any. Throws boot::error when the
  /// files cannot be written.
  void open(std::int64_t done) {
    if (options_.folder.empty()) return;
    if (!open_) {
      const bool go_on = done >= 0;
      const std::string base = options_.folder + "/";
      jsonl_.emplace(base + "log.jsonl", go_on);
      if (options_.csv) csv_.emplace(base + "log.csv", go_on);
      if (options_.tensorboard) tensorboard_.emplace(base + "events.out.tfevents.boot", go_on);
      if (go_on) cut(done + 1);
      open_ = true;
    }
    flush();
  }
  /// Whether every step must be told to add().
  [[nodiscard]] bool is_open() const noexcept { return open_; }
  /// Closes the files; the next open() may cut them back again.
  void close() {
    open_ = refused_ = false;
    due_ = -1;
    jsonl_.reset();
    csv_.reset();
    tensorboard_.reset();
  }
  /// Takes a step in, and writes a record when one is due.
  void add(const step_info& info) {
    if (!open_) return;
    if (!info.skipped) {
      ++count_;
      loss_ += info.loss.total;
      norm_ += info.gradient_norm;
      for (std::size_t i = 0; i < part_.size(); ++i) part_[i] += info.loss.part[i].second;
    }
    flush();
    if (info.done() % options_.every != 0 && info.done() != info.steps) return;
    // Nothing to take a mean of is NaN, said in so many words for compilers that assume there are none.
    const double n = static_cast<double>(count_);
    const auto mean = [n](double sum) { return n > 0 ? sum / n : std::numeric_limits<double>::quiet_NaN(); };
    values_.clear();
    values_.emplace_back("loss", mean(loss_));
    for (std::size_t i = 0; i < part_.size(); ++i)
      if (!info.loss.part[i].first.empty()) values_.emplace_back(info.loss.part[i].first, mean(part_[i]));
    values_.emplace_back("gradient_norm", mean(norm_));
    values_.emplace_back("rate", info.rate);
    values_.emplace_back("skipped", static_cast<double>(info.skipped_steps));
    due_ = info.done();
    count_ = 0;
    loss_ = norm_ = 0;
    part_ = {};
    flush();
  }
  /// Adds the sums since the last record to a state.
  void add_to(std::vector<state_number>& numbers) {
    numbers.push_back({"log.count", &count_});
    numbers.push_back({"log.loss", &loss_});
    numbers.push_back({"log.gradient_norm", &norm_});
    for (std::size_t i = 0; i < part_.size(); ++i) numbers.push_back({"log.part" + std::to_string(i), &part_[i]});
  }

 private:
  void cut(std::int64_t step) {
    jsonl_->resume_at(step);
    if (csv_) csv_->resume_at(step);
    if (tensorboard_) tensorboard_->resume_at(step);
  }
  // Writes the record that is due to every file, or, after a failure, is ready to do so again.
  void flush() {
    if (due_ < 0) return;
    if (refused_) cut(due_);  // files before the one that failed have the record already
    refused_ = true;
    const std::span<const log_value> values(values_);
    jsonl_->write(due_, values);
    if (csv_) csv_->write(due_, values);
    if (tensorboard_) tensorboard_->write(due_, values);
    refused_ = false;
    due_ = -1;
  }

  training_log_options options_;
  bool open_ = false, refused_ = false;
  std::int64_t due_ = -1;  // step of the record in values_ that is not written yet
  std::optional<jsonl_log> jsonl_;
  std::optional<csv_log> csv_;
  std::optional<tensorboard_log> tensorboard_;
  std::int64_t count_ = 0;
  double loss_ = 0, norm_ = 0;
  std::array<double, loss_report::max_parts> part_{};
  std::vector<log_value> values_;
};

}  // namespace boot::inline v0
