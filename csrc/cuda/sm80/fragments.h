// Tiles in shared memory and the m16n8k16 fragments made from them.
//
// A tile is row-major with 16-byte chunks permuted within each row (chunk ^ row % 8), so that the eight rows of an
// 8x8 matrix lie in eight different bank groups. With group = lane / 4 and quad = lane % 4, an accumulator block of
// 16x8 holds, per lane, rows group and group + 8 and columns 2 * quad and 2 * quad + 1:
//   c[0] = (group, 2 quad)   c[1] = (group, 2 quad + 1)   c[2], c[3] = the same, eight rows below
#ifndef PFM_CUDA_SM80_FRAGMENTS_H_
#define PFM_CUDA_SM80_FRAGMENTS_H_

#include <cstdint>

#include "../common/elements.h"
#include "../ptx/ptx.h"
#include "config.h"

namespace pfm::cuda::sm80 {

using Accumulator = float[4];
using Fragment = uint32_t[4];

// Tile with kColumns elements per row, padded to whole lines.
template <int kColumns>
struct SharedTile {
  static_assert(kColumns % 16 == 0, "whole fragments");
  static constexpr int kRowBytes = row_bytes(kColumns);

  ptx::SharedAddress base;

  // Address of row lane_row + row, chunk lane_chunk + chunk; row is a multiple of 8, chunk even, lane_chunk 0 or 1.
  // Compile-time parts become immediate offsets, and few addresses differ between lanes. The base is a multiple of
  // 128, so the exclusive or of the last line changes the chunk only.
  PFM_DEVICE ptx::SharedAddress Chunk(int lane_row, int row, int lane_chunk, int chunk) const {
    const ptx::SharedAddress lane = base + lane_row * kRowBytes + ((lane_chunk ^ (lane_row & 7)) << 4);
    return (lane ^ (chunk % 8 << 4)) + (row * kRowBytes + chunk / 8 * 128);
  }

  // The same rows from column `first` on; `first` is a multiple of 64.
  PFM_DEVICE SharedTile FromColumn(int first) const { return {base + first * kElementBytes}; }

  PFM_DEVICE ptx::SharedAddress Element(int row, int column) const {
    const int chunk = column / kElementsPerCopy;
    return Chunk(row, 0, chunk % 2, chunk / 2 * 2) + column % kElementsPerCopy * kElementBytes;
  }

  // Left operand: rows first_row + row .. + 15, columns column .. column + 15 of the tile.
  PFM_DEVICE void LoadLeft(int first_row, int row, int column, Fragment& fragment) const {
    const int lane = ptx::LaneIndex();
    ptx::LoadMatrices(fragment, Chunk(first_row + lane % 16, row, lane / 16, column / kElementsPerCopy));
  }

  // Left operand from its transpose: the tile holds element (m, k) at row k, column m.
  PFM_DEVICE void LoadLeftTransposed(int row, int column, Fragment& fragment) const {
    const int lane = ptx::LaneIndex();
    ptx::LoadMatricesTransposed(fragment,
                                Chunk(lane / 16 * 8 + lane % 8, column, lane / 8 % 2, row / kElementsPerCopy));
  }

  // Right operands of two neighbouring 8-column blocks, k..k+15, from a tile that holds element (k, n) at row n,
  // column k: fragment[0..1] for columns n..n+7, fragment[2..3] for n+8..n+15.
  PFM_DEVICE void LoadRight(int k, int n, Fragment& fragment) const {
    const int lane = ptx::LaneIndex();
    ptx::LoadMatrices(fragment, Chunk(lane / 16 * 8 + lane % 8, n, lane / 8 % 2, k / kElementsPerCopy));
  }

  // The same from a tile that holds element (k, n) at row k, column n.
  PFM_DEVICE void LoadRightTransposed(int k, int n, Fragment& fragment) const {
    const int lane = ptx::LaneIndex();
    ptx::LoadMatricesTransposed(fragment, Chunk(lane % 16, k, lane / 16, n / kElementsPerCopy));
  }
};

// Starts the copy of rows [row0, row0 + kRows) of a [S, dim] matrix to shared memory. Elements outside [0, rows) and
// [0, dim) become zero. dim and stride are multiples of 8; the matrix is 16-byte aligned.
template <int kRows, int kColumns, int kThreads>
PFM_DEVICE inline void CopyTile(const void* matrix, int64_t stride, int32_t row0, int64_t rows, int dim,
                                SharedTile<kColumns> tile) {
  constexpr int kChunksPerRow = SharedTile<kColumns>::kRowBytes / 16;
  constexpr int kChunks = kChunksPerRow & -kChunksPerRow;  // copied at a time, a power of two
  constexpr int kRowsAtOnce = kThreads / kChunks;
  static_assert(kThreads % kChunks == 0 && kRows % kRowsAtOnce == 0, "every thread keeps its chunk");
  const int first = ptx::ThreadIndex() / kChunks;
  const char* sources = static_cast<const char*>(matrix) + (row0 + first) * stride * kElementBytes;
#pragma unroll
  for (int part = 0; part < kChunksPerRow; part += kChunks) {
    const int chunk = part + ptx::ThreadIndex() % kChunks;
    if (chunk * kElementsPerCopy >= kColumns) return;
    const int rows_left = chunk * kElementsPerCopy < dim ? static_cast<int>(rows) - row0 - first : 0;
    const char* source = sources + chunk * 16;
#pragma unroll 2
    for (int row = 0; row < kRows; row += kRowsAtOnce) {
      ptx::CopyAsync16(tile.Chunk(first + row, 0, chunk % 2, chunk / 2 * 2), source, row < rows_left);
      source += kRowsAtOnce * stride * kElementBytes;
    }
  }
}

// sums[i][n] += left rows x right columns over kDepth, both operands from shared memory.
//   left: tile with element (m, k) at row m; right: tile with element (k, n) at row n.
template <int kRowBlocks, int kColumnBlocks, int kDepth, class T, int kLeft, int kRight>
PFM_DEVICE inline void Multiply(SharedTile<kLeft> left, int left_row, SharedTile<kRight> right,
                                Accumulator (&sums)[kRowBlocks][kColumnBlocks]) {
#pragma unroll 2  // two sets of fragments; more would keep the addresses of all steps in registers
  for (int k = 0; k < kDepth; k += 16) {
    Fragment a[kRowBlocks];
#pragma unroll
    for (int i = 0; i < kRowBlocks; ++i) left.LoadLeft(left_row, 16 * i, k, a[i]);
#pragma unroll
    for (int n = 0; n < kColumnBlocks; n += 2) {
      Fragment b;
      right.LoadRight(k, 8 * n, b);
#pragma unroll
      for (int i = 0; i < kRowBlocks; ++i) {
        ptx::Mma16x8x16<T>(sums[i][n], a[i], b[0], b[1]);
        ptx::Mma16x8x16<T>(sums[i][n + 1], a[i], b[2], b[3]);
      }
    }
  }
}

// Accumulators rounded to T, two neighbours of a row per word: they are left operands of the next product.
template <int kRowBlocks, int kColumnBlocks>
using Packed = uint32_t[kRowBlocks][kColumnBlocks][2];

template <class T>
PFM_DEVICE inline void PackBlock(const Accumulator& block, uint32_t (&packed)[2]) {
  packed[0] = ptx::Pack<T>(block[0], block[1]);
  packed[1] = ptx::Pack<T>(block[2], block[3]);
}

// sums[i][n] += left x right; right: tile with element (k, n) at row k.
template <class T, int kRowBlocks, int kDepthBlocks, int kColumnBlocks, int kRight>
PFM_DEVICE inline void MultiplyPacked(const uint32_t (&left)[kRowBlocks][kDepthBlocks][2], SharedTile<kRight> right,
                                      Accumulator (&sums)[kRowBlocks][kColumnBlocks]) {
#pragma unroll
  for (int k = 0; k < kDepthBlocks; k += 2) {
#pragma unroll
    for (int n = 0; n < kColumnBlocks; n += 2) {
      Fragment b;
      right.LoadRightTransposed(8 * k, 8 * n, b);
#pragma unroll
      for (int i = 0; i < kRowBlocks; ++i) {
        const Fragment a = {left[i][k][0], left[i][k][1], left[i][k + 1][0], left[i][k + 1][1]};
        ptx::Mma16x8x16<T>(sums[i][n], a, b[0], b[1]);
        ptx::Mma16x8x16<T>(sums[i][n + 1], a, b[2], b[3]);
      }
    }
  }
}

template <int kRowBlocks, int kColumnBlocks>
PFM_DEVICE inline void Clear(Accumulator (&sums)[kRowBlocks][kColumnBlocks]) {
#pragma unroll
  for (int i = 0; i < kRowBlocks; ++i) {
#pragma unroll
    for (int n = 0; n < kColumnBlocks; ++n) {
#pragma unroll
      for (int e = 0; e < 4; ++e) sums[i][n][e] = 0.0f;
    }
  }
}

// Writes sums * scale(row block, half) as rows [row0, rows) and columns [column0, dim) of one head.
template <class T, int kRowBlocks, int kColumnBlocks, class Scale>
PFM_DEVICE inline void StoreRows(const Accumulator (&sums)[kRowBlocks][kColumnBlocks], const pfm_tensor& tensor,
                                 int64_t batch, int64_t head, int64_t row0, int64_t rows, int column0, int dim,
                                 Scale&& scale) {
  const int lane = ptx::LaneIndex();
#pragma unroll
  for (int i = 0; i < kRowBlocks; ++i) {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int64_t row = row0 + 16 * i + 8 * half + lane / 4;
      if (row >= rows) continue;
      char* out = RowOf(tensor, batch, row, head);
      const float factor = scale(i, half);
#pragma unroll
      for (int n = 0; n < kColumnBlocks; ++n) {
        const int column = column0 + 8 * n + lane % 4 * 2;
        if (column >= dim) continue;
        ptx::StoreGlobal(reinterpret_cast<uint32_t*>(out + column * kElementBytes),
                         ptx::Pack<T>(sums[i][n][2 * half] * factor, sums[i][n][2 * half + 1] * factor));
      }
    }
  }
}

}  // namespace pfm::cuda::sm80

#endif  // PFM_CUDA_SM80_FRAGMENTS_H_
