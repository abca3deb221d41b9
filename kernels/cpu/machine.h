// Parts of the CPU machine: buffers in tiers, files, worker threads, streams. The machine is kvt_context of abi.h; its
// "device" is this processor, so a tier is what stands in for it: hbm and dram are memory in huge pages, pageable is
// memory in small pages, nvme is a file. The cache before hbm (l2Bytes) is the last-level cache.
#ifndef KVTIER_CPU_MACHINE_H
#define KVTIER_CPU_MACHINE_H

#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

#include "caches.h"
#include "common.h"

namespace kvt {

constexpr int kLevels = 3;

struct CpuKernelEntry {
  CpuKernel function[kLevels];
  bool takes_files;
};
CpuKernelEntry& cpu_kernel_entry(int32_t kernel);

struct Buffer {
  int32_t tier = KVT_DRAM;
  uint64_t bytes = 0;
  void* mapping = nullptr;
  uint64_t mapped = 0;
  char* memory = nullptr;
  std::unique_ptr<File> file;

  Buffer() = default;
  Buffer(const Buffer&) = delete;
  ~Buffer();
};

// Memory is touched before it is returned, so that no page fault falls into a timed run.
kvt_status allocate_memory(int32_t tier, uint64_t bytes, Buffer* buffer);
// Memory that ends where a page begins that nobody may touch: a kernel that leaves its buffer faults. For tests.
kvt_status allocate_fenced(uint64_t bytes, Buffer* buffer);

void fill_memory(void* to, uint64_t bytes, int32_t kind, uint64_t seed, uint64_t first, Threads& threads);

// Threads of the streams, and the lists of calls that run on them.
class Streams;
struct StreamsDeleter {
  void operator()(Streams*) const;
};
using StreamsPointer = std::unique_ptr<Streams, StreamsDeleter>;
StreamsPointer make_streams(int threads, int queue_depth);
Threads& workers_of(Streams& streams);
Threads& io_of(Streams& streams);

struct Resolved {
  CpuKernel function;
  kvt_call call;
  void* pointers[KVT_MAX_REFS];
  uint64_t bytes[KVT_MAX_REFS];
  File* files[KVT_MAX_REFS];
};
// One pass over the list. start_ns and end_ns: a value a call, from the list's start, or null.
kvt_status run_once(Streams& streams, const std::vector<Resolved>& calls, double* start_ns, double* end_ns);

}  // namespace kvt

struct kvt_context {
  std::string file;
  int level = 0;
  bool fences = false;
  kvt::StreamsPointer streams;
  std::unordered_map<int32_t, std::unique_ptr<kvt::Buffer>> buffers;
  int32_t next = 0;
  kvt::OtherMemory others;
};

#endif
