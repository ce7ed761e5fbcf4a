// Forward attention for compute capability 8.0 and later, after FlashAttention-2 (Dao, 2023). A block owns a query
// tile and iterates over its key tiles with an online softmax; the output stays in registers. A warp skips tiles that
// are empty for its rows and masks only those that are partial for them. Keys load during softmax and output product
// of the previous tile, values during the scores.
#ifndef PFM_CUDA_SM80_FORWARD_H_
#define PFM_CUDA_SM80_FORWARD_H_

#include <cstdint>

#include "../common/candidate_tiles.h"
#include "../common/shared_columns.h"
#include "config.h"
#include "forward_arguments.h"
#include "fragments.h"
#include "mask_dropout.h"

namespace pfm::cuda::sm80 {

// Running maximum and sum per row in units of log2. A lane holds rows `group` and `group + 8` of each 16-row block.
template <int kRowBlocks>
struct RowStates {
  float max[kRowBlocks][2];
  float sum[kRowBlocks][2];  // over this lane's columns only, until SumLanes

  // A sink counts as a score with a value of zero before the first key of every row.
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

  // Replaces scores by probabilities relative to the new maximum, and rescales sums and output. factor: scale in
  // units of log2, positive.
  template <int kColumnBlocks, int kOutBlocks>
  PFM_DEVICE void Update(float factor, Accumulator (&scores)[kRowBlocks][kColumnBlocks],
                         Accumulator (&out)[kRowBlocks][kOutBlocks]) {
#pragma unroll
    for (int i = 0; i < kRowBlocks; ++i) {
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        float largest = -ptx::Infinity();
#pragma unroll
        for (int n = 0; n < kColumnBlocks; ++n) {
          largest = ptx::Maximum(largest, ptx::Maximum(scores[i][n][2 * half], scores[i][n][2 * half + 1]));
        }
        largest = ptx::Maximum(largest, ptx::ShuffleXor(largest, 1));
        largest = ptx::Maximum(max[i][half], ptx::Maximum(largest, ptx::ShuffleXor(largest, 2)) * factor);
        const float shift = largest == -ptx::Infinity() ? 0.0f : largest;  // exp2(-inf - 0) = 0
        const float rescale = ptx::Exp2(max[i][half] - shift);
        max[i][half] = largest;
        float total = sum[i][half] * rescale;
#pragma unroll
        for (int n = 0; n < kColumnBlocks; ++n) {
#pragma unroll
          for (int e = 2 * half; e < 2 * half + 2; ++e) {
            scores[i][n][e] = ptx::Exp2(scores[i][n][e] * factor - shift);
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
  static constexpr int kDimV = kTile.head_dim_v;
  static constexpr int kTileQ = kTile.tile_q;
  static constexpr int kTileK = kTile.tile_k;
  static constexpr int kThreads = kTile.threads();
  static constexpr int kRowBlocks = kTileQ / 16 / kTile.warps;
  static constexpr int kScoreBlocks = kTileK / 8;
  static constexpr int kOutBlocks = kDimV / 8;

  // Shared memory: query tile, key tile, value tile, columns of the key tile, addresses of keys and values.
  static constexpr int kQueryBytes = kTileQ * row_bytes(kDim);
  static constexpr int kKeyBytes = kTileK * row_bytes(kDim);
  static constexpr int kValueBytes = kTileK * row_bytes(kDimV);
  using Columns = SharedColumns<kTileK>;
  static_assert(kQueryBytes + kKeyBytes + kValueBytes + Columns::kBytes + kAddressBytes == kTile.shared_bytes(),
                "the plan is what the table says");

  using Tiles = CandidateTiles<Walk::kKeyTiles, kTileQ, kTileK>;

  struct Item {
    int32_t batch, head, query_tile;
  };

  // Blocks start in the order of their index, so the longest query tiles of a group of heads come first.
  PFM_DEVICE static HeadGroups::Item PlaceOf(const ForwardArguments& arguments) {
    return arguments.groups.At(ptx::BlockIndex(), arguments.mask.query_tiles);
  }

  PFM_DEVICE static Item ItemOf(const ForwardArguments& arguments) {
    const int32_t heads_q = static_cast<int32_t>(arguments.params.heads_q);
    const HeadGroups::Item place = PlaceOf(arguments);
    const int32_t batch = place.head / heads_q;
    const int32_t head = place.head % heads_q;
    const int64_t mask = arguments.mask.MaskOf(batch, head);
    return {batch, head, ptx::LoadGlobal(arguments.mask.order + mask * arguments.mask.query_tiles + place.rank)};
  }

  PFM_DEVICE static void Run(const ForwardArguments& arguments) {
    const pfm_params& params = arguments.params;
    const Item item = ItemOf(arguments);
    const int64_t kv_head = item.head / (params.heads_q / params.heads_kv);
    const int32_t seqlen_q = static_cast<int32_t>(params.seqlen_q);
    const int32_t row0 = item.query_tile * kTileQ;
    const int warp_row = ptx::ThreadIndex() / 32 * 16 * kRowBlocks;
    const int dim = static_cast<int>(params.head_dim), dim_v = static_cast<int>(params.head_dim_v);

    const SharedTile<kDim> query = {ptx::DynamicShared()};
    const SharedTile<kDim> key = {query.base + kQueryBytes};
    const SharedTile<kDimV> value = {key.base + kKeyBytes};
    const Columns columns = {value.base + kValueBytes, arguments.mask.holes};
    const ptx::SharedAddress addresses = columns.base + Columns::kBytes;
    const void* const first_keys = RowOf(params.key, item.batch, 0, kv_head);
    if (ptx::ThreadIndex() == 0) {
      ptx::StoreShared(addresses, first_keys);
      ptx::StoreShared<const void*>(addresses + 8, RowOf(params.value, item.batch, 0, kv_head));
    }
    const HeadMask mask(arguments.mask, item.batch, item.head);
    const auto copy_key = [&](const void* keys, const CandidateTile& tile) {
      if (tile.exists()) {
        CopyTile<kTileK, kDim, kThreads>(keys, params.key.stride_seq, tile.index * kTileK, params.seqlen_k, dim, key);
        if (tile.undecided) columns.template Copy<kThreads>(mask, tile.index);
      }
      ptx::CommitCopies();
    };

    Tiles tiles(mask, item.query_tile);
    CandidateTile tile = tiles.Next();
    CopyTile<kTileQ, kDim, kThreads>(RowOf(params.query, item.batch, 0, item.head), params.query.stride_seq, row0,
                                     params.seqlen_q, dim, query);
    copy_key(first_keys, tile);

    RowStates<kRowBlocks> rows;
    rows.Start(params.learnable_sink == nullptr ? nullptr : params.learnable_sink + item.head);
    Accumulator out[kRowBlocks][kOutBlocks];
    Clear(out);
    const ScoreScale scale(params.softmax_scale);

    while (tile.exists()) {
      const int32_t key0 = tile.index * kTileK;
      ptx::WaitCopies<0>();
      ptx::SyncThreads();  // the key tile has arrived, and no warp reads the value tile any more
      CopyTile<kTileK, kDimV, kThreads>(ptx::LoadShared<const void*>(addresses + 8), params.value.stride_seq, key0,
                                        params.seqlen_k, dim_v, value);
      ptx::CommitCopies();
      const CandidateTile next = tiles.Next();

      QuerySlice<kRowBlocks, kScoreBlocks> slice;
      if (tile.undecided) slice.Read(columns, row0 + warp_row, seqlen_q);
      Packed<kRowBlocks, kScoreBlocks> probabilities = {};
      if (!slice.empty) {
        Accumulator scores[kRowBlocks][kScoreBlocks];
        Clear(scores);
        Multiply<kRowBlocks, kScoreBlocks, kDim, T>(query, warp_row, key, scores);
        ScaleScores(scale, scores);
        if (!slice.full) slice.Hide(scores);
        rows.Update(scale.factor, scores, out);
        if (params.dropout > 0.0f) {
          const DropoutStream dropout = ReadStream(arguments.dropout, params.seed_offset);
          const uint32_t batch_head = static_cast<uint32_t>(PlaceOf(arguments).head);
#pragma unroll
          for (int i = 0; i < kRowBlocks; ++i) {
            Drop(DroppedBits<kScoreBlocks>(dropout, batch_head, params.dropout_row + row0 + warp_row + 16 * i,
                                           params.dropout_key + key0),
                 scores[i]);
          }
        }
#pragma unroll
        for (int i = 0; i < kRowBlocks; ++i) {
#pragma unroll
          for (int n = 0; n < kScoreBlocks; ++n) PackBlock<T>(scores[i][n], probabilities[i][n]);
        }
      }

      ptx::WaitCopies<0>();
      ptx::SyncThreads();  // the value tile has arrived, and no warp reads the key tile any more
      copy_key(ptx::LoadShared<const void*>(addresses), next);

      if (!slice.empty) MultiplyPacked<T>(probabilities, value, out);
      tile = next;
    }
    ptx::WaitCopies<0>();
    Finish(arguments, rows, out);
  }

  // Recomputes the item of this block, which is cheaper than keeping it in registers.
  PFM_DEVICE static void Finish(const ForwardArguments& arguments, RowStates<kRowBlocks>& rows,
                                const Accumulator (&out)[kRowBlocks][kOutBlocks]) {
    const pfm_params& params = arguments.params;
    const Item item = ItemOf(arguments);
    const int32_t row0 = item.query_tile * kTileQ + ptx::ThreadIndex() / 32 * 16 * kRowBlocks;
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
