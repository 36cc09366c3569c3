// SPDX-License-Identifier: MIT
/// Runs another program that answers JSON lines, so that a measure can alternate rounds with it.
#pragma once

#include <boot/core/error.hpp>

#include <fcntl.h>
#include <nlohmann/json.hpp>
#include <poll.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <cmath>
#include <csignal>
#include <cstdio>
#include <cstring>
#include <string>
#include <utility>
#include <vector>

namespace boot::measure {

/// How long to wait for a peer.
struct peer_options {
  double ready_seconds = 300;    ///< for the first line, {"ready": true, ...}: importing a framework takes its time
  double request_seconds = 600;  ///< for each answer
  double quit_seconds = 5;       ///< for its end after {"quit": true}, before it is killed
};

/// A program that prints {"ready": true, ...} and then answers every line on its standard input with one line.
/// Its standard error is ours. What it prints that is no JSON object is passed on to standard error. Not copyable; the
/// destructor asks it to quit, kills it when it does not, and always reaps it.
class peer {
 public:
  /// Starts `command` (program and arguments, looked up in PATH) and waits until it is ready. Throws boot::error when
  /// it cannot be started, ends, takes too long, or says something else.
  explicit peer(std::vector<std::string> command, const peer_options& options = {}) : options_(options) {
    require(!command.empty(), "measure: the peer's command is empty; give a program and its arguments");
    for (const std::string& part : command) command_ += (command_.empty() ? "" : " ") + part;
    start(command);
    try {
      const std::string line = read_line(options_.ready_seconds, "get ready");
      ready_ = nlohmann::json::parse(line, nullptr, false);
      require(ready_.is_object() && ready_.value("ready", nlohmann::json(false)) == true,
              "measure: the peer '{}' began with {} instead of {{\"ready\": true, ...}}; start it with --serve",
              command_, line);
    } catch (...) {
      stop(true);
      throw;
    }
  }
  ~peer() {
    if (pid_ > 0 && !broken_) {
      try {
        write_line("{\"quit\": true}", options_.quit_seconds);
      } catch (const error&) {  // it is gone already: stop() reaps it
      }
    }
    stop(broken_);
  }
  peer(const peer&) = delete;
  peer& operator=(const peer&) = delete;

  /// The line it greeted with: versions, threads, device.
  [[nodiscard]] const nlohmann::json& ready() const { return ready_; }

  /// Sends one line and returns the line it answers. Throws boot::error when the peer has ended or takes too long; it
  /// is killed then, and later requests fail too.
  std::string request(const std::string& line) {
    require(pid_ > 0 && !broken_, "measure: the peer '{}' is not running any more; start a new one", command_);
    require(line.find('\n') == std::string::npos, "measure: a request to the peer holds a line end; send one line: {}",
            line);
    write_line(line, options_.request_seconds);
    return read_line(options_.request_seconds, "answer " + line);
  }
  /// The same with JSON on both sides. Throws boot::error when the answer is no JSON object.
  nlohmann::json request(const nlohmann::json& message) {
    const std::string line = request(message.dump());
    nlohmann::json answer = nlohmann::json::parse(line, nullptr, false);
    require(answer.is_object(), "measure: the peer '{}' answered {} with what is no JSON: {}", command_, message.dump(),
            line);
    return answer;
  }
  /// The process id, 0 when it has ended.
  [[nodiscard]] pid_t id() const { return pid_; }

 private:
  using clock = std::chrono::steady_clock;

  static void close_all(std::initializer_list<int> descriptors) {
    for (const int d : descriptors)
      if (d >= 0) ::close(d);
  }

  void start(std::vector<std::string>& command) {
    std::array<int, 2> in{-1, -1}, out{-1, -1}, trouble{-1, -1};
    const bool opened = ::pipe2(in.data(), O_CLOEXEC) == 0 && ::pipe2(out.data(), O_CLOEXEC) == 0 &&
                        ::pipe2(trouble.data(), O_CLOEXEC) == 0;
    std::vector<char*> arguments;  // made before the fork: after it only async-signal-safe calls are allowed
    for (std::string& part : command) arguments.push_back(part.data());
    arguments.push_back(nullptr);
    const pid_t child = opened ? ::fork() : -1;
    if (child == 0) {
      ::dup2(in[0], STDIN_FILENO);
      ::dup2(out[1], STDOUT_FILENO);
      ::execvp(arguments[0], arguments.data());
      const int reason = errno;
      static_cast<void>(!::write(trouble[1], &reason, sizeof reason));
      ::_exit(127);
    }
    const int fork_reason = errno;
    close_all({in[0], out[1], trouble[1]});
    int reason = child > 0 ? 0 : fork_reason;
    if (child > 0) {
      // The pipe closes itself when exec succeeds; otherwise it brings errno.
      while (::read(trouble[0], &reason, sizeof reason) < 0 && errno == EINTR) continue;
    }
    close_all({trouble[0]});
    if (reason != 0) {
      close_all({in[1], out[0]});
      if (child > 0) ::waitpid(child, nullptr, 0);
      fail("measure: cannot start the peer '{}': {}; check that the program is installed and its path is right",
           command_, std::strerror(reason));
    }
    pid_ = child;
    to_ = in[1];
    from_ = out[0];
    ::fcntl(to_, F_SETFL, ::fcntl(to_, F_GETFL) | O_NONBLOCK);
  }

  /// Waits until `descriptor` is ready for `events`; throws, and gives the peer up, at the deadline.
  void wait_for(int descriptor, short events, clock::time_point deadline, double seconds, const std::string& what) {
    for (;;) {
      const double left = std::chrono::duration<double>(deadline - clock::now()).count();
      pollfd p{.fd = descriptor, .events = events, .revents = 0};
      const int n = left <= 0 ? 0 : ::poll(&p, 1, static_cast<int>((std::min)(std::ceil(left * 1e3), 1e9)));
      if (n > 0) return;
      if (n < 0 && errno == EINTR) continue;
      if (n == 0 && left > 0) continue;  // poll's milliseconds are coarser than the clock
      broken_ = true;
      fail("measure: the peer '{}' did not {} within {} s and is given up; allow more time or make the case smaller",
           command_, what, seconds);
    }
  }

  void write_line(std::string line, double seconds) {
    line += '\n';
    const auto deadline = after(seconds);
    // A peer that has ended would end us too, by SIGPIPE: hold the signal back and take it out of the queue.
    sigset_t pipe_signal, before;
    sigemptyset(&pipe_signal);
    sigaddset(&pipe_signal, SIGPIPE);
    for (std::size_t done = 0; done < line.size();) {
      ::pthread_sigmask(SIG_BLOCK, &pipe_signal, &before);
      const ssize_t n = ::write(to_, line.data() + done, line.size() - done);
      const int reason = n < 0 ? errno : 0;
      if (reason == EPIPE && sigismember(&before, SIGPIPE) == 0) {
        const timespec now{};
        while (::sigtimedwait(&pipe_signal, nullptr, &now) < 0 && errno == EINTR) continue;
      }
      ::pthread_sigmask(SIG_SETMASK, &before, nullptr);
      if (n > 0)
        done += static_cast<std::size_t>(n);
      else if (reason == EAGAIN)
        wait_for(to_, POLLOUT, deadline, seconds, "read " + line.substr(0, line.size() - 1));
      else if (reason != EINTR)
        ended("read " + line.substr(0, line.size() - 1));
    }
  }

  std::string read_line(double seconds, const std::string& what) {
    const auto deadline = after(seconds);
    for (;;) {
      for (std::size_t end = 0; (end = pending_.find('\n')) != std::string::npos;) {
        std::string line = pending_.substr(0, end);
        pending_.erase(0, end + 1);
        if (!line.empty() && line.back() == '\r') line.pop_back();
        if (line.starts_with('{')) return line;
        if (!line.empty()) fmt::print(stderr, "[peer] {}\n", line);
      }
      wait_for(from_, POLLIN, deadline, seconds, what);
      std::array<char, 4096> buffer{};
      const ssize_t n = ::read(from_, buffer.data(), buffer.size());
      if (n > 0)
        pending_.append(buffer.data(), static_cast<std::size_t>(n));
      else if (n == 0)
        ended(what);
      else if (errno != EINTR)
        ended(what);
    }
  }

  static clock::time_point after(double seconds) {
    return clock::now() + std::chrono::duration_cast<clock::duration>(std::chrono::duration<double>(seconds));
  }

  /// Reaps a peer that closed its side and tells how it ended.
  [[noreturn]] void ended(const std::string& what) {
    broken_ = true;
    const int status = stop(false);
    if (WIFSIGNALED(status))
      fail("measure: the peer '{}' was ended by signal {} before it could {}; its own messages are above", command_,
           WTERMSIG(status), what);
    fail("measure: the peer '{}' ended with status {} before it could {}; its own messages are above", command_,
         WIFEXITED(status) ? WEXITSTATUS(status) : -1, what);
  }

  /// Closes the pipes and reaps the process, killing it at once or after its time to quit; returns its status.
  int stop(bool at_once) noexcept {
    close_all({std::exchange(to_, -1), std::exchange(from_, -1)});
    int status = 0;
    if (pid_ <= 0) return status;
    const auto deadline = after(at_once ? 0 : options_.quit_seconds);
    while (::waitpid(pid_, &status, WNOHANG) == 0) {
      if (clock::now() >= deadline) {
        ::kill(pid_, SIGKILL);
        while (::waitpid(pid_, &status, 0) < 0 && errno == EINTR) continue;
        break;
      }
      ::poll(nullptr, 0, 5);
    }
    pid_ = 0;
    return status;
  }

  peer_options options_;
  std::string command_, pending_;
  nlohmann::json ready_;
  pid_t pid_ = 0;
  int to_ = -1, from_ = -1;
  bool broken_ = false;
};

}  // namespace boot::measure
