// paddle_flashmask._core: Python bindings of csrc/core. NumPy arrays in and out; no Paddle, no kernels.
//
// Columns are int32 [B, Hm, Sk, 6]: visible begin, end, then begin, end of two holes (csrc/core/columns.h). Loops
// release the GIL.
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <cstdint>
#include <limits>
#include <stdexcept>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "core/bin_packing.h"
#include "core/columns.h"
#include "core/dense.h"
#include "core/dropout.h"
#include "core/forms.h"
#include "core/statistics.h"

namespace py = pybind11;

namespace {

constexpr py::ssize_t kColumnValues = 6;
static_assert(sizeof(pfm::Column) == kColumnValues * sizeof(int32_t), "a Column is six int32 without padding");

using Int32Array = py::array_t<int32_t, py::array::c_style>;
using Int64Array = py::array_t<int64_t, py::array::c_style>;
using BoolArray = py::array_t<bool, py::array::c_style>;

std::string ShapeOf(const py::array& array) { return std::string(py::str(array.attr("shape"))); }

// Returns `array` as a contiguous array of T. Raises a ValueError that names the expected dtype and dimensions.
template <class T>
py::array_t<T, py::array::c_style> Require(const py::array& array, const char* name, const char* dtype, int ndim) {
  if (!py::isinstance<py::array_t<T>>(array)) {
    throw py::value_error(std::string(name) + " must be " + dtype + ", got " +
                          std::string(py::str(py::handle(array.dtype()))));
  }
  if (array.ndim() != ndim) {
    throw py::value_error(std::string(name) + " must have " + std::to_string(ndim) + " dimensions, got shape " +
                          ShapeOf(array));
  }
  return py::array_t<T, py::array::c_style>::ensure(array);
}

void RequireRows(int64_t seqlen_q) {
  if (seqlen_q < 0 || seqlen_q > std::numeric_limits<int32_t>::max()) {
    throw py::value_error("seqlen_q must lie in [0, 2^31), got " + std::to_string(seqlen_q));
  }
}

void RequirePositive(const char* name, int64_t value) {
  if (value < 1) throw py::value_error(std::string(name) + " must be at least 1, got " + std::to_string(value));
}

Int32Array RequireColumns(const py::array& array, const char* name) {
  Int32Array columns = Require<int32_t>(array, name, "int32", 4);
  if (columns.shape(3) != kColumnValues) {
    throw py::value_error(std::string(name) + " must have shape [B, Hm, Sk, 6], got " + ShapeOf(array));
  }
  return columns;
}

const pfm::Column* ColumnsOf(const Int32Array& columns) {
  return reinterpret_cast<const pfm::Column*>(columns.data());
}

std::string Place(int64_t key, int64_t seqlen_k, int64_t heads) {
  const int64_t map = key / seqlen_k;
  return "batch " + std::to_string(map / heads) + ", head " + std::to_string(map % heads) + ", key column " +
         std::to_string(key % seqlen_k);
}

Int32Array NormalForm(const py::array& startend_row_indices, bool causal, int64_t seqlen_q, int64_t window_left,
                      int64_t window_right) {
  const Int32Array values = Require<int32_t>(startend_row_indices, "startend_row_indices", "int32", 4);
  RequireRows(seqlen_q);
  const int64_t bounds = values.shape(3);
  if (bounds != 0 && bounds != 2 && bounds != (causal ? 1 : 4)) {
    throw py::value_error(
        "startend_row_indices must have a last dimension of 1 or 2 with causal and of 2 or 4 without "
        "(or 0: no intervals), got shape " +
        ShapeOf(values) + " with causal=" + (causal ? "True" : "False"));
  }
  const int64_t seqlen_k = values.shape(2);
  const int64_t maps = values.shape(0) * values.shape(1);
  const pfm::MaskRules rules = {
      seqlen_q, seqlen_k, seqlen_k - seqlen_q, window_left, window_right, static_cast<int32_t>(bounds), causal};
  Int32Array columns({values.shape(0), values.shape(1), values.shape(2), kColumnValues});
  const int32_t* in = values.data();
  auto* out = reinterpret_cast<pfm::Column*>(columns.mutable_data());
  {
    const py::gil_scoped_release release;
    for (int64_t map = 0; map < maps; ++map) {
      for (int64_t key = 0; key < seqlen_k; ++key, in += bounds) *out++ = pfm::NormalForm(rules, key, in);
    }
  }
  return columns;
}

// Returns the smallest form that can encode every column: (startend_row_indices [B, Hm, Sk, n], causal).
std::pair<Int32Array, bool> Encode(const py::array& columns_array, int64_t seqlen_q) {
  const Int32Array columns = RequireColumns(columns_array, "columns");
  RequireRows(seqlen_q);
  const int64_t seqlen_k = columns.shape(2);
  const int64_t keys = columns.shape(0) * columns.shape(1) * seqlen_k;
  const pfm::Column* in = ColumnsOf(columns);
  const int32_t rows = static_cast<int32_t>(seqlen_q);
  int64_t offending = 0;  // of the last form, which can encode every column that another form can
  for (const pfm::Form form : pfm::kForms) {
    Int32Array values({columns.shape(0), columns.shape(1), columns.shape(2), static_cast<py::ssize_t>(form.bounds)});
    int32_t* out = values.mutable_data();
    {
      const py::gil_scoped_release release;
      for (offending = 0; offending < keys; ++offending, out += form.bounds) {
        const int64_t first_row = offending % seqlen_k - (seqlen_k - seqlen_q);
        if (!pfm::EncodeColumn(in[offending], form, rows, static_cast<int32_t>(pfm::Max<int64_t>(0, first_row)),
                               out)) {
          break;
        }
      }
    }
    if (offending == keys) return {values, form.causal};
  }
  throw py::value_error("the mask is not column-sparse: " + Place(offending, seqlen_k, columns.shape(1)) +
                        " hides more than two intervals of query rows");
}

Int32Array ColumnsFromDense(const py::array& array) {
  const BoolArray dense = Require<bool>(array, "dense", "bool", 4);
  const int64_t seqlen_q = dense.shape(2);
  const int64_t seqlen_k = dense.shape(3);
  RequireRows(seqlen_q);
  const int64_t maps = dense.shape(0) * dense.shape(1);
  Int32Array columns({dense.shape(0), dense.shape(1), dense.shape(3), kColumnValues});
  const auto* in = reinterpret_cast<const uint8_t*>(dense.data());
  auto* out = reinterpret_cast<pfm::Column*>(columns.mutable_data());
  int64_t offending = -1;
  {
    const py::gil_scoped_release release;
    for (int64_t map = 0; map < maps && offending < 0; ++map) {
      const int64_t key =
          pfm::ColumnsFromDense(in + map * seqlen_q * seqlen_k, seqlen_q, seqlen_k, out + map * seqlen_k);
      if (key >= 0) offending = map * seqlen_k + key;
    }
  }
  if (offending >= 0) {
    throw py::value_error("the mask is not column-sparse: " + Place(offending, seqlen_k, dense.shape(1)) +
                          " hides more than two intervals of query rows");
  }
  return columns;
}

BoolArray ToDense(const py::array& columns_array, int64_t seqlen_q) {
  const Int32Array columns = RequireColumns(columns_array, "columns");
  RequireRows(seqlen_q);
  const int64_t seqlen_k = columns.shape(2);
  const int64_t maps = columns.shape(0) * columns.shape(1);
  BoolArray dense({columns.shape(0), columns.shape(1), static_cast<py::ssize_t>(seqlen_q), columns.shape(2)});
  const pfm::Column* in = ColumnsOf(columns);
  auto* out = reinterpret_cast<uint8_t*>(dense.mutable_data());
  {
    const py::gil_scoped_release release;
    for (int64_t map = 0; map < maps; ++map) {
      pfm::DenseFromColumns(in + map * seqlen_k, seqlen_q, seqlen_k, out + map * seqlen_q * seqlen_k);
    }
  }
  return dense;
}

Int32Array Intersect(const py::array& left, const py::array& right, int64_t seqlen_q) {
  const Int32Array a = RequireColumns(left, "left");
  const Int32Array b = RequireColumns(right, "right");
  RequireRows(seqlen_q);
  for (int d = 0; d < 3; ++d) {
    if (a.shape(d) != b.shape(d)) {
      throw py::value_error("left and right must have the same shape, got " + ShapeOf(a) + " and " + ShapeOf(b));
    }
  }
  Int32Array columns({a.shape(0), a.shape(1), a.shape(2), kColumnValues});
  const int64_t keys = a.shape(0) * a.shape(1) * a.shape(2);
  auto* out = reinterpret_cast<pfm::Column*>(columns.mutable_data());
  int64_t key = 0;
  {
    const py::gil_scoped_release release;
    while (key < keys &&
           pfm::Intersect(ColumnsOf(a)[key], ColumnsOf(b)[key], static_cast<int32_t>(seqlen_q), out + key)) {
      ++key;
    }
  }
  if (key < keys) {
    throw py::value_error("the masks cannot be combined: " + Place(key, a.shape(2), a.shape(1)) +
                          " would hide more than two intervals of query rows");
  }
  return columns;
}

// Returns (total pairs, visible pairs, full, partial, empty tiles), summed over batch and mask heads.
std::tuple<int64_t, int64_t, int64_t, int64_t, int64_t> StatisticsOf(const py::array& columns_array, int64_t seqlen_q,
                                                                     int64_t tile_q, int64_t tile_k) {
  const Int32Array columns = RequireColumns(columns_array, "columns");
  RequireRows(seqlen_q);
  RequirePositive("tile_q", tile_q);
  RequirePositive("tile_k", tile_k);
  const int64_t seqlen_k = columns.shape(2);
  const int64_t maps = columns.shape(0) * columns.shape(1);
  pfm::Statistics sum;
  const py::gil_scoped_release release;
  for (int64_t map = 0; map < maps; ++map) {
    const pfm::Statistics one =
        pfm::StatisticsOf(ColumnsOf(columns) + map * seqlen_k, seqlen_q, seqlen_k, tile_q, tile_k);
    sum.total_pairs += one.total_pairs;
    sum.visible_pairs += one.visible_pairs;
    sum.full_tiles += one.full_tiles;
    sum.partial_tiles += one.partial_tiles;
    sum.empty_tiles += one.empty_tiles;
  }
  return {sum.total_pairs, sum.visible_pairs, sum.full_tiles, sum.partial_tiles, sum.empty_tiles};
}

Int64Array VisiblePerTile(const py::array& columns_array, int64_t seqlen_q, int64_t tile_q, int64_t tile_k) {
  const Int32Array columns = RequireColumns(columns_array, "columns");
  RequireRows(seqlen_q);
  RequirePositive("tile_q", tile_q);
  RequirePositive("tile_k", tile_k);
  const int64_t seqlen_k = columns.shape(2);
  const int64_t maps = columns.shape(0) * columns.shape(1);
  const int64_t query_tiles = pfm::CeilDiv(seqlen_q, tile_q);
  const int64_t key_tiles = pfm::CeilDiv(seqlen_k, tile_k);
  Int64Array counts({columns.shape(0), columns.shape(1), static_cast<py::ssize_t>(query_tiles),
                     static_cast<py::ssize_t>(key_tiles)});
  int64_t* out = counts.mutable_data();
  {
    const py::gil_scoped_release release;
    for (int64_t map = 0; map < maps; ++map) {
      pfm::CountVisiblePerTile(ColumnsOf(columns) + map * seqlen_k, seqlen_q, seqlen_k, tile_q, tile_k,
                               out + map * query_tiles * key_tiles);
    }
  }
  return counts;
}

template <int64_t (*kPack)(const int64_t*, int64_t, int64_t, int64_t*)>
Int64Array Pack(const py::array& array, int64_t capacity) {
  const Int64Array lengths = Require<int64_t>(array, "lengths", "int64", 1);
  RequirePositive("capacity", capacity);
  const int64_t count = lengths.shape(0);
  const int64_t* in = lengths.data();
  for (int64_t i = 0; i < count; ++i) {
    if (in[i] < 0 || in[i] > capacity) {
      throw py::value_error("lengths[" + std::to_string(i) + "] must lie in [0, " + std::to_string(capacity) +
                            "], got " + std::to_string(in[i]));
    }
  }
  Int64Array bins(lengths.shape(0));
  int64_t* out = bins.mutable_data();
  {
    const py::gil_scoped_release release;
    kPack(in, count, capacity, out);
  }
  return bins;
}

BoolArray DropoutKeep(uint64_t seed, uint64_t offset, double p, uint32_t batch_head, int64_t seqlen_q,
                      int64_t seqlen_k) {
  if (!(p >= 0.0 && p < 1.0)) throw py::value_error("p must lie in [0, 1), got " + std::to_string(p));
  RequireRows(seqlen_q);
  if (seqlen_k < 0 || seqlen_k > std::numeric_limits<int32_t>::max()) {
    throw py::value_error("Sk must lie in [0, 2^31), got " + std::to_string(seqlen_k));
  }
  BoolArray keep({static_cast<py::ssize_t>(seqlen_q), static_cast<py::ssize_t>(seqlen_k)});
  bool* out = keep.mutable_data();
  {
    const py::gil_scoped_release release;
    const pfm::DropoutStream stream = pfm::MakeDropout(static_cast<float>(p), seed, offset);
    for (int64_t row = 0; row < seqlen_q; ++row) {
      for (int64_t col = 0; col < seqlen_k; ++col) *out++ = stream.Keeps(batch_head, row, col);
    }
  }
  return keep;
}

}  // namespace

PYBIND11_MODULE(_core, module) {
  module.doc() = "Columns, tiles, packing and the dropout stream of paddle_flashmask (csrc/core).";
  module.def("normal_form", &NormalForm, py::arg("startend_row_indices"), py::arg("causal"), py::arg("seqlen_q"),
             py::arg("window_left") = -1, py::arg("window_right") = -1,
             "Columns int32 [B, Hm, Sk, 6] of startend_row_indices int32 [B, Hm, Sk, n].");
  module.def("encode", &Encode, py::arg("columns"), py::arg("seqlen_q"),
             "The smallest (startend_row_indices, causal) that encodes these columns; ValueError if none does.");
  module.def(
      "columns_from_dense", &ColumnsFromDense, py::arg("dense"),
      "Columns of bool [B, Hm, Sq, Sk]; ValueError naming the first column with more than two hidden intervals.");
  module.def("to_dense", &ToDense, py::arg("columns"), py::arg("seqlen_q"), "bool [B, Hm, Sq, Sk], True = visible.");
  module.def("intersect", &Intersect, py::arg("left"), py::arg("right"), py::arg("seqlen_q"),
             "Columns visible in both; ValueError naming the first that hides more than two intervals.");
  module.def("statistics", &StatisticsOf, py::arg("columns"), py::arg("seqlen_q"), py::arg("tile_q"),
             py::arg("tile_k"),
             "(total pairs, visible pairs, full tiles, partial tiles, empty tiles), summed over batch and heads.");
  module.def("visible_per_tile", &VisiblePerTile, py::arg("columns"), py::arg("seqlen_q"), py::arg("tile_q"),
             py::arg("tile_k"), "int64 [B, Hm, ceil(Sq / tile_q), ceil(Sk / tile_k)]: visible pairs of every tile.");
  module.def("pack_in_order", &Pack<pfm::PackInOrder>, py::arg("lengths"), py::arg("capacity"),
             "Bin of every item of int64 lengths, in order: an item that does not fit opens the next bin.");
  module.def("pack_first_fit_decreasing", &Pack<pfm::PackFirstFitDecreasing>, py::arg("lengths"), py::arg("capacity"),
             "Bin of every item of int64 lengths: longest first (ties: earlier first) into the first bin with room.");
  module.def("dropout_keep", &DropoutKeep, py::arg("seed"), py::arg("offset"), py::arg("p"), py::arg("batch_head"),
             py::arg("Sq"), py::arg("Sk"),
             "bool [Sq, Sk]: True where dropout with probability p keeps the attention probability of head "
             "batch_head = b * Hq + h.");
}
