// Asks the kernel to back the workspace with 2 MiB pages where it has not done so: fewer page faults on fresh memory,
// fewer TLB misses, and packed tiles that do not collide in L2. Only a hint; without it the results are the same.
#ifndef PFM_CPU_HUGE_PAGES_H_
#define PFM_CPU_HUGE_PAGES_H_

#include <cstddef>

namespace pfm::cpu {

void AdviseHugePages(void* base, size_t size);

}  // namespace pfm::cpu

#endif  // PFM_CPU_HUGE_PAGES_H_
