// Copies of runs of bytes between any two tiers (calls/copy.ts), by the copy engines or by a kernel.
#include "dma.h"
#include "rows.h"

namespace {

using namespace kvt;

kvt_status copy(const CudaCall& call) {
  const int64_t count = call.integer(KVT_COPY_INT_COUNT);
  const int64_t bytes = call.integer(KVT_COPY_INT_BYTES);
  const int64_t from_stride = call.integer(KVT_COPY_INT_SOURCE_STRIDE);
  const int64_t to_stride = call.integer(KVT_COPY_INT_TARGET_STRIDE);
  const uint8_t* source = call.at<const uint8_t>(KVT_COPY_REF_SOURCE);
  uint8_t* target = call.at<uint8_t>(KVT_COPY_REF_TARGET);
  if (count == 0 || bytes == 0) return KVT_OK;
  const auto row = [=](int64_t i) { return RowMove{target + i * to_stride, source + i * from_stride}; };
  switch (call.integer(KVT_COPY_INT_MODE)) {
    case KVT_COPY_DMA:
      return dma_rows(call, "copy", count, bytes, row);
    case KVT_COPY_BATCH:
      return dma_batch(call, "copy", count, bytes, row);
    case KVT_COPY_2D:
      return copy_2d(call, "copy", target, to_stride, source, from_stride, bytes, count);
    case KVT_COPY_KERNEL:
      return move_rows_on<Chosen::none>(call, "copy", {source, target, nullptr, count, from_stride, to_stride}, bytes,
                                        0, over_link(call, KVT_COPY_REF_SOURCE, KVT_COPY_REF_TARGET));
    default:
      return fail(KVT_INVALID, "copy: mode %lld is none of 0 to 3", (long long)call.integer(KVT_COPY_INT_MODE));
  }
}

KVT_CUDA_KERNEL_ANY_TIER(KVT_COPY, copy);

}  // namespace
