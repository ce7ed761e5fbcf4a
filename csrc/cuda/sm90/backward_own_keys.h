// Consumers of the sm90 backward that own 64 keys each. P^T and dS^T stay in registers as left operands of dvalue and
// dkey; dS^T goes to shared memory for dquery alone. For a tile that is empty for its keys, a consumer writes zeros
// in place of dS^T and computes its share of dquery.
#ifndef PFM_CUDA_SM90_BACKWARD_OWN_KEYS_H_
#define PFM_CUDA_SM90_BACKWARD_OWN_KEYS_H_

#include <cstdint>

#include "backward_gradients.h"
#include "backward_producer.h"
#include "backward_scores.h"

namespace pfm::cuda::sm90 {

template <class T, int kRow, DquerySums kDquerySums>
struct OwnKeysConsumer {
  static constexpr BackwardTile kTile = kBackward[kRow];
  static constexpr int kTileQ = kTile.tile_q, kSteps = kTileQ / kDepth;
  static constexpr bool kAddsQuery = kDquerySums != DquerySums::kUnwanted;
  using Shared = BackwardShared<kRow>;
  using Scores = float[kTileQ / 2];               // 64 keys x kTileQ
  using Rounded = uint32_t[kSteps][4];            // the same as a left operand
  using KeySums = float[kTile.head_dim / 2];      // 64 keys x head_dim
  using ValueSums = float[kTile.head_dim_v / 2];  // 64 keys x head_dim_v
  static constexpr int kQueryColumns = kTile.dquery_columns(0);
  using QuerySums = float[kQueryColumns / 2];  // 64 queries x kQueryColumns

  // dquery of a tile: the first of the 64 queries of a warpgroup, and of its columns.
  PFM_DEVICE static int FirstQuery(int warpgroup) { return warpgroup % (kTileQ / 64) * 64; }
  PFM_DEVICE static int FirstColumn(int warpgroup) { return warpgroup / (kTileQ / 64) * kQueryColumns; }

  // Whether there is another tile and the keys of this warpgroup see any of it.
  PFM_DEVICE static bool WaitForLiveTile(const Shared& shared, int warpgroup, const typename Shared::Stages& stages) {
    return WaitForTile<kRow>(shared, stages) &&
           !ptx::LoadShared<LiveTile>(shared.tile(stages.stage())).IsDead(warpgroup);
  }

  // Issues dquery once dS of both warpgroups is in shared memory.
  PFM_DEVICE static void IssueQueryGradient(const Shared& shared, int warpgroup,
                                            const typename Shared::Stages& stages, QuerySums& dquery) {
    ptx::NamedBarrierSync(kConsumersBarrier, kConsumerThreads);  // dS of both warpgroups is there
    MultiplyAlongRows<T>(dquery, shared.dscores(stages), FirstQuery(warpgroup), shared.key(), FirstColumn(warpgroup));
  }

  PFM_DEVICE static void AddDquery(const BackwardArguments& common, const Shared& shared, int warpgroup,
                                   const typename Shared::Stages& stages, QuerySums& dquery) {
    ptx::Settle(dquery);
    AddQueryGradient<kDquerySums>(common, shared, stages, FirstQuery(warpgroup), FirstColumn(warpgroup), dquery);
  }

  // Advances to the next tile that the keys of this warpgroup see, or returns false at the end. No product is in
  // flight.
  PFM_DEVICE static bool FindTile(const BackwardArguments& common, const Shared& shared, int warpgroup,
                                  int thread_key, typename Shared::Stages* stages) {
    while (WaitForTile<kRow>(shared, *stages)) {
      if (!ptx::LoadShared<LiveTile>(shared.tile(stages->stage())).IsDead(warpgroup)) return true;
      QuerySums dquery;
      if constexpr (kAddsQuery) {
        const Rounded zeros = {};
        StoreRounded(zeros, shared.dscores(*stages), thread_key);
        ptx::FenceProxyAsync();
        ptx::WarpgroupFence();
        IssueQueryGradient(shared, warpgroup, *stages, dquery);
        ptx::WarpgroupCommit();
        ptx::WarpgroupWait<0>();
        AddDquery(common, shared, warpgroup, *stages, dquery);
      }
      FinishStage<kDquerySums>(shared, *stages);
      stages->Advance();
    }
    return false;
  }

  // The products of a tile overlap with those of the next one: its scores are issued behind dquery and dkey of this
  // one. dquery comes first, in a group of its own, so that its sums go to memory while the other two products run,
  // and have arrived by the proxy fence of the next tile, which may wait for them.
  PFM_DEVICE static bool SumTiles(const TmaBackwardArguments& arguments, const Shared& shared, int warpgroup,
                                  int thread_key, typename Shared::Stages stages, KeySums& dkey, ValueSums& dvalue) {
    const BackwardArguments& common = arguments.common;
    const ScoreScale scale(common.params.softmax_scale);
    bool continues = false;  // dkey and dvalue hold something
    Scores scores;
    const auto issue_scores = [&](const typename Shared::Stages& of) {
      MultiplyAlongColumns<T>(scores, shared.key(), 64 * warpgroup, shared.query(of.stage()));
      ptx::WarpgroupCommit();
    };
    while (FindTile(common, shared, warpgroup, thread_key, &stages)) {
      ptx::WarpgroupFence();
      issue_scores(stages);
      while (true) {
        stages.MakeUniform();
        const int stage = stages.stage();
        Scores dscores;
        Rounded probabilities, rounded_dscores;
        QuerySums dquery;
        const auto finish_scores = [&] {
          ptx::Settle(scores);
          if (scale.ChangesScores()) Multiply(scores, scale.before);
          const LiveTile tile = ptx::LoadShared<LiveTile>(shared.tile(stage));
          if (tile.IsPartial(warpgroup)) HideScores(shared.bits(tile.bits()), ptx::Fresh(thread_key), 0, scores);
        };
        const auto issue_dvalue = [&] {
          ptx::WarpgroupFence();
          MultiplyRegisters<T>(dvalue, probabilities, shared.dout(stage), continues);
          ptx::WarpgroupCommit();
        };
        const auto issue_dquery_and_dkey = [&] {
          ptx::WarpgroupFence();
          if constexpr (kAddsQuery) {
            IssueQueryGradient(shared, warpgroup, stages, dquery);
            ptx::WarpgroupCommit();
          }
          MultiplyRegisters<T>(dkey, rounded_dscores, shared.query(stage), continues);
          ptx::WarpgroupCommit();
          continues = true;
        };
        const auto add_dquery = [&] {
          if constexpr (kAddsQuery) AddDquery(common, shared, warpgroup, stages, dquery);
        };

        ptx::WarpgroupFence();
        MultiplyAlongColumns<T>(dscores, shared.value(), 64 * warpgroup, shared.dout(stage));
        ptx::WarpgroupCommit();
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
        if constexpr (kAddsQuery) {
          StoreRounded(rounded_dscores, shared.dscores(stages), ptx::Fresh(thread_key));
          ptx::FenceProxyAsync();
        }
        ptx::WarpgroupWait<0>();  // dvalue: the registers of P are needed
        // Nothing is in flight at this branch, and each way has all of its products: otherwise the compiler waits
        // after every one of them.
        typename Shared::Stages next = stages;
        next.Advance();
        if (WaitForLiveTile(shared, warpgroup, next)) {
          issue_dquery_and_dkey();
          issue_scores(next);
          ptx::WarpgroupWait<2>();  // for dquery
          add_dquery();
          ptx::SyncWarp();          // keeps ptxas from moving this wait ahead of the reductions
          ptx::WarpgroupWait<1>();  // for all but these scores
          FinishStage<kDquerySums>(shared, stages);
          stages = next;
        } else {
          issue_dquery_and_dkey();
          ptx::WarpgroupWait<1>();  // likewise
          add_dquery();
          ptx::WarpgroupWait<0>();
          FinishStage<kDquerySums>(shared, stages);
          stages = next;
          break;
        }
      }
    }
    return continues;
  }

  PFM_DEVICE static void Run(const TmaBackwardArguments& arguments, const Shared& shared, int warpgroup) {
    const int thread_key = 64 * warpgroup + ThreadRow();
    typename Shared::Stages stages = shared.stages();
    KeySums dkey;
    ValueSums dvalue;
    ptx::MbarrierWait(shared.keys_full(), 0);
    if (!SumTiles(arguments, shared, warpgroup, thread_key, stages, dkey, dvalue)) {
      Fill(dkey, 0.0f);
      Fill(dvalue, 0.0f);
    }
    BackwardGradients<T, kRow>{warpgroup, 64 * warpgroup, thread_key}.Finish(arguments, shared, 0, dkey, 0, dvalue);
  }
};

}  // namespace pfm::cuda::sm90

#endif  // PFM_CUDA_SM90_BACKWARD_OWN_KEYS_H_
