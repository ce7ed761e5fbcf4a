// Tile scheduler of the sm90 forward. Three producer warps take work items, read the mask, and write the stream of
// live tiles ahead of the warps that load and compute them, so that a skipped tile costs the math warps nothing.
#ifndef PFM_CUDA_SM90_TILE_SCHEDULER_H_
#define PFM_CUDA_SM90_TILE_SCHEDULER_H_

#include <cstdint>

#include "../common/shared_columns.h"
#include "forward_arguments.h"
#include "tile_stream.h"

namespace pfm::cuda::sm90 {

// Bit c of lane r becomes bit r of lane c, in every word. Collective. A step exchanges the halves of words that lie
// `distance` lanes apart: the rotation that brings the other lane's half into place is the same for all words.
template <int kWords>
PFM_DEVICE inline void TransposeBits(int lane, uint32_t (&words)[kWords]) {
  constexpr uint32_t kLowHalves[5] = {0x0000ffffu, 0x00ff00ffu, 0x0f0f0f0fu, 0x33333333u, 0x55555555u};
#pragma unroll
  for (int step = 0; step < 5; ++step) {
    const int distance = 16 >> step;
    const bool is_upper = (ptx::Fresh(lane) & distance) != 0;
    const int left = is_upper ? 32 - distance : distance;
    const uint32_t kept = is_upper ? ~kLowHalves[step] : kLowHalves[step];
#pragma unroll
    for (uint32_t& word : words) {
      const uint32_t other = ptx::ShuffleXor(word, distance);
      word = (word & kept) | ((other << left | other >> (32 - left)) & ~kept);
    }
  }
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
  // undecided tiles are then classified by their columns, which are loaded one undecided tile ahead. Fresh recomputes
  // pointers into the mask, for which the producers lack registers.
  PFM_DEVICE void Scan(const MaskTable& table, int32_t mask, int32_t row0, int32_t first) {
    const int32_t key_tile = first + ptx::LaneIndex(), row1 = Min(row0 + kTileQ, table.seqlen_q);
    TileClass by_bounds = TileClass::kEmpty;
    if (key_tile < table.key_tiles) by_bounds = ByBounds(HeadMask(table, ptx::Fresh(mask)), key_tile, row0, row1);
    uint32_t candidates = ptx::Ballot(by_bounds != TileClass::kEmpty);
    uint32_t undecided = ptx::Ballot(by_bounds == TileClass::kUndecided);
    Ranges ranges = {};
    const auto load_next = [&] {
      if (undecided == 0) return;
      ranges = LoadRanges(HeadMask(table, ptx::Fresh(mask)), 0, first + ptx::LowestBit(undecided));
    };
    load_next();
    for (; candidates != 0; candidates &= candidates - 1) {
      const int lane = ptx::LowestBit(candidates);
      int slices = SlicesWithRows(table.seqlen_q - row0);
      if ((undecided >> lane & 1) != 0) {
        uint32_t rows[kUnits];
        FindRows(HeadMask(table, ptx::Fresh(mask)), first + lane, row0, ranges, rows);
        undecided &= undecided - 1;
        load_next();
        slices = ClassifyByRows(table.seqlen_q - row0, rows);
      }
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

  // Work on an undecided tile is split into units of 32 rows and a quarter of the keys, one key per lane. A warp
  // takes the units of a quarter of its own, and a share of those of the last quarter.
  static constexpr int kShare = CeilDiv(kRowBlocks, kSchedulerWarps);
  static constexpr int kUnits = kRowBlocks + kShare;
  static_assert(kSchedulerWarps == Stream::kWords - 1 && kRowBlocks % kShare == 0, "a whole share or none");

  PFM_DEVICE bool HasShare() const { return warp_ * kShare < kRowBlocks; }
  PFM_DEVICE bool Exists(int unit) const { return unit < kRowBlocks || HasShare(); }
  PFM_DEVICE int FirstRow(int unit) const {
    return 32 * (unit < kRowBlocks ? unit : unit - kRowBlocks + warp_ * kShare);
  }

  // Begin and end of a range of rows, for this lane's keys in both quarters.
  struct Ranges {
    int32_t begin[2], end[2];
  };

  PFM_DEVICE Ranges LoadRanges(const HeadMask& mask, int range, int32_t key_tile) const {
    const int lane = ptx::Fresh(ptx::LaneIndex());
    Ranges ranges = {};
    if (lane >= Stream::kKeys) return ranges;
    const int32_t* begins = mask.ColumnArray(2 * range, key_tile) + 8 * (lane / 2) + lane % 2;
#pragma unroll
    for (int n = 0; n < 2; ++n) {
      const int32_t* at = begins + 2 * (n == 0 ? warp_ : kSchedulerWarps);
      ranges.begin[n] = ptx::LoadGlobal(at);
      ranges.end[n] = ptx::LoadGlobal(at + mask.table().padded_keys);
    }
    return ranges;
  }

  // Rows that see this lane's keys, a word per unit. `ranges`: the visible ones.
  PFM_DEVICE void FindRows(const HeadMask& mask, int32_t key_tile, int32_t row0, const Ranges& ranges,
                           uint32_t (&rows)[kUnits]) const {
    row0 = ptx::Fresh(row0);
    const auto inside = [&](const Ranges& of, int unit) {
      const int n = unit < kRowBlocks ? 0 : 1;
      const int32_t first = row0 + FirstRow(unit);
      return LowBits(of.end[n] - first) & ~LowBits(of.begin[n] - first);
    };
#pragma unroll
    for (int unit = 0; unit < kUnits; ++unit) rows[unit] = inside(ranges, unit);
#pragma unroll 1
    for (int hole = 1; hole <= mask.table().holes; ++hole) {
      const Ranges hidden = LoadRanges(mask, hole, key_tile);
#pragma unroll
      for (int unit = 0; unit < kUnits; ++unit) rows[unit] &= ~inside(hidden, unit);
    }
  }

  // Classifies a tile with real_rows rows or more, per slice, and writes its bits to the next stage; an empty tile
  // leaves that stage to its successor.
  PFM_DEVICE int ClassifyByRows(int32_t real_rows, uint32_t (&rows)[kUnits]) {
    const int lane = ptx::LaneIndex();
    int found = 0;
#pragma unroll
    for (int unit = 0; unit < kUnits; ++unit) {
      if (!Exists(unit)) continue;
      const uint32_t real = lane < Stream::kKeys ? LowBits(real_rows - FirstRow(unit)) : 0;
      const int slice = FirstRow(unit) / kSliceRows;
      if ((rows[unit] & real) != 0) found |= SeesSome(slice);
      if ((~rows[unit] & real) != 0) found |= MissesSome(slice);
    }
    TransposeBits(lane, rows);
    if (IsLeader()) position_.WaitEmpty();
    const int slices = Combine(found);
    if ((slices & kAnySees) == 0) return slices;
#pragma unroll
    for (int unit = 0; unit < kUnits; ++unit) {
      const int word = unit < kRowBlocks ? warp_ : kSchedulerWarps;
      if (Exists(unit)) {
        ptx::StoreShared(stream_.Word(position_.stage(), word, FirstRow(unit) + lane), rows[unit]);
      }
    }
    SyncSchedulerWarps();  // the bits of all warps are there
    return slices;
  }

  // Union over all lanes of all scheduler warps, once the leader has a stage.
  PFM_DEVICE int Combine(int found) {
    int own = 0;
#pragma unroll
    for (int slice = 0; slice < kTileQ / kSliceRows; ++slice) {
      if (ptx::Ballot((found & SeesSome(slice)) != 0) != 0) own |= SeesSome(slice);
      if (ptx::Ballot((found & MissesSome(slice)) != 0) != 0) own |= MissesSome(slice);
    }
    const ptx::SharedAddress slot = NextSlot() + 4;
    if (ptx::LaneIndex() == 0) ptx::StoreShared(slot + 4 * warp_, own);
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
