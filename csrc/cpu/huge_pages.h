// Hints to the operating system to back the workspace and the outputs with 2 MiB pages: fewer page faults on fresh
// memory, fewer TLB misses, and fewer L2 conflicts between packed tiles. Results do not depend on it.
#ifndef PFM_CPU_HUGE_PAGES_H_
#define PFM_CPU_HUGE_PAGES_H_

#include <cstddef>

#include "../flashmask.h"

namespace pfm::cpu {

void AdviseHugePages(void* base, size_t size);

// Gives the hint for the memory of a [batch, seqlen, heads, dim] tensor, if it is present.
void AdviseHugePagesUnder(const pfm_tensor& tensor, const pfm_params& params, int64_t seqlen, int64_t heads,
                          int64_t dim);

}  // namespace pfm::cpu

#endif  // PFM_CPU_HUGE_PAGES_H_
