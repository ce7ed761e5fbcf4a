// dkey, dvalue and sums of dquery for compute capability 8.0 and later. A block owns a key tile and iterates over the
// query tiles of every query head of its group. Scores are computed transposed, keys as rows, so that P^T and dS^T
// stay in registers as left operands of dvalue and dkey; dS goes to shared memory for dquery alone. With two stages,
// query and dout of the next tile load while this tile is computed.
#ifndef PFM_CUDA_SM80_BACKWARD_H_
#define PFM_CUDA_SM80_BACKWARD_H_

#include <cstdint>

#include "../backward/dquery_sums.h"
#include "../backward/dquery_turns.h"
#include "../common/candidate_tiles.h"
#include "../common/shared_columns.h"
#include "config.h"
#include "fragments.h"
#include "mask_dropout.h"
#include "shared_block.h"

namespace pfm::cuda::sm80 {

// kInTurn: key tiles add to dquery in the order of their ranks, for the same bits in every run.
template <class T, int kRow, bool kInTurn>
struct BackwardKernel {
  static constexpr BackwardTile kTile = kBackward[kRow];
  static constexpr int kDim = kTile.head_dim;
  static constexpr int kTileQ = kTile.tile_q;
  static constexpr int kTileK = kTile.tile_k;
  static constexpr int kThreads = kTile.threads();
  static constexpr int kStages = kTile.stages;
  static constexpr int kScoreBlocks = kTileQ / 8;
  static constexpr int kColumns = kDim / kTile.column_split;  // of dkey and dvalue, per warp
  static constexpr int kSumBlocks = kColumns / 8;

  // Share of a warp in dquery of a tile: 32 or 16 rows, and part of the columns.
  static constexpr int kDqueryBlocks = kDim * kTileQ / 32 / kTile.warps % 16 == 0 ? 2 : 1;
  static constexpr int kQueryWarps = kTileQ / 16 / kDqueryBlocks;
  static constexpr int kQueryColumns = kDim * kQueryWarps / kTile.warps;
  static_assert(kTile.warps % kQueryWarps == 0 && kQueryColumns % 16 == 0, "whole fragments for every warp");
  static constexpr int kDqueryPass = kQueryColumns % 32 == 0 ? 32 : kQueryColumns;  // columns at a time
  static_assert(kDqueryPass <= 48, "few registers");

  // Shared memory: key tile, value tile, the stages of query, dout, lse, delta and columns, the work of the block,
  // dS^T.
  static constexpr int kKeyBytes = kTileK * row_bytes(kDim);
  static constexpr int kQueryBytes = kTileQ * row_bytes(kDim);
  static constexpr int kRowBytes = kTileQ * static_cast<int>(sizeof(float));
  using Columns = SharedColumns<kTileK>;
  static constexpr int kStageBytes = 2 * (kQueryBytes + kRowBytes) + Columns::kBytes;
  static_assert(2 * kKeyBytes + kStages * kStageBytes + kBlockBytes == kTile.input_bytes(),
                "the plan is what the table says");
  static_assert(kStageBytes % 128 == 0, "every stage and dS^T start a line");

  using Tiles = CandidateTiles<kInTurn ? Walk::kQueryTilesFromLast : Walk::kQueryTiles, kTileQ, kTileK>;
  using Scores = Accumulator[1][kScoreBlocks];
  using PackedScores = Packed<1, kScoreBlocks>;
  using Sums = Accumulator[1][kSumBlocks];

  struct Stage {
    SharedTile<kDim> query, dout;
    ptx::SharedAddress lse, delta;  // float [kTileQ]
    Columns columns;
  };

  PFM_DEVICE static Stage StageAt(ptx::SharedAddress base, int32_t holes) {
    const ptx::SharedAddress lse = base + 2 * kQueryBytes;
    return {{base}, {base + kQueryBytes}, lse, lse + kRowBytes, {lse + 2 * kRowBytes, holes}};
  }

  // Iterator over the candidate tiles of all query heads of the block, head by head.
  class Work {
   public:
    PFM_DEVICE Work(const BackwardArguments& arguments, SharedBlock block)
        : arguments_(arguments), block_(block), head_(block.Load().first_head), tiles_(mask(), block.key_tile()) {}

    PFM_DEVICE QueryTile Next() {
      while (true) {
        const CandidateTile tile = tiles_.Next();
        if (tile.exists() || (head_ + 1) % arguments_.heads_per_split() == 0) {
          return {tile.index, head_, tile.undecided};
        }
        ++head_;
        tiles_ = Tiles(mask(), block_.key_tile());
      }
    }

   private:
    PFM_DEVICE HeadMask mask() const { return HeadMask(arguments_.mask, block_.batch(), head_); }

    const BackwardArguments& arguments_;
    SharedBlock block_;
    int32_t head_;
    Tiles tiles_;
  };

  PFM_DEVICE static void CopyKeys(const BackwardArguments& arguments, const BackwardBlock& block,
                                  SharedTile<kDim> key, SharedTile<kDim> value) {
    const pfm_params& params = arguments.params;
    const int32_t key0 = block.key_tile * kTileK;
    CopyTile<kTileK, kDim, kThreads>(RowOf(params.key, block.batch, 0, block.kv_head), params.key.stride_seq, key0,
                                     params.seqlen_k, static_cast<int>(params.head_dim), key);
    CopyTile<kTileK, kDim, kThreads>(RowOf(params.value, block.batch, 0, block.kv_head), params.value.stride_seq,
                                     key0, params.seqlen_k, static_cast<int>(params.head_dim_v), value);
  }

  PFM_DEVICE static void CopyQueryTile(const BackwardArguments& arguments, SharedBlock block, const QueryTile& tile,
                                       const Stage& stage) {
    const pfm_params& params = arguments.params;
    if (tile.exists()) {
      const int32_t batch = block.batch();
      const int32_t row0 = tile.index * kTileQ;
      const int64_t batch_head = batch * params.heads_q + tile.head;
      const int chunk = ptx::ThreadIndex() % (kRowBytes / 16);
      if (ptx::ThreadIndex() < 2 * kRowBytes / 16) {
        const bool is_lse = ptx::ThreadIndex() < kRowBytes / 16;
        const float* numbers = (is_lse ? arguments.lse : arguments.delta) + batch_head * arguments.padded_rows + row0;
        ptx::CopyAsync16((is_lse ? stage.lse : stage.delta) + 16 * chunk, numbers + 4 * chunk, true);
      }
      const char* query = RowOf(params.query, batch, 0, tile.head);
      const bool has_dout = params.dout.data != nullptr;
      CopyTile<kTileQ, kDim, kThreads>(query, params.query.stride_seq, row0, params.seqlen_q,
                                       static_cast<int>(params.head_dim), stage.query);
      CopyTile<kTileQ, kDim, kThreads>(has_dout ? RowOf(params.dout, batch, 0, tile.head) : query,
                                       has_dout ? params.dout.stride_seq : 0, row0, has_dout ? params.seqlen_q : 0,
                                       static_cast<int>(params.head_dim_v), stage.dout);
      if (tile.undecided)
        stage.columns.template Copy<kThreads>(HeadMask(arguments.mask, batch, tile.head), block.key_tile());
    }
    ptx::CommitCopies();
  }

  // Computes P^T after dropout and dS^T, rounded, from S^T and dP^T. Rows are the 16 keys of this warp, from warp_key
  // on; `which` names the query tile.
  PFM_DEVICE static void Softmax(const BackwardArguments& arguments, SharedBlock block, int which, int warp_key,
                                 const Stage& stage, const Scores& scores, const Scores& dprobabilities,
                                 PackedScores& probabilities, PackedScores& dscores) {
    const pfm_params& params = arguments.params;
    const float factor = ScoreScale(params.softmax_scale).factor;
    uint32_t dropped = 0;
    float keep_scale = 1.0f;
    if (params.dropout > 0.0f) {
      const DropoutStream dropout = ReadStream(arguments.dropout, params.seed_offset);
      const QueryTile tile = block.LoadTile(which);
      const auto batch_head = static_cast<uint32_t>(block.batch() * params.heads_q + tile.head);
      dropped = DroppedBitsTransposed<kScoreBlocks>(dropout, batch_head, params.dropout_row + tile.index * kTileQ,
                                                    params.dropout_key + block.key_tile() * kTileK + warp_key);
      keep_scale = dropout.keep_scale;
    }
#pragma unroll
    for (int n = 0; n < kScoreBlocks; ++n) {
      const int offset = (8 * n + ptx::LaneIndex() % 4 * 2) * static_cast<int>(sizeof(float));
      const FloatPair lse = ptx::LoadShared<FloatPair>(stage.lse + offset);
      const FloatPair delta = ptx::LoadShared<FloatPair>(stage.delta + offset);
      Accumulator kept, gradient;
#pragma unroll
      for (int e = 0; e < 4; ++e) {
        const bool keeps = (dropped >> (kBitsPerBlock * n + e) & 1) == 0;
        const float probability = ptx::Exp2(scores[0][n][e] * factor - (e % 2 == 0 ? lse.first : lse.second));
        const float dprobability = keeps ? dprobabilities[0][n][e] * keep_scale : 0.0f;
        gradient[e] = probability * (dprobability - (e % 2 == 0 ? delta.first : delta.second));
        kept[e] = keeps ? probability : 0.0f;
      }
      PackBlock<T>(kept, probabilities[0][n]);
      PackBlock<T>(gradient, dscores[0][n]);
    }
  }

  PFM_DEVICE static void StoreScores(const PackedScores& dscores, int key, SharedTile<kTileQ> tile) {
    const int lane = ptx::LaneIndex();
#pragma unroll
    for (int n = 0; n < kScoreBlocks; ++n) {
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        ptx::StoreShared(tile.Element(key + 8 * half + lane / 4, 8 * n + lane % 4 * 2), dscores[0][n][half]);
      }
    }
  }

  // Block of 16 rows in which a query tile starts, over the padded rows of all heads.
  PFM_DEVICE static int32_t RowBlock(const BackwardArguments& arguments, SharedBlock block, const QueryTile& tile) {
    const int32_t batch_head = block.batch() * static_cast<int32_t>(arguments.params.heads_q) + tile.head;
    return static_cast<int32_t>((batch_head * arguments.padded_rows + tile.index * kTileQ) / 16);
  }

  // Adds accumulators of dquery to their places from `first` on, that of the first one of this lane.
  PFM_DEVICE static void AddAccumulators(float* first, const Accumulator& sums) {
    if (ptx::HasVectorReductions()) {
      kInTurn ? ptx::AddQuad(first, sums) : ptx::AtomicAddQuad(first, sums);
      return;
    }
#pragma unroll
    for (int e = 0; e < 4; ++e) {
      float* const to = first + PlaceInBlock(false, 0, e);
      if constexpr (kInTurn) {
        ptx::Add(to, sums[e]);
      } else {
        ptx::AtomicAdd(to, sums[e]);
      }
    }
  }

  // dquery += dS * key for this warp's rows and columns of the query tile.
  PFM_DEVICE static void AddQueryGradient(const BackwardArguments& arguments, int32_t row_block,
                                          SharedTile<kTileQ> dscores, SharedTile<kDim> key) {
    const int warp = ptx::ThreadIndex() / 32;
    const int row = warp % kQueryWarps * 16 * kDqueryBlocks;
    const int column0 = warp / kQueryWarps * kQueryColumns;
#pragma unroll 1
    for (int column = column0; column < column0 + kQueryColumns; column += kDqueryPass) {
      Accumulator sums[kDqueryBlocks][kDqueryPass / 8];
      Clear(sums);
#pragma unroll 2
      for (int k = 0; k < kTileK; k += 16) {
        Fragment a[kDqueryBlocks];
#pragma unroll
        for (int i = 0; i < kDqueryBlocks; ++i) dscores.LoadLeftTransposed(row + 16 * i, k, a[i]);
#pragma unroll
        for (int n = 0; n < kDqueryPass / 8; n += 2) {
          Fragment b;
          key.LoadRightTransposed(k, column + 8 * n, b);
#pragma unroll
          for (int i = 0; i < kDqueryBlocks; ++i) {
            ptx::Mma16x8x16<T>(sums[i][n], a[i], b[0], b[1]);
            ptx::Mma16x8x16<T>(sums[i][n + 1], a[i], b[2], b[3]);
          }
        }
      }
      float* const first = DqueryBlock(arguments, row_block + row / 16, column / 8) +
                           PlaceInBlock(ptx::HasVectorReductions(), ptx::LaneIndex(), 0);
#pragma unroll
      for (int i = 0; i < kDqueryBlocks; ++i) {
#pragma unroll
        for (int n = 0; n < kDqueryPass / 8; ++n) {
          AddAccumulators(first + (i * (kDim / 8) + n) * kBlockFloats, sums[i][n]);  // an offset in the instruction
        }
      }
    }
  }

  // Stores the sums of this block, rows from key0 on, as parts for SumParts.
  PFM_DEVICE static void StoreParts(const BackwardArguments& arguments, const BackwardBlock& block, int32_t key0,
                                    int column0, const Sums& dkey, const Sums& dvalue) {
    const pfm_params& params = arguments.params;
    const int lane = ptx::LaneIndex();
    const int64_t head = (block.split * params.batch + block.batch) * params.heads_kv + block.kv_head;
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int64_t row = head * arguments.mask.padded_keys + key0 + 8 * half + lane / 4;
      const int64_t at = row * kDim + column0 + lane % 4 * 2;
#pragma unroll
      for (int n = 0; n < kSumBlocks; ++n) {
        const auto store = [&](float* parts, const Accumulator& sums) {
          ptx::StoreGlobal(reinterpret_cast<FloatPair*>(parts + at + 8 * n), {sums[2 * half], sums[2 * half + 1]});
        };
        store(arguments.dkey_parts, dkey[0][n]);
        store(arguments.dvalue_parts, dvalue[0][n]);
      }
    }
  }

  PFM_DEVICE static void Run(const BackwardArguments& arguments) {
    const pfm_params& params = arguments.params;
    const int warp = ptx::ThreadIndex() / 32;
    const int warp_key = warp / kTile.column_split * 16;
    const int column0 = warp % kTile.column_split * kColumns;
    const bool adds_dquery = kInTurn || arguments.dquery != nullptr;

    const SharedTile<kDim> key = {ptx::DynamicShared()};
    const SharedTile<kDim> value = {key.base + kKeyBytes};
    const ptx::SharedAddress stages = value.base + kKeyBytes;
    const auto stage_of = [&](int stage) { return StageAt(stages + stage * kStageBytes, arguments.mask.holes); };
    const SharedBlock shared_block = {stages + kStages * kStageBytes};
    const SharedTile<kTileQ> shared_dscores = {shared_block.base + kBlockBytes};

    shared_block.Take<kInTurn>(arguments);
    CopyKeys(arguments, shared_block.Load(), key, value);
    Work work(arguments, shared_block);
    const QueryTile first = work.Next();
    shared_block.StoreTile(0, first);
    CopyQueryTile(arguments, shared_block, first, stage_of(0));

    Sums dkey, dvalue;
    Clear(dkey);
    Clear(dvalue);
    int current = 0;
    for (bool exists = first.exists(); exists; current = 1 - current) {
      const QueryTile next = work.Next();
      shared_block.StoreTile(1 - current, next);
      exists = next.exists();
      if constexpr (kStages == 2) {
        CopyQueryTile(arguments, shared_block, next, stage_of(1 - current));
        ptx::WaitCopies<1>();
      } else {
        ptx::WaitCopies<0>();
      }
      ptx::SyncThreads();  // the current stage has arrived
      const Stage stage = stage_of(kStages == 2 ? current : 0);

      KeySlice<kScoreBlocks> slice;
      {
        const QueryTile tile = shared_block.LoadTile(current);
        if (tile.undecided) {
          slice.Read(stage.columns, warp_key, tile.index * kTileQ, static_cast<int32_t>(params.seqlen_q));
        }
      }
      PackedScores probabilities = {}, dscores = {};
      if (!slice.empty) {
        Scores scores, dprobabilities;
        Clear(scores);
        Clear(dprobabilities);
        Multiply<1, kScoreBlocks, kDim, T>(key, warp_key, stage.query, scores);
        ScaleScores(ScoreScale(params.softmax_scale), scores);
        if (!slice.full) slice.Hide(scores[0]);
        Multiply<1, kScoreBlocks, kDim, T>(value, warp_key, stage.dout, dprobabilities);
        Softmax(arguments, shared_block, current, warp_key, stage, scores, dprobabilities, probabilities, dscores);
      }
      if (adds_dquery && column0 == 0) StoreScores(dscores, warp_key, shared_dscores);
      if (!slice.empty) {
        MultiplyPacked<T>(probabilities, stage.dout.FromColumn(column0), dvalue);
        MultiplyPacked<T>(dscores, stage.query.FromColumn(column0), dkey);
      }
      const QueryTile tile = shared_block.LoadTile(current);
      const int32_t row_block = RowBlock(arguments, shared_block, tile);
      if constexpr (kInTurn) {
        if (warp == kTile.warps - 1) {
          AwaitTurn<kTileQ>(arguments, shared_block.Load(), tile.head, tile.index, row_block);
        }
      }
      ptx::SyncThreads();  // no warp reads the stage any more, and dS^T is complete
      if (adds_dquery) AddQueryGradient(arguments, row_block, shared_dscores, key);
      // Turns: all have added. One stage: without a barrier the compiler interleaves copies and product, and spills.
      if constexpr (kInTurn || kStages == 1) ptx::SyncThreads();
      if constexpr (kStages == 1)
        CopyQueryTile(arguments, shared_block, shared_block.LoadTile(1 - current), stage_of(0));
      if constexpr (kInTurn) {
        if (ptx::ThreadIndex() == 0) PassTurn(arguments, shared_block.Load(), row_block);
      }
    }
    ptx::WaitCopies<0>();
    const BackwardBlock block = shared_block.Load();
    const int32_t key0 = block.key_tile * kTileK + warp_key;
    if (arguments.splits > 1) {
      StoreParts(arguments, block, key0, column0, dkey, dvalue);
      return;
    }
    const float keep_scale = params.dropout > 0.0f ? arguments.dropout.keep_scale : 1.0f;
    if (params.dkey.data != nullptr) {
      StoreRows<T>(dkey, params.dkey, block.batch, block.kv_head, key0, params.seqlen_k, column0,
                   static_cast<int>(params.head_dim), [&](int, int) { return params.softmax_scale; });
    }
    if (params.dvalue.data != nullptr) {
      StoreRows<T>(dvalue, params.dvalue, block.batch, block.kv_head, key0, params.seqlen_k, column0,
                   static_cast<int>(params.head_dim_v), [&](int, int) { return keep_scale; });
    }
  }
};

template <class T, int kRow, bool kInTurn>
PFM_KERNEL_BOUNDS((kBackward[kRow].threads()), 1)
void Backward(PFM_KERNEL_ARGUMENT BackwardArguments arguments) {
  BackwardKernel<T, kRow, kInTurn>::Run(arguments);
}

}  // namespace pfm::cuda::sm80

#endif  // PFM_CUDA_SM80_BACKWARD_H_
