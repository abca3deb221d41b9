// Waiting for a word that another thread or the GPU writes: the processor pauses between looks, and once the wait is
// long the thread gives way to others, so that more waiting threads than cores don't hold up those that work.
#ifndef KVTIER_CPU_SPIN_H
#define KVTIER_CPU_SPIN_H

#include <sched.h>

#include <cstdint>

namespace kvt {

// Lets the other thread of a core, if there is one, have more of it.
inline void pause_core() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#endif
}

class Spin {
 public:
  void pause() {
    pause_core();
    if (++looks_ > kPatience && looks_ % kPoliteness == 0) sched_yield();
  }

 private:
  static constexpr uint32_t kPatience = 512, kPoliteness = 64;
  uint32_t looks_ = 0;
};

}  // namespace kvt

#endif
