// What this processor is: name, caches, memory, instruction sets, clock and temperature.
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <string>

#include "available.h"
#include "caches.h"
#include "cores.h"
#include "json.h"
#include "machine.h"

namespace kvt {

namespace {

// Values of the lines `key : value` of /proc/cpuinfo.
std::vector<std::string> cpuinfo(const char* key) {
  std::vector<std::string> values;
  std::FILE* file = std::fopen("/proc/cpuinfo", "r");
  if (file == nullptr) return values;
  char line[4096];
  while (std::fgets(line, sizeof line, file) != nullptr) {
    const char* colon = std::strchr(line, ':');
    if (colon == nullptr || std::strncmp(line, key, std::strlen(key)) != 0) continue;
    std::string value(colon[1] == ' ' ? colon + 2 : colon + 1);
    value.erase(value.find_last_not_of(" \n") + 1);
    values.push_back(value);
  }
  std::fclose(file);
  return values;
}

uint64_t memory_bytes() {
  const uint64_t all = static_cast<uint64_t>(sysconf(_SC_PHYS_PAGES)) * static_cast<uint64_t>(sysconf(_SC_PAGESIZE));
  return std::min(all, memory_limit_bytes());
}

// Highest of the machine's temperature sensors, °C; 0 where there is none.
double temperature() {
  double highest = 0;
  for (int zone = 0; zone < 32; zone++) {
    char path[64];
    std::snprintf(path, sizeof path, "/sys/class/thermal/thermal_zone%d/temp", zone);
    std::FILE* file = std::fopen(path, "r");
    if (file == nullptr) break;
    double thousandths;
    if (std::fscanf(file, "%lf", &thousandths) == 1) highest = std::max(highest, thousandths / 1000);
    std::fclose(file);
  }
  return highest;
}

const char* level_name() {
  static const char* const names[] = {"baseline", "AVX2", "AVX-512"};
  return names[processor_level()];
}

kvt_status put(const std::string& text, char* json, size_t capacity) {
  if (text.size() + 1 > capacity) return fail(KVT_INVALID, "%zu bytes are too few for the answer", capacity);
  std::memcpy(json, text.c_str(), text.size() + 1);
  return KVT_OK;
}

std::string describe() {
  const std::vector<std::string> models = cpuinfo("model name");
  const uint64_t last_level = last_level_bytes();
  std::string kernels;
  for (int32_t kernel = 0; kernel < KVT_KERNELS; kernel++)
    if (cpu_kernel_entry(kernel).function[0] != nullptr)
      kernels.append(kernels.empty() ? "" : ",").append(json_quoted(kernel_name(kernel)));
  char numbers[256];
  std::snprintf(numbers, sizeof numbers, "\"units\":%d,\"l2Bytes\":%llu,\"hbmBytes\":%llu,\"dramBytes\":%llu", cores(),
                static_cast<unsigned long long>(last_level), static_cast<unsigned long long>(memory_bytes()),
                static_cast<unsigned long long>(memory_bytes()));
  const std::string cache = std::to_string(last_level >> 20) + " MiB";
  return std::string("{\"name\":") + json_quoted(models.empty() ? "processor" : models[0]) + ",\"driver\":\"\",\"runtime\":" +
         json_quoted(std::string("C++ ") + __VERSION__ + ", " + level_name()) + "," + numbers + ",\"kernels\":[" +
         kernels + "],\"emulated\":[" +
         json_quoted("hbm is host memory as dram is, faster only while it stays in the last-level cache of " + cache) +
         "," + json_quoted("h2d and d2h are one thread each that copies; it takes a core from the kernels") + "," +
         json_quoted("nvme is a file, read around the page cache where its file system allows that") + "]}";
}

}  // namespace
}  // namespace kvt

using namespace kvt;

extern "C" kvt_status kvt_probe(char* json, size_t capacity) {
  try {
    return put(describe(), json, capacity);
  } catch (...) {
    return fail(KVT_OUT_OF_HOST_MEMORY, "no memory");
  }
}

extern "C" kvt_status kvt_sense(kvt_context*, char* json, size_t capacity) {
  try {
    const std::vector<std::string> clocks = cpuinfo("cpu MHz");
    double sum = 0;
    for (const std::string& clock : clocks) sum += std::atof(clock.c_str());
    double load[1] = {0};
    if (getloadavg(load, 1) != 1) load[0] = 0;
    char text[256];
    int at = std::snprintf(text, sizeof text, "{\"load\":%.2f", load[0]);
    if (sum > 0) at += std::snprintf(text + at, sizeof text - at, ",\"clockMhz\":%.0f", sum / clocks.size());
    if (temperature() > 0) at += std::snprintf(text + at, sizeof text - at, ",\"temperatureC\":%.1f", temperature());
    std::snprintf(text + at, sizeof text - at, "}");
    return put(text, json, capacity);
  } catch (...) {
    return fail(KVT_OUT_OF_HOST_MEMORY, "no memory");
  }
}
