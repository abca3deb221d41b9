// See cores.h.
#include "cores.h"

#include <sched.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <limits>
#include <thread>

namespace kvt {
namespace {

// The two numbers of a file, or the first ones of two files; false where there are none ("max").
bool read_share(const char* quota_path, const char* period_path, double* quota, double* period) {
  std::FILE* file = std::fopen(quota_path, "r");
  if (file == nullptr) return false;
  const int found = std::fscanf(file, "%lf %lf", quota, period);
  std::fclose(file);
  if (found == 2) return true;
  if (found != 1 || period_path == nullptr) return false;
  file = std::fopen(period_path, "r");
  if (file == nullptr) return false;
  const bool has_period = std::fscanf(file, "%lf", period) == 1;
  std::fclose(file);
  return has_period;
}

// Processors' worth of time that the control group grants, of either version of the interface.
double granted_processors() {
  double quota, period;
  if ((read_share("/sys/fs/cgroup/cpu.max", nullptr, &quota, &period) ||
       read_share("/sys/fs/cgroup/cpu/cpu.cfs_quota_us", "/sys/fs/cgroup/cpu/cpu.cfs_period_us", &quota, &period)) &&
      quota > 0 && period > 0)
    return quota / period;
  return std::numeric_limits<double>::infinity();
}

}  // namespace

std::vector<int> usable_processors() {
  std::vector<int> usable;
#ifdef __linux__
  cpu_set_t set;
  if (sched_getaffinity(0, sizeof set, &set) == 0)
    for (int processor = 0; processor < CPU_SETSIZE; processor++)
      if (CPU_ISSET(processor, &set)) usable.push_back(processor);
#endif
  return usable;
}

int cores() {
  const size_t usable = usable_processors().size();
  const double most = usable > 0 ? static_cast<double>(usable) : static_cast<double>(std::thread::hardware_concurrency());
  return std::max(1, static_cast<int>(std::min(most, std::ceil(granted_processors()))));
}

}  // namespace kvt
