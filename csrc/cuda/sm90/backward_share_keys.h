// Consumers of the sm90 backward for large head dims, where dkey and dvalue of 64 keys do not fit the registers of
// one warpgroup: the two share the 64 keys of a tile. Each computes the scores of half of the queries and sums its
// columns of dkey, dvalue and dquery; P^T and dS^T go through shared memory.
#ifndef PFM_CUDA_SM90_BACKWARD_SHARE_KEYS_H_
#define PFM_CUDA_SM90_BACKWARD_SHARE_KEYS_H_

#include <cstdint>

#include "backward_gradients.h"
#include "backward_producer.h"
#include "backward_scores.h"

namespace pfm::cuda::sm90 {

template <class T, int kRow, DquerySums kDquerySums>
struct ShareKeysConsumer {
  static constexpr BackwardTile kTile = kBackward[kRow];
  static constexpr int kQueries = kTile.tile_q / kConsumers, kSteps = kQueries / kDepth;
  using Shared = BackwardShared<kRow>;
  using Scores = float[kQueries / 2];  // 64 keys x kQueries
  static constexpr int kFirst = kTile.dkey_columns(0), kSecond = kTile.dkey_columns(1);
  static constexpr int kDvalueColumns = kTile.dvalue_columns();

  // Stores this warpgroup's columns of a tile of scores, rounded.
  PFM_DEVICE static void StoreScores(const Scores& scores, typename Shared::ScoreTile tile, int row,
                                     int first_query) {
    const int column = ptx::LaneIndex() % 4 * 2;
#pragma unroll
    for (int step = 0; step < kSteps; ++step) {
      uint32_t rounded[4];
      Round<T>(scores, step, rounded);
#pragma unroll
      for (int r = 0; r < 4; ++r) {
        ptx::StoreShared(tile.Pair(row, column, r % 2, first_query / 8 + 2 * step + r / 2), rounded[r]);
      }
    }
  }

  PFM_DEVICE static void Run(const TmaBackwardArguments& arguments, const Shared& shared, int warpgroup) {
    if constexpr (kFirst == kSecond) {
      RunWith<kFirst, kFirst>(arguments, shared, warpgroup);
    } else if (warpgroup == 0) {
      RunWith<kFirst, kSecond>(arguments, shared, 0);
    } else {
      RunWith<kSecond, kFirst>(arguments, shared, 1);
    }
  }

 private:
  // Runs a warpgroup that sums so many columns of dkey and of dquery.
  template <int kDkeyColumns, int kDqueryColumns>
  PFM_DEVICE static void RunWith(const TmaBackwardArguments& arguments, const Shared& shared, int warpgroup) {
    const BackwardArguments& common = arguments.common;
    const ScoreScale scale(common.params.softmax_scale);
    const int first_query = kQueries * warpgroup;
    const int dkey_column = (kTile.head_dim - kDkeyColumns) * warpgroup, dvalue_column = kDvalueColumns * warpgroup;
    float dkey[kDkeyColumns / 2], dvalue[kDvalueColumns / 2];  // 64 keys x columns
    typename Shared::Stages stages = shared.stages();
    bool continues = false;  // dkey and dvalue hold something
    ptx::MbarrierWait(shared.keys_full(), 0);
    while (WaitForTile<kRow>(shared, stages)) {
      stages.MakeUniform();
      const int stage = stages.stage();
      Scores scores, dscores;
      ptx::WarpgroupFence();
      MultiplyAlongColumns<T>(scores, shared.key(), 0, shared.query(stage), first_query);
      ptx::WarpgroupCommit();
      MultiplyAlongColumns<T>(dscores, shared.value(), 0, shared.dout(stage), first_query);
      ptx::WarpgroupCommit();

      ptx::WarpgroupWait<1>();
      ptx::Settle(scores);
      if (scale.ChangesScores()) Multiply(scores, scale.before);
      const LiveTile tile = ptx::LoadShared<LiveTile>(shared.tile(stage));
      if (tile.IsPartial(0)) {
        HideScores(shared.bits(tile.bits()), ThreadRow(), first_query, scores);
      }
#pragma unroll
      for (int step = 0; step < kSteps; ++step) {
        Exponentiate(scale, shared.lse(stage) + 4 * first_query, step, scores);
      }
      StoreScores(scores, shared.probabilities(stages), ThreadRow(), first_query);
      ptx::WarpgroupWait<0>();
      ptx::Settle(dscores);
#pragma unroll
      for (int step = 0; step < kSteps; ++step) {
        Differentiate(scores, shared.delta(stage) + 4 * first_query, step, dscores);
      }
      StoreScores(dscores, shared.dscores(stages), ThreadRow(), first_query);
      ptx::FenceProxyAsync();
      ptx::NamedBarrierSync(kConsumersBarrier, kConsumerThreads);  // P and dS of both warpgroups are there

      ptx::WarpgroupFence();
      MultiplyColumnsByRows<T>(dvalue, shared.probabilities(stages), shared.dout(stage), dvalue_column, continues);
      MultiplyColumnsByRows<T>(dkey, shared.dscores(stages), shared.query(stage), dkey_column, continues);
      continues = true;
      if constexpr (kDquerySums != DquerySums::kUnwanted) {
        const int dquery_column = (kTile.head_dim - kDqueryColumns) * warpgroup;
        float dquery[kDqueryColumns / 2];  // 64 queries x columns
        MultiplyAlongRows<T>(dquery, shared.dscores(stages), 0, shared.key(), dquery_column);
        ptx::WarpgroupCommit();
        ptx::WarpgroupWait<0>();
        ptx::Settle(dquery);
        AddQueryGradient<kDquerySums>(common, shared, stages, 0, dquery_column, dquery);
      } else {
        ptx::WarpgroupCommit();
        ptx::WarpgroupWait<0>();
      }
      FinishStage<kDquerySums>(shared, stages);
      stages.Advance();
    }
    if (!continues) {
      Fill(dkey, 0.0f);
      Fill(dvalue, 0.0f);
    }
    BackwardGradients<T, kRow>{warpgroup, 0, ThreadRow()}.Finish(arguments, shared, dkey_column, dkey, dvalue_column,
                                                                 dvalue);
  }
};

}  // namespace pfm::cuda::sm90

#endif  // PFM_CUDA_SM90_BACKWARD_SHARE_KEYS_H_
