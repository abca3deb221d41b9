// What the device is, and how it stands now: names and sizes by the CUDA runtime, driver version, clocks, temperature
// and power by the driver's management library (libnvidia-ml), which is opened when it is there.
#include <dlfcn.h>
#include <unistd.h>

#include <cstdio>

#include "../cpu/json.h"
#include "machine.h"
#include "row-blocks.h"

namespace kvt {

namespace {

// The few functions and constants of nvml.h that are used here.
struct Management {
  using Handle = struct nvmlDevice_st*;
  int (*init)() = nullptr;
  int (*by_bus)(const char*, Handle*) = nullptr;
  int (*clock)(Handle, unsigned, unsigned*) = nullptr;
  int (*temperature)(Handle, unsigned, unsigned*) = nullptr;
  int (*power)(Handle, unsigned*) = nullptr;
  int (*driver)(char*, unsigned) = nullptr;
  int (*link_generation)(Handle, unsigned*) = nullptr;
  int (*link_width)(Handle, unsigned*) = nullptr;
  int (*throttle)(Handle, unsigned long long*) = nullptr;
  bool ready = false;

  Management() {
    void* library = dlopen("libnvidia-ml.so.1", RTLD_NOW | RTLD_LOCAL);
    if (library == nullptr) return;
    find(library, "nvmlInit_v2", init);
    find(library, "nvmlDeviceGetHandleByPciBusId_v2", by_bus);
    find(library, "nvmlDeviceGetClockInfo", clock);
    find(library, "nvmlDeviceGetTemperature", temperature);
    find(library, "nvmlDeviceGetPowerUsage", power);
    find(library, "nvmlSystemGetDriverVersion", driver);
    find(library, "nvmlDeviceGetCurrPcieLinkGeneration", link_generation);
    find(library, "nvmlDeviceGetCurrPcieLinkWidth", link_width);
    find(library, "nvmlDeviceGetCurrentClocksThrottleReasons", throttle);
    ready = init != nullptr && by_bus != nullptr && init() == 0;
  }

  template <typename Function>
  static void find(void* library, const char* name, Function& function) {
    function = reinterpret_cast<Function>(dlsym(library, name));
  }
};

Management& management() {
  static Management opened;
  return opened;
}

Management::Handle handle_of(int device) {
  char bus[32];
  Management::Handle handle = nullptr;
  Management& nvml = management();
  if (!nvml.ready || cudaDeviceGetPCIBusId(bus, sizeof bus, device) != cudaSuccess) return nullptr;
  return nvml.by_bus(bus, &handle) == 0 ? handle : nullptr;
}

std::string version(int number) { return std::to_string(number / 1000) + "." + std::to_string(number % 1000 / 10); }

std::string driver_version() {
  char text[96];
  Management& nvml = management();
  if (nvml.ready && nvml.driver != nullptr && nvml.driver(text, sizeof text) == 0) return text;
  int driver = 0;
  cudaDriverGetVersion(&driver);
  return "CUDA " + version(driver);
}

std::string kernels() {
  std::string list;
#define KVT_ADD(id, name) \
  if (cuda_kernel(id).function != nullptr) list += std::string(list.empty() ? "" : ", ") + json_quoted(name);
  KVT_FOR_EACH_KERNEL(KVT_ADD)
#undef KVT_ADD
  return "[" + list + "]";
}

__global__ void __launch_bounds__(1024, 1) whole_processor() {}

// Clusters of 1 to 16 blocks that find their place at once where a block takes a multiprocessor: fewer than processors
// allow, since a cluster stays within one group of them. Empty where there are no clusters.
std::string clusters() {
  constexpr unsigned kMost = 16;
  constexpr int kShared = 128 * 1024;  // more than half of what a multiprocessor has
  std::string list;
  if (!has_clusters()) return "[]";
  cudaFuncSetAttribute(whole_processor, cudaFuncAttributeMaxDynamicSharedMemorySize, kShared);
  cudaFuncSetAttribute(whole_processor, cudaFuncAttributeNonPortableClusterSizeAllowed, 1);
  for (unsigned size = 1; size <= kMost; size++) {
    cudaLaunchAttribute attribute{};
    attribute.id = cudaLaunchAttributeClusterDimension;
    attribute.val.clusterDim = {size, 1, 1};
    cudaLaunchConfig_t config{};
    config.gridDim = dim3(size);
    config.blockDim = dim3(1024);
    config.dynamicSmemBytes = kShared;
    config.attrs = &attribute;
    config.numAttrs = 1;
    int found = 0;
    if (cudaOccupancyMaxActiveClusters(&found, whole_processor, &config) != cudaSuccess) found = 0;
    list += (size > 1 ? ", " : "") + std::to_string(found);
  }
  cudaGetLastError();
  return "[" + list + "]";
}

void add(std::string& json, const char* name, double value) {
  char text[96];
  std::snprintf(text, sizeof text, "%s\"%s\": %.6g", json.size() > 1 ? ", " : "", name, value);
  json += text;
}

}  // namespace

std::string describe_device(int device) {
  cudaDeviceProp properties;
  if (checked(cudaGetDeviceProperties(&properties, device), "probe") != KVT_OK) return "";
  int runtime = 0;
  cudaRuntimeGetVersion(&runtime);
  const double dram = static_cast<double>(sysconf(_SC_PHYS_PAGES)) * static_cast<double>(sysconf(_SC_PAGE_SIZE));
  char numbers[256];
  std::snprintf(numbers, sizeof numbers, "\"units\": %d, \"l2Bytes\": %d, \"hbmBytes\": %zu, \"dramBytes\": %.0f",
                properties.multiProcessorCount, properties.l2CacheSize, properties.totalGlobalMem, dram);
  return "{\"name\": " + json_quoted(properties.name) + ", \"driver\": " + json_quoted(driver_version()) +
         ", \"runtime\": " + json_quoted("CUDA " + version(runtime)) + ", " + numbers + ", \"clusters\": " + clusters() +
         ", \"kernels\": " + kernels() +
         ", \"emulated\": [\"nvme is a file on this machine's disk; the CPU reads it into host memory\"]}";
}

std::string sense_device(kvt_context* context) {
  std::string json = "{";
  if (context->pin_ns > 0) {
    add(json, "pinnedBytes", context->pin_bytes);
    add(json, "pinningNs", context->pin_ns);
  }
  Management& nvml = management();
  const Management::Handle handle = handle_of(context->device);
  if (handle != nullptr) {
    unsigned value = 0;
    unsigned long long reasons = 0;
    const auto ask = [&](int (*function)(Management::Handle, unsigned*), const char* name, double scale) {
      if (function != nullptr && function(handle, &value) == 0) add(json, name, value * scale);
    };
    constexpr unsigned kSmClock = 1, kMemoryClock = 2, kGpuSensor = 0;
    if (nvml.clock != nullptr && nvml.clock(handle, kSmClock, &value) == 0) add(json, "smClockMhz", value);
    if (nvml.clock != nullptr && nvml.clock(handle, kMemoryClock, &value) == 0) add(json, "memoryClockMhz", value);
    if (nvml.temperature != nullptr && nvml.temperature(handle, kGpuSensor, &value) == 0)
      add(json, "temperatureC", value);
    ask(nvml.power, "powerW", 1e-3);
    ask(nvml.link_generation, "pcieGeneration", 1);
    ask(nvml.link_width, "pcieLanes", 1);
    if (nvml.throttle != nullptr && nvml.throttle(handle, &reasons) == 0)
      add(json, "throttleReasons", static_cast<double>(reasons));
  }
  return json + "}";
}

}  // namespace kvt
