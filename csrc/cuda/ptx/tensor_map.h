// Tensor maps: descriptions of global tensors for TMA, built on the host and passed to kernels by value.
#ifndef PFM_CUDA_PTX_TENSOR_MAP_H_
#define PFM_CUDA_PTX_TENSOR_MAP_H_

#include <cstdint>

#include "launch.h"

#if !defined(PFM_EMULATOR)
#include <cuda.h>
#endif

namespace pfm::cuda::ptx {

constexpr int kMaxRank = 5;

enum class ElementType { kFloat16, kBFloat16, kFloat32, kInt32 };

// Within 8 rows of the span, 16-byte chunk c of row r is at chunk c ^ r (128), c ^ r / 2 (64), c ^ r / 4 (32).
enum class Swizzle { kNone, k32, k64, k128 };

constexpr int SwizzleSpan(Swizzle swizzle) {
  return swizzle == Swizzle::k128 ? 128 : swizzle == Swizzle::k64 ? 64 : swizzle == Swizzle::k32 ? 32 : 0;
}

constexpr int ElementBytes(ElementType type) {
  return type == ElementType::kFloat16 || type == ElementType::kBFloat16 ? 2 : 4;
}

// Innermost dimension first.
struct TensorShape {
  const void* base;
  ElementType type;
  int rank;                  // 2..5
  int64_t size[kMaxRank];    // elements
  int64_t stride[kMaxRank];  // bytes; dimension 0: size of an element
  int box[kMaxRank];         // elements
  Swizzle swizzle;
};

// Error message for a shape that no tensor map can describe, or null.
inline const char* ComplaintAbout(const TensorShape& shape) {
  if (shape.rank < 2 || shape.rank > kMaxRank) return "tensor map: expected 2 to 5 dimensions";
  if (reinterpret_cast<uintptr_t>(shape.base) % 16 != 0) return "tensor map: the base is no multiple of 16";
  for (int d = 0; d < shape.rank; ++d) {
    if (shape.size[d] < 1 || shape.size[d] > int64_t{1} << 32) return "tensor map: expected sizes of 1 to 2^32";
    if (shape.box[d] < 1 || shape.box[d] > 256) return "tensor map: expected a box of 1 to 256 elements";
    if (d == 0) continue;
    if (shape.stride[d] % 16 != 0 || shape.stride[d] < 0 || shape.stride[d] >= int64_t{1} << 40) {
      return "tensor map: expected strides below 2^40 that are multiples of 16 bytes";
    }
  }
  const int row_bytes = shape.box[0] * ElementBytes(shape.type), span = SwizzleSpan(shape.swizzle);
  if (row_bytes % 16 != 0) return "tensor map: the box is no multiple of 16 bytes wide";
  if (span != 0 && row_bytes != span) return "tensor map: the box is not as wide as the swizzle";
  return nullptr;
}

#if defined(PFM_EMULATOR)
struct alignas(64) TensorMap {
  TensorShape shape;
};
#else
using TensorMap = CUtensorMap;
#endif

// Fails if ComplaintAbout finds an error or the driver rejects the shape.
inline LaunchStatus EncodeTensorMap(TensorMap* map, const TensorShape& shape);

}  // namespace pfm::cuda::ptx

#endif  // PFM_CUDA_PTX_TENSOR_MAP_H_
