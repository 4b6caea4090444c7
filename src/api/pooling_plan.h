// PoolingPlan: what the answer of a pooling endpoint shows of the values that the model gives.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace tiercel::api {

enum class PoolingEndpoint {
  kEmbeddings,  // /v1/embeddings
  kPooling,     // /pooling: the values as they are, of one token or of every token
  kClassify,    // /classify: labels
  kScore,       // /score: a number for each pair of texts
  kRerank,      // /rerank: documents by their number, best first
};

// How values are written. Base64 is that of their bytes.
struct PoolingEncoding {
  enum Type { kFloat32, kFloat16, kBFloat16 };
  bool base64 = false;
  Type type = kFloat32;     // of base64
  bool big_endian = false;  // of base64
};

struct PoolingPlan {
  PoolingEndpoint endpoint = PoolingEndpoint::kEmbeddings;
  PoolingEncoding encoding;
  bool every_token = false;
  std::vector<std::string> labels;  // of kClassify: the model's, by number
  // kScore and kRerank. Where the model gives vectors, the first so many prompts are those of the
  // first texts (or of one for all pairs), and a pair's number is the cosine; 0: a prompt is a pair.
  size_t num_first_texts = 0;
  std::vector<std::string> documents;  // of kRerank
  size_t top_n = 0;                    // of kRerank; 0: all
};

}  // namespace tiercel::api
