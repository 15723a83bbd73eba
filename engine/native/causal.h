// What causal attention is over, laid out as CausalShape in native/decoder.rs.
#pragma once
#include <cstdint>

namespace ft {

struct Causal {
  // Tokens of the longest sequence; heads of queries, in groups that share those of keys and values, and how wide all are; how
  // far back a token sees.
  int64_t longest, query, key_value, head_size, reach;
  // What scores are multiplied by.
  double scale;
};

}  // namespace ft
