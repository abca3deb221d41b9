// Host streams of the CUDA machine (host.h).
#include "host.h"

#include <utility>

#include "../cpu/spin.h"

namespace kvt {

HostStream::HostStream() : thread_([this] { loop(); }) {}

HostStream::~HostStream() {
  {
    std::lock_guard<std::mutex> lock(mutex_);
    stop_ = true;
  }
  wake_.notify_all();
  thread_.join();
}

void HostStream::push(std::function<void()> work) {
  {
    std::lock_guard<std::mutex> lock(mutex_);
    queue_.push_back(std::move(work));
  }
  wake_.notify_one();
}

void HostStream::drain() {
  std::unique_lock<std::mutex> lock(mutex_);
  idle_.wait(lock, [this] { return queue_.empty() && !busy_; });
}

void HostStream::loop() {
  std::unique_lock<std::mutex> lock(mutex_);
  while (true) {
    wake_.wait(lock, [this] { return stop_ || !queue_.empty(); });
    if (queue_.empty()) return;
    const std::function<void()> work = std::move(queue_.front());
    queue_.pop_front();
    busy_ = true;
    lock.unlock();
    work();
    lock.lock();
    busy_ = false;
    if (queue_.empty()) idle_.notify_all();
  }
}

bool wait_word(const volatile uint32_t* word, uint32_t value, const std::atomic<bool>& abandon) {
  Spin spin;
  // Signed distance: epochs may wrap.
  while (static_cast<int32_t>(*word - value) < 0) {
    if (abandon.load(std::memory_order_relaxed)) return false;
    spin.pause();
  }
  std::atomic_thread_fence(std::memory_order_acquire);
  return true;
}

}  // namespace kvt
