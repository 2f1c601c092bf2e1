/* The digest that names the model of an update's base (docs/format.md): SHA-256 over names, types, shapes, elements. */
#ifndef NNB_MODEL_DIGEST_H
#define NNB_MODEL_DIGEST_H

#include "tensor_files.h"

/* Of tensors of the extended profile, in any order. Exits with status 2 if there is not enough memory. */
void model_digest(const tensor *tensors, size_t count, uint8_t digest[NNB_DIGEST_BYTES]);

#endif
