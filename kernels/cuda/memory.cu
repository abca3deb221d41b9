// Memory of the tiers: device memory, pinned and pageable host memory, a file.
#include <sys/mman.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <thread>

#include "../cpu/available.h"
#include "machine.h"

namespace kvt {

namespace {

constexpr uint64_t kHugePage = uint64_t{2} << 20;
// From here on pages are mapped and touched by all cores and then pinned, which is several times as fast as asking the
// driver for them.
constexpr uint64_t kRegisterFrom = uint64_t{64} << 20;

uint64_t rounded(uint64_t bytes, uint64_t to) { return (bytes + to - 1) / to * to; }

void touch(uint8_t* from, uint64_t bytes, int threads) {
  std::vector<std::thread> workers;
  const uint64_t share = rounded(bytes / threads + 1, kHugePage);
  for (int t = 0; t < threads; t++) {
    const uint64_t begin = t * share, end = begin + share < bytes ? begin + share : bytes;
    if (begin >= end) break;
    workers.emplace_back([=] {
      for (uint64_t at = begin; at < end; at += kPage) from[at] = 0;
    });
  }
  for (std::thread& worker : workers) worker.join();
}

kvt_status pinned_by_registering(CudaBuffer& buffer, int threads) {
  const uint64_t bytes = rounded(buffer.bytes, kHugePage);
  void* mapped = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (mapped == MAP_FAILED)
    return fail(KVT_OUT_OF_HOST_MEMORY, "allocate: %llu bytes of host memory: %s", (unsigned long long)bytes,
                std::strerror(errno));
  auto* host = static_cast<uint8_t*>(mapped);
  madvise(host, bytes, MADV_HUGEPAGE);
  touch(host, bytes, threads);
  const cudaError_t error = cudaHostRegister(host, bytes, cudaHostRegisterMapped | cudaHostRegisterPortable);
  if (error != cudaSuccess) {
    cudaGetLastError();
    munmap(host, bytes);
    return fail(KVT_OUT_OF_HOST_MEMORY, "allocate: pinning %llu bytes of host memory: %s", (unsigned long long)bytes,
                cudaGetErrorString(error));
  }
  void* device = nullptr;
  const kvt_status status = checked(cudaHostGetDevicePointer(&device, host, 0), "allocate");
  if (status == KVT_OK && device != host) {
    cudaHostUnregister(host);
    munmap(host, bytes);
    return fail(KVT_UNSUPPORTED, "allocate: this GPU can't use host addresses of pinned memory");
  }
  buffer.registered = true;
  buffer.host = buffer.device = host;
  return status;
}

kvt_status pinned_by_driver(CudaBuffer& buffer) {
  void* host = nullptr;
  const cudaError_t error = cudaHostAlloc(&host, buffer.bytes, cudaHostAllocMapped | cudaHostAllocPortable);
  if (error == cudaErrorMemoryAllocation) {
    cudaGetLastError();
    return fail(KVT_OUT_OF_HOST_MEMORY, "allocate: %llu bytes of pinned memory are not there",
                (unsigned long long)buffer.bytes);
  }
  buffer.host = buffer.device = static_cast<uint8_t*>(host);
  return checked(error, "allocate");
}

kvt_status pinned(kvt_context* context, CudaBuffer& buffer) {
  const uint64_t available = available_bytes();
  if (buffer.bytes > available)
    return fail(KVT_OUT_OF_HOST_MEMORY, "allocate: %llu bytes of pinned memory, the host has %llu",
                (unsigned long long)buffer.bytes, (unsigned long long)available);
  const int64_t start = now_ns();
  // Some systems refuse to register: a sandbox, a limit on locked memory.
  const bool registered =
      buffer.bytes >= kRegisterFrom && pinned_by_registering(buffer, context->threads) == KVT_OK;
  const kvt_status status = registered ? KVT_OK : pinned_by_driver(buffer);
  if (status != KVT_OK) return status;
  context->pin_ns += static_cast<double>(now_ns() - start);
  context->pin_bytes += static_cast<double>(buffer.bytes);
  return KVT_OK;
}

}  // namespace

kvt_status allocate_in(kvt_context* context, CudaBuffer& buffer) {
  if (buffer.tier == KVT_DRAM) return pinned(context, buffer);
  if (buffer.tier == KVT_NVME_FILE) {
    const std::string path = (context->file.empty() ? "kvtier" : context->file) + "-" + std::to_string(now_ns());
    return File::create(path, rounded(buffer.bytes, kPage), &buffer.file);
  }
  if (buffer.tier == KVT_PAGEABLE) {
    void* host = nullptr;
    if (posix_memalign(&host, kPage, buffer.bytes) != 0)
      return fail(KVT_OUT_OF_HOST_MEMORY, "allocate: %llu bytes of host memory are not there",
                  (unsigned long long)buffer.bytes);
    buffer.host = buffer.device = static_cast<uint8_t*>(host);
    return KVT_OK;
  }
  void* device = nullptr;
  const cudaError_t error = cudaMalloc(&device, buffer.bytes);
  if (error == cudaErrorMemoryAllocation) {
    cudaGetLastError();
    size_t free = 0, total = 0;
    cudaMemGetInfo(&free, &total);
    return fail(KVT_OUT_OF_DEVICE_MEMORY, "allocate: %llu bytes of device memory, %zu of %zu are free",
                (unsigned long long)buffer.bytes, free, total);
  }
  buffer.device = static_cast<uint8_t*>(device);
  return checked(error, "allocate");
}

void release(CudaBuffer& buffer) {
  if (buffer.file) buffer.file.reset();
  else if (buffer.tier == KVT_HBM) cudaFree(buffer.device);
  else if (buffer.tier == KVT_PAGEABLE) std::free(buffer.host);
  else if (buffer.registered) {
    cudaHostUnregister(buffer.host);
    munmap(buffer.host, rounded(buffer.bytes, kHugePage));
  } else cudaFreeHost(buffer.host);
  cudaGetLastError();
}

}  // namespace kvt
