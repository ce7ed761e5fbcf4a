// Boxes of 2 to 5 dimensions, partly outside their tensor, loaded with every swizzle and stored elsewhere; bulk
// copies and reductions. Prints every wrong result.
#include <cstdio>
#include <cstring>
#include <string>
#include <vector>

#include "cuda/ptx/sm90.h"
#include "emulator/conformance/device_array.h"

namespace {

namespace ptx = pfm::cuda::ptx;
using pfm::conformance::DeviceArray;

constexpr int kMaxWords = 4096, kBulkWords = 64;

struct Arguments {
  ptx::TensorMap from, to;
  int coordinate[5];
  int words;
  uint32_t *seen, *bulk_seen;
  const uint32_t* bulk;
  float* bulk_sums;
};

template <int kRank>
PFM_KERNEL_BOUNDS(64, 1)
void Copies(PFM_KERNEL_ARGUMENT Arguments in) {
  const ptx::SharedAddress start = (ptx::DynamicShared() + 1023) / 1024 * 1024, bulk = start + 4 * kMaxWords;
  const ptx::SharedAddress barrier = bulk + 4 * kBulkWords;
  const int thread = ptx::ThreadIndex();
  int coordinate[kRank];
  for (int d = 0; d < kRank; ++d) coordinate[d] = in.coordinate[d];
  if (thread == 0) {
    ptx::MbarrierInit(barrier, 1);
    ptx::FenceMbarrierInit();
    ptx::MbarrierArriveExpectBytes(barrier, 4 * (in.words + kBulkWords));
    ptx::TmaLoad(start, in.from, coordinate, barrier);
    ptx::BulkLoad(bulk, in.bulk, 4 * kBulkWords, barrier);
  }
  ptx::SyncThreads();
  if (thread % 2 == 0) {
    ptx::MbarrierWait(barrier, 0);
  } else {
    while (!ptx::MbarrierTest(barrier, 0)) {
    }
  }
  for (int word = thread; word < in.words; word += 64) {
    ptx::StoreGlobal(in.seen + word, ptx::LoadShared<uint32_t>(start + 4 * word));
  }
  ptx::StoreGlobal(in.bulk_seen + thread, ptx::LoadShared<uint32_t>(bulk + 4 * thread));
  if (thread == 0) {
    ptx::TmaStore(in.to, coordinate, start);
    ptx::BulkCommit();
    ptx::BulkReduceAdd(in.bulk_sums, bulk, 4 * kBulkWords);
    ptx::BulkCommit();
    ptx::BulkWaitRead<1>();
    ptx::BulkWait<0>();
  }
}

template <int kRank>
bool Check(ptx::Swizzle swizzle, const int (&coordinate)[5], const char* name) {
  const int span = ptx::SwizzleSpan(swizzle);
  const int64_t size[5] = {40, 5, 3, 2, 3};
  const int box[5] = {span == 0 ? 12 : span / 4, 9, 2, 2, 2};
  ptx::TensorShape shape = {nullptr, ptx::ElementType::kFloat32, kRank, {}, {}, {}, swizzle};
  int64_t elements = 1;
  int boxed = 1;
  for (int d = 0; d < kRank; ++d) {
    shape.size[d] = size[d];
    shape.stride[d] = 4 * elements;
    shape.box[d] = box[d];
    elements *= size[d];
    boxed *= box[d];
  }
  std::vector<float> values, ones(elements, 1.0f), bulk_values;
  for (int64_t i = 0; i < elements; ++i) values.push_back(static_cast<float>(i + 1));
  for (int i = 0; i < kBulkWords; ++i) bulk_values.push_back(static_cast<float>(3 * i));
  DeviceArray<float> from("from", values), to("to", ones), bulk("bulk", bulk_values),
      bulk_sums("bulk_sums", std::vector<float>(kBulkWords, 1.0f));
  DeviceArray<uint32_t> seen("seen", boxed), bulk_seen("bulk_seen", kBulkWords);
  Arguments arguments = {};
  shape.base = from.data();
  pfm::conformance::Require("from", ptx::EncodeTensorMap(&arguments.from, shape));
  shape.base = to.data();
  pfm::conformance::Require("to", ptx::EncodeTensorMap(&arguments.to, shape));
  for (int d = 0; d < 5; ++d) arguments.coordinate[d] = coordinate[d];
  arguments.words = boxed;
  arguments.seen = seen.data();
  arguments.bulk_seen = bulk_seen.data();
  arguments.bulk = reinterpret_cast<const uint32_t*>(bulk.data());
  arguments.bulk_sums = bulk_sums.data();
  pfm::conformance::Run(name, Copies<kRank>, 1, 64, 1024 + 4 * kMaxWords + 4 * kBulkWords + 8, arguments);
  std::vector<float> expected(boxed), stored = ones;
  for (int i = 0; i < boxed; ++i) {
    int64_t rest = i, at = 0, stride = 1;
    bool inside = true;
    for (int d = 0; d < kRank; ++d) {
      const int64_t index = coordinate[d] + rest % box[d];
      rest /= box[d];
      inside = inside && index >= 0 && index < size[d];
      at += index * stride;
      stride *= size[d];
    }
    const int row = i / box[0], chunk = i % box[0] / 4;
    const int fold = span == 0 ? 0 : span == 128 ? row % 8 : span == 64 ? row % 8 / 2 : row % 8 / 4;
    expected[row * box[0] + (chunk ^ fold) * 4 + i % 4] = inside ? values[at] : 0.0f;
    if (inside) stored[at] = values[at];
  }
  bool right = to.Read() == stored;
  const std::vector<uint32_t> words = seen.Read(), bulk_words = bulk_seen.Read();
  right = right && std::memcmp(words.data(), expected.data(), 4 * words.size()) == 0;
  right = right && std::memcmp(bulk_words.data(), bulk_values.data(), 4 * kBulkWords) == 0;
  const std::vector<float> sums = bulk_sums.Read();
  for (int i = 0; i < kBulkWords; ++i) right = right && sums[i] == 1.0f + bulk_values[i];
  if (!right) std::printf("wrong: %s, swizzle %d\n", name, span);
  return right;
}

}  // namespace

int main() {
  bool right = true;
  for (const ptx::Swizzle swizzle : {ptx::Swizzle::kNone, ptx::Swizzle::k32, ptx::Swizzle::k64, ptx::Swizzle::k128}) {
    right = Check<2>(swizzle, {4, 0, 0, 0, 0}, "2 dimensions") && right;
    right = Check<2>(swizzle, {-3, -2, 0, 0, 0}, "2 dimensions, before the start") && right;
    right = Check<3>(swizzle, {33, 1, 2, 0, 0}, "3 dimensions, beyond the end") && right;
    right = Check<4>(swizzle, {-1, -3, -1, 1, 0}, "4 dimensions") && right;
    right = Check<5>(swizzle, {0, 2, 1, -1, 2}, "5 dimensions") && right;
  }
  return right ? 0 : 1;
}
