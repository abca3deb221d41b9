// Worker threads: a range is cut into chunks that the workers and the caller take in turn. Which thread takes a chunk
// varies, the chunks do not.
#include <algorithm>
#include <atomic>
#include <exception>
#include <mutex>
#include <thread>
#include <utility>

#include "common.h"
#include "faults.h"

namespace kvt {
namespace {

constexpr int64_t kChunksAThread = 4;

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
    epoch_++;
    epoch_.notify_all();
    for (std::thread& worker : workers_) worker.join();
  }

  int count() const override { return static_cast<int>(workers_.size()) + 1; }

  void run(int64_t count, const std::function<void(int64_t, int64_t)>& body) override {
    if (count <= 0) return;
    if (count == 1) return body(0, 1);
    const std::lock_guard<std::mutex> one_at_a_time(turn_);
    body_ = &body;
    count_ = count;
    chunk_ = std::max<int64_t>(1, count / (kChunksAThread * this->count()));
    next_ = 0;
    busy_ = static_cast<int>(workers_.size());
    epoch_++;
    epoch_.notify_all();
    take();
    for (int left = busy_; left > 0; left = busy_) busy_.wait(left);
    if (error_) std::rethrow_exception(std::exchange(error_, nullptr));
  }

 private:
  void take() {
    try {
      run_guarded([this] {
        for (int64_t from = next_.fetch_add(chunk_); from < count_; from = next_.fetch_add(chunk_))
          (*body_)(from, std::min(from + chunk_, count_));
      });
    } catch (...) {
      const std::lock_guard<std::mutex> lock(error_lock_);
      error_ = std::current_exception();
    }
  }

  void work() {
    for (uint32_t seen = 0;;) {
      epoch_.wait(seen);
      seen = epoch_;
      if (stop_) return;
      take();
      if (--busy_ == 0) busy_.notify_all();
    }
  }

  std::vector<std::thread> workers_;
  std::mutex turn_;
  std::mutex error_lock_;
  std::exception_ptr error_;
  const std::function<void(int64_t, int64_t)>* body_ = nullptr;
  int64_t count_ = 0;
  int64_t chunk_ = 1;
  std::atomic<int64_t> next_{0};
  std::atomic<uint32_t> epoch_{0};
  std::atomic<int> busy_{0};
  std::atomic<bool> stop_{false};
};

}  // namespace

std::unique_ptr<Threads> make_threads(int count) {
  if (count <= 1) return std::make_unique<Inline>();
  return std::make_unique<Pool>(count);
}

}  // namespace kvt
