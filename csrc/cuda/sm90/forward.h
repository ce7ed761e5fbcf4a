// Forward attention for compute capability 9.0, after FlashAttention-3 (Shah et al., 2024), by persistent blocks.
// Producer warpgroup: three warps schedule tiles (tile_scheduler.h), one warp loads them by TMA (forward_loader.h).
// Two or three consumer warpgroups own 64 query rows each. A consumer issues the scores of a tile together with the
// output product of the previous tile, and does the softmax of the former while the latter runs. Consumers issue in
// ping-pong order, so that one does softmax while the products of another run.
#ifndef PFM_CUDA_SM90_FORWARD_H_
#define PFM_CUDA_SM90_FORWARD_H_

#include "forward_arguments.h"
#include "forward_loader.h"
#include "forward_shared.h"
#include "softmax.h"

namespace pfm::cuda::sm90 {

template <class T, int kRow>
class ForwardConsumer {
 public:
  using Shared = ForwardShared<kRow>;
  static constexpr ForwardTile kTile = Shared::kTile;
  static constexpr int kDim = kTile.head_dim, kDimV = kTile.head_dim_v, kTileK = kTile.tile_k;

  PFM_DEVICE ForwardConsumer(const ForwardArguments& arguments, const Shared& shared, int consumer)
      : arguments_(arguments),
        shared_(shared),
        consumer_(consumer),
        thread_(ptx::ThreadIndex() % kWarpgroupThreads),
        query_ring_(shared.query_ring()),
        key_ring_(shared.key_ring()),
        value_ring_(shared.value_ring()),
        stream_ring_(shared.stream_ring()),
        ping_pong_(kPingPongBarrier, consumer) {}

  PFM_DEVICE void Run() {
    Entry entry = NextEntry();
    while (entry.kind != EntryKind::kStop) {
      const Entry item = entry;
      rows_.Start(arguments_.sink == nullptr ? nullptr : arguments_.sink + item.head);
      query_ring_.WaitFull();
      bool has_output = false;
      entry = ComputeTiles(NextEntry(), &has_output);
      StoreRows(item, has_output);
      query_ring_.Advance();
    }
    ping_pong_.Finish();
  }

 private:
  // Reads the next entry, and the visibility bits if the tile is partial for this slice, then frees the stage.
  PFM_DEVICE Entry NextEntry() {
    stream_ring_.WaitFull();
    const Entry entry = ptx::LoadShared<Entry>(shared_.stream().EntryAt(stream_ring_.stage()));
    if (entry.IsPartialFor(consumer_)) {
      const int row = consumer_ * Shared::kWarpgroupRows + Row();
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        visible_[half] = ptx::LoadShared<uint32_t>(
            shared_.stream().Word(stream_ring_.stage(), ptx::LaneIndex() % 4, row + 8 * half));
      }
    }
    ArriveByWarp(stream_ring_.empty());
    stream_ring_.Advance();
    return entry;
  }

  // Processes all key tiles of an item, in runs that are live for this slice. Returns the entry after them.
  PFM_DEVICE Entry ComputeTiles(Entry entry, bool* has_output) {
    while (entry.is_key_tile()) {
      if (!entry.IsSeenBy(consumer_)) {
        entry = SkipTile();
        continue;
      }
      entry = FirstTile(entry.IsPartialFor(consumer_), *has_output);
      while (entry.IsSeenBy(consumer_)) {
        entry = entry.IsPartialFor(consumer_) ? Step<true>(*has_output) : Step<false>(*has_output);
        *has_output = true;
      }
      LastTile(*has_output);
      *has_output = true;
    }
    return entry;
  }

  // Skips a tile that is live for other slices only: passes the turn on and releases the stages unused.
  PFM_DEVICE Entry SkipTile() {
    ping_pong_.Take();
    ping_pong_.Pass();
    key_ring_.WaitFull();
    Release(&key_ring_);
    value_ring_.WaitFull();
    Release(&value_ring_);
    return NextEntry();
  }

  // Scores of the first tile of a run, which have no product to overlap with.
  PFM_DEVICE Entry FirstTile(bool is_partial, bool has_output) {
    float scores[kTileK / 2], rescale[2];
    key_ring_.WaitFull();
    ping_pong_.Take();
    IssueScores(scores);
    ping_pong_.Pass();
    ptx::WarpgroupWait<0>();
    ptx::Settle(scores);
    Release(&key_ring_);
    if (is_partial) Hide(visible_, scores);
    rows_.Update(arguments_.scale, scores, rescale);
    if (has_output) ScaleRows(out_, rescale);
    PackOperand<T>(scores, probabilities_);
    return NextEntry();
  }

  // Scores of this tile, overlapped with the output of the previous one.
  template <bool kIsPartial>
  PFM_DEVICE Entry Step(bool has_output) {
    float scores[kTileK / 2], rescale[2];
    key_ring_.WaitFull();
    ping_pong_.Take();
    IssueScores(scores);
    value_ring_.WaitFull();
    IssueOutput(has_output);
    ping_pong_.Pass();
    ptx::WarpgroupWait<1>();
    ptx::Settle(scores);
    Release(&key_ring_);
    if constexpr (kIsPartial) Hide(visible_, scores);
    rows_.Update(arguments_.scale, scores, rescale);
    ptx::Settle(scores);
    const Entry next = NextEntry();  // its loop keeps ptxas from moving the softmax behind the wait
    ptx::WarpgroupWait<0>();
    ptx::Settle(out_);
    Release(&value_ring_);
    // The factors are exactly 1 if no maximum of the warp grew.
    if (ptx::Ballot(rescale[0] != 1.0f || rescale[1] != 1.0f) != 0) ScaleRows(out_, rescale);
    PackOperand<T>(scores, probabilities_);
    return next;
  }

  PFM_DEVICE void LastTile(bool has_output) {
    value_ring_.WaitFull();
    IssueOutput(has_output);
    ptx::WarpgroupWait<0>();
    ptx::Settle(out_);
    Release(&value_ring_);
  }

  PFM_DEVICE void IssueScores(float (&scores)[kTileK / 2]) {
    const typename Shared::Query query = shared_.query(query_ring_.stage(), ptx::Fresh(consumer_));
    const typename Shared::Key key = shared_.key(key_ring_.stage());
    ptx::WarpgroupFence();
#pragma unroll
    for (int d = 0; d < kDim; d += kDepth) {
      ptx::Wgmma<T, kTileK, ptx::Major::kK, ptx::Major::kK>(scores, query.AlongColumns(d), key.AlongColumns(d),
                                                            d > 0);
    }
    ptx::WarpgroupCommit();
  }

  PFM_DEVICE void IssueOutput(bool adds) {
    const typename Shared::Value value = shared_.value(value_ring_.stage());
    ptx::WarpgroupFence();
#pragma unroll
    for (int k = 0; k < kTileK; k += kDepth) {
      ptx::Wgmma<T, kDimV, ptx::Major::kMN>(out_, probabilities_[k / kDepth], value.AlongRows(k), adds || k > 0);
    }
    ptx::WarpgroupCommit();
  }

  template <class AnyRing>
  PFM_DEVICE static void Release(AnyRing* ring) {
    ArriveByWarp(ring->empty());
    ring->Advance();
  }

  // First row of this lane within the warpgroup; its second row is 8 further.
  PFM_DEVICE int Row() const { return thread_ / kWarpThreads * 16 + ptx::LaneIndex() / 4; }

  // Stores the output by way of the shared memory of the queries, which are no longer needed, then frees it.
  PFM_DEVICE void StoreRows(const Entry& item, bool has_output) {
    const int32_t row0 = item.tile * kTile.tile_q + consumer_ * Shared::kWarpgroupRows;
    const typename Shared::Out out = shared_.out(query_ring_.stage(), ptx::Fresh(consumer_));
    rows_.SumLanes();
    SyncWarpgroup();  // no product reads the queries any more
    if (has_output) {
      const float scale[2] = {rows_.OutputScale(0), rows_.OutputScale(1)};
      ScaleRows(out_, scale);
      WriteRows(out, [&](int i) { return ptx::Pack<T>(out_[i], out_[i + 1]); });
    } else {
      WriteRows(out, [](int) { return 0u; });
    }
    ptx::FenceProxyAsync();
    SyncWarpgroup();  // the output is in shared memory
    if (thread_ == 0) {
      out.Store(arguments_.out, 0, row0, item.head, item.batch);  // rows beyond the tensor are skipped
      ptx::BulkCommit();
    }
    StoreLogSumExp(item, row0 + Row());
    if (thread_ == 0) {
      ptx::BulkWaitRead<0>();
      ptx::MbarrierArrive(query_ring_.empty());
    }
  }

  PFM_DEVICE void SyncWarpgroup() const { ptx::NamedBarrierSync(kStoreBarrier + consumer_, kWarpgroupThreads); }

  // pair_of(i): sums i and i + 1 of this lane, rounded to a pair of elements.
  template <class PairOf>
  PFM_DEVICE void WriteRows(const typename Shared::Out& out, PairOf pair_of) const {
    const int row = Row(), column = ptx::LaneIndex() % 4 * 2;
#pragma unroll
    for (int i = 0; i < kDimV / 2; i += 2) ptx::StoreShared(out.Pair(row, column, i / 2 % 2, i / 4), pair_of(i));
  }

  PFM_DEVICE void StoreLogSumExp(const Entry& item, int32_t row) const {
    if (ptx::LaneIndex() % 4 != 0) return;
    const int32_t rows = arguments_.mask.seqlen_q;
    const int64_t head = static_cast<int64_t>(item.batch) * arguments_.work.heads_q + item.head;
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      if (row + 8 * half < rows)
        ptx::StoreGlobal(arguments_.lse + head * rows + row + 8 * half, rows_.LogSumExp(half));
    }
  }

  const ForwardArguments& arguments_;
  const Shared& shared_;
  int consumer_, thread_;
  typename Shared::QueryStages query_ring_;
  typename Shared::Stages key_ring_, value_ring_;
  typename Shared::Stream::Position stream_ring_;
  PingPong<Shared::kConsumers> ping_pong_;

  RowPair rows_;
  float out_[kDimV / 2];
  uint32_t probabilities_[kTileK / 16][4];
  uint32_t visible_[2];  // of the last partial tile
};

template <class T, int kRow>
PFM_KERNEL_BOUNDS((kForward[kRow].threads()), 1)
void Forward(PFM_KERNEL_ARGUMENT ForwardArguments arguments) {
  using Shared = ForwardShared<kRow>;
  const Shared shared;
  shared.InitRings();
  const int warp = WarpIndex();
  if (warp < kWarpgroupWarps) {
    ptx::SetMaxRegistersDown<kForward[kRow].producer_registers>();
    if (warp > 0) {
      typename Shared::Scheduler scheduler(warp - 1, shared.stream(), shared.stream_ring(), shared.exchange(),
                                           kSchedulerBarrier);
      scheduler.Run(arguments.mask, arguments.work);
    } else if (ptx::ElectOne()) {
      ForwardLoader<kRow>(arguments, shared).Run();
    }
  } else {
    ptx::SetMaxRegistersUp<kForward[kRow].consumer_registers>();
    ForwardConsumer<T, kRow>(arguments, shared, warp / kWarpgroupWarps - 1).Run();
  }
}

}  // namespace pfm::cuda::sm90

#endif  // PFM_CUDA_SM90_FORWARD_H_
