// Mask and dropout on accumulators of the score matrix, with query rows (forward) or with key rows (backward).
#ifndef PFM_CUDA_SM80_SCORE_RULES_H_
#define PFM_CUDA_SM80_SCORE_RULES_H_

#include <cstdint>

#include "../../core/dropout.h"
#include "../common/mask_table.h"
#include "fragments.h"

namespace pfm::cuda::sm80 {

constexpr float kLog2E = 1.4426950408889634f;
constexpr float kLn2 = 0.6931471805599453f;

// Rules come as one bit per accumulator, 4 * n + e for element e of the n-th 8-column block of 16 rows. Loops that
// make them stay rolled: they run for partial tiles and with dropout only, and unrolled they would need registers
// that the products do not leave.
constexpr int kBitsPerBlock = 4;
constexpr int kMaxColumnBlocks = 32 / kBitsPerBlock;

// Accumulators whose bit is set become `value`.
template <int kColumnBlocks>
PFM_DEVICE inline void Overwrite(uint32_t bits, float value, Accumulator (&accumulators)[kColumnBlocks]) {
#pragma unroll
  for (int n = 0; n < kColumnBlocks; ++n) {
#pragma unroll
    for (int e = 0; e < 4; ++e) {
      if (bits >> (kBitsPerBlock * n + e) & 1) accumulators[n][e] = value;
    }
  }
}

// Hidden scores become -inf. Rows are queries from row0 on, columns keys from key0 on.
template <int kRowBlocks, int kColumnBlocks>
PFM_DEVICE inline void HideScores(const HeadMask& mask, int32_t row0, int64_t key0,
                                  Accumulator (&scores)[kRowBlocks][kColumnBlocks]) {
  static_assert(kColumnBlocks <= kMaxColumnBlocks, "one word of bits");
  const int lane = ptx::LaneIndex();
  uint32_t hidden[kRowBlocks] = {};
#pragma unroll 1
  for (int n = 0; n < kColumnBlocks; ++n) {
    Column column[2];
    mask.ColumnsOf(key0 + 8 * n + lane % 4 * 2, column);
#pragma unroll
    for (int i = 0; i < kRowBlocks; ++i) {
#pragma unroll
      for (int e = 0; e < 4; ++e) {
        const bool sees = column[e % 2].Sees(row0 + 16 * i + e / 2 * 8 + lane / 4);
        hidden[i] |= (sees ? 0u : 1u) << (kBitsPerBlock * n + e);
      }
    }
  }
#pragma unroll
  for (int i = 0; i < kRowBlocks; ++i) Overwrite(hidden[i], -ptx::Infinity(), scores[i]);
}

// The same with the keys of one 16-row block as rows and queries as columns.
template <int kColumnBlocks>
PFM_DEVICE inline void HideTransposedScores(const HeadMask& mask, int32_t row0, int64_t key0,
                                            Accumulator (&scores)[kColumnBlocks]) {
  static_assert(kColumnBlocks <= kMaxColumnBlocks, "one word of bits");
  const int lane = ptx::LaneIndex();
  uint32_t hidden = 0;
#pragma unroll 1
  for (int half = 0; half < 2; ++half) {
    const Column column = mask.ColumnOf(key0 + 8 * half + lane / 4);
#pragma unroll 1
    for (int n = 0; n < kColumnBlocks; ++n) {
#pragma unroll
      for (int e = 0; e < 2; ++e) {
        const bool sees = column.Sees(row0 + 8 * n + lane % 4 * 2 + e);
        hidden |= (sees ? 0u : 1u) << (kBitsPerBlock * n + 2 * half + e);
      }
    }
  }
  Overwrite(hidden, -ptx::Infinity(), scores);
}

// The stream of a launch: seed and offset may lie in device memory.
PFM_DEVICE inline DropoutStream ReadStream(DropoutStream stream, const uint64_t* seed_offset) {
  if (seed_offset != nullptr) {
    stream.seed = ptx::LoadGlobal(seed_offset);
    stream.offset = ptx::LoadGlobal(seed_offset + 1);
  }
  return stream;
}

// Which values are dropped, for one 16-row block of queries. The words of a lane of the stream lie as its
// accumulators.
template <int kColumnBlocks>
PFM_DEVICE inline uint32_t DroppedBits(const DropoutStream& stream, uint32_t head, int32_t row0, int64_t key0) {
  static_assert(kColumnBlocks <= kMaxColumnBlocks, "one word of bits");
  uint32_t dropped = 0;
#pragma unroll 1
  for (int n = 0; n < kColumnBlocks; n += 2) {
    const Philox4 bits = stream.Lane(head, static_cast<uint32_t>(row0 / kDropoutBlock),
                                     static_cast<uint32_t>(key0 / kDropoutBlock + n / 2), ptx::LaneIndex());
#pragma unroll
    for (int word = 0; word < 8; ++word) {
      dropped |= (stream.KeepsWord(bits, word) ? 0u : 1u) << (kBitsPerBlock * n + word);
    }
  }
  return dropped;
}

// The same for one 16-row block of keys: the two queries of an accumulator pair belong to two lanes of the stream.
template <int kColumnBlocks>
PFM_DEVICE inline uint32_t DroppedBitsTransposed(const DropoutStream& stream, uint32_t head, int32_t row0,
                                                 int64_t key0) {
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
      const Philox4 bits = stream.Lane(head, static_cast<uint32_t>(row0 / kDropoutBlock + n / 2),
                                       static_cast<uint32_t>(key0 / kDropoutBlock), lane);
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

#endif  // PFM_CUDA_SM80_SCORE_RULES_H_
