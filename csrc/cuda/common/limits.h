// Sizes common to all CUDA kernels. Plain constants, which tools/kernel_tables.py compiles too.
#ifndef PFM_CUDA_COMMON_LIMITS_H_
#define PFM_CUDA_COMMON_LIMITS_H_

namespace pfm::cuda {

constexpr int kElementBytes = 2;     // float16, bfloat16
constexpr int kElementsPerCopy = 8;  // in 16 bytes
constexpr int kFloatBytes = 4;

// Smallest edge of any tile.
constexpr int kSmallestTile = 32;

// Shared memory available to one block on the smallest supported devices (compute capability 8.6, 8.9 and 12.x).
// Every problem has kernels that fit it.
constexpr int kLeastSharedBytes = 99 * 1024;

}  // namespace pfm::cuda

#endif  // PFM_CUDA_COMMON_LIMITS_H_
