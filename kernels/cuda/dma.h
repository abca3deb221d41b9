// Copies of equal rows by the copy engines: one call a row, or all rows in one batched call.
#ifndef KVTIER_CUDA_DMA_H
#define KVTIER_CUDA_DMA_H

#include <vector>

#include "kernel.h"

namespace kvt {

struct RowMove {
  void* target;
  const void* source;
};

// `row(i)` says where row i comes from and goes to.
template <typename Row>
kvt_status dma_rows(const CudaCall& call, const char* name, int64_t rows, int64_t row_bytes, Row row) {
  call.behind_kernel = false;
  for (int64_t i = 0; i < rows; i++) {
    const RowMove move = row(i);
    const cudaError_t error = cudaMemcpyAsync(move.target, move.source, row_bytes, cudaMemcpyDefault, call.stream);
    if (error != cudaSuccess) return checked(error, name);
  }
  return KVT_OK;
}

inline kvt_status copy_2d(const CudaCall& call, const char* name, void* target, int64_t target_stride,
                          const void* source, int64_t source_stride, int64_t row_bytes, int64_t rows) {
  call.behind_kernel = false;
  if (target_stride == row_bytes && source_stride == row_bytes)
    return checked(cudaMemcpyAsync(target, source, row_bytes * rows, cudaMemcpyDefault, call.stream), name);
  return checked(cudaMemcpy2DAsync(target, target_stride, source, source_stride, row_bytes, rows, cudaMemcpyDefault,
                                   call.stream),
                 name);
}

// Rows are read in stream order, so that rows written by earlier work of the stream arrive.
kvt_status batch_copy(const CudaCall& call, const char* name, const std::vector<void*>& targets,
                      const std::vector<const void*>& sources, int64_t row_bytes);

template <typename Row>
kvt_status dma_batch(const CudaCall& call, const char* name, int64_t rows, int64_t row_bytes, Row row) {
  if (call.recording) return fail(KVT_UNSUPPORTED, "%s: a graph can't hold batched copies", name);
  static thread_local std::vector<void*> targets;
  static thread_local std::vector<const void*> sources;
  targets.resize(rows);
  sources.resize(rows);
  for (int64_t i = 0; i < rows; i++) {
    const RowMove move = row(i);
    targets[i] = move.target;
    sources[i] = move.source;
  }
  return batch_copy(call, name, targets, sources, row_bytes);
}

}  // namespace kvt

#endif
