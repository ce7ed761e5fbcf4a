// Mask and dropout on score accumulators, with queries as rows (forward, dquery) or keys as rows (backward).
#ifndef PFM_CUDA_SM80_MASK_DROPOUT_H_
#define PFM_CUDA_SM80_MASK_DROPOUT_H_

#include <cstdint>

#include "../../core/dropout.h"
#include "../common/score_scale.h"
#include "../common/shared_columns.h"
#include "fragments.h"

namespace pfm::cuda::sm80 {

// Multiplies scores by scale.before, where it is not 1.
template <int kRowBlocks, int kColumnBlocks>
PFM_DEVICE inline void ScaleScores(const ScoreScale& scale, Accumulator (&scores)[kRowBlocks][kColumnBlocks]) {
  if (!scale.ChangesScores()) return;
#pragma unroll
  for (int i = 0; i < kRowBlocks; ++i) {
#pragma unroll
    for (int n = 0; n < kColumnBlocks; ++n) {
#pragma unroll
      for (int e = 0; e < 4; ++e) scores[i][n][e] *= scale.before;
    }
  }
}

// Visibility of a tile to a warp: 16 * kRowBlocks queries by 8 * kColumnBlocks keys. A lane holds one word of rows
// for each of the keys lane, lane + 32, ...; Hide passes them to the lanes whose accumulators they mask.
template <int kRowBlocks, int kColumnBlocks>
struct QuerySlice {
  static_assert(kRowBlocks <= 2 && kColumnBlocks % 4 == 0, "a word of rows, whole words of keys");
  static constexpr int kWords = kColumnBlocks / 4;
  using Columns = SharedColumns<8 * kColumnBlocks>;

  uint32_t visible[kWords] = {};
  bool empty = false, full = true;

  PFM_DEVICE void Read(const Columns& columns, int32_t row0, int32_t seqlen_q) {
    const uint32_t rows = LowBits(Min(seqlen_q - row0, 16 * kRowBlocks));
    bool any = false, all = true;
#pragma unroll
    for (int w = 0; w < kWords; ++w) {
      visible[w] = columns.VisibleRows(32 * w + ptx::LaneIndex(), row0) & rows;
      any |= visible[w] != 0;
      all &= visible[w] == rows;
    }
    empty = ptx::Ballot(any) == 0;
    full = ptx::Ballot(!all) == 0;
  }

  PFM_DEVICE void Hide(Accumulator (&scores)[kRowBlocks][kColumnBlocks]) const {
    const int group = ptx::LaneIndex() / 4, quad = ptx::LaneIndex() % 4;
#pragma unroll
    for (int n = 0; n < kColumnBlocks; ++n) {
#pragma unroll
      for (int e = 0; e < 2; ++e) {
        const uint32_t rows = ptx::Shuffle(visible[n / 4], n % 4 * 8 + quad * 2 + e) >> group;
#pragma unroll
        for (int i = 0; i < kRowBlocks; ++i) {
          if ((rows & 1u << 16 * i) == 0) scores[i][n][e] = -ptx::Infinity();
          if ((rows & 1u << (16 * i + 8)) == 0) scores[i][n][2 + e] = -ptx::Infinity();
        }
      }
    }
  }
};

// The same with keys as rows: 16 keys by 8 * kColumnBlocks queries. A lane holds the queries that see its two keys.
template <int kColumnBlocks>
struct KeySlice {
  static_assert(kColumnBlocks % 4 == 0, "whole words of queries");
  static constexpr int kWords = kColumnBlocks / 4;

  uint32_t visible[2][kWords] = {};
  bool empty = false, full = true;

  template <int kTileK>
  PFM_DEVICE void Read(const SharedColumns<kTileK>& columns, int key0, int32_t row0, int32_t seqlen_q) {
    bool any = false, all = true;
#pragma unroll
    for (int w = 0; w < kWords; ++w) {
      const uint32_t rows = LowBits(seqlen_q - row0 - 32 * w);
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        const int key = key0 + 8 * half + ptx::LaneIndex() / 4;
        visible[half][w] = columns.VisibleRows(key, row0 + 32 * w) & rows;
        any |= visible[half][w] != 0;
        all &= visible[half][w] == rows;
      }
    }
    empty = ptx::Ballot(any) == 0;
    full = ptx::Ballot(!all) == 0;
  }

  PFM_DEVICE void Hide(Accumulator (&scores)[kColumnBlocks]) const {
    const int shift = ptx::LaneIndex() % 4 * 2;
#pragma unroll
    for (int half = 0; half < 2; ++half) {
#pragma unroll
      for (int n = 0; n < kColumnBlocks; ++n) {
        const uint32_t rows = visible[half][n / 4] >> shift;
        if ((rows & 1u << n % 4 * 8) == 0) scores[n][2 * half] = -ptx::Infinity();
        if ((rows & 2u << n % 4 * 8) == 0) scores[n][2 * half + 1] = -ptx::Infinity();
      }
    }
  }
};

// Dropout stream of a launch. Seed and offset are read from device memory if seed_offset is given. Kernels add the
// place of the first row and key to those of a tile: as part of the stream it costs registers, and spills.
PFM_DEVICE inline DropoutStream ReadStream(DropoutStream stream, const uint64_t* seed_offset) {
  stream.first_block_row = stream.first_block_col = 0;
  if (seed_offset != nullptr) {
    stream.seed = ptx::LoadGlobal(seed_offset);
    stream.offset = ptx::LoadGlobal(seed_offset + 1);
  }
  return stream;
}

// Dropout as bits: bit 4 * n + e is element e of the n-th 8-column block of 16 rows. The loops that compute them stay
// rolled: they run with dropout only, and the products leave too few registers to unroll them.
constexpr int kBitsPerBlock = 4;
constexpr int kMaxColumnBlocks = 32 / kBitsPerBlock;

// Clears accumulators whose bit is set.
template <int kColumnBlocks>
PFM_DEVICE inline void Drop(uint32_t dropped, Accumulator (&accumulators)[kColumnBlocks]) {
#pragma unroll
  for (int n = 0; n < kColumnBlocks; ++n) {
#pragma unroll
    for (int e = 0; e < 4; ++e) {
      if (dropped >> (kBitsPerBlock * n + e) & 1) accumulators[n][e] = 0.0f;
    }
  }
}

// Dropped values of one 16-row block of queries. The stream orders the words of a lane as its accumulators.
template <int kColumnBlocks>
PFM_DEVICE inline uint32_t DroppedBits(const DropoutStream& stream, uint32_t head, int32_t row0, int32_t key0) {
  static_assert(kColumnBlocks <= kMaxColumnBlocks, "one word of bits");
  uint32_t dropped = 0;
#pragma unroll 1
  for (int n = 0; n < kColumnBlocks; n += 2) {
    const Philox4 bits = stream.Lane(head, static_cast<uint32_t>(row0) / kDropoutBlock,
                                     static_cast<uint32_t>(key0) / kDropoutBlock + n / 2, ptx::LaneIndex());
#pragma unroll
    for (int word = 0; word < 8; ++word) {
      dropped |= (stream.KeepsWord(bits, word) ? 0u : 1u) << (kBitsPerBlock * n + word);
    }
  }
  return dropped;
}

// Dropped values of one 16-row block of keys. The two queries of an accumulator pair belong to two lanes of the
// stream.
template <int kColumnBlocks>
PFM_DEVICE inline uint32_t DroppedBitsTransposed(const DropoutStream& stream, uint32_t head, int32_t row0,
                                                 int32_t key0) {
  static_assert(kColumnBlocks <= kMaxColumnBlocks, "one word of bits");
  const int group = ptx::LaneIndex() / 4;
  const int quad = ptx::LaneIndex() % 4;
  const int shift = group % 2 * 16;
  uint32_t dropped = 0;
#pragma unroll 1
  for (int n = 0; n < kColumnBlocks; n += 2) {
#pragma unroll 1
    for (int e = 0; e < 2; ++e) {
      const uint32_t lane = static_cast<uint32_t>((2 * quad + e) * 4 + group / 2);
      const Philox4 bits = stream.Lane(head, static_cast<uint32_t>(row0) / kDropoutBlock + n / 2,
                                       static_cast<uint32_t>(key0) / kDropoutBlock, lane);
#pragma unroll
      for (int half = 0; half < 2; ++half) {
#pragma unroll
        for (int m = 0; m < 2; ++m) {
          const bool drops = (bits.word[2 * half + m] >> shift & 0xFFFFu) >= stream.keep_below;
          dropped |= (drops ? 1u : 0u) << (kBitsPerBlock * (n + m) + 2 * half + e);
        }
      }
    }
  }
  return dropped;
}

}  // namespace pfm::cuda::sm80

#endif  // PFM_CUDA_SM80_MASK_DROPOUT_H_
