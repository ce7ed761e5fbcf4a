#include "huge_pages.h"

#include <cstdint>

#include "tensor_access.h"

#if defined(__linux__)
#include <sys/mman.h>
#endif

namespace pfm::cpu {

void AdviseHugePages([[maybe_unused]] void* base, [[maybe_unused]] size_t size) {
#if defined(MADV_HUGEPAGE)
  constexpr uintptr_t kHugePage = uintptr_t{2} << 20;
  const uintptr_t begin = (reinterpret_cast<uintptr_t>(base) + kHugePage - 1) / kHugePage * kHugePage;
  const uintptr_t end = (reinterpret_cast<uintptr_t>(base) + size) / kHugePage * kHugePage;
  if (begin < end) madvise(reinterpret_cast<void*>(begin), end - begin, MADV_HUGEPAGE);
#endif
}

void AdviseHugePagesUnder(const pfm_tensor& tensor, const pfm_params& params, int64_t seqlen, int64_t heads,
                          int64_t dim) {
  if (tensor.data == nullptr || params.batch * seqlen * heads * dim == 0) return;
  const char* begin = static_cast<const char*>(tensor.data);
  const char* last_row = static_cast<const char*>(At(tensor, params.dtype, params.batch - 1, seqlen - 1, heads - 1));
  const int64_t row = dim * (params.dtype == PFM_FLOAT32 ? 4 : 2);
  AdviseHugePages(tensor.data, static_cast<size_t>(last_row + row - begin));
}

}  // namespace pfm::cpu
