// One value in every place of a buffer (calls/preset.ts).
#include <algorithm>

#include "kernel.h"

namespace {

using namespace kvt;

kvt_status preset(const CpuCall& call) {
  const int64_t count = call.integer(KVT_PRESET_INT_COUNT);
  if (count < 1) return fail(KVT_INVALID, "preset: expected count 1 or more");
  float* out = call.at<float>(KVT_PRESET_REF_OUT);
  const float value = static_cast<float>(call.real(KVT_PRESET_REAL_VALUE));
  call.threads.run(count, [=](int64_t from, int64_t to) { std::fill(out + from, out + to, value); });
  return KVT_OK;
}

KVT_CPU_KERNEL(KVT_PRESET, preset);

}  // namespace
