// The CUDA machine's own state: buffers in tiers, streams, host threads. Behind abi.h; kernels see kernel.h only.
#ifndef KVTIER_CUDA_MACHINE_H
#define KVTIER_CUDA_MACHINE_H

#include <cuda.h>

#include <atomic>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "../cpu/caches.h"
#include "../cpu/common.h"
#include "host.h"
#include "kernel.h"

namespace kvt {

constexpr int kGpuStreams = 3;  // compute, h2d, d2h; the others are host threads
constexpr uint64_t kScratchBytes = uint64_t{256} << 20;

inline bool on_gpu(int32_t stream) { return stream < kGpuStreams; }

struct CudaBuffer {
  bool used = false;
  int32_t tier = KVT_HBM;
  uint64_t bytes = 0;
  // Address for the GPU, and for the host where it can read it; a file has neither.
  uint8_t* device = nullptr;
  uint8_t* host = nullptr;
  bool registered = false;  // pinned by registering mapped pages rather than allocated pinned
  std::unique_ptr<File> file;
};

// Functions of the driver that the runtime has no face for; looked up when a context opens.
struct DriverFunctions {
  CUresult (*wait_value)(CUstream, CUdeviceptr, cuuint32_t, unsigned) = nullptr;
  CUresult (*write_value)(CUstream, CUdeviceptr, cuuint32_t, unsigned) = nullptr;
};

}  // namespace kvt

struct kvt_context {
  std::mutex mutex;
  int device = 0;
  int multiprocessors = 0;
  bool overlaps = false;
  std::string file;  // what paths of the nvme tier begin with
  int threads = 1;
  int queue_depth = 1;  // requests in flight at a file
  std::vector<kvt::CudaBuffer> buffers;
  cudaStream_t streams[kvt::kGpuStreams] = {};
  void* scratch[kvt::kGpuStreams] = {};
  uint8_t* flush = nullptr;
  uint64_t flush_bytes = 0;
  // What passes through the host's caches.
  kvt::OtherMemory others;
  kvt::DriverFunctions driver;
  // Words of pinned memory by which GPU and host streams signal each other; they hold ever growing epochs.
  uint32_t* words = nullptr;
  int32_t word_count = 0;
  uint32_t epoch = 0;
  // Pools of the host streams, of host work inside GPU streams (which share it range by range) and of requests at
  // files, and the host streams' threads.
  std::unique_ptr<kvt::Threads> pool, staging_pool, io;
  std::unique_ptr<kvt::HostStream> host[KVT_STREAMS];
  // Threads that do the host's part of calls of a GPU stream.
  std::unique_ptr<kvt::HostStream> staging[kvt::kGpuStreams];
  // Total time and bytes of pinning, for kvt_sense.
  double pin_ns = 0, pin_bytes = 0;
};

namespace kvt {

struct CudaEntry {
  CudaKernel function = nullptr;
  CudaTraits traits;
};

const CudaEntry& cuda_kernel(int32_t kernel);
// The version of a CPU kernel that suits this processor; null when there is none.
struct CpuEntry {
  CpuKernel function = nullptr;
  bool takes_files = false;
};
CpuEntry cpu_kernel(int32_t kernel);

// Set once a kernel has faulted: the driver's context of this process is lost.
extern std::atomic<bool> device_lost;
// Why nothing can run now, as a status; KVT_OK otherwise. Takes no context.
kvt_status device_ready();
kvt_status wait_for(kvt_context* context, int32_t stream);
// Checks [offset, offset + bytes) of a buffer. Null and a line when it is not there.
CudaBuffer* buffer_at(kvt_context* context, int32_t buffer, uint64_t offset, uint64_t bytes, const char* what);

kvt_status allocate_in(kvt_context* context, CudaBuffer& buffer);
void release(CudaBuffer& buffer);
std::string describe_device(int device);
std::string sense_device(kvt_context* context);

}  // namespace kvt

#endif
