// dquery in a pass of its own: a block owns a query tile and sums over its live key tiles in ascending order, so the
// result is the same in every run. It computes scores and their gradients once more, and needs no workspace.
#ifndef PFM_CUDA_SM80_QUERY_GRADIENT_H_
#define PFM_CUDA_SM80_QUERY_GRADIENT_H_

#include <cstdint>

#include "../common/live_tiles.h"
#include "backward_rows.h"
#include "config.h"
#include "fragments.h"
#include "score_rules.h"

namespace pfm::cuda::sm80 {

template <class T, int kRow>
struct QueryGradientKernel {
  static constexpr QueryGradientTile kTile = kQueryGradient[kRow];
  static constexpr int kDim = kTile.head_dim;
  static constexpr int kTileQ = kTile.tile_q;
  static constexpr int kTileK = kTile.tile_k;
  static constexpr int kThreads = kTile.threads();
  static constexpr int kScoreBlocks = kTileK / 8;

  // Shared memory: query, dout, key and value tile.
  static constexpr int kQueryBytes = kTileQ * kDim * kElementBytes;
  static constexpr int kKeyBytes = kTileK * kDim * kElementBytes;
  static_assert(2 * kQueryBytes + 2 * kKeyBytes == kTile.shared_bytes(), "the plan is what the table says");

  using Tiles = LiveTiles<Walk::kKeyTiles, kTileQ, kTileK>;
  using Scores = Accumulator[1][kScoreBlocks];

  // scores: S in, scratch out; dscores: dP in, dS out. Rows are the 16 queries of this warp from row0 on.
  PFM_DEVICE static void Softmax(const BackwardArguments& arguments, const DropoutStream& dropout,
                                 uint32_t batch_head, const HeadMask& mask, bool full, int32_t row0, int64_t key0,
                                 const float (&lse)[2], const float (&delta)[2], Scores& scores, Scores& dscores) {
    const pfm_params& params = arguments.params;
    const float scale = params.softmax_scale * kLog2E;
#pragma unroll
    for (int n = 0; n < kScoreBlocks; ++n) {
#pragma unroll
      for (int e = 0; e < 4; ++e) scores[0][n][e] *= scale;
    }
    if (!full) HideScores(mask, row0, key0, scores);
    uint32_t dropped = 0;
    float keep_scale = 1.0f;
    if (params.dropout > 0.0f) {
      dropped = DroppedBits<kScoreBlocks>(dropout, batch_head, row0, key0);
      keep_scale = dropout.keep_scale;
    }
#pragma unroll
    for (int n = 0; n < kScoreBlocks; ++n) {
#pragma unroll
      for (int e = 0; e < 4; ++e) {
        const bool keeps = (dropped >> (kBitsPerBlock * n + e) & 1) == 0;
        const float dprobability = keeps ? dscores[0][n][e] * keep_scale : 0.0f;
        dscores[0][n][e] = ptx::Exp2(scores[0][n][e] - lse[e / 2]) * (dprobability - delta[e / 2]);
      }
    }
  }

  PFM_DEVICE static void Run(const BackwardArguments& arguments) {
    const pfm_params& params = arguments.params;
    const int64_t heads = params.batch * params.heads_q;
    const int64_t batch_head = ptx::BlockIndex() % heads;
    const int64_t batch = batch_head / params.heads_q;
    const int32_t head = static_cast<int32_t>(batch_head % params.heads_q);
    const int64_t kv_head = head / (params.heads_q / params.heads_kv);
    const int64_t rank = arguments.mask.MaskOf(batch, head) * arguments.mask.query_tiles + ptx::BlockIndex() / heads;
    const int32_t query_tile = ptx::LoadGlobal(arguments.mask.order + rank);
    const int32_t row0 = query_tile * kTileQ;
    const int warp_row = ptx::ThreadIndex() / 32 * 16;
    const int dim = static_cast<int>(params.head_dim), dim_v = static_cast<int>(params.head_dim_v);

    const SharedTile<kDim> query = {ptx::DynamicShared()};
    const SharedTile<kDim> dout = {query.base + kQueryBytes};
    const SharedTile<kDim> key = {dout.base + kQueryBytes};
    const SharedTile<kDim> value = {key.base + kKeyBytes};
    const auto copy_keys = [&](const LiveTile& tile) {
      if (!tile.exists()) return;
      const int64_t key0 = static_cast<int64_t>(tile.index) * kTileK;
      CopyTile<kTileK, kDim, kThreads>(RowOf(params.key, batch, 0, kv_head), params.key.stride_seq, key0,
                                       params.seqlen_k, dim, key);
      CopyTile<kTileK, kDim, kThreads>(RowOf(params.value, batch, 0, kv_head), params.value.stride_seq, key0,
                                       params.seqlen_k, dim_v, value);
      ptx::CommitCopies();
    };

    const char* queries = RowOf(params.query, batch, 0, head);
    const bool has_dout = params.dout.data != nullptr;
    CopyTile<kTileQ, kDim, kThreads>(queries, params.query.stride_seq, row0, params.seqlen_q, dim, query);
    CopyTile<kTileQ, kDim, kThreads>(has_dout ? RowOf(params.dout, batch, 0, head) : queries,
                                     has_dout ? params.dout.stride_seq : 0, row0, has_dout ? params.seqlen_q : 0,
                                     dim_v, dout);
    ptx::CommitCopies();
    const HeadMask mask(arguments.mask, batch, head);
    Tiles tiles(mask, params.seqlen_k, query_tile);
    LiveTile tile = tiles.Next();
    copy_keys(tile);

    float lse[2], delta[2];
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int64_t at = batch_head * arguments.padded_rows + row0 + warp_row + 8 * half + ptx::LaneIndex() / 4;
      lse[half] = ptx::LoadGlobal(arguments.lse + at);
      delta[half] = ptx::LoadGlobal(arguments.delta + at);
    }
    const DropoutStream dropout = ReadStream(arguments.dropout, params.seed_offset);
    Accumulator dquery[1][kDim / 8];
    Clear(dquery);
    while (tile.exists()) {
      ptx::WaitCopies<0>();
      ptx::SyncThreads();  // the key and the value tile are there
      const int64_t key0 = static_cast<int64_t>(tile.index) * kTileK;
      Scores scores, dscores;
      Clear(scores);
      Clear(dscores);
      Multiply<1, kScoreBlocks, kDim, T>(query, warp_row, key, scores);
      Multiply<1, kScoreBlocks, kDim, T>(dout, warp_row, value, dscores);
      Softmax(arguments, dropout, static_cast<uint32_t>(batch_head), mask, tile.full, row0 + warp_row, key0, lse,
              delta, scores, dscores);
      MultiplyRegisters<T>(dscores, key, dquery);
      tile = tiles.Next();
      ptx::SyncThreads();  // every warp is done with the key and the value tile
      copy_keys(tile);
    }
    ptx::WaitCopies<0>();
    StoreRows<T>(dquery, params.dquery, batch, head, row0 + warp_row, params.seqlen_q, 0, dim,
                 [&](int, int) { return params.softmax_scale; });
  }
};

template <class T, int kRow>
PFM_KERNEL_BOUNDS((QueryGradientKernel<T, kRow>::kThreads), 1)
void QueryGradient(PFM_KERNEL_ARGUMENT BackwardArguments arguments) {
  QueryGradientKernel<T, kRow>::Run(arguments);
}

}  // namespace pfm::cuda::sm80

#endif  // PFM_CUDA_SM80_QUERY_GRADIENT_H_
