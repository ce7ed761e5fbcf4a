// Shared memory plan of the sm90 forward, and the types of one row of the table.
#ifndef PFM_CUDA_SM90_FORWARD_SHARED_H_
#define PFM_CUDA_SM90_FORWARD_SHARED_H_

#include "forward_config.h"
#include "smem_tile.h"
#include "tile_scheduler.h"
#include "tile_stream.h"

namespace pfm::cuda::sm90 {

// Named barriers; 0 is SyncThreads.
constexpr int kSchedulerBarrier = 1;
constexpr int kStoreBarrier = 2;     // one per consumer, from here on
constexpr int kPingPongBarrier = 5;  // likewise

template <int kRow>
struct ForwardShared {
  static constexpr ForwardTile kTile = kForward[kRow];
  static constexpr int kConsumers = kTile.consumers();
  static constexpr int kSchedulerWarps = kWarpgroupWarps - 1;  // the other warp of the producer loads
  static constexpr int kWarpgroupRows = kSliceRows;

  using Query =
      SmemTile<kWarpgroupRows, kTile.head_dim>;  // of a warpgroup, which stores its output in the same place
  using Out = SmemTile<kWarpgroupRows, kTile.head_dim_v>;
  using Key = SmemTile<kTile.tile_k, kTile.head_dim>;
  using Value = SmemTile<kTile.tile_k, kTile.head_dim_v>;
  using Stream = TileStream<kTile.tile_q, kTile.tile_k>;
  using Scheduler = TileScheduler<kTile.tile_q, kTile.tile_k, kSchedulerWarps>;
  using Stages = Ring<kTile.stages>;
  using QueryStages = Ring<kTile.query_stages>;

  ptx::SharedAddress base = (ptx::DynamicShared() + kTileAlignment - 1) / kTileAlignment * kTileAlignment;

  static constexpr int kKeyAt = kTile.query_stages * kConsumers * Query::kBytes;
  static constexpr int kValueAt = kKeyAt + kTile.stages * Key::kBytes;
  static constexpr int kStreamAt = kValueAt + kTile.stages * Value::kBytes;
  static constexpr int kExchangeAt = kStreamAt + Stream::kBytes;
  static constexpr int kQueryRingAt = kExchangeAt + Scheduler::kExchangeBytes;
  static constexpr int kKeyRingAt = kQueryRingAt + QueryStages::kBarrierBytes;
  static constexpr int kValueRingAt = kKeyRingAt + Stages::kBarrierBytes;
  static constexpr int kStreamRingAt = kValueRingAt + Stages::kBarrierBytes;
  static constexpr int kEnd = kStreamRingAt + Stream::Position::kBarrierBytes;
  static_assert(kTileAlignment + kEnd == kTile.shared_bytes(), "the plan is what the table says");

  PFM_DEVICE Query query(int stage, int consumer) const {
    return {base + (stage * kConsumers + consumer) * Query::kBytes};
  }
  PFM_DEVICE Out out(int stage, int consumer) const { return {query(stage, consumer).base}; }
  PFM_DEVICE Key key(int stage) const { return {base + kKeyAt + stage * Key::kBytes}; }
  PFM_DEVICE Value value(int stage) const { return {base + kValueAt + stage * Value::kBytes}; }
  PFM_DEVICE Stream stream() const { return {base + kStreamAt}; }
  PFM_DEVICE ptx::SharedAddress exchange() const { return base + kExchangeAt; }

  PFM_DEVICE QueryStages query_ring() const { return QueryStages(base + kQueryRingAt); }
  PFM_DEVICE Stages key_ring() const { return Stages(base + kKeyRingAt); }
  PFM_DEVICE Stages value_ring() const { return Stages(base + kValueRingAt); }
  PFM_DEVICE typename Stream::Position stream_ring() const { return typename Stream::Position(base + kStreamRingAt); }

  // Initialises the mbarriers. Called by all threads of the block first.
  PFM_DEVICE void InitRings() const {
    if (ptx::ThreadIndex() == 0) {
      constexpr int kConsumerWarps = kConsumers * kWarpgroupWarps;
      query_ring().Init(1, kConsumers);
      key_ring().Init(1, kConsumerWarps);
      value_ring().Init(1, kConsumerWarps);
      stream_ring().Init(1, kConsumerWarps + 1);
      ptx::FenceMbarrierInit();
    }
    ptx::SyncThreads();
  }
};

}  // namespace pfm::cuda::sm90

#endif  // PFM_CUDA_SM90_FORWARD_SHARED_H_
