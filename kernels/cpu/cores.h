// Processors that this process may use: those that it may run on, and no more than its control group's share of time lets
// run all the while; beyond that share all threads of the group are stopped until the next period.
#ifndef KVTIER_CPU_CORES_H
#define KVTIER_CPU_CORES_H

#include <vector>

namespace kvt {

// Numbers of the processors that it may run on; empty where the operating system does not tell.
std::vector<int> usable_processors();

// One at least.
int cores();

}  // namespace kvt

#endif
