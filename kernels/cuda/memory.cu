// Memory of the tiers: device memory, pinned and pageable host memory, a file.
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <thread>

#include "machine.h"

namespace kvt {

namespace {

constexpr uint64_t kHugePage = uint64_t{2} << 20;
// From here on pages are mapped and touched by all cores and then pinned, which is several times as fast as asking the
// driver for them.
constexpr uint64_t kRegisterFrom = uint64_t{64} << 20;
constexpr uint64_t kSector = 4096;

uint64_t rounded(uint64_t bytes, uint64_t to) { return (bytes + to - 1) / to * to; }

// Bytes of a line "Name: N kB" of /proc/meminfo; 0 when absent.
uint64_t meminfo(const char* name) {
  FILE* file = std::fopen("/proc/meminfo", "r");
  if (file == nullptr) return 0;
  char line[256];
  unsigned long long kib = 0;
  while (std::fgets(line, sizeof line, file) != nullptr)
    if (std::strncmp(line, name, std::strlen(name)) == 0) std::sscanf(line + std::strlen(name), ": %llu", &kib);
  std::fclose(file);
  return static_cast<uint64_t>(kib) << 10;
}

// A limit of the control group may stand above what the kernel says now: guests of some hosts grow as they are used.
uint64_t host_limit() {
  uint64_t most = meminfo("MemAvailable");
  if (FILE* file = std::fopen("/sys/fs/cgroup/memory.max", "r")) {
    unsigned long long limit = 0;
    if (std::fscanf(file, "%llu", &limit) == 1 && limit > most) most = limit;
    std::fclose(file);
  }
  return most;
}

void touch(uint8_t* from, uint64_t bytes, int threads) {
  std::vector<std::thread> workers;
  const uint64_t share = rounded(bytes / threads + 1, kHugePage);
  for (int t = 0; t < threads; t++) {
    const uint64_t begin = t * share, end = begin + share < bytes ? begin + share : bytes;
    if (begin >= end) break;
    workers.emplace_back([=] {
      for (uint64_t at = begin; at < end; at += kSector) from[at] = 0;
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

kvt_status pinned(kvt_context* context, CudaBuffer& buffer) {
  const uint64_t limit = host_limit();
  if (limit > 0 && buffer.bytes > limit)
    return fail(KVT_OUT_OF_HOST_MEMORY, "allocate: %llu bytes of pinned memory, the host has %llu",
                (unsigned long long)buffer.bytes, (unsigned long long)limit);
  const auto start = std::chrono::steady_clock::now();
  kvt_status status = KVT_OK;
  if (buffer.bytes >= kRegisterFrom) {
    status = pinned_by_registering(buffer, context->threads);
  } else {
    void* host = nullptr;
    const cudaError_t error = cudaHostAlloc(&host, buffer.bytes, cudaHostAllocMapped | cudaHostAllocPortable);
    if (error == cudaErrorMemoryAllocation) {
      cudaGetLastError();
      return fail(KVT_OUT_OF_HOST_MEMORY, "allocate: %llu bytes of pinned memory are not there",
                  (unsigned long long)buffer.bytes);
    }
    status = checked(error, "allocate");
    buffer.host = buffer.device = static_cast<uint8_t*>(host);
  }
  if (status != KVT_OK) return status;
  context->pin_ns += std::chrono::duration<double, std::nano>(std::chrono::steady_clock::now() - start).count();
  context->pin_bytes += static_cast<double>(buffer.bytes);
  return KVT_OK;
}

// An unnamed file in the folder of `path` (or the working folder), so that nothing stays when the process ends.
kvt_status file(kvt_context* context, CudaBuffer& buffer) {
  std::string folder = context->file.empty() ? "." : context->file;
  const size_t slash = folder.rfind('/');
  if (!context->file.empty()) folder = slash == std::string::npos ? "." : slash == 0 ? "/" : folder.substr(0, slash);
  int made = open(folder.c_str(), O_TMPFILE | O_RDWR | O_DIRECT, 0600);
  if (made < 0) made = open(folder.c_str(), O_TMPFILE | O_RDWR, 0600);
  if (made < 0) return fail(KVT_IO, "allocate: a file in %s: %s", folder.c_str(), std::strerror(errno));
  const int error = posix_fallocate(made, 0, static_cast<off_t>(rounded(buffer.bytes, kSector)));
  if (error != 0) {
    close(made);
    return fail(KVT_IO, "allocate: %llu bytes of a file in %s: %s", (unsigned long long)buffer.bytes, folder.c_str(),
                std::strerror(error));
  }
  buffer.file = made;
  return KVT_OK;
}

}  // namespace

kvt_status allocate_in(kvt_context* context, CudaBuffer& buffer) {
  if (buffer.tier == KVT_DRAM) return pinned(context, buffer);
  if (buffer.tier == KVT_NVME_FILE) return file(context, buffer);
  if (buffer.tier == KVT_PAGEABLE) {
    void* host = nullptr;
    if (posix_memalign(&host, kSector, buffer.bytes) != 0)
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
  if (buffer.file >= 0) close(buffer.file);
  else if (buffer.tier == KVT_HBM) cudaFree(buffer.device);
  else if (buffer.tier == KVT_PAGEABLE) std::free(buffer.host);
  else if (buffer.registered) {
    cudaHostUnregister(buffer.host);
    munmap(buffer.host, rounded(buffer.bytes, kHugePage));
  } else cudaFreeHost(buffer.host);
  cudaGetLastError();
}

// Through an aligned bounce: direct files want aligned memory, places and sizes.
kvt_status file_transfer(const CudaBuffer& buffer, uint64_t offset, void* data, uint64_t bytes, bool write) {
  constexpr uint64_t kBounce = uint64_t{1} << 20;
  void* bounce = nullptr;
  if (posix_memalign(&bounce, kSector, kBounce) != 0) return fail(KVT_OUT_OF_HOST_MEMORY, "no memory for a file's bounce");
  auto* const middle = static_cast<uint8_t*>(bounce);
  auto* const outside = static_cast<uint8_t*>(data);
  kvt_status status = KVT_OK;
  for (uint64_t done = 0; done < bytes && status == KVT_OK;) {
    const uint64_t at = offset + done, start = at / kSector * kSector, skip = at - start;
    const uint64_t size = bytes - done < kBounce - skip ? bytes - done : kBounce - skip;
    const uint64_t span = rounded(skip + size, kSector);
    // A write of part of a sector keeps the rest of it.
    const bool partial = skip != 0 || size % kSector != 0;
    if ((!write || partial) && pread(buffer.file, middle, span, static_cast<off_t>(start)) < static_cast<ssize_t>(span))
      status = fail(KVT_IO, "reading %llu bytes of a file: %s", (unsigned long long)span, std::strerror(errno));
    if (status != KVT_OK) break;
    if (write) std::memcpy(middle + skip, outside + done, size);
    else std::memcpy(outside + done, middle + skip, size);
    if (write && pwrite(buffer.file, middle, span, static_cast<off_t>(start)) != static_cast<ssize_t>(span))
      status = fail(KVT_IO, "writing %llu bytes of a file: %s", (unsigned long long)span, std::strerror(errno));
    done += size;
  }
  std::free(bounce);
  return status;
}

}  // namespace kvt
