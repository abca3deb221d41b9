// The processor's caches: what they hold, and reading other memory so that they hold nothing else.
#ifndef KVTIER_CPU_CACHES_H
#define KVTIER_CPU_CACHES_H

#include <atomic>
#include <cstdint>
#include <vector>

#include "kernel.h"

namespace kvt {

// Bytes of all last-level caches of the machine together (one a socket, or one a few cores), as the operating system
// tells; 0 where it does not.
uint64_t last_level_bytes();

// Memory of nobody else's. It is read, as weights are between two visits of a layer's KV: lines that were written would
// have to go back to memory in the time of what comes next.
class OtherMemory {
 public:
  // Reads `bytes` of it with all threads. Throws std::bad_alloc where there is no such memory.
  void pass(uint64_t bytes, Threads& threads);

 private:
  std::vector<char> memory_;
  std::atomic<uint64_t> sum_{0};
};

}  // namespace kvt

#endif
