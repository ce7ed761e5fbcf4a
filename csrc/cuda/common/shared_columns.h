// Columns of one key tile in shared memory, which mask the scores of an undecided tile.
#ifndef PFM_CUDA_COMMON_SHARED_COLUMNS_H_
#define PFM_CUDA_COMMON_SHARED_COLUMNS_H_

#include <cstdint>

#include "mask_table.h"

namespace pfm::cuda {

// Word with bits [0, count) set; count is clamped to 0..32.
PFM_DEVICE inline uint32_t LowBits(int32_t count) {
  return static_cast<uint32_t>((uint64_t{1} << Max(0, Min(count, 32))) - 1);
}

// Arrays of kTileK int32: begins and ends of the visible range, then of each hole.
template <int kTileK>
struct SharedColumns {
  static constexpr int kArrayBytes = kTileK * static_cast<int>(sizeof(int32_t));
  static constexpr int kBytes = 2 * (1 + kMaxHoles) * kArrayBytes;
  static_assert(kTileK % 32 == 0, "whole words, whole copies");

  ptx::SharedAddress base;
  int32_t holes;

  // Starts the asynchronous copy; called by all threads of the block.
  template <int kThreads>
  PFM_DEVICE void Copy(const HeadMask& mask, int32_t key_tile) const {
    constexpr int kChunks = kArrayBytes / 16;
    static_assert(2 * (1 + kMaxHoles) * kChunks <= kThreads, "one chunk per thread");
    const int chunk = ptx::ThreadIndex();
    if (chunk >= 2 * (1 + holes) * kChunks) return;
    ptx::CopyAsync16(base + 16 * chunk, mask.ColumnArray(chunk / kChunks, key_tile) + chunk % kChunks * 4, true);
  }

  // Rows of [row0, row0 + 32) that see a key, one bit per row.
  PFM_DEVICE uint32_t VisibleRows(int key, int32_t row0) const {
    uint32_t bits = RowsOf(0, key, row0);
#pragma unroll
    for (int hole = 0; hole < kMaxHoles; ++hole) {
      if (hole < holes) bits &= ~RowsOf(1 + hole, key, row0);
    }
    return bits;
  }

 private:
  PFM_DEVICE uint32_t RowsOf(int range, int key, int32_t row0) const {
    const ptx::SharedAddress at = base + 2 * range * kArrayBytes + key * static_cast<int>(sizeof(int32_t));
    const int32_t begin = ptx::LoadShared<int32_t>(at) - row0;
    const int32_t end = ptx::LoadShared<int32_t>(at + kArrayBytes) - row0;
    return LowBits(end) & ~LowBits(begin);
  }
};

}  // namespace pfm::cuda

#endif  // PFM_CUDA_COMMON_SHARED_COLUMNS_H_
