// SPDX-License-Identifier: LGPL-3.0-or-later
#include "row_exchange.h"

#include <algorithm>

#include "../arrays.h"

namespace deepmd::native::traced {

namespace {

void call(const deepmd_exchange& exchange, Transfer transfer, double* rows, int64_t atoms,
          int64_t width) {
  const auto function = transfer == Transfer::to_ghosts ? exchange.to_ghosts : exchange.to_owners;
  const deepmd_array array = backend::array_of(rows, {atoms, width});
  char message[2048] = "";
  if (!function) throw Failure("the exchange of ranks has no function");
  if (function(exchange.context, &array, message, sizeof(message)) == 0) return;
  message[sizeof(message) - 1] = '\0';
  throw Failure(message[0] ? message : "the exchange of values between ranks failed");
}

}  // namespace

void exchange_rows(const deepmd_exchange& exchange, Transfer transfer, const View& rows) {
  const int64_t atoms = rows.shape[0], size = rows.size();
  const int64_t width = atoms > 0 ? size / atoms : 0;
  if (rows.type == Type::f64) return call(exchange, transfer, rows.as<double>(), atoms, width);
  std::vector<double> numbers(rows.as<float>(), rows.as<float>() + size);
  call(exchange, transfer, numbers.data(), atoms, width);
  std::transform(numbers.begin(), numbers.end(), rows.as<float>(),
                 [](double x) { return static_cast<float>(x); });
}

}  // namespace deepmd::native::traced
