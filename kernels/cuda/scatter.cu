// Distributes rows by index (calls/scatter.ts): a kernel that writes them where they belong, copies, or the host.
#include "../cpu/rows.h"
#include "dma.h"
#include "rows.h"

namespace {

using namespace kvt;

kvt_status scatter(const CudaCall& call) {
  const int64_t rows = call.integer(KVT_SCATTER_INT_ROWS);
  const int64_t row_bytes = call.integer(KVT_SCATTER_INT_ROW_BYTES);
  const int64_t from_stride = call.integer(KVT_SCATTER_INT_SOURCE_STRIDE);
  const int64_t to_stride = call.integer(KVT_SCATTER_INT_TARGET_STRIDE);
  const int64_t mode = call.integer(KVT_SCATTER_INT_MODE);
  const uint8_t* source = call.at<const uint8_t>(KVT_SCATTER_REF_SOURCE);
  const uint32_t* index = call.at<const uint32_t>(KVT_SCATTER_REF_INDEX);
  uint8_t* target = call.at<uint8_t>(KVT_SCATTER_REF_TARGET);
  const auto row = [=](int64_t i) { return RowMove{target + index[i] * to_stride, source + i * from_stride}; };
  if (rows == 0 || row_bytes == 0) return KVT_OK;
  if (mode == KVT_ROWS_KERNEL)
    return move_rows_on<Chosen::target>(call, "scatter", {source, target, index, rows, from_stride, to_stride}, row_bytes,
                                        call.integer(KVT_SCATTER_INT_UNITS),
                                        over_link(call, KVT_SCATTER_REF_SOURCE, KVT_SCATTER_REF_TARGET));
  if (call.tiers[KVT_SCATTER_REF_INDEX] == KVT_HBM)
    return fail(KVT_INVALID, "scatter: modes 1 to 3 read the index on the host; expected it in dram");
  // A copy by the host outside a buffer would end the process.
  const Rows pool{reinterpret_cast<char*>(target), nullptr, 0, call.bytes[KVT_SCATTER_REF_TARGET], to_stride, index,
                  KVT_DRAM};
  const kvt_status inside = check_rows("scatter", "target", pool, rows, row_bytes);
  if (inside != KVT_OK) return inside;
  if (mode == KVT_ROWS_DMA) return dma_rows(call, "scatter", rows, row_bytes, row);
  if (mode == KVT_ROWS_BATCH) return dma_batch(call, "scatter", rows, row_bytes, row);
  if (mode != KVT_ROWS_STAGED) return fail(KVT_INVALID, "scatter: mode %lld is none of 0 to 3", (long long)mode);
  uint8_t* staging = call.at<uint8_t>(KVT_SCATTER_REF_STAGING);
  if (staging == nullptr || call.tiers[KVT_SCATTER_REF_STAGING] == KVT_HBM || call.tiers[KVT_SCATTER_REF_TARGET] == KVT_HBM)
    return fail(KVT_INVALID, "scatter: mode staged wants target and staging in dram");
  const kvt_status status = copy_2d(call, "scatter", staging, row_bytes, source, from_stride, row_bytes, rows);
  if (status != KVT_OK) return status;
  return call.on_host([=](Threads& threads) {
    const Rows packed{reinterpret_cast<char*>(staging), nullptr, 0, static_cast<uint64_t>(rows * row_bytes), row_bytes, nullptr,
                      KVT_DRAM};
    move_rows("scatter", packed, pool, rows, row_bytes, threads, threads);
  });
}

KVT_CUDA_KERNEL_ANY_TIER(KVT_SCATTER, scatter);

}  // namespace
