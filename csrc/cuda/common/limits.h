// Sizes that all CUDA kernels share; plain constants, which tools read too.
#ifndef PFM_CUDA_COMMON_LIMITS_H_
#define PFM_CUDA_COMMON_LIMITS_H_

namespace pfm::cuda {

constexpr int kElementBytes = 2;     // float16, bfloat16
constexpr int kElementsPerCopy = 8;  // in 16 bytes
constexpr int kFloatBytes = 4;

// Of a tile, on either side.
constexpr int kSmallestTile = 32;

// Shared memory that one block may ask for on the least capable card (compute capability 8.6, 8.9, 12.x). Every
// problem has kernels that fit it.
constexpr int kLeastSharedBytes = 99 * 1024;

}  // namespace pfm::cuda

#endif  // PFM_CUDA_COMMON_LIMITS_H_
