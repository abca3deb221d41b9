// What the CPU machine shares with the CUDA library, into which the CPU kernels are linked as well: files of the nvme
// tier, worker threads, the clock, the level of kernels that this processor can run.
#ifndef KVTIER_CPU_COMMON_H
#define KVTIER_CPU_COMMON_H

#include <array>
#include <memory>
#include <mutex>
#include <string>

#include "kernel.h"

namespace kvt {

constexpr uint64_t kPage = 4096;
constexpr int64_t kCacheLine = 64;

// Highest level that this processor and its operating system have.
int processor_level();

const char* kernel_name(int32_t kernel);

// Runs the body of a kernel; memory faults and exceptions in it become a status with a line that names it.
kvt_status call_guarded(const char* name, const std::function<kvt_status()>& body);
kvt_status call_guarded(CpuKernel kernel, const CpuCall& call);

// Steady clock, ns.
int64_t now_ns();

// A number in a file that opens with it (cgroup), or follows `key` in it (meminfo, memory.stat); `missing` otherwise.
uint64_t number_in(const char* path, const char* key, uint64_t missing);

std::unique_ptr<Threads> make_threads(int count);

// A file without a name: it is gone when the process is, however that ends. Reads and writes go around the page cache
// (O_DIRECT) where the file system allows that; any offset and length may be asked for.
class File {
 public:
  static kvt_status create(const std::string& path, uint64_t bytes, std::unique_ptr<File>* file);
  ~File();
  kvt_status read(uint64_t offset, uint64_t bytes, void* to);
  kvt_status write(uint64_t offset, uint64_t bytes, const void* from);
  bool direct() const { return direct_; }

 private:
  File(int descriptor, bool direct) : descriptor_(descriptor), direct_(direct) {}
  kvt_status transfer(bool writing, uint64_t offset, uint64_t bytes, char* memory);
  kvt_status write_part(uint64_t offset, uint64_t bytes, const char* from);
  const int descriptor_;
  const bool direct_;
  // Two writes may share a block; reading, changing and writing it back must not interleave.
  std::array<std::mutex, 64> blocks_;
};

}  // namespace kvt

#endif
