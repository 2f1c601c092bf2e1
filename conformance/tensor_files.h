/* The tensors that decoder.c has decoded, and the files that it leaves. Exits with status 2 if one cannot be written.
 */
#ifndef NNB_TENSOR_FILES_H
#define NNB_TENSOR_FILES_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "nnb/nnb_unit.h"

typedef struct tensor {
  char *name; /* with a zero byte at the end */
  size_t name_size;
  uint8_t format; /* nnr_decompressed_data_format */
  uint64_t *dimensions;
  uint32_t count_dimensions;
  uint64_t elements;
  void *values; /* 4 bytes each, int32 or binary32; of the extended profile the bytes to be written */
  uint8_t integer;
  uint8_t alone;      /* in its data unit */
  size_t unit_offset; /* of that in the stream */
  /* of the extended profile: */
  uint8_t extended;
  uint8_t element_type;
  uint8_t base[NNB_DIGEST_BYTES]; /* of the state that it changed, else zeros */
  uint64_t *parts;                /* first element and number of elements of each */
  size_t count_parts;
} tensor;

/* Zeroed; exits with status 2 if there is not enough memory. */
void *allocate(size_t count, size_t size);

/* With `extra` zero bytes behind. */
void *copy_of(const void *from, size_t size, size_t extra);

/* The array with place for one more, which is zero. */
void *grown(void *array, size_t count, size_t size);

/* NULL if there is none of that name. */
tensor *find_tensor(tensor *tensors, size_t count, nnb_string name);

/* As tensors.txt has it, of an element type of the extended profile. */
const char *element_type_name(uint32_t element_type);

FILE *create_file(const char *directory, const char *name);

void close_file(FILE *file);

/* tensors.txt, and a file for each tensor. */
void write_tensors(const tensor *tensors, size_t count, const char *directory);

#endif
