// Before and after the backward kernels: per-row numbers of the softmax, the gradient of the sink, sums of dquery,
// dkey and dvalue to their type.
#ifndef PFM_CUDA_SM80_BACKWARD_ROWS_H_
#define PFM_CUDA_SM80_BACKWARD_ROWS_H_

#include <cstdint>

#include "backward_arguments.h"
#include "fragments.h"
#include "score_rules.h"

namespace pfm::cuda::sm80 {

constexpr int kRowWarps = 8;
constexpr int kSinkThreads = 256;
constexpr int kConvertThreads = 256;

// Two neighbouring rows.
struct alignas(8) FloatPair {
  float first, second;
};

PFM_DEVICE inline float DotOfChunk(const ptx::Vector16& a, const ptx::Vector16& b, int32_t dtype) {
  float sum = 0.0f;
#pragma unroll
  for (int w = 0; w < 4; ++w) {
    float a0, a1, b0, b1;
    if (dtype == PFM_BFLOAT16) {
      ptx::Unpack<ptx::BFloat16>(a.word[w], &a0, &a1);
      ptx::Unpack<ptx::BFloat16>(b.word[w], &b0, &b1);
    } else {
      ptx::Unpack<ptx::Float16>(a.word[w], &a0, &a1);
      ptx::Unpack<ptx::Float16>(b.word[w], &b0, &b1);
    }
    sum += a0 * b0 + a1 * b1;
  }
  return sum;
}

// One warp per row, one 16-byte chunk per lane: 256 columns at most.
PFM_DEVICE inline float RowDelta(const pfm_params& params, int64_t batch, int64_t head, int64_t row) {
  float sum = 0.0f;
  const int chunk = ptx::LaneIndex();
  if (params.dout.data != nullptr && chunk * kElementsPerCopy < params.head_dim_v) {
    const auto load = [&](const pfm_tensor& tensor) {
      return ptx::LoadGlobal(reinterpret_cast<const ptx::Vector16*>(RowOf(tensor, batch, row, head)) + chunk);
    };
    sum = DotOfChunk(load(params.dout), load(params.out), params.dtype);
  }
#pragma unroll
  for (int lanes = 16; lanes > 0; lanes /= 2) sum += ptx::ShuffleXor(sum, lanes);
  return sum;
}

// The sums of dquery of kRowsPerBlock rows, which lie one after the other.
PFM_DEVICE inline void ClearSums(const BackwardArguments& arguments, int64_t first_padded_row) {
  const int vectors = kRowsPerBlock * arguments.padded_dim / 4;
  float* const sums = DqueryFragment(arguments, first_padded_row / 16, 0, 0);
  for (int at = ptx::ThreadIndex(); at < vectors; at += kRowWarps * 32) {
    ptx::StoreGlobal(reinterpret_cast<ptx::Vector16*>(sums) + at, {});
  }
}

// Grid: (batch, head, block of rows), the last one fastest. Row sums, and the sums of dquery of these rows cleared
// where they are needed: one launch for both.
PFM_KERNEL_BOUNDS(kRowWarps * 32, 1) void PrepareRows(PFM_KERNEL_ARGUMENT BackwardArguments arguments) {
  const pfm_params& params = arguments.params;
  const int64_t batch_head = ptx::BlockIndex() / arguments.row_blocks;
  const int64_t first = ptx::BlockIndex() % arguments.row_blocks * static_cast<int64_t>(kRowsPerBlock);
  const int64_t batch = batch_head / params.heads_q;
  const int64_t head = batch_head % params.heads_q;
  const int warp = ptx::ThreadIndex() / 32;
  if (arguments.dquery != nullptr && IsReached(arguments, batch, head, first)) {
    ClearSums(arguments, batch_head * arguments.padded_rows + first);
    if (arguments.turns != nullptr && ptx::ThreadIndex() == 0) {
      ptx::StoreGlobal(arguments.turns + ptx::BlockIndex(), 0);
    }
  }
  float dsink = 0.0f;
  for (int64_t row = first + warp; row < first + kRowsPerBlock; row += kRowWarps) {
    float lse = ptx::Infinity();
    float delta = 0.0f;
    if (row < params.seqlen_q) {
      const float given = ptx::LoadGlobal(params.lse + batch_head * params.seqlen_q + row);
      delta = RowDelta(params, batch, head, row);
      if (given != -ptx::Infinity()) {
        lse = given * kLog2E;
        if (params.dlse != nullptr) delta -= ptx::LoadGlobal(params.dlse + batch_head * params.seqlen_q + row);
        if (params.dsink != nullptr) {
          dsink -= ptx::Exp2((ptx::LoadGlobal(params.learnable_sink + head) - given) * kLog2E) * delta;
        }
      }
    }
    if (ptx::LaneIndex() == 0) {
      ptx::StoreGlobal(arguments.lse + batch_head * arguments.padded_rows + row, lse);
      ptx::StoreGlobal(arguments.delta + batch_head * arguments.padded_rows + row, delta);
    }
  }
  if (params.dsink == nullptr) return;
  const ptx::SharedAddress words = ptx::DynamicShared();
  if (ptx::LaneIndex() == 0) ptx::StoreShared(words + 4 * warp, dsink);
  ptx::SyncThreads();
  if (ptx::ThreadIndex() != 0) return;
  float sum = 0.0f;
  for (int w = 0; w < kRowWarps; ++w) sum += ptx::LoadShared<float>(words + 4 * w);
  ptx::StoreGlobal(arguments.dsink + ptx::BlockIndex(), sum);
}

// One block per query head; a fixed order of additions.
PFM_KERNEL_BOUNDS(kSinkThreads, 1) void SumSink(PFM_KERNEL_ARGUMENT BackwardArguments arguments) {
  const pfm_params& params = arguments.params;
  const int64_t head = ptx::BlockIndex();
  const int thread = ptx::ThreadIndex();
  float sum = 0.0f;
  for (int64_t batch = 0; batch < params.batch; ++batch) {
    const float* partial = arguments.dsink + (batch * params.heads_q + head) * arguments.row_blocks;
    for (int64_t block = thread; block < arguments.row_blocks; block += kSinkThreads) {
      sum += ptx::LoadGlobal(partial + block);
    }
  }
  const ptx::SharedAddress words = ptx::DynamicShared();
  ptx::StoreShared(words + 4 * thread, sum);
  for (int step = kSinkThreads / 2; step > 0; step /= 2) {
    ptx::SyncThreads();
    if (thread < step) {
      const float other = ptx::LoadShared<float>(words + 4 * (thread + step));
      sum += other;
      ptx::StoreShared(words + 4 * thread, sum);
    }
  }
  if (thread == 0) ptx::StoreGlobal(params.dsink + head, sum);
}

// The float32 sums times softmax_scale to dquery, zeros where there are none: one thread per 8 columns.
template <class T>
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
    // Row r of a block is the group r % 8 of four lanes, two columns each.
    const int64_t padded_row = batch_head * arguments.padded_rows + row;
    const int first_lane = static_cast<int>(row % 8) * 4;
    const int half = static_cast<int>(row % 16) / 8;
#pragma unroll
    for (int quad = 0; quad < 4; ++quad) {
      const float* sums = DqueryFragment(arguments, padded_row / 16, static_cast<int>(chunk), first_lane + quad);
      const FloatPair pair = ptx::LoadGlobal(reinterpret_cast<const FloatPair*>(sums) + half);
      packed.word[quad] = ptx::Pack<T>(pair.first * params.softmax_scale, pair.second * params.softmax_scale);
    }
  }
  char* out = RowOf(params.dquery, batch, row, head);
  ptx::StoreGlobal(reinterpret_cast<ptx::Vector16*>(out) + chunk, packed);
}

// One of dkey and dvalue from its parts.
struct SumPartsArguments {
  BackwardArguments backward;
  const float* parts;
  pfm_tensor sum;
  int64_t dim;
  float scale;
};

// One thread per 8 columns; splits in ascending order.
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

}  // namespace pfm::cuda::sm80

#endif  // PFM_CUDA_SM80_BACKWARD_ROWS_H_
