// The CUDA backend behind abi.h: contexts, buffers in tiers, errors. Runs of calls are in plan.cu and run.cu, fills in
// fill.cu, the description of the device in device.cu. Nothing happens at load; every function returns a status and never
// aborts.
#include "machine.h"

#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <thread>

#include "../cpu/json.h"

namespace kvt {

namespace {

thread_local char message[512] = "";

struct Tables {
  CudaEntry cuda[KVT_KERNELS];
  CpuKernel cpu[KVT_KERNELS][3] = {};
  bool cpu_takes_files[KVT_KERNELS] = {};
};

// A function, so that it exists before any registration, in whichever order the files are initialised.
Tables& tables() {
  static Tables all;
  return all;
}

// After these the driver's context is lost for the process (CUDA runtime API, "Error handling").
bool is_sticky(cudaError_t error) {
  switch (error) {
    case cudaErrorIllegalAddress:
    case cudaErrorLaunchFailure:
    case cudaErrorLaunchTimeout:
    case cudaErrorAssert:
    case cudaErrorHardwareStackError:
    case cudaErrorIllegalInstruction:
    case cudaErrorMisalignedAddress:
    case cudaErrorInvalidAddressSpace:
    case cudaErrorInvalidPc:
    case cudaErrorECCUncorrectable:
    case cudaErrorNvlinkUncorrectable:
    case cudaErrorExternalDevice:
    case cudaErrorContextIsDestroyed:
      return true;
    default:
      return false;
  }
}

}  // namespace

std::atomic<bool> device_lost{false};

kvt_status fail(kvt_status status, const char* format, ...) {
  va_list list;
  va_start(list, format);
  // The arguments may point into the message itself.
  char line[sizeof message];
  std::vsnprintf(line, sizeof line, format, list);
  va_end(list);
  std::memcpy(message, line, sizeof line);
  return status;
}

kvt_status checked(cudaError_t error, const char* what) {
  if (error == cudaSuccess) return KVT_OK;
  cudaGetLastError();
  const char* text = cudaGetErrorString(error);
  if (is_sticky(error)) {
    device_lost = true;
    return fail(KVT_FAULT, "%s: the GPU faulted (%s); this process has lost it, restart the process", what, text);
  }
  if (error == cudaErrorMemoryAllocation) return fail(KVT_OUT_OF_DEVICE_MEMORY, "%s: out of memory", what);
  if (error == cudaErrorNotSupported || error == cudaErrorStreamCaptureUnsupported)
    return fail(KVT_UNSUPPORTED, "%s: %s", what, text);
  return fail(error == cudaErrorInvalidValue ? KVT_INVALID : KVT_FAULT, "%s: %s", what, text);
}

kvt_status after_launch(const char* kernel) { return checked(cudaGetLastError(), kernel); }

void register_cuda_kernel(int32_t kernel, CudaKernel function, CudaTraits traits) {
  tables().cuda[kernel] = {function, traits};
}
void register_cpu_kernel(int32_t kernel, CpuKernel function, int level, bool takes_files) {
  tables().cpu[kernel][level] = function;
  tables().cpu_takes_files[kernel] = takes_files;
}
const CudaEntry& cuda_kernel(int32_t kernel) { return tables().cuda[kernel]; }
CpuEntry cpu_kernel(int32_t kernel) {
  for (int level = processor_level(); level >= 0; level--)
    if (tables().cpu[kernel][level] != nullptr) return {tables().cpu[kernel][level], tables().cpu_takes_files[kernel]};
  return {};
}

kvt_status device_ready() {
  if (device_lost)
    return fail(KVT_FAULT, "the GPU faulted earlier in this process; restart the process to use it again");
  int driver = 0, runtime = 0, devices = 0;
  cudaDriverGetVersion(&driver);
  cudaRuntimeGetVersion(&runtime);
  if (driver == 0) return fail(KVT_NO_DRIVER, "no NVIDIA driver: libcuda.so.1 can't be loaded; install the driver");
  // Within a major version any driver serves (CUDA minor version compatibility).
  if (driver / 1000 < runtime / 1000)
    return fail(KVT_DRIVER_TOO_OLD, "the NVIDIA driver serves CUDA %d.%d, expected %d.0 or later; update the driver",
                driver / 1000, driver % 1000 / 10, runtime / 1000);
  const cudaError_t error = cudaGetDeviceCount(&devices);
  if (error == cudaErrorInsufficientDriver)
    return fail(KVT_DRIVER_TOO_OLD, "the NVIDIA driver is too old for CUDA %d.%d; update the driver", runtime / 1000,
                runtime % 1000 / 10);
  if (error != cudaSuccess || devices == 0) {
    cudaGetLastError();
    return fail(KVT_NO_DEVICE, "no CUDA device: %s", error == cudaSuccess ? "none found" : cudaGetErrorString(error));
  }
  return KVT_OK;
}

kvt_status wait_for(kvt_context* context, int32_t stream) {
  return checked(cudaStreamSynchronize(context->streams[stream]), "run");
}

CudaBuffer* buffer_at(kvt_context* context, int32_t buffer, uint64_t offset, uint64_t bytes, const char* what) {
  if (buffer < 0 || static_cast<size_t>(buffer) >= context->buffers.size() || !context->buffers[buffer].used) {
    fail(KVT_INVALID, "%s: no buffer %d", what, buffer);
    return nullptr;
  }
  CudaBuffer& found = context->buffers[buffer];
  if (offset > found.bytes || bytes > found.bytes - offset) {
    fail(KVT_INVALID, "%s: bytes %llu to %llu of buffer %d, which has %llu", what, (unsigned long long)offset,
         (unsigned long long)(offset + bytes), buffer, (unsigned long long)found.bytes);
    return nullptr;
  }
  return &found;
}

namespace {

template <typename Function>
bool driver_function(const char* name, Function& function) {
  void* found = nullptr;
  cudaDriverEntryPointQueryResult result;
  const cudaError_t error = cudaGetDriverEntryPointByVersion(name, &found, 12000, cudaEnableDefault, &result);
  if (error != cudaSuccess || result != cudaDriverEntryPointSuccess) {
    cudaGetLastError();
    return false;
  }
  function = reinterpret_cast<Function>(found);
  return true;
}

kvt_status prepare(kvt_context* context) {
  cudaDeviceProp properties;
  kvt_status status = checked(cudaSetDevice(context->device), "open");
  if (status == KVT_OK) status = checked(cudaGetDeviceProperties(&properties, context->device), "open");
  if (status != KVT_OK) return status;
  context->multiprocessors = properties.multiProcessorCount;
  int driver = 0;
  // Graphs hold it since CUDA 12.3.
  context->overlaps = properties.major >= 9 && cudaDriverGetVersion(&driver) == cudaSuccess && driver >= 12030;
  for (cudaStream_t& stream : context->streams)
    if (status == KVT_OK) status = checked(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), "open");
  if (status != KVT_OK) return status;
  if (!driver_function("cuStreamWaitValue32", context->driver.wait_value) ||
      !driver_function("cuStreamWriteValue32", context->driver.write_value))
    return fail(KVT_DRIVER_TOO_OLD, "the NVIDIA driver has no stream memory operations; update the driver");
  return KVT_OK;
}

void destroy(kvt_context* context) {
  for (auto& stream : context->host) stream.reset();
  for (auto& stream : context->staging) stream.reset();
  for (CudaBuffer& buffer : context->buffers)
    if (buffer.used) release(buffer);
  for (int s = 0; s < kGpuStreams; s++) {
    if (context->scratch[s] != nullptr) cudaFree(context->scratch[s]);
    if (context->streams[s] != nullptr) cudaStreamDestroy(context->streams[s]);
  }
  if (context->flush != nullptr) cudaFree(context->flush);
  if (context->words != nullptr) cudaFreeHost(context->words);
  cudaGetLastError();
  delete context;
}

kvt_status transfer(kvt_context* context, int32_t buffer, uint64_t offset, void* data, uint64_t bytes, bool write) {
  std::lock_guard<std::mutex> lock(context->mutex);
  const char* what = write ? "write" : "read";
  const CudaBuffer* found = buffer_at(context, buffer, offset, bytes, what);
  if (found == nullptr) return KVT_INVALID;
  if (bytes == 0) return KVT_OK;
  if (found->file) return write ? found->file->write(offset, bytes, data) : found->file->read(offset, bytes, data);
  if (found->host != nullptr) {
    std::memcpy(write ? found->host + offset : data, write ? data : found->host + offset, bytes);
    return KVT_OK;
  }
  if (device_lost) return device_ready();
  void* device = found->device + offset;
  kvt_status status = checked(cudaSetDevice(context->device), what);
  if (status != KVT_OK) return status;
  status = checked(cudaMemcpyAsync(write ? device : data, write ? data : device, bytes, cudaMemcpyDefault,
                                   context->streams[KVT_COMPUTE]),
                   what);
  return status == KVT_OK ? wait_for(context, KVT_COMPUTE) : status;
}

}  // namespace

}  // namespace kvt

using namespace kvt;

extern "C" {

int32_t kvt_abi_version(void) { return KVT_ABI_VERSION; }
const char* kvt_calls_digest(void) { return KVT_CALLS_DIGEST; }
const char* kvt_message(void) { return message; }

kvt_status kvt_probe(char* json, size_t capacity) {
  const kvt_status status = device_ready();
  if (status != KVT_OK) return status;
  const std::string text = describe_device(0);
  if (text.empty()) return KVT_FAULT;
  if (text.size() + 1 > capacity) return fail(KVT_INVALID, "probe: expected room for %zu bytes", text.size() + 1);
  std::memcpy(json, text.c_str(), text.size() + 1);
  return KVT_OK;
}

kvt_status kvt_open(const char* options, kvt_context** context) {
  *context = nullptr;
  kvt_status status = device_ready();
  if (status != KVT_OK) return status;
  auto* opened = new kvt_context;
  opened->file = json_string(options, "file", "");
  const int threads = static_cast<int>(json_number(options, "threads", 0));
  const int cores = static_cast<int>(std::thread::hardware_concurrency());
  opened->queue_depth = static_cast<int>(json_number(options, "queueDepth", 0));
  if (opened->queue_depth < 1) opened->queue_depth = 32;
  opened->threads = threads > 0 ? threads : cores > 0 ? cores : 1;
  status = prepare(opened);
  if (status == KVT_OK) *context = opened;
  else destroy(opened);
  return status;
}

void kvt_close(kvt_context* context) {
  if (context == nullptr) return;
  cudaSetDevice(context->device);
  destroy(context);
}

kvt_status kvt_allocate(kvt_context* context, int32_t tier, uint64_t bytes, int32_t* buffer) {
  std::lock_guard<std::mutex> lock(context->mutex);
  if (tier < KVT_HBM || tier > KVT_NVME_FILE) return fail(KVT_INVALID, "allocate: tier %d is none of 0 to 3", tier);
  if (bytes == 0) return fail(KVT_INVALID, "allocate: 0 bytes, expected 1 or more");
  if (device_lost) return device_ready();
  kvt_status status = checked(cudaSetDevice(context->device), "allocate");
  if (status != KVT_OK) return status;
  CudaBuffer made;
  made.tier = tier;
  made.bytes = bytes;
  status = allocate_in(context, made);
  if (status != KVT_OK) return status;
  made.used = true;
  size_t id = 0;
  while (id < context->buffers.size() && context->buffers[id].used) id++;
  if (id == context->buffers.size()) context->buffers.emplace_back();
  context->buffers[id] = std::move(made);
  *buffer = static_cast<int32_t>(id);
  return KVT_OK;
}

kvt_status kvt_free(kvt_context* context, int32_t buffer) {
  std::lock_guard<std::mutex> lock(context->mutex);
  CudaBuffer* found = buffer_at(context, buffer, 0, 0, "free");
  if (found == nullptr) return KVT_INVALID;
  cudaSetDevice(context->device);
  release(*found);
  *found = CudaBuffer{};
  return KVT_OK;
}

kvt_status kvt_write(kvt_context* context, int32_t buffer, uint64_t offset, const void* data, uint64_t bytes) {
  return transfer(context, buffer, offset, const_cast<void*>(data), bytes, true);
}

kvt_status kvt_read(kvt_context* context, int32_t buffer, uint64_t offset, void* data, uint64_t bytes) {
  return transfer(context, buffer, offset, data, bytes, false);
}

kvt_status kvt_sense(kvt_context* context, char* json, size_t capacity) {
  const std::string text = sense_device(context);
  if (text.size() + 1 > capacity) return fail(KVT_INVALID, "sense: expected room for %zu bytes", text.size() + 1);
  std::memcpy(json, text.c_str(), text.size() + 1);
  return KVT_OK;
}

}  // extern "C"
