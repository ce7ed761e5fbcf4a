// Kernels that run before the pass over key tiles: lse and delta of every row, cleared sums of dquery, and the
// gradient of the sink.
#ifndef PFM_CUDA_BACKWARD_PREPROCESS_H_
#define PFM_CUDA_BACKWARD_PREPROCESS_H_

#include <cstdint>

#include "../common/elements.h"
#include "../common/score_scale.h"
#include "dquery_sums.h"

namespace pfm::cuda {

constexpr int kRowWarps = 8;
constexpr int kSinkThreads = 256;

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

// Clears the sums of dquery of kRowsPerBlock rows, which are contiguous.
PFM_DEVICE inline void ClearSums(const BackwardArguments& arguments, int64_t first_padded_row) {
  const int vectors = kRowsPerBlock * arguments.padded_dim / 4;
  float* const sums = DqueryBlock(arguments, first_padded_row / 16, 0);
  for (int at = ptx::ThreadIndex(); at < vectors; at += kRowWarps * 32) {
    ptx::StoreGlobal(reinterpret_cast<ptx::Vector16*>(sums) + at, {});
  }
}

// Computes lse and delta of every row, and clears the sums of dquery that are needed, in one launch. Grid: (batch,
// head, block of rows), the last one fastest.
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
  if (arguments.ticket != nullptr && ptx::BlockIndex() == 0 && ptx::ThreadIndex() == 0) {
    ptx::StoreGlobal(arguments.ticket, 0);
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

// Sums dsink in a fixed order. One block per query head.
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

}  // namespace pfm::cuda

#endif  // PFM_CUDA_BACKWARD_PREPROCESS_H_
