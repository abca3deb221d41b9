// Decode attention over raw pages that leaves its logits (calls/attend.ts).
#include "attend-launch.cuh"

namespace kvt {
namespace {

template <typename Number>
kvt_status attend_numbers(const CudaCall& call, const AttendArguments& a, int units) {
  const int dim = a.shape.dim;
  const bool wide = a.group > 8;
  if (dim == 64 && wide) return launch_attend<WithLogits<RawStore<Number, 64, true>>, 2, 12>(call, a, units);
  if (dim == 128 && wide) return launch_attend<WithLogits<RawStore<Number, 128, true>>, 2, 8>(call, a, units);
  if (dim == 64) return launch_attend<WithLogits<RawStore<Number, 64, true>>, 1, 16>(call, a, units);
  if (dim == 128 && a.rows * kBlocksOfPool <= static_cast<uint32_t>(units))
    return launch_attend<WithLogits<RawStore<Number, 128, true>>, 1, 12, true>(call, a, units);
  if (dim == 128) return launch_attend<WithLogits<RawStore<Number, 128, true>>, 1, 12>(call, a, units);
  if (dim < 128) return launch_attend<WithLogits<RawStore<Number, 128, false>>, 1, 12>(call, a, units);
  return launch_attend<WithLogits<RawStore<Number, 256, false>>, 1, 8>(call, a, units);
}

}  // namespace

kvt_status attend_logits(const CudaCall& call, const AttendArguments& a, int units, int format) {
  if (format == FORMAT_BF16) return attend_numbers<Bf16>(call, a, units);
  if (format == FORMAT_F16) return attend_numbers<F16>(call, a, units);
  return fail(KVT_UNSUPPORTED, "attend: coded pages leave no logits");
}

}  // namespace kvt
