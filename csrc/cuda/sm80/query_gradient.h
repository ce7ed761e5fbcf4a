// dquery in a separate pass: a block owns a query tile and sums over its key tiles in ascending order, so the result
// is the same in every run. Recomputes scores and their gradients, and needs no sums in the workspace.
#ifndef PFM_CUDA_SM80_QUERY_GRADIENT_H_
#define PFM_CUDA_SM80_QUERY_GRADIENT_H_

#include <cstdint>

#include "../backward/backward_arguments.h"
#include "../common/candidate_tiles.h"
#include "../common/shared_columns.h"
#include "config.h"
#include "fragments.h"
#include "mask_dropout.h"

namespace pfm::cuda::sm80 {

template <class T, int kRow>
struct QueryGradientKernel {
  static constexpr QueryGradientTile kTile = kQueryGradient[kRow];
  static constexpr int kDim = kTile.head_dim;
  static constexpr int kDimV = kTile.head_dim_v;
  static constexpr int kTileQ = kTile.tile_q;
  static constexpr int kTileK = kTile.tile_k;
  static constexpr int kThreads = kTile.threads();
  static constexpr int kScoreBlocks = kTileK / 8;

  // Shared memory: query, dout, key and value tile, columns of the key tile.
  static constexpr int kQueryBytes = kTileQ * row_bytes(kDim);
  static constexpr int kDoutBytes = kTileQ * row_bytes(kDimV);
  static constexpr int kKeyBytes = kTileK * row_bytes(kDim);
  static constexpr int kValueBytes = kTileK * row_bytes(kDimV);
  using Columns = SharedColumns<kTileK>;
  static_assert(kQueryBytes + kDoutBytes + kKeyBytes + kValueBytes + Columns::kBytes == kTile.shared_bytes(),
                "the plan is what the table says");

  using Tiles = CandidateTiles<Walk::kKeyTiles, kTileQ, kTileK>;
  using Scores = Accumulator[1][kScoreBlocks];

  // Computes dS, rounded, from S and dP. Rows are the 16 queries of this warp from row0 on.
  PFM_DEVICE static void Softmax(const BackwardArguments& arguments, uint32_t batch_head, int32_t row0, int32_t key0,
                                 const float (&lse)[2], const float (&delta)[2], const Scores& scores,
                                 const Scores& dprobabilities, Packed<1, kScoreBlocks>& dscores) {
    const pfm_params& params = arguments.params;
    const float factor = ScoreScale(params.softmax_scale).factor;
    uint32_t dropped = 0;
    float keep_scale = 1.0f;
    if (params.dropout > 0.0f) {
      const DropoutStream dropout = ReadStream(arguments.dropout, params.seed_offset);
      dropped = DroppedBits<kScoreBlocks>(dropout, batch_head, params.dropout_row + row0, params.dropout_key + key0);
      keep_scale = dropout.keep_scale;
    }
#pragma unroll
    for (int n = 0; n < kScoreBlocks; ++n) {
      Accumulator gradient;
#pragma unroll
      for (int e = 0; e < 4; ++e) {
        const bool keeps = (dropped >> (kBitsPerBlock * n + e) & 1) == 0;
        const float dprobability = keeps ? dprobabilities[0][n][e] * keep_scale : 0.0f;
        gradient[e] = ptx::Exp2(scores[0][n][e] * factor - lse[e / 2]) * (dprobability - delta[e / 2]);
      }
      PackBlock<T>(gradient, dscores[0][n]);
    }
  }

  PFM_DEVICE static void Run(const BackwardArguments& arguments) {
    const pfm_params& params = arguments.params;
    const HeadGroups::Item place = arguments.groups.At(ptx::BlockIndex(), arguments.mask.query_tiles);
    const int32_t batch_head = place.head;
    const int32_t batch = batch_head / static_cast<int32_t>(params.heads_q);
    const int32_t head = batch_head % static_cast<int32_t>(params.heads_q);
    const int32_t kv_head = head / static_cast<int32_t>(params.heads_q / params.heads_kv);
    const int64_t first_rank = arguments.mask.MaskOf(batch, head) * arguments.mask.query_tiles;
    const int32_t query_tile = ptx::LoadGlobal(arguments.mask.order + first_rank + place.rank);
    const int32_t row0 = query_tile * kTileQ;
    const int warp_row = ptx::ThreadIndex() / 32 * 16;
    const int dim = static_cast<int>(params.head_dim), dim_v = static_cast<int>(params.head_dim_v);

    const SharedTile<kDim> query = {ptx::DynamicShared()};
    const SharedTile<kDimV> dout = {query.base + kQueryBytes};
    const SharedTile<kDim> key = {dout.base + kDoutBytes};
    const SharedTile<kDimV> value = {key.base + kKeyBytes};
    const Columns columns = {value.base + kValueBytes, arguments.mask.holes};
    const HeadMask mask(arguments.mask, batch, head);
    const auto copy_keys = [&](const CandidateTile& tile) {
      if (!tile.exists()) return;
      const int32_t key0 = tile.index * kTileK;
      CopyTile<kTileK, kDim, kThreads>(RowOf(params.key, batch, 0, kv_head), params.key.stride_seq, key0,
                                       params.seqlen_k, dim, key);
      CopyTile<kTileK, kDimV, kThreads>(RowOf(params.value, batch, 0, kv_head), params.value.stride_seq, key0,
                                        params.seqlen_k, dim_v, value);
      if (tile.undecided) columns.template Copy<kThreads>(mask, tile.index);
      ptx::CommitCopies();
    };

    const char* queries = RowOf(params.query, batch, 0, head);
    const bool has_dout = params.dout.data != nullptr;
    CopyTile<kTileQ, kDim, kThreads>(queries, params.query.stride_seq, row0, params.seqlen_q, dim, query);
    CopyTile<kTileQ, kDimV, kThreads>(has_dout ? RowOf(params.dout, batch, 0, head) : queries,
                                      has_dout ? params.dout.stride_seq : 0, row0, has_dout ? params.seqlen_q : 0,
                                      dim_v, dout);
    ptx::CommitCopies();
    Tiles tiles(mask, query_tile);
    CandidateTile tile = tiles.Next();
    copy_keys(tile);

    float lse[2], delta[2];
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int64_t at = batch_head * arguments.padded_rows + row0 + warp_row + 8 * half + ptx::LaneIndex() / 4;
      lse[half] = ptx::LoadGlobal(arguments.lse + at);
      delta[half] = ptx::LoadGlobal(arguments.delta + at);
    }
    Accumulator dquery[1][kDim / 8];
    Clear(dquery);
    while (tile.exists()) {
      ptx::WaitCopies<0>();
      ptx::SyncThreads();  // the key and the value tile have arrived
      QuerySlice<1, kScoreBlocks> slice;
      if (tile.undecided) slice.Read(columns, row0 + warp_row, static_cast<int32_t>(params.seqlen_q));
      if (!slice.empty) {
        Scores scores, dprobabilities;
        Clear(scores);
        Clear(dprobabilities);
        Multiply<1, kScoreBlocks, kDim, T>(query, warp_row, key, scores);
        ScaleScores(ScoreScale(params.softmax_scale), scores);
        if (!slice.full) slice.Hide(scores);
        Multiply<1, kScoreBlocks, kDimV, T>(dout, warp_row, value, dprobabilities);
        Packed<1, kScoreBlocks> dscores;
        Softmax(arguments, static_cast<uint32_t>(batch_head), row0 + warp_row, tile.index * kTileK, lse, delta,
                scores, dprobabilities, dscores);
        MultiplyPacked<T>(dscores, key, dquery);
      }
      tile = tiles.Next();
      ptx::SyncThreads();  // no warp reads the key and the value tile any more
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
