// Host memory that may still be taken.
#pragma once

#include <algorithm>
#include <cstdint>

#include "common.h"

namespace kvt {

// Most that the control group lets its processes have, of either version of the interface; UINT64_MAX where it does not say.
inline uint64_t memory_limit_bytes() {
  const uint64_t limit = number_in("/sys/fs/cgroup/memory.max", "", UINT64_MAX);
  return std::min(limit, number_in("/sys/fs/cgroup/memory/memory.limit_in_bytes", "", UINT64_MAX));
}

// What the kernel calls available, and no more than is left of the control group's limit (page cache counts as used there
// but gives way). Where the machine has less memory than that limit it is a guest that grows as it is used, and only the
// limit counts.
inline uint64_t available_bytes() {
  const uint64_t unknown = UINT64_MAX;
  const auto of_machine = [](const char* key) {
    const uint64_t kib = number_in("/proc/meminfo", key, unknown);
    return kib == unknown ? unknown : kib * 1024;
  };
  const uint64_t limit = number_in("/sys/fs/cgroup/memory.max", "", unknown);
  if (limit == unknown) return of_machine("MemAvailable:");
  const uint64_t cache = number_in("/sys/fs/cgroup/memory.stat", "inactive_file ", 0);
  const uint64_t used = number_in("/sys/fs/cgroup/memory.current", "", 0);
  const uint64_t held = used > cache ? used - cache : 0;
  const uint64_t left = limit > held ? limit - held : 0;
  return of_machine("MemTotal:") < limit ? left : std::min(left, of_machine("MemAvailable:"));
}

}  // namespace kvt
