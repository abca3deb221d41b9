// Copies past the caches: non-temporal stores save the read that a plain store makes of its target, and what is written is
// in memory when a copy engine reads it.
#ifndef KVTIER_CPU_STREAM_COPY_H
#define KVTIER_CPU_STREAM_COPY_H

#include <cstdint>

namespace kvt {

using StreamCopy = void (*)(char* to, const char* from, int64_t bytes);

// This processor's best.
StreamCopy stream_copy();

// Before others are told of what was copied.
void stream_fence();

}  // namespace kvt

#endif
