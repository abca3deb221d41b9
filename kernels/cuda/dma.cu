// The batched copy of CUDA 12.8 and later (cudaMemcpyBatchAsync); its last arguments changed in CUDA 13.
#include "dma.h"

namespace kvt {

kvt_status batch_copy(const CudaCall& call, const char* name, const std::vector<void*>& targets,
                      const std::vector<const void*>& sources, int64_t row_bytes) {
#if CUDART_VERSION >= 12080
  call.behind_kernel = false;
  static thread_local std::vector<size_t> sizes;
  sizes.assign(targets.size(), row_bytes);
  cudaMemcpyAttributes attributes = {};
  attributes.srcAccessOrder = cudaMemcpySrcAccessOrderStream;
  size_t first = 0;
#if CUDART_VERSION >= 13000
  const cudaError_t error =
      cudaMemcpyBatchAsync(const_cast<void**>(targets.data()), const_cast<const void**>(sources.data()), sizes.data(),
                           sizes.size(), &attributes, &first, 1, call.stream);
#else
  size_t failed = 0;
  const cudaError_t error =
      cudaMemcpyBatchAsync(const_cast<void**>(targets.data()), const_cast<void**>(sources.data()), sizes.data(),
                           sizes.size(), &attributes, &first, 1, &failed, call.stream);
#endif
  if (error == cudaErrorCallRequiresNewerDriver || error == cudaErrorNotSupported) {
    cudaGetLastError();
    return fail(KVT_UNSUPPORTED, "%s: batched copies want driver 570 or later", name);
  }
  return checked(error, name);
#else
  return fail(KVT_UNSUPPORTED, "%s: batched copies want a build with CUDA 12.8 or later", name);
#endif
}

}  // namespace kvt
