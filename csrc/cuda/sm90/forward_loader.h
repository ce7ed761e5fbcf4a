// Loader thread of the sm90 forward: copies the queries, keys and values named by the tile stream.
#ifndef PFM_CUDA_SM90_FORWARD_LOADER_H_
#define PFM_CUDA_SM90_FORWARD_LOADER_H_

#include "forward_arguments.h"
#include "forward_shared.h"

namespace pfm::cuda::sm90 {

template <int kRow>
class ForwardLoader {
 public:
  using Shared = ForwardShared<kRow>;

  PFM_DEVICE ForwardLoader(const ForwardArguments& arguments, const Shared& shared)
      : arguments_(arguments),
        shared_(shared),
        query_ring_(shared.query_ring()),
        key_ring_(shared.key_ring()),
        value_ring_(shared.value_ring()),
        stream_ring_(shared.stream_ring()) {}

  // Loads in the order in which buffers become free: the next keys before the values of this tile, if the next tile
  // is known. Their buffer is freed by scores that need no later values, so this cannot deadlock. The queries of an
  // item follow its first keys, because their buffer is freed only when an output has left it.
  PFM_DEVICE void Run() {
    bool waits_for_query = false, waits_for_value = false;
    int32_t value_tile = 0;
    for (;;) {
      if (waits_for_value && !stream_ring_.IsFull()) {
        LoadValue(value_tile);
        waits_for_value = false;
      }
      const Entry entry = NextEntry();
      if (entry.is_key_tile()) LoadKey(entry.tile);
      if (waits_for_value) LoadValue(value_tile);
      if (waits_for_query) LoadQuery();
      waits_for_query = entry.kind == EntryKind::kQueryTile;
      waits_for_value = entry.is_key_tile();
      value_tile = entry.tile;
      if (entry.kind == EntryKind::kQueryTile) item_ = entry;
      if (entry.kind == EntryKind::kStop) return;
    }
  }

 private:
  PFM_DEVICE Entry NextEntry() {
    stream_ring_.WaitFull();
    const Entry entry = ptx::LoadShared<Entry>(shared_.stream().EntryAt(stream_ring_.stage()));
    ptx::MbarrierArrive(stream_ring_.empty());
    stream_ring_.Advance();
    return entry;
  }

  PFM_DEVICE void LoadQuery() {
    query_ring_.WaitEmpty();
    ptx::MbarrierArriveExpectBytes(query_ring_.full(), Shared::kConsumers * Shared::Query::kBytes);
    for (int consumer = 0; consumer < Shared::kConsumers; ++consumer) {
      const int row = item_.tile * Shared::kTile.tile_q + consumer * Shared::kWarpgroupRows;
      shared_.query(query_ring_.stage(), consumer)
          .Load(arguments_.query, 0, row, item_.head, item_.batch, query_ring_.full());
    }
    query_ring_.Advance();
  }

  PFM_DEVICE void LoadKey(int32_t tile) {
    key_ring_.WaitEmpty();
    ptx::MbarrierArriveExpectBytes(key_ring_.full(), Shared::Key::kBytes);
    shared_.key(key_ring_.stage())
        .Load(arguments_.key, 0, tile * Shared::kTile.tile_k, KvHead(), item_.batch, key_ring_.full());
    key_ring_.Advance();
  }

  PFM_DEVICE void LoadValue(int32_t tile) {
    value_ring_.WaitEmpty();
    ptx::MbarrierArriveExpectBytes(value_ring_.full(), Shared::Value::kBytes);
    shared_.value(value_ring_.stage())
        .Load(arguments_.value, 0, tile * Shared::kTile.tile_k, KvHead(), item_.batch, value_ring_.full());
    value_ring_.Advance();
  }

  PFM_DEVICE int32_t KvHead() const { return item_.head / arguments_.heads_per_kv_head; }

  const ForwardArguments& arguments_;
  const Shared& shared_;
  typename Shared::QueryStages query_ring_;
  typename Shared::Stages key_ring_, value_ring_;
  typename Shared::Stream::Position stream_ring_;
  Entry item_ = {};
};

}  // namespace pfm::cuda::sm90

#endif  // PFM_CUDA_SM90_FORWARD_LOADER_H_
