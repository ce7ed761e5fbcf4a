// Tile scheduler of the sm90 forward. Three producer warps take work items, read the mask, and write the stream of
// live tiles ahead of the warps that load and compute them, so that a skipped tile costs the math warps nothing.
#ifndef PFM_CUDA_SM90_TILE_SCHEDULER_H_
#define PFM_CUDA_SM90_TILE_SCHEDULER_H_

#include <cstdint>

#include "../common/shared_columns.h"
#include "forward_arguments.h"
#include "tile_stream.h"

namespace pfm::cuda::sm90 {

// Bit c of lane r becomes bit r of lane c. Collective.
PFM_DEVICE inline uint32_t TransposeBits(uint32_t bits, int lane) {
  constexpr uint32_t kLowHalves[5] = {0x0000ffffu, 0x00ff00ffu, 0x0f0f0f0fu, 0x33333333u, 0x55555555u};
#pragma unroll
  for (int step = 0; step < 5; ++step) {
    const int distance = 16 >> step;
    const uint32_t low = kLowHalves[step], other = ptx::ShuffleXor(bits, distance);
    const bool is_upper = (lane & distance) != 0;
    bits = is_upper ? (bits & ~low) | (other >> distance & low) : (bits & low) | (other & low) << distance;
  }
  return bits;
}

// All kSchedulerWarps warps compute the same entries; the leader, lane 0 of the first warp, publishes them.
template <int kTileQ, int kTileK, int kSchedulerWarps>
class TileScheduler {
 public:
  using Stream = TileStream<kTileQ, kTileK>;
  static constexpr int kExchangeBytes = 32;  // two slots of the next item and one result per warp

  PFM_DEVICE TileScheduler(int warp, Stream stream, typename Stream::Position position, ptx::SharedAddress exchange,
                           int barrier)
      : warp_(warp), stream_(stream), position_(position), exchange_(exchange), barrier_(barrier) {}

  PFM_DEVICE void Run(const MaskTable& table, const WorkOrder& work) {
    for (int32_t item = NextItem(work); item < work.items; item = NextItem(work)) {
      const Entry query_tile = DescribeItem(table, work, item);
      Publish(query_tile);
      const int32_t mask = HeadMask::IndexOf(table, query_tile.batch, query_tile.head);
      const int32_t row0 = query_tile.tile * kTileQ;
      for (int32_t group = 0; group < table.key_groups(); group += kWarpThreads) {
        for (uint32_t live = FindGroups(table, mask, row0, group); live != 0; live &= live - 1) {
          Scan(table, mask, row0, (group + ptx::LowestBit(live)) * kGroupTiles);
        }
      }
    }
    Publish({EntryKind::kStop, 0, 0, 0, 0});
  }

 private:
  static constexpr int kRowBlocks = kTileQ / 32;
  static_assert(kTileQ <= kMaxSlices * kSliceRows, "a bit for every slice");
  static_assert(4 * (1 + kSchedulerWarps) * 2 <= kExchangeBytes, "both slots fit");

  // Takes the next item from a global counter. A static share would be unbalanced: the cost of a tile is known only
  // after its columns have been read.
  PFM_DEVICE int32_t NextItem(const WorkOrder& work) {
    const ptx::SharedAddress slot = NextSlot();
    if (IsLeader()) ptx::StoreShared(slot, ptx::AtomicAdd(work.next, 1));
    SyncSchedulerWarps();
    return ptx::LoadShared<int32_t>(slot);
  }

  PFM_DEVICE static Entry DescribeItem(const MaskTable& table, const WorkOrder& work, int32_t item) {
    const HeadGroups::Item at = work.groups.At(item, table.query_tiles);
    const int32_t batch = at.head / work.heads_q, head = at.head % work.heads_q;
    const int32_t* order = table.order + table.MaskOf(batch, head) * table.query_tiles;
    return {EntryKind::kQueryTile, 0, ptx::LoadGlobal(order + at.rank), head, batch};
  }

  // Of the 32 groups of key tiles from `group` on, those that the rows may see: one load instead of one per group. A
  // single group is not worth the load.
  PFM_DEVICE static uint32_t FindGroups(const MaskTable& table, int32_t mask, int32_t row0, int32_t group) {
    if (table.key_groups() == 1) return 1;
    const int32_t own = group + ptx::LaneIndex(), row1 = Min(row0 + kTileQ, table.seqlen_q);
    const HeadMask head_mask(table, ptx::Fresh(mask));
    return ptx::Ballot(own < table.key_groups() && !head_mask.GroupIsEmpty(own, row0, row1));
  }

  // Publishes the live ones of the 32 key tiles from `first` on. Each lane classifies one tile by its bounds;
  // undecided tiles are then classified by their columns. Fresh recomputes pointers into the mask, for which the
  // producers lack registers.
  PFM_DEVICE void Scan(const MaskTable& table, int32_t mask, int32_t row0, int32_t first) {
    const int32_t key_tile = first + ptx::LaneIndex(), row1 = Min(row0 + kTileQ, table.seqlen_q);
    TileClass by_bounds = TileClass::kEmpty;
    if (key_tile < table.key_tiles) by_bounds = ByBounds(HeadMask(table, ptx::Fresh(mask)), key_tile, row0, row1);
    uint32_t candidates = ptx::Ballot(by_bounds != TileClass::kEmpty);
    const uint32_t undecided = ptx::Ballot(by_bounds == TileClass::kUndecided);
    for (; candidates != 0; candidates &= candidates - 1) {
      const int lane = ptx::LowestBit(candidates);
      const bool is_full = (undecided >> lane & 1) == 0;
      const int slices = is_full ? SlicesWithRows(table.seqlen_q - row0)
                                 : ClassifyByColumns(HeadMask(table, ptx::Fresh(mask)), first + lane, row0);
      if ((slices & kAnySees) != 0) {
        Publish({EntryKind::kKeyTile, static_cast<int16_t>(slices), first + lane, 0, 0});
      }
    }
  }

  // Tests one hole at a time, which takes fewer registers than both at once.
  PFM_DEVICE static TileClass ByBounds(const HeadMask& mask, int32_t key_tile, int32_t row0, int32_t row1) {
    const RowRangeBounds absent = {mask.table().seqlen_q, mask.table().seqlen_q, 0, 0};
    const bool tail = (key_tile + 1) * kTileK > mask.table().seqlen_k;
    TileBounds bounds = {mask.BoundsOf(0, key_tile), {absent, absent}};
    TileClass found = ClassifyByBounds(bounds, row0, row1, tail);
#pragma unroll 1
    for (int hole = 1; hole <= mask.table().holes && found != TileClass::kEmpty; ++hole) {
      bounds.hole[0] = mask.BoundsOf(hole, key_tile);
      const TileClass with_hole = ClassifyByBounds(bounds, row0, row1, tail);
      if (with_hole != TileClass::kFull) found = with_hole;
    }
    return found;
  }

  PFM_DEVICE static int SlicesWithRows(int32_t rows) {
    return SeesSome(Min(CeilDiv<int32_t>(rows, kSliceRows), kTileQ / kSliceRows)) - 1;
  }

  // Classifies an undecided tile by its columns, per slice, and writes its bits to the next stage; an empty tile
  // leaves that stage to its successor. A warp handles a quarter of the keys at a time, so that their columns are
  // read once and the blocks of 32 rows hide each other's latency.
  PFM_DEVICE int ClassifyByColumns(const HeadMask& mask, int32_t key_tile, int32_t row0) {
    if (IsLeader()) position_.WaitEmpty();
    SyncSchedulerWarps();
    const int lane = ptx::LaneIndex();
    const bool exists = lane < Stream::kKeys;
    int slices = 0;
#pragma unroll 1
    for (int word = warp_; word < Stream::kWords; word += kSchedulerWarps) {
      uint32_t rows[kRowBlocks] = {};
      const int key = 8 * (lane / 2) + 2 * word + lane % 2;
      if (exists) ReadRows(mask.table(), mask.ColumnArray(0, key_tile) + key, row0, rows);
#pragma unroll
      for (int block = 0; block < kRowBlocks; ++block) {
        const uint32_t real = exists ? LowBits(mask.table().seqlen_q - row0 - 32 * block) : 0;
        if ((rows[block] & real) != 0) slices |= SeesSome(32 * block / kSliceRows);
        if ((~rows[block] & real) != 0) slices |= MissesSome(32 * block / kSliceRows);
        const uint32_t bits = TransposeBits(rows[block], lane);
        ptx::StoreShared(stream_.Word(position_.stage(), word, 32 * block + lane), bits);
      }
    }
    return Combine(slices);
  }

  // Rows that see a key, by its visible range and holes. `range` points to its first begin; ends lie one array
  // behind.
  PFM_DEVICE static void ReadRows(const MaskTable& table, const int32_t* range, int32_t row0,
                                  uint32_t (&rows)[kRowBlocks]) {
    const auto for_blocks = [&](auto change) {
      const int32_t begin = ptx::LoadGlobal(range) - row0, end = ptx::LoadGlobal(range + table.padded_keys) - row0;
#pragma unroll
      for (int b = 0; b < kRowBlocks; ++b) change(rows[b], LowBits(end - 32 * b) & ~LowBits(begin - 32 * b));
    };
    for_blocks([](uint32_t& row, uint32_t visible) { row = visible; });
#pragma unroll 1
    for (int hole = 0; hole < table.holes; ++hole) {
      range += 2 * table.padded_keys;
      for_blocks([](uint32_t& row, uint32_t hidden) { row &= ~hidden; });
    }
  }

  // Union over all lanes of all scheduler warps. On return, the bits of all warps are in shared memory.
  PFM_DEVICE int Combine(int found) {
#pragma unroll
    for (int distance = 16; distance > 0; distance /= 2) found |= ptx::ShuffleXor(found, distance);
    const ptx::SharedAddress slot = NextSlot() + 4;
    if (ptx::LaneIndex() == 0) ptx::StoreShared(slot + 4 * warp_, found);
    SyncSchedulerWarps();
    int32_t combined = 0;
#pragma unroll
    for (int warp = 0; warp < kSchedulerWarps; ++warp) combined |= ptx::LoadShared<int32_t>(slot + 4 * warp);
    return combined;
  }

  // Double-buffered: the slot of exchange t is reused by t + 2, and the barrier of t + 1 proves that all warps have
  // read it.
  PFM_DEVICE ptx::SharedAddress NextSlot() {
    turn_ ^= 1;
    return exchange_ + turn_ * (kExchangeBytes / 2);
  }

  PFM_DEVICE void SyncSchedulerWarps() const { ptx::NamedBarrierSync(barrier_, kSchedulerWarps * kWarpThreads); }

  PFM_DEVICE bool IsLeader() const { return warp_ == 0 && ptx::LaneIndex() == 0; }

  // Only the leader waits for a stage. The other warps may be more than one round apart from it, where the parity of
  // an mbarrier is ambiguous.
  PFM_DEVICE void Publish(const Entry& entry) {
    if (IsLeader()) {
      position_.WaitEmpty();
      ptx::StoreShared(stream_.EntryAt(position_.stage()), entry);
      ptx::MbarrierArrive(position_.full());
    }
    position_.Advance();
  }

  int warp_;
  Stream stream_;
  typename Stream::Position position_;
  ptx::SharedAddress exchange_;
  int barrier_;
  int turn_ = 0;
};

}  // namespace pfm::cuda::sm90

#endif  // PFM_CUDA_SM90_TILE_SCHEDULER_H_
