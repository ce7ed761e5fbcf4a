// Tile products of the sm90 backward as sequences of wgmma, and operations on their accumulators.
//
// A thread holds of 64 x kColumns sums, with row = 16 (warp % 4) + lane / 4 and column = 2 (lane % 4), for every n:
//   sums[4 n + e] = (row + 8 (e / 2), 8 n + column + e % 2)
#ifndef PFM_CUDA_SM90_WGMMA_TILES_H_
#define PFM_CUDA_SM90_WGMMA_TILES_H_

#include <cstdint>

#include "smem_tile.h"

namespace pfm::cuda::sm90 {

// sums = left right, whose columns are summed over: 64 rows of `left` from left_row on, and as many of `right` from
// right_row on as there are columns of sums.
template <class T, int kCount, int kLeftRows, int kRightRows, int kSummed>
PFM_DEVICE inline void MultiplyAlongColumns(float (&sums)[kCount], SmemTile<kLeftRows, kSummed> left, int left_row,
                                            SmemTile<kRightRows, kSummed> right, int right_row = 0) {
  ptx::Discard(sums);
#pragma unroll
  for (int at = 0; at < kSummed; at += kDepth) {
    ptx::Wgmma<T, 2 * kCount, ptx::Major::kK, ptx::Major::kK>(sums, left.AlongColumns(at, left_row),
                                                              right.AlongColumns(at, right_row), at > 0);
  }
}

// sums = left right, whose rows are summed over: 64 columns of `left`, and as many of `right` as there are of sums.
template <class T, int kCount, int kSummed, int kLeftColumns, int kRightColumns>
PFM_DEVICE inline void MultiplyAlongRows(float (&sums)[kCount], SmemTile<kSummed, kLeftColumns> left, int left_column,
                                         SmemTile<kSummed, kRightColumns> right, int right_column) {
  ptx::Discard(sums);
#pragma unroll
  for (int at = 0; at < kSummed; at += kDepth) {
    ptx::Wgmma<T, 2 * kCount, ptx::Major::kMN, ptx::Major::kMN>(sums, left.AlongRows(at, left_column),
                                                                right.AlongRows(at, right_column), at > 0);
  }
}

// sums (+)= left right: the columns of `left` and the rows of `right` are summed over.
template <class T, int kCount, int kSummed, int kRightColumns>
PFM_DEVICE inline void MultiplyColumnsByRows(float (&sums)[kCount], SmemTile<64, kSummed> left,
                                             SmemTile<kSummed, kRightColumns> right, int right_column,
                                             bool continues) {
#pragma unroll
  for (int at = 0; at < kSummed; at += kDepth) {
    ptx::Wgmma<T, 2 * kCount, ptx::Major::kK, ptx::Major::kMN>(
        sums, left.AlongColumns(at), right.AlongRows(at, right_column), continues || at > 0);
  }
}

// sums (+)= left right with left in registers; the rows of `right` are summed over.
template <class T, int kSummed, int kColumns>
PFM_DEVICE inline void MultiplyRegisters(float (&sums)[kColumns / 2], const uint32_t (&left)[kSummed / kDepth][4],
                                         SmemTile<kSummed, kColumns> right, bool continues) {
#pragma unroll
  for (int at = 0; at < kSummed; at += kDepth) {
    ptx::Wgmma<T, kColumns, ptx::Major::kMN>(sums, left[at / kDepth], right.AlongRows(at), continues || at > 0);
  }
}

// Rounds 16 columns of sums to the left operand of a product that sums over them.
template <class T, int kCount>
PFM_DEVICE inline void Round(const float (&sums)[kCount], int step, uint32_t (&operand)[4]) {
#pragma unroll
  for (int r = 0; r < 4; ++r) operand[r] = ptx::Pack<T>(sums[8 * step + 2 * r], sums[8 * step + 2 * r + 1]);
}

// Stores 64 x 16 kSteps sums rounded by Round. `row`: first row of this thread.
template <int kSteps, int kRows>
PFM_DEVICE inline void StoreRounded(const uint32_t (&operand)[kSteps][4], SmemTile<kRows, kDepth * kSteps> tile,
                                    int row) {
  const int column = ptx::LaneIndex() % 4 * 2;
#pragma unroll
  for (int step = 0; step < kSteps; ++step) {
#pragma unroll
    for (int r = 0; r < 4; ++r) {
      ptx::StoreShared(tile.Pair(row, column, r % 2, 2 * step + r / 2), operand[step][r]);
    }
  }
}

template <int kCount>
PFM_DEVICE inline void Multiply(float (&sums)[kCount], float factor) {
#pragma unroll
  for (float& sum : sums) sum *= factor;
}

template <int kCount>
PFM_DEVICE inline void Fill(float (&sums)[kCount], float value) {
#pragma unroll
  for (float& sum : sums) sum = value;
}

// Values for the two columns of a thread in the n-th block of eight.
PFM_DEVICE inline FloatPair LoadRowPair(ptx::SharedAddress numbers, int n) {
  return ptx::LoadShared<FloatPair>(numbers + 4 * (8 * n + ptx::LaneIndex() % 4 * 2));
}

}  // namespace pfm::cuda::sm90

#endif  // PFM_CUDA_SM90_WGMMA_TILES_H_
