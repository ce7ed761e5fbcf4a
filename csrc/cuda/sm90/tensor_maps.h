// Tensor maps of the [B, S, H, D] tensors of the C ABI, on the host: dimensions D, S, H, B with the strides of the
// tensor, and boxes of 64 columns in the 128-byte swizzle.
#ifndef PFM_CUDA_SM90_TENSOR_MAPS_H_
#define PFM_CUDA_SM90_TENSOR_MAPS_H_

#include "../../flashmask.h"
#include "../ptx/tensor_map.h"
#include "smem_tile.h"

namespace pfm::cuda::sm90 {

struct TensorSize {
  int64_t batch, seqlen, heads, head_dim;
};

inline ptx::TensorShape ShapeOf(const pfm_tensor& tensor, const TensorSize& size, int32_t dtype, int box_rows) {
  ptx::TensorShape shape = {};
  shape.base = tensor.data;
  shape.type = dtype == PFM_BFLOAT16 ? ptx::ElementType::kBFloat16 : ptx::ElementType::kFloat16;
  shape.rank = 4;
  const int64_t sizes[4] = {size.head_dim, size.seqlen, size.heads, size.batch};
  const int64_t strides[4] = {1, tensor.stride_seq, tensor.stride_head, tensor.stride_batch};
  for (int d = 0; d < 4; ++d) {
    shape.size[d] = sizes[d];
    // The stride of a dimension of size 1 is never used and may have any value.
    shape.stride[d] = d > 0 && sizes[d] == 1 ? kRowBytes : strides[d] * kElementBytes;
    shape.box[d] = 1;
  }
  shape.box[0] = kBlockColumns;
  shape.box[1] = box_rows;
  shape.swizzle = ptx::Swizzle::k128;
  return shape;
}

// Whether a tensor map can describe the tensor: strides must be positive and below 2^40 bytes. The base may be null.
inline bool HasMap(const pfm_tensor& tensor, const TensorSize& size, int32_t dtype, int box_rows) {
  const ptx::TensorShape shape = ShapeOf(tensor, size, dtype, box_rows);
  for (int d = 1; d < shape.rank; ++d) {
    if (shape.stride[d] <= 0) return false;
  }
  return ptx::ComplaintAbout(shape) == nullptr;
}

inline ptx::LaunchStatus EncodeMap(ptx::TensorMap* map, const pfm_tensor& tensor, const TensorSize& size,
                                   int32_t dtype, int box_rows) {
  return ptx::EncodeTensorMap(map, ShapeOf(tensor, size, dtype, box_rows));
}

}  // namespace pfm::cuda::sm90

#endif  // PFM_CUDA_SM90_TENSOR_MAPS_H_
