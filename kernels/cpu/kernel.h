// What a CPU kernel is: a function on resolved pointers, registered by name from its own file (cpu/NAME.cpp).
#ifndef KVTIER_CPU_KERNEL_H
#define KVTIER_CPU_KERNEL_H

#include <cstdint>
#include <functional>

#include "../abi.h"
#include "../calls.generated.h"

namespace kvt {

// Worker threads that share one call. run() calls body(from, to) on disjoint ranges of [0, count) and waits.
class Threads {
 public:
  virtual ~Threads() = default;
  virtual int count() const = 0;
  virtual void run(int64_t count, const std::function<void(int64_t, int64_t)>& body) = 0;
  // While it holds, workers wait for their next range without going to sleep.
  virtual void stay_awake(bool) {}
};

class File;

struct CpuCall {
  const kvt_call& call;
  // Pointers of the refs, at their offsets; null where absent. Bytes from there to the end of the buffer.
  void* pointers[KVT_MAX_REFS];
  uint64_t bytes[KVT_MAX_REFS];
  // For kernels registered with KVT_CPU_FILE_KERNEL: the file of a ref in the nvme tier (its pointer is null).
  File* files[KVT_MAX_REFS];
  Threads& threads;
  // As many threads as requests that may be in flight at a file.
  Threads& io;
  // The threads that pack and unpack rows for a copy engine, whatever stream the call is of.
  Threads& host;

  int64_t integer(int at) const { return call.ints[at]; }
  double real(int at) const { return call.reals[at]; }
  template <typename T>
  T* at(int ref) const { return static_cast<T*>(pointers[ref]); }
};

// Returns KVT_OK, or a status with a line set by fail(). Never throws.
using CpuKernel = kvt_status (*)(const CpuCall&);

// Sets the line that kvt_message() returns, printf style; returns the status.
kvt_status fail(kvt_status status, const char* format, ...) __attribute__((format(printf, 2, 3)));

// Every file of kernels is compiled once a level: 0 = what any machine of the architecture has, 1 = AVX2, FMA, F16C,
// 2 = AVX-512 F, BW, CD, DQ, VL. The machine takes the highest that the processor has; nothing else of a file may run
// before that choice, so: no objects with constructors at file scope.
#ifndef KVT_CPU_LEVEL
#define KVT_CPU_LEVEL 0
#endif

void register_cpu_kernel(int32_t kernel, CpuKernel function, int level, bool takes_files);

struct CpuRegistration {
  CpuRegistration(int32_t kernel, CpuKernel function, int level, bool takes_files) {
    register_cpu_kernel(kernel, function, level, takes_files);
  }
};

}  // namespace kvt

#define KVT_CPU_KERNEL(name, function) \
  static const ::kvt::CpuRegistration registration_of_##function(name, function, KVT_CPU_LEVEL, false)
#define KVT_CPU_FILE_KERNEL(name, function) \
  static const ::kvt::CpuRegistration registration_of_##function(name, function, KVT_CPU_LEVEL, true)

#endif
