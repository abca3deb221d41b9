// What a CUDA kernel is: a function that enqueues work on a stream; its file (cuda/NAME.cu) registers it by name.
#ifndef KVTIER_CUDA_KERNEL_H
#define KVTIER_CUDA_KERNEL_H

#include <cuda_runtime.h>

#include <cstdint>
#include <functional>

#include "../abi.h"
#include "../calls.generated.h"

namespace kvt {

class Threads;

constexpr int kHostPieces = 64;

// What work of the host inside a call of a stream meets the stream by, piece by piece; from any thread.
struct HostSide {
  Threads& threads;
  // The stream may go on with a piece.
  std::function<void(int piece)> done;
};
// What it returns becomes the run's status; the stream goes on with all pieces once it has returned.
using HostWork = std::function<kvt_status(const HostSide&)>;

struct CudaCall {
  const kvt_call& call;
  // Device-usable addresses of the refs at their offsets (pinned host memory is mapped); null where absent.
  void* pointers[KVT_MAX_REFS];
  // Bytes from there to the end of the buffer, and the tier that it lies in.
  uint64_t bytes[KVT_MAX_REFS];
  int32_t tiers[KVT_MAX_REFS];
  cudaStream_t stream;
  int multiprocessors;
  // Whether kernels may come onto the processors while the one before ends (launch.h).
  bool overlaps;
  // Whether the next call of the stream may come up before this one has begun (CudaTraits).
  bool next_ahead;
  // Scratch on the device of this call alone until the next call of its stream (256 MiB): split partials, counters.
  void* scratch;
  uint64_t scratch_bytes;
  // True while a graph is recorded: what a graph can't hold returns KVT_UNSUPPORTED, and the list runs without a graph.
  bool recording;
  // Whether the last thing on the stream is a kernel of launch.h. Whoever enqueues anything else makes it false.
  bool& behind_kernel;
  // Host work of this call, in up to kHostPieces pieces: begun on a host thread with a pool when the stream gets there.
  // after_host(piece) makes what follows on the stream wait for that piece; all must be waited for.
  const std::function<kvt_status(HostWork work)>& on_host;
  const std::function<kvt_status(int piece)>& after_host;
  // Returns once all that the call waits for has ended, for a call that can't be enqueued before the host has read what
  // that made: which rows to copy.
  const std::function<kvt_status()>& await_choice;

  int64_t integer(int at) const { return call.ints[at]; }
  double real(int at) const { return call.reals[at]; }
  template <typename T>
  T* at(int ref) const { return static_cast<T*>(pointers[ref]); }
};

// Enqueues only: no synchronisation, no allocation (it may run while a graph is recorded). Returns KVT_OK, or a status
// with a line set by fail(). Launch errors: return after_launch("kernel name").
using CudaKernel = kvt_status (*)(const CudaCall&);

kvt_status fail(kvt_status status, const char* format, ...) __attribute__((format(printf, 2, 3)));
kvt_status after_launch(const char* kernel);
// Status and line of a failed CUDA function; KVT_OK for cudaSuccess.
kvt_status checked(cudaError_t error, const char* what);

struct CudaTraits {
  // Also takes host memory that is not pinned (copies do; loads of a kernel would fault).
  bool pageable = false;
  // Fetches what it is going to read before it waits for the kernel before, or is so light that it stands in nobody's way, so
  // that it may come up early (launch.h).
  bool ahead = false;
};

void register_cuda_kernel(int32_t kernel, CudaKernel function, CudaTraits traits);

struct CudaRegistration {
  CudaRegistration(int32_t kernel, CudaKernel function, CudaTraits traits = {}) {
    register_cuda_kernel(kernel, function, traits);
  }
};

}  // namespace kvt

#define KVT_CUDA_KERNEL(name, function) \
  static const ::kvt::CudaRegistration registration_of_##function(name, function)
#define KVT_CUDA_KERNEL_ANY_TIER(name, function) \
  static const ::kvt::CudaRegistration registration_of_##function(name, function, {true, false})
#define KVT_CUDA_KERNEL_AHEAD(name, function) \
  static const ::kvt::CudaRegistration registration_of_##function(name, function, {false, true})

#endif
