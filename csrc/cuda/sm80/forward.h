// Forward attention for compute capability 8.0 and later, after FlashAttention-2 (Dao, 2023): a block owns a query
// tile and walks its live key tiles with an online softmax; the output stays in registers.
#ifndef PFM_CUDA_SM80_FORWARD_H_
#define PFM_CUDA_SM80_FORWARD_H_

#include <cstdint>

#include "../common/live_tiles.h"
#include "config.h"
#include "forward_arguments.h"
#include "fragments.h"
#include "score_rules.h"

namespace pfm::cuda::sm80 {

// Two rows per 16-row block and lane (group and group + 8), in units of log2.
template <int kRowBlocks>
struct RowStates {
  float max[kRowBlocks][2];
  float sum[kRowBlocks][2];  // of this lane's columns only, until the end

  // A sink is a score of value zero that every row has seen before its first key.
  PFM_DEVICE void Start(const float* sink) {
    const float start = sink == nullptr ? -ptx::Infinity() : ptx::LoadGlobal(sink) * kLog2E;
    const bool counts = start != -ptx::Infinity() && ptx::LaneIndex() % 4 == 0;
#pragma unroll
    for (int i = 0; i < kRowBlocks; ++i) {
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        max[i][half] = start;
        sum[i][half] = counts ? 1.0f : 0.0f;
      }
    }
  }

  // Scores, in units of log2, to probabilities relative to the new maximum; the sums so far follow it.
  template <int kColumnBlocks, int kOutBlocks>
  PFM_DEVICE void Update(Accumulator (&scores)[kRowBlocks][kColumnBlocks],
                         Accumulator (&out)[kRowBlocks][kOutBlocks]) {
#pragma unroll
    for (int i = 0; i < kRowBlocks; ++i) {
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        float largest = max[i][half];
#pragma unroll
        for (int n = 0; n < kColumnBlocks; ++n) {
          largest = Max(largest, Max(scores[i][n][2 * half], scores[i][n][2 * half + 1]));
        }
        largest = Max(largest, ptx::ShuffleXor(largest, 1));
        largest = Max(largest, ptx::ShuffleXor(largest, 2));
        const float shift = largest == -ptx::Infinity() ? 0.0f : largest;  // exp2(-inf - 0) = 0
        const float rescale = ptx::Exp2(max[i][half] - shift);
        max[i][half] = largest;
        float total = sum[i][half] * rescale;
#pragma unroll
        for (int n = 0; n < kColumnBlocks; ++n) {
#pragma unroll
          for (int e = 2 * half; e < 2 * half + 2; ++e) {
            scores[i][n][e] = ptx::Exp2(scores[i][n][e] - shift);
            total += scores[i][n][e];
          }
        }
        sum[i][half] = total;
#pragma unroll
        for (int n = 0; n < kOutBlocks; ++n) {
          out[i][n][2 * half] *= rescale;
          out[i][n][2 * half + 1] *= rescale;
        }
      }
    }
  }

  PFM_DEVICE void SumLanes() {
#pragma unroll
    for (int i = 0; i < kRowBlocks; ++i) {
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        sum[i][half] += ptx::ShuffleXor(sum[i][half], 1);
        sum[i][half] += ptx::ShuffleXor(sum[i][half], 2);
      }
    }
  }
};

template <class T, int kRow>
struct ForwardKernel {
  static constexpr ForwardTile kTile = kForward[kRow];
  static constexpr int kDim = kTile.head_dim;
  static constexpr int kTileQ = kTile.tile_q;
  static constexpr int kTileK = kTile.tile_k;
  static constexpr int kThreads = kTile.threads();
  static constexpr int kRowBlocks = kTileQ / 16 / kTile.warps;
  static constexpr int kScoreBlocks = kTileK / 8;
  static constexpr int kOutBlocks = kDim / 8;

  // Shared memory: query tile, key tile, value tile.
  static constexpr int kQueryBytes = kTileQ * kDim * kElementBytes;
  static constexpr int kKeyBytes = kTileK * kDim * kElementBytes;
  static_assert(kQueryBytes + 2 * kKeyBytes == kTile.shared_bytes(), "the plan is what the table says");

  using Tiles = LiveTiles<Walk::kKeyTiles, kTileQ, kTileK>;

  struct Item {
    int64_t batch;
    int32_t head, query_tile;
  };

  // Blocks start in the order of their index: the longest query tiles of all heads first.
  PFM_DEVICE static Item ItemOf(const ForwardArguments& arguments, int64_t block) {
    const pfm_params& params = arguments.params;
    const int64_t heads = params.batch * params.heads_q;
    const int64_t batch = block % heads / params.heads_q;
    const int32_t head = static_cast<int32_t>(block % params.heads_q);
    const int64_t rank = arguments.mask.MaskOf(batch, head) * arguments.mask.query_tiles + block / heads;
    return {batch, head, ptx::LoadGlobal(arguments.mask.order + rank)};
  }

  // The copies of the next key tile run during softmax and the product with the values, those of the value tile
  // during the scores.
  PFM_DEVICE static void Run(const ForwardArguments& arguments) {
    const pfm_params& params = arguments.params;
    const Item item = ItemOf(arguments, ptx::BlockIndex());
    const int64_t kv_head = item.head / (params.heads_q / params.heads_kv);
    const int32_t row0 = item.query_tile * kTileQ;
    const int warp_row = ptx::ThreadIndex() / 32 * 16 * kRowBlocks;
    const int dim = static_cast<int>(params.head_dim), dim_v = static_cast<int>(params.head_dim_v);

    const SharedTile<kDim> query = {ptx::DynamicShared()};
    const SharedTile<kDim> key = {query.base + kQueryBytes};
    const SharedTile<kDim> value = {key.base + kKeyBytes};
    const void* keys = RowOf(params.key, item.batch, 0, kv_head);
    const void* values = RowOf(params.value, item.batch, 0, kv_head);
    const auto copy_key = [&](const LiveTile& tile) {
      if (tile.exists()) {
        CopyTile<kTileK, kDim, kThreads>(keys, params.key.stride_seq, static_cast<int64_t>(tile.index) * kTileK,
                                         params.seqlen_k, dim, key);
      }
      ptx::CommitCopies();
    };

    const HeadMask mask(arguments.mask, item.batch, item.head);
    Tiles tiles(mask, params.seqlen_k, item.query_tile);
    LiveTile tile = tiles.Next();
    CopyTile<kTileQ, kDim, kThreads>(RowOf(params.query, item.batch, 0, item.head), params.query.stride_seq, row0,
                                     params.seqlen_q, dim, query);
    copy_key(tile);

    RowStates<kRowBlocks> rows;
    rows.Start(params.learnable_sink == nullptr ? nullptr : params.learnable_sink + item.head);
    Accumulator out[kRowBlocks][kOutBlocks];
    Clear(out);
    const DropoutStream dropout = ReadStream(arguments.dropout, params.seed_offset);
    const float scale = params.softmax_scale * kLog2E;

    while (tile.exists()) {
      const int64_t key0 = static_cast<int64_t>(tile.index) * kTileK;
      ptx::WaitCopies<0>();
      ptx::SyncThreads();  // the key tile is there, and every warp is done with the value tile
      CopyTile<kTileK, kDim, kThreads>(values, params.value.stride_seq, key0, params.seqlen_k, dim_v, value);
      ptx::CommitCopies();
      const LiveTile next = tiles.Next();

      Accumulator scores[kRowBlocks][kScoreBlocks];
      Clear(scores);
      Multiply<kRowBlocks, kScoreBlocks, kDim, T>(query, warp_row, key, scores);
#pragma unroll
      for (int i = 0; i < kRowBlocks; ++i) {
#pragma unroll
        for (int n = 0; n < kScoreBlocks; ++n) {
#pragma unroll
          for (int e = 0; e < 4; ++e) scores[i][n][e] *= scale;
        }
      }
      if (!tile.full) HideScores(mask, row0 + warp_row, key0, scores);

      ptx::WaitCopies<0>();
      ptx::SyncThreads();  // the value tile is there, and every warp is done with the key tile
      copy_key(next);

      rows.Update(scores, out);
      if (params.dropout > 0.0f) {
        const uint32_t batch_head = static_cast<uint32_t>(item.batch * params.heads_q + item.head);
#pragma unroll
        for (int i = 0; i < kRowBlocks; ++i) {
          Overwrite(DroppedBits<kScoreBlocks>(dropout, batch_head, row0 + warp_row + 16 * i, key0), 0.0f, scores[i]);
        }
      }
      MultiplyRegisters<T>(scores, value, out);
      tile = next;
    }
    ptx::WaitCopies<0>();
    Finish(arguments, item, row0 + warp_row, rows, out);
  }

  PFM_DEVICE static void Finish(const ForwardArguments& arguments, const Item& item, int32_t row0,
                                RowStates<kRowBlocks>& rows, const Accumulator (&out)[kRowBlocks][kOutBlocks]) {
    const pfm_params& params = arguments.params;
    rows.SumLanes();
    const float keep_scale = params.dropout > 0.0f ? arguments.dropout.keep_scale : 1.0f;
    StoreRows<T>(out, params.out, item.batch, item.head, row0, params.seqlen_q, 0,
                 static_cast<int>(params.head_dim_v),
                 [&](int i, int half) { return rows.sum[i][half] == 0.0f ? 0.0f : keep_scale / rows.sum[i][half]; });
    if (ptx::LaneIndex() % 4 != 0) return;
    float* lse = params.lse + (item.batch * params.heads_q + item.head) * params.seqlen_q;
#pragma unroll
    for (int i = 0; i < kRowBlocks; ++i) {
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        const int64_t row = row0 + 16 * i + 8 * half + ptx::LaneIndex() / 4;
        if (row >= params.seqlen_q) continue;
        const float sum = rows.sum[i][half];
        ptx::StoreGlobal(lse + row, sum == 0.0f ? -ptx::Infinity() : (rows.max[i][half] + ptx::Log2(sum)) * kLn2);
      }
    }
  }
};

template <class T, int kRow>
PFM_KERNEL_BOUNDS((ForwardKernel<T, kRow>::kThreads), 1)
void Forward(PFM_KERNEL_ARGUMENT ForwardArguments arguments) {
  ForwardKernel<T, kRow>::Run(arguments);
}

}  // namespace pfm::cuda::sm80

#endif  // PFM_CUDA_SM80_FORWARD_H_
