// Matrices of 16-bit elements in shared memory, in the layout of TMA boxes and wgmma operands: contiguous blocks of
// 64 columns, each with rows of 128 bytes in the 128-byte swizzle.
#ifndef PFM_CUDA_SM90_SMEM_TILE_H_
#define PFM_CUDA_SM90_SMEM_TILE_H_

#include "../common/elements.h"
#include "../ptx/sm90.h"

namespace pfm::cuda::sm90 {

constexpr int kBlockColumns = 64;  // the box of a tensor copy
constexpr int kRowBytes = kBlockColumns * kElementBytes;
constexpr int kPatternBytes = 8 * kRowBytes;  // the swizzle repeats after 8 rows
constexpr int kTileAlignment = kPatternBytes;
constexpr int kDepth = 16;  // of one wgmma

template <int kRows, int kColumns>
struct SmemTile {
  static_assert(kRows % 8 == 0 && kColumns % kBlockColumns == 0, "whole patterns, whole boxes");
  static constexpr int kBlocks = kColumns / kBlockColumns;
  static constexpr int kBlockBytes = kRows * kRowBytes;
  static constexpr int kBytes = kBlocks * kBlockBytes;

  ptx::SharedAddress base;  // a multiple of kTileAlignment

  PFM_DEVICE ptx::SharedAddress Block(int block) const { return base + block * kBlockBytes; }

  // Columns are summed over: 16 of them from column `depth`, rows from `row` (a multiple of 8).
  PFM_DEVICE uint64_t AlongColumns(int depth, int row = 0) const {
    const int offset = depth / kBlockColumns * kBlockBytes + depth % kBlockColumns * kElementBytes;
    return ptx::MatrixDescriptor(base + row * kRowBytes, 16, kPatternBytes, ptx::Swizzle::k128) + Step(offset);
  }

  // Rows are summed over: 16 of them from row `depth`, columns from `column` (a multiple of 8) on.
  PFM_DEVICE uint64_t AlongRows(int depth, int column = 0) const {
    const ptx::SharedAddress start = Block(column / kBlockColumns) + column % kBlockColumns * kElementBytes;
    const uint64_t first = ptx::MatrixDescriptor(start, kBlockBytes, kPatternBytes, ptx::Swizzle::k128);
    return first + Step(depth * kRowBytes);
  }

  // Address of the pair of elements at a column of 0, 2, 4 or 6, moved down by 8 `patterns` rows and right by 8
  // `chunks` columns.
  PFM_DEVICE ptx::SharedAddress Pair(int row, int column, int patterns, int chunks) const {
    const ptx::SharedAddress first = base + row * kRowBytes + row % 8 * 16 + column * kElementBytes;
    return (first ^ chunks % 8 * 16) + patterns * kPatternBytes + chunks / 8 * kBlockBytes;
  }

  // Loads the tile at `row`, `column` of (head, batch) of a tensor whose map has boxes of 64 columns x kRows.
  PFM_DEVICE void Load(const ptx::TensorMap& from, int column, int row, int head, int batch,
                       ptx::SharedAddress barrier) const {
#pragma unroll
    for (int block = 0; block < kBlocks; ++block) {
      const int coordinate[4] = {column + block * kBlockColumns, row, head, batch};
      ptx::TmaLoad(Block(block), from, coordinate, barrier);
    }
  }
  PFM_DEVICE void Store(const ptx::TensorMap& to, int column, int row, int head, int batch) const {
#pragma unroll
    for (int block = 0; block < kBlocks; ++block) {
      const int coordinate[4] = {column + block * kBlockColumns, row, head, batch};
      ptx::TmaStore(to, coordinate, Block(block));
    }
  }

 private:
  // Increment of a descriptor for an offset in bytes: adding a constant is cheaper than making another descriptor.
  PFM_DEVICE static constexpr uint64_t Step(int bytes) { return static_cast<uint64_t>(bytes) >> 4; }
};

}  // namespace pfm::cuda::sm90

#endif  // PFM_CUDA_SM90_SMEM_TILE_H_
