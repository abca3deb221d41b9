// Busy for a given time; see calls/spin.ts.
#include "common.h"

namespace {

using namespace kvt;

kvt_status spin(const CpuCall& call) {
  const int64_t ns = call.integer(KVT_SPIN_INT_NS);
  if (ns < 0) return fail(KVT_INVALID, "spin: ns must be 0 or more");
  for (const int64_t end = now_ns() + ns; now_ns() < end;) {
  }
  return KVT_OK;
}

KVT_CPU_KERNEL(KVT_SPIN, spin);

}  // namespace
