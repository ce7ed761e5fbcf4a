// Asks the operating system to back the workspace and the outputs with 2 MiB pages where it has not done so: fewer
// page faults on fresh memory, fewer TLB misses, and packed tiles that do not collide in L2. Only a hint; without it
// the results are the same.
#ifndef PFM_CPU_HUGE_PAGES_H_
#define PFM_CPU_HUGE_PAGES_H_

#include <cstddef>

#include "../flashmask.h"

namespace pfm::cpu {

void AdviseHugePages(void* base, size_t size);

// The memory of a [batch, seqlen, heads, dim] tensor; none if it is absent.
void AdviseHugePagesUnder(const pfm_tensor& tensor, const pfm_params& params, int64_t seqlen, int64_t heads,
                          int64_t dim);

}  // namespace pfm::cpu

#endif  // PFM_CPU_HUGE_PAGES_H_
