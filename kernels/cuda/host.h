// A stream whose work runs on a host thread, in order; it meets GPU streams through words of pinned memory.
#ifndef KVTIER_CUDA_HOST_H
#define KVTIER_CUDA_HOST_H

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <functional>
#include <mutex>
#include <thread>

namespace kvt {

class HostStream {
 public:
  HostStream();
  ~HostStream();
  void push(std::function<void()> work);
  // Waits until everything pushed has run.
  void drain();

 private:
  void loop();

  std::mutex mutex_;
  std::condition_variable wake_, idle_;
  std::deque<std::function<void()>> queue_;
  bool busy_ = false, stop_ = false;
  std::thread thread_;
};

// Spins until the word has reached `value`; false when `abandon` became true first. Words only grow.
bool wait_word(const volatile uint32_t* word, uint32_t value, const std::atomic<bool>& abandon);

}  // namespace kvt

#endif
