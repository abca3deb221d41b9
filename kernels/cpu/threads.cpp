// Worker threads: a range is cut into chunks that the workers and the caller take in turn, smaller ones towards its end.
// Which thread takes a chunk varies, the chunks do not. A call waits for the workers that took part, not for those that
// were still asleep.
#include <algorithm>
#include <atomic>
#include <exception>
#include <mutex>
#include <thread>
#include <utility>

#include "common.h"
#include "faults.h"
#include "spin.h"

namespace kvt {
namespace {

// As many chunks a thread of what is left, so that the last ones are short and threads end together; of the whole no more
// than so many, so that chunks stay long beside the taking of one.
constexpr int64_t kChunksAThread = 8, kMostChunksAThread = 64;
// How long a worker looks for more work before it sleeps: waking it takes the processor tens of microseconds.
constexpr int64_t kSpinNs = 50'000;

class Inline final : public Threads {
 public:
  int count() const override { return 1; }
  void run(int64_t count, const std::function<void(int64_t, int64_t)>& body) override {
    if (count > 0) body(0, count);
  }
};

class Pool final : public Threads {
 public:
  explicit Pool(int count) {
    for (int i = 1; i < count; i++) workers_.emplace_back([this] { work(); });
  }

  ~Pool() override {
    stop_ = true;
    ring();
    for (std::thread& worker : workers_) worker.join();
  }

  int count() const override { return static_cast<int>(workers_.size()) + 1; }

  void run(int64_t count, const std::function<void(int64_t, int64_t)>& body) override {
    if (count <= 0) return;
    if (count == 1) return body(0, 1);
    const std::lock_guard<std::mutex> one_at_a_time(turn_);
    body_ = &body;
    count_ = count;
    least_ = std::max<int64_t>(1, count / (kMostChunksAThread * this->count()));
    next_ = 0;
    gate_ = kOpen;
    ring();
    take();
    // Nobody enters any more; wait for those who did.
    gate_ &= ~kOpen;
    Spin spin;
    while (gate_ != 0) spin.pause();
    if (error_) std::rethrow_exception(std::exchange(error_, nullptr));
  }

  void stay_awake(bool awake) override {
    if (!awake) {
      holders_--;
      return;
    }
    holders_++;
    if (sleepers_ > 0) ring();
  }

 private:
  static constexpr uint32_t kOpen = 1u << 31;

  void ring() {
    bell_++;
    if (sleepers_ > 0) bell_.notify_all();
  }

  void take() {
    try {
      run_guarded([this] {
        for (int64_t from = next_; from < count_;) {
          const int64_t to = std::min(count_, from + std::max(least_, (count_ - from) / (kChunksAThread * count())));
          if (!next_.compare_exchange_weak(from, to)) continue;
          (*body_)(from, to);
          from = next_;
        }
      });
    } catch (...) {
      const std::lock_guard<std::mutex> lock(error_lock_);
      error_ = std::current_exception();
    }
  }

  // Counts this worker in; false when the range is taken already.
  bool enter() {
    uint32_t gate = gate_;
    while (gate & kOpen)
      if (gate_.compare_exchange_weak(gate, gate + 1)) return true;
    return false;
  }

  void work() {
    for (uint32_t seen = 0;;) {
      seen = await_bell(seen);
      if (stop_) return;
      if (!enter()) continue;
      take();
      gate_--;
    }
  }

  // The bell's number once it is no longer `seen`.
  uint32_t await_bell(uint32_t seen) {
    int64_t until = 0;
    Spin spin;
    for (uint32_t turn = 0;; turn++) {
      const uint32_t now = bell_.load(std::memory_order_acquire);
      if (now != seen) return now;
      spin.pause();
      if (turn % 64 != 0 || holders_ > 0) continue;
      if (until == 0) until = now_ns() + kSpinNs;
      if (now_ns() < until) continue;
      sleepers_++;
      if (holders_ == 0) bell_.wait(seen);
      sleepers_--;
      until = 0;
    }
  }

  std::vector<std::thread> workers_;
  std::mutex turn_;
  std::mutex error_lock_;
  std::exception_ptr error_;
  const std::function<void(int64_t, int64_t)>* body_ = nullptr;
  int64_t count_ = 0;
  int64_t least_ = 1;
  // Each on a cache line of its own: all threads write the first two and read the others.
  alignas(64) std::atomic<int64_t> next_{0};
  alignas(64) std::atomic<uint32_t> gate_{0};
  alignas(64) std::atomic<uint32_t> bell_{0};
  alignas(64) std::atomic<int> holders_{0};
  std::atomic<int> sleepers_{0};
  std::atomic<bool> stop_{false};
};

}  // namespace

std::unique_ptr<Threads> make_threads(int count) {
  if (count <= 1) return std::make_unique<Inline>();
  return std::make_unique<Pool>(count);
}

}  // namespace kvt
