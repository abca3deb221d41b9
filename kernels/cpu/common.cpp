// The small parts of common.h; files and threads have files of their own.
#include "common.h"

#include <chrono>
#include <cinttypes>
#include <cstdio>
#include <cstring>
#include <new>

#include "faults.h"

namespace kvt {
namespace {

#define KVT_NAME_OF(id, name) name,
const char* const kernel_names[] = {KVT_FOR_EACH_KERNEL(KVT_NAME_OF)};
#undef KVT_NAME_OF

}  // namespace

const char* kernel_name(int32_t kernel) { return kernel_names[kernel]; }

kvt_status call_guarded(const char* name, const std::function<kvt_status()>& body) {
  install_fault_handler();
  try {
    kvt_status status = KVT_OK;
    run_guarded([&] { status = body(); });
    return status;
  } catch (const std::bad_alloc&) {
    return fail(KVT_OUT_OF_HOST_MEMORY, "%s: no memory for its scratch space", name);
  } catch (const std::exception& error) {
    return fail(KVT_FAULT, "%s: %s", name, error.what());
  } catch (...) {
    return fail(KVT_FAULT, "%s: unknown exception", name);
  }
}

kvt_status call_guarded(CpuKernel kernel, const CpuCall& call) {
  return call_guarded(kernel_name(call.call.kernel), [&] { return kernel(call); });
}

int processor_level() {
#if defined(__x86_64__)
  __builtin_cpu_init();
  const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("bmi2");
  const bool avx512 = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                      __builtin_cpu_supports("avx512cd") && __builtin_cpu_supports("avx512dq") &&
                      __builtin_cpu_supports("avx512vl");
  return avx2 ? (avx512 ? 2 : 1) : 0;
#else
  return 0;
#endif
}

int64_t now_ns() {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(std::chrono::steady_clock::now().time_since_epoch())
      .count();
}

uint64_t number_in(const char* path, const char* key, uint64_t missing) {
  std::FILE* file = std::fopen(path, "r");
  if (file == nullptr) return missing;
  char line[256];
  uint64_t value = missing;
  while (std::fgets(line, sizeof line, file) != nullptr) {
    if (std::strncmp(line, key, std::strlen(key)) != 0) continue;
    if (std::sscanf(line + std::strlen(key), "%" SCNu64, &value) != 1) value = missing;
    break;
  }
  std::fclose(file);
  return value;
}

}  // namespace kvt
