// Sizes of caches by the operating system (sysconf, or the files of Linux), and passes of other memory (caches.h).
#include "caches.h"

#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <set>

#include "common.h"

namespace kvt {
namespace {

// The number in a file of one processor's cache level; -1 where there is none.
long number_of(int processor, int level, const char* name) {
  char path[112];
  std::snprintf(path, sizeof path, "/sys/devices/system/cpu/cpu%d/cache/index%d/%s", processor, level, name);
  std::FILE* file = std::fopen(path, "r");
  if (file == nullptr) return -1;
  long value = -1;
  if (std::fscanf(file, "%ld", &value) != 1) value = -1;
  std::fclose(file);
  return value;
}

// Bytes of one cache of a level.
uint64_t bytes_of(int level) {
#if defined(_SC_LEVEL2_CACHE_SIZE) && defined(_SC_LEVEL3_CACHE_SIZE)
  const long bytes = sysconf(level == 2 ? _SC_LEVEL2_CACHE_SIZE : _SC_LEVEL3_CACHE_SIZE);
  if (bytes > 0) return static_cast<uint64_t>(bytes);
#endif
  return static_cast<uint64_t>(std::max(0l, number_of(0, level, "size"))) * 1024;
}

// Caches of a level that processors share among them.
uint64_t count_of(int level) {
  std::set<long> ids;
  const long processors = sysconf(_SC_NPROCESSORS_CONF);
  for (int processor = 0; processor < processors; processor++) {
    const long id = number_of(processor, level, "id");
    if (id >= 0) ids.insert(id);
  }
  return std::max<uint64_t>(1, ids.size());
}

}  // namespace

uint64_t last_level_bytes() {
  const int last = bytes_of(3) >= bytes_of(2) ? 3 : 2;
  return bytes_of(last) * count_of(last);
}

void OtherMemory::pass(uint64_t bytes, Threads& threads) {
  if (memory_.size() < bytes) memory_.resize(bytes);
  threads.run(static_cast<int64_t>(bytes / kCacheLine), [&](int64_t from, int64_t to) {
    uint64_t sum = 0;
    for (int64_t line = from; line < to; line++) sum += static_cast<uint8_t>(memory_[line * kCacheLine]);
    sum_ += sum;
  });
}

}  // namespace kvt
