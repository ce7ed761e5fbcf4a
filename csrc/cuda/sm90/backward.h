// dkey, dvalue and, by atomics, dquery for compute capability 9.0: a block owns a key tile and walks the live query
// tiles of every query head of its group. A producer warp finds them and has query and dout copied; two consumer
// warpgroups own 64 keys each. Scores are computed transposed, keys as rows: P^T and dS^T are left operands of the
// products behind dvalue and dkey without leaving the registers, and a thread masks two columns of its own.
#ifndef PFM_CUDA_SM90_BACKWARD_H_
#define PFM_CUDA_SM90_BACKWARD_H_

#include <cstdint>

#include "../sm80/score_rules.h"
#include "backward_arguments.h"
#include "backward_mask.h"
#include "backward_products.h"
#include "backward_shared.h"

namespace pfm::cuda::sm90 {

// Which keys, and which query heads from first_head on.
struct BackwardBlock {
  int32_t batch, kv_head, first_head, key_tile, split;

  PFM_DEVICE explicit BackwardBlock(const sm80::BackwardArguments& arguments) {
    const int32_t all_heads = static_cast<int32_t>(arguments.params.batch * arguments.params.heads_kv);
    const int32_t kv_heads = static_cast<int32_t>(arguments.params.heads_kv);
    batch = ptx::BlockIndex() % all_heads / kv_heads;
    kv_head = ptx::BlockIndex() % all_heads % kv_heads;
    split = ptx::BlockIndex() / all_heads % arguments.splits;
    key_tile = ptx::BlockIndex() / all_heads / arguments.splits;
    first_head = (kv_head * arguments.splits + split) * arguments.heads_per_split();
  }
};

template <class T, int kRow, bool kAddsQuery>
struct BackwardKernel {
  static constexpr BackwardTile kTile = kBackward[kRow];
  static constexpr int kDim = kTile.head_dim, kTileQ = kTile.tile_q, kTileK = kTile.tile_k;
  static constexpr int kConsumerThreads = kTile.consumers() * kWarpgroupThreads;
  static constexpr int kStageBytes = 2 * kTile.query_bytes() + 2 * kTileQ * 4;
  static constexpr int kConsumersBarrier = 1, kWarpgroupBarrier = 2;  // named barriers; a warpgroup has its own

  using Shared = BackwardShared<kRow>;
  using Scores = float[kTileQ / 2];  // 64 keys x kTileQ
  static constexpr int kSteps = kTileQ / kDepth;
  using Rounded = uint32_t[kSteps][4];  // the same as a left operand
  using Sums = float[kDim / 2];         // 64 keys x kDim
  using QuerySums = float[32];          // 64 queries x 64 columns

  // ---- Producer: one warp.

  PFM_DEVICE static void CopyKeys(const BackwardArguments& arguments, const BackwardBlock& block,
                                  const Shared& shared) {
    ptx::ArriveExpectBytes(shared.keys_full(), 2 * Shared::KeyTile::kBytes);
    const int key0 = block.key_tile * kTileK;
    shared.key().Load(arguments.key, 0, key0, block.kv_head, block.batch, shared.keys_full());
    shared.value().Load(arguments.value, 0, key0, block.kv_head, block.batch, shared.keys_full());
  }

  PFM_DEVICE static void CopyQueries(const BackwardArguments& arguments, const BackwardBlock& block,
                                     const Shared& shared, const LiveTile& tile, int stage, ptx::SharedAddress full) {
    ptx::ArriveExpectBytes(full, kStageBytes);
    const int row0 = tile.index * kTileQ;
    shared.query(stage).Load(arguments.query, 0, row0, tile.head, block.batch, full);
    shared.dout(stage).Load(arguments.dout, 0, row0 + arguments.dout_row, tile.head, block.batch, full);
    const sm80::BackwardArguments& rows = arguments.rows;
    const int64_t row = int64_t{16} * tile.row_block;
    ptx::LoadBulk(shared.lse(stage), rows.lse + row, Shared::kNumbersBytes, full);
    ptx::LoadBulk(shared.delta(stage), rows.delta + row, Shared::kNumbersBytes, full);
  }

  PFM_DEVICE static void Produce(const BackwardArguments& arguments, const BackwardBlock& block,
                                 const Shared& shared) {
    const bool copies = ptx::ElectOne();
    if (copies) CopyKeys(arguments, block, shared);
    LiveTiles<kTileQ, kTileK> tiles(arguments.rows, block.batch, block.first_head, block.key_tile);
    typename Shared::Stages stages = shared.stages();
    LiveTile tile;
    do {
      tile = tiles.Next();
      stages.WaitEmpty();
      if (copies) {
        ptx::StoreShared(shared.tile(stages.stage()), tile);
        if (tile.exists()) {
          CopyQueries(arguments, block, shared, tile, stages.stage(), stages.full());
        } else {
          ptx::ArriveBarrier(stages.full());
        }
      }
      stages.Advance();
    } while (tile.exists());
  }

  // ---- Consumers: a warpgroup each.

  // Is there another one?
  PFM_DEVICE static bool WaitForTile(const Shared& shared, const typename Shared::Stages& stages) {
    stages.WaitFull();
    return ptx::LoadShared<LiveTile>(shared.tile(stages.stage())).exists();
  }

  // Of two keys of this thread.
  PFM_DEVICE static void Hide(const sm80::BackwardArguments& rows, const LiveTile& tile, int warpgroup,
                              int thread_key, Scores& scores) {
    if ((tile.partial >> warpgroup & 1) == 0) return;
    const BackwardBlock block(rows);  // again: it would take registers throughout the loop
    const HeadMask mask(rows.mask, block.batch, tile.head);
    HideScores<kTileQ>(mask, block.key_tile, thread_key, tile.index * kTileQ, scores);
  }

  // Of 16 queries, scores: S^T in, P^T out.
  PFM_DEVICE static void Exponentiate(const sm80::ScoreScale& scale, ptx::SharedAddress lse, int step,
                                      Scores& scores) {
#pragma unroll
    for (int n = 2 * step; n < 2 * step + 2; ++n) {
      const RowPair shift = LoadRowPair(lse, n);
#pragma unroll
      for (int e = 0; e < 4; ++e) {
        float& score = scores[4 * n + e];
        score = ptx::Exp2(score * scale.factor - (e % 2 == 0 ? shift.first : shift.second));
      }
    }
  }

  // Of 16 queries, dscores: dP^T in, dS^T out.
  PFM_DEVICE static void Differentiate(const Scores& probabilities, ptx::SharedAddress delta, int step,
                                       Scores& dscores) {
#pragma unroll
    for (int n = 2 * step; n < 2 * step + 2; ++n) {
      const RowPair mean = LoadRowPair(delta, n);
#pragma unroll
      for (int e = 0; e < 4; ++e) {
        float& dscore = dscores[4 * n + e];
        dscore = probabilities[4 * n + e] * (dscore - (e % 2 == 0 ? mean.first : mean.second));
      }
    }
  }

  // The sums lie in the order of the accumulators, so that a lane adds four neighbours at once and a warp 512 bytes.
  // Against a bulk reduction this saves the way through shared memory, 4 to 8 bytes per pair of what bounds this
  // kernel, and a barrier; which one costs less is to be measured.
  PFM_DEVICE static void AddQueryGradient(const sm80::BackwardArguments& rows, int32_t row_block, int first_block,
                                          const QuerySums& sums) {
    const int warp = ptx::ThreadIndex() / 32 % 4;
#pragma unroll
    for (int n = 0; n < 8; ++n) {
      const float quad[4] = {sums[4 * n], sums[4 * n + 1], sums[4 * n + 2], sums[4 * n + 3]};
      ptx::AtomicAddQuad(sm80::DqueryFragment(rows, row_block + warp, 8 * first_block + n, ptx::LaneIndex()), quad);
    }
  }

  // What this block has summed of its 64 keys from row on, for SumParts.
  PFM_DEVICE static void StoreParts(const sm80::BackwardArguments& rows, const BackwardBlock& block, int row,
                                    float* parts, const Sums& sums) {
    const int64_t heads = rows.params.batch * rows.params.heads_kv;
    const int64_t head = block.split * heads + block.batch * rows.params.heads_kv + block.kv_head;
    float* to = parts + (head * rows.mask.padded_keys + block.key_tile * kTileK + row) * kDim;
    to += ptx::LaneIndex() % 4 * 2;
#pragma unroll
    for (int n = 0; n < kDim / 8; ++n) {
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        ptx::StoreGlobal(reinterpret_cast<RowPair*>(to + 8 * half * kDim + 8 * n),
                         {sums[4 * n + 2 * half], sums[4 * n + 2 * half + 1]});
      }
    }
  }

  // Rounded, by way of the rows that the keys of this warpgroup had in shared memory.
  PFM_DEVICE static void StoreGradient(const ptx::TensorMap& to, const BackwardBlock& block, int warpgroup, int row,
                                       typename Shared::KeyTile tile, const Sums& sums) {
    uint32_t rounded[kDim / kDepth][4];
#pragma unroll
    for (int step = 0; step < kDim / kDepth; ++step) Round<T>(sums, step, rounded[step]);
    StoreRounded(rounded, tile, row);
    ptx::FenceProxyAsync();
    ptx::BarrierSync(kWarpgroupBarrier + warpgroup, kWarpgroupThreads);
    if (ptx::ThreadIndex() % kWarpgroupThreads != 0) return;
    const int key0 = block.key_tile * kTileK + 64 * warpgroup;
    for (int part = 0; part < Shared::KeyTile::kBlocks; ++part) {
      const int at[4] = {part * kBlockColumns, key0, block.kv_head, block.batch};
      ptx::StoreBox(to, at, tile.Block(part) + 64 * warpgroup * kRowBytes);
    }
    ptx::CommitStores();
  }

  PFM_DEVICE static void Finish(const BackwardArguments& arguments, const BackwardBlock& block, const Shared& shared,
                                int warpgroup, int row, Sums& dkey, Sums& dvalue) {
    const sm80::BackwardArguments& rows = arguments.rows;
    if (rows.splits > 1) {
      StoreParts(rows, block, row, rows.dkey_parts, dkey);
      StoreParts(rows, block, row, rows.dvalue_parts, dvalue);
      return;
    }
    ptx::BarrierSync(kConsumersBarrier, kConsumerThreads);  // nobody reads key and value any more
    if (rows.params.dvalue.data != nullptr) {
      StoreGradient(arguments.dvalue, block, warpgroup, row, shared.value(), dvalue);
    }
    if (rows.params.dkey.data != nullptr) {
      Multiply(dkey, rows.params.softmax_scale);
      StoreGradient(arguments.dkey, block, warpgroup, row, shared.key(), dkey);
    }
    if (ptx::ThreadIndex() % kWarpgroupThreads == 0) ptx::WaitStoresRead<0>();
  }

  // The products of a tile overlap with those of the next one: its scores are issued behind dkey and dquery of this
  // one, so that the tensor cores have work while sums go to memory and until dP of the next tile is issued.
  PFM_DEVICE static bool SumTiles(const BackwardArguments& arguments, const Shared& shared, int warpgroup,
                                  int thread_key, typename Shared::Stages stages, Sums& dkey, Sums& dvalue) {
    const sm80::BackwardArguments& rows = arguments.rows;
    const sm80::ScoreScale scale(rows.params.softmax_scale);
    // dquery of a tile: 64 rows and 64 columns per warpgroup.
    const int query_block = warpgroup % (kTileQ / 64), column_block = warpgroup / (kTileQ / 64);
    bool continues = false;  // dkey and dvalue hold something
    Scores scores;
    const auto issue_scores = [&](const typename Shared::Stages& of) {
      MultiplyAlongColumns<T>(scores, shared.key(), 64 * warpgroup, shared.query(of.stage()));
      ptx::WarpgroupCommit();
    };
    if (kTile.overlaps) {
      if (!WaitForTile(shared, stages)) return false;
      ptx::WarpgroupFence();
      issue_scores(stages);
    }
    while (kTile.overlaps || WaitForTile(shared, stages)) {
      const int stage = stages.stage();
      Scores dscores;
      Rounded probabilities, rounded_dscores;
      QuerySums dquery;
      const auto finish_scores = [&] {
        ptx::Settle(scores);
        if (scale.before != 1.0f) Multiply(scores, scale.before);
        Hide(rows, ptx::LoadShared<LiveTile>(shared.tile(stage)), warpgroup, thread_key, scores);
      };
      const auto issue_dvalue = [&] {
        ptx::WarpgroupFence();
        MultiplyRegisters<T>(dvalue, probabilities, shared.dout(stage), continues);
        ptx::WarpgroupCommit();
      };
      const auto issue_dkey_and_dquery = [&] {
        ptx::WarpgroupFence();
        MultiplyRegisters<T>(dkey, rounded_dscores, shared.query(stage), continues);
        if constexpr (kAddsQuery) {
          ptx::BarrierSync(kConsumersBarrier, kConsumerThreads);  // dS of both warpgroups is there
          MultiplyAlongRows<T>(dquery, shared.dscores(stage), query_block, shared.key(), column_block);
        }
        ptx::WarpgroupCommit();
        continues = true;
      };
      const auto finish_tile = [&] {
        if constexpr (kAddsQuery) {
          ptx::Settle(dquery);
          const LiveTile tile = ptx::LoadShared<LiveTile>(shared.tile(stage));
          AddQueryGradient(rows, tile.row_block + 4 * query_block, column_block, dquery);
        }
        ArriveByWarp(stages.empty());
      };

      ptx::WarpgroupFence();
      if (!kTile.overlaps) issue_scores(stages);
      MultiplyAlongColumns<T>(dscores, shared.value(), 64 * warpgroup, shared.dout(stage));
      ptx::WarpgroupCommit();
      if constexpr (kTile.overlaps) {
        ptx::WarpgroupWait<1>();
        finish_scores();
#pragma unroll
        for (int step = 0; step < kSteps; ++step) {
          Exponentiate(scale, shared.lse(stage), step, scores);
          Round<T>(scores, step, probabilities[step]);
        }
        issue_dvalue();
        ptx::WarpgroupWait<1>();
        ptx::Settle(dscores);
#pragma unroll
        for (int step = 0; step < kSteps; ++step) {
          Differentiate(scores, shared.delta(stage), step, dscores);
          Round<T>(dscores, step, rounded_dscores[step]);
        }
      } else {
        ptx::WarpgroupWait<0>();
        finish_scores();
        ptx::Settle(dscores);
#pragma unroll
        for (int step = 0; step < kSteps; ++step) {
          Exponentiate(scale, shared.lse(stage), step, scores);
          Differentiate(scores, shared.delta(stage), step, dscores);
          Round<T>(scores, step, probabilities[step]);
          Round<T>(dscores, step, rounded_dscores[step]);
        }
        issue_dvalue();
      }
      if constexpr (kAddsQuery) {
        StoreRounded(rounded_dscores, shared.dscores(stage), thread_key);
        ptx::FenceProxyAsync();
      }
      if constexpr (kTile.overlaps) {
        ptx::WarpgroupWait<0>();  // dvalue: the registers of P are needed
        typename Shared::Stages next = stages;
        next.Advance();
        // Nothing is in flight at this branch, and each way has all of its products: otherwise the compiler waits
        // after every one of them.
        if (!WaitForTile(shared, next)) {
          issue_dkey_and_dquery();
          ptx::WarpgroupWait<0>();
          finish_tile();
          return true;
        }
        issue_dkey_and_dquery();
        issue_scores(next);
        ptx::WarpgroupWait<1>();  // for all but these
        finish_tile();
        stages = next;
      } else {
        issue_dkey_and_dquery();
        ptx::WarpgroupWait<0>();
        finish_tile();
        stages.Advance();
      }
    }
    return continues;
  }

  PFM_DEVICE static void Consume(const BackwardArguments& arguments, const Shared& shared, int warpgroup) {
    const int thread_key = 64 * warpgroup + ptx::ThreadIndex() / 32 % 4 * 16 + ptx::LaneIndex() / 4;
    typename Shared::Stages stages = shared.stages();
    Sums dkey, dvalue;
    ptx::WaitBarrier(shared.keys_full(), 0);
    if (!SumTiles(arguments, shared, warpgroup, thread_key, stages, dkey, dvalue)) {
      Fill(dkey, 0.0f);
      Fill(dvalue, 0.0f);
    }
    Finish(arguments, BackwardBlock(arguments.rows), shared, warpgroup, thread_key, dkey, dvalue);
  }

  PFM_DEVICE static void InitBarriers(const Shared& shared) {
    ptx::InitBarrier(shared.keys_full(), 1);
    shared.stages().Init(1, kConsumerThreads / kWarpThreads);
    ptx::FenceBarrierInit();
  }

  PFM_DEVICE static void Run(const BackwardArguments& arguments) {
    const Shared shared;
    if (ptx::ThreadIndex() == 0) InitBarriers(shared);
    ptx::SyncThreads();
    const int warp = ptx::Shuffle(ptx::ThreadIndex() / 32, 0);  // the compiler sees that it is the same for all lanes
    if (warp < kWarpgroupWarps) {
      ptx::DecreaseRegisters<kTile.producer_registers>();
      if (warp == 0) Produce(arguments, BackwardBlock(arguments.rows), shared);
    } else {
      ptx::IncreaseRegisters<kTile.consumer_registers>();
      Consume(arguments, shared, warp / kWarpgroupWarps - 1);
    }
  }
};

template <class T, int kRow, bool kAddsQuery>
PFM_KERNEL_BOUNDS((kBackward[kRow].threads()), 1)
void Backward(PFM_KERNEL_ARGUMENT BackwardArguments arguments) {
  BackwardKernel<T, kRow, kAddsQuery>::Run(arguments);
}

}  // namespace pfm::cuda::sm90

#endif  // PFM_CUDA_SM90_BACKWARD_H_
