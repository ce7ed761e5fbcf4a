// Kernels that run after the pass over key tiles: they convert the float32 sums of dquery, dkey and dvalue to the
// element type of the tensors.
#ifndef PFM_CUDA_BACKWARD_POSTPROCESS_H_
#define PFM_CUDA_BACKWARD_POSTPROCESS_H_

#include <cstdint>

#include "../common/elements.h"
#include "dquery_sums.h"

namespace pfm::cuda {

constexpr int kConvertThreads = 256;

// Writes dquery: the float32 sums times softmax_scale, zeros where no key tile added any. One thread per 8 columns.
// kInQuads: the sums lie in quads, whatever this kernel is compiled for; otherwise in the order of kernels compiled
// for the same architectures.
template <class T, bool kInQuads>
PFM_KERNEL_BOUNDS(kConvertThreads, 1)
void ConvertQueryGradient(PFM_KERNEL_ARGUMENT BackwardArguments arguments) {
  const pfm_params& params = arguments.params;
  const int64_t chunks = params.head_dim / kElementsPerCopy;
  const int64_t item = static_cast<int64_t>(ptx::BlockIndex()) * kConvertThreads + ptx::ThreadIndex();
  const int64_t chunk = item % chunks;
  const int64_t row = item / chunks % params.seqlen_q;
  const int64_t batch_head = item / chunks / params.seqlen_q;
  if (batch_head >= params.batch * params.heads_q) return;
  const int64_t batch = batch_head / params.heads_q, head = batch_head % params.heads_q;
  ptx::Vector16 packed = {};
  if (IsReached(arguments, batch, head, row)) {
    const int64_t padded_row = batch_head * arguments.padded_rows + row;
    const float* block = DqueryBlock(arguments, padded_row / 16, static_cast<int>(chunk));
    float sums[8];
    LoadBlockRow(block, kInQuads || ptx::HasVectorReductions(), static_cast<int>(row % 16), sums);
#pragma unroll
    for (int p = 0; p < 4; ++p) {
      packed.word[p] = ptx::Pack<T>(sums[2 * p] * params.softmax_scale, sums[2 * p + 1] * params.softmax_scale);
    }
  }
  char* out = RowOf(params.dquery, batch, row, head);
  ptx::StoreGlobal(reinterpret_cast<ptx::Vector16*>(out) + chunk, packed);
}

// dkey or dvalue and the parts it is summed from.
struct SumPartsArguments {
  BackwardArguments backward;
  const float* parts;
  pfm_tensor sum;
  int64_t dim;
  float scale;
};

// Sums the parts in ascending order of their split. One thread per 8 columns.
template <class T>
PFM_KERNEL_BOUNDS(kConvertThreads, 1)
void SumParts(PFM_KERNEL_ARGUMENT SumPartsArguments arguments) {
  const pfm_params& params = arguments.backward.params;
  const int64_t chunks = arguments.dim / kElementsPerCopy;
  const int64_t item = static_cast<int64_t>(ptx::BlockIndex()) * kConvertThreads + ptx::ThreadIndex();
  const int64_t chunk = item % chunks;
  const int64_t key = item / chunks % params.seqlen_k;
  const int64_t batch_head = item / chunks / params.seqlen_k;
  const int64_t kv_heads = params.batch * params.heads_kv;
  if (batch_head >= kv_heads) return;
  FloatPair sums[4] = {};
  for (int64_t split = 0; split < arguments.backward.splits; ++split) {
    const int64_t row = (split * kv_heads + batch_head) * arguments.backward.mask.padded_keys + key;
    const float* part = arguments.parts + row * arguments.backward.padded_dim + chunk * kElementsPerCopy;
#pragma unroll
    for (int p = 0; p < 4; ++p) {
      const FloatPair pair = ptx::LoadGlobal(reinterpret_cast<const FloatPair*>(part) + p);
      sums[p].first += pair.first;
      sums[p].second += pair.second;
    }
  }
  ptx::Vector16 packed;
#pragma unroll
  for (int p = 0; p < 4; ++p) {
    packed.word[p] = ptx::Pack<T>(sums[p].first * arguments.scale, sums[p].second * arguments.scale);
  }
  char* out = RowOf(arguments.sum, batch_head / params.heads_kv, key, batch_head % params.heads_kv);
  ptx::StoreGlobal(reinterpret_cast<ptx::Vector16*>(out) + chunk, packed);
}

}  // namespace pfm::cuda

#endif  // PFM_CUDA_BACKWARD_POSTPROCESS_H_
