#include "tensor_files.h"

#include <stdlib.h>
#include <string.h>

#include "nnb/nnb_access.h"

/* binary32 to binary16, ties to even; the upper bits of a NaN's payload are kept. */
static uint16_t half_of(uint32_t bits) {
  const uint32_t sign = bits >> 16 & 0x8000;
  const uint32_t magnitude = bits & 0x7FFFFFFF;
  if (magnitude > 0x7F800000) {
    const uint32_t payload = magnitude >> 13 & 0x3FF;
    return (uint16_t)(sign | 0x7C00 | (payload ? payload : 0x200));
  }
  if (magnitude >= 0x477FF000) return (uint16_t)(sign | 0x7C00);
  const int32_t exponent = (int32_t)(magnitude >> 23) - 112;
  uint32_t mantissa = (magnitude & 0x7FFFFF) | 0x800000;
  if (exponent < -10) return (uint16_t)sign;
  const uint32_t shift = exponent > 0 ? 13 : (uint32_t)(14 - exponent);
  uint32_t value = mantissa >> shift;
  const uint32_t rest = mantissa & ((1u << shift) - 1);
  const uint32_t tie = 1u << (shift - 1);
  if (exponent > 0) value += (uint32_t)(exponent - 1) << 10;
  if (rest > tie || (rest == tie && (value & 1))) value++;
  return (uint16_t)(sign | value);
}

/* binary32 to the bits of a binary64. */
static uint64_t double_of(uint32_t bits) {
  float narrow;
  double wide;
  uint64_t result;
  memcpy(&narrow, &bits, 4);
  wide = (double)narrow;
  memcpy(&result, &wide, 8);
  if ((bits & 0x7FFFFFFF) > 0x7F800000) { /* hardware would make the NaN quiet */
    result = (uint64_t)(bits >> 31) << 63 | UINT64_C(0x7FF) << 52 | (uint64_t)(bits & 0x7FFFFF) << 29;
    result |= UINT64_C(1) << 51;
  }
  return result;
}

static uint64_t element(const tensor *t, uint64_t index, uint32_t *bytes) {
  static const uint8_t sizes[] = {4, 4, 1, 1, 1, 1, 2, 8, 2, 8};
  uint32_t bits;
  memcpy(&bits, (const char *)t->values + 4 * index, 4);
  *bytes = sizes[t->format];
  if (t->format == 8) return half_of(bits);
  if (t->format == 9) return double_of(bits);
  if (t->format == 7) return (uint64_t)(int64_t)(int32_t)bits;
  return bits;
}

static void write_tensor(const tensor *t, FILE *file) {
  uint8_t buffer[8];
  if (t->extended) {
    fwrite(t->values, 1, (size_t)nnb_stored_bytes(t->element_type, t->elements), file);
    return;
  }
  for (uint64_t i = 0; i < t->elements; i++) {
    uint32_t bytes;
    const uint64_t value = element(t, i, &bytes);
    for (uint32_t b = 0; b < bytes; b++) buffer[b] = (uint8_t)(value >> (8 * b));
    fwrite(buffer, 1, bytes, file);
  }
}

void *allocate(size_t count, size_t size) {
  void *const memory = calloc(count > 0 ? count : 1, size);
  if (memory == NULL) {
    fprintf(stderr, "out of memory\n");
    exit(2);
  }
  return memory;
}

void *copy_of(const void *from, size_t size, size_t extra) {
  uint8_t *const to = allocate(size + extra, 1);
  if (size > 0) memcpy(to, from, size);
  return to;
}

void *grown(void *array, size_t count, size_t size) {
  void *const memory = realloc(array, (count + 1) * size);
  if (memory == NULL) {
    fprintf(stderr, "out of memory\n");
    exit(2);
  }
  memset((char *)memory + count * size, 0, size);
  return memory;
}

tensor *find_tensor(tensor *tensors, size_t count, nnb_string name) {
  for (size_t i = 0; i < count; i++) {
    tensor *const t = &tensors[i];
    if (t->name_size == name.size && memcmp(t->name, name.data, name.size) == 0) return t;
  }
  return NULL;
}

FILE *create_file(const char *directory, const char *name) {
  char path[4096];
  snprintf(path, sizeof path, "%s/%s", directory, name);
  FILE *const file = fopen(path, "wb");
  if (file == NULL) {
    perror(path);
    exit(2);
  }
  return file;
}

void close_file(FILE *file) {
  if (ferror(file) || fclose(file) != 0) {
    perror("writing");
    exit(2);
  }
}

/* Names of the element types of the extended profile, by number. */
static const char *const element_types[] = {
    [NNB_ELEMENT_TYPE_BOOL] = "bool",
    [NNB_ELEMENT_TYPE_UINT8] = "uint8",
    [NNB_ELEMENT_TYPE_INT8] = "int8",
    [NNB_ELEMENT_TYPE_UINT16] = "uint16",
    [NNB_ELEMENT_TYPE_INT16] = "int16",
    [NNB_ELEMENT_TYPE_UINT32] = "uint32",
    [NNB_ELEMENT_TYPE_INT32] = "int32",
    [NNB_ELEMENT_TYPE_UINT64] = "uint64",
    [NNB_ELEMENT_TYPE_INT64] = "int64",
    [NNB_ELEMENT_TYPE_FLOAT16] = "float16",
    [NNB_ELEMENT_TYPE_BFLOAT16] = "bfloat16",
    [NNB_ELEMENT_TYPE_FLOAT32] = "float32",
    [NNB_ELEMENT_TYPE_FLOAT64] = "float64",
    [NNB_ELEMENT_TYPE_FLOAT8_E4M3FN] = "float8_e4m3fn",
    [NNB_ELEMENT_TYPE_FLOAT8_E5M2] = "float8_e5m2",
    [NNB_ELEMENT_TYPE_FLOAT8_E4M3FNUZ] = "float8_e4m3fnuz",
    [NNB_ELEMENT_TYPE_FLOAT8_E5M2FNUZ] = "float8_e5m2fnuz",
    [NNB_ELEMENT_TYPE_FLOAT8_E8M0FNU] = "float8_e8m0fnu",
    [NNB_ELEMENT_TYPE_FLOAT8_E4M3] = "float8_e4m3",
    [NNB_ELEMENT_TYPE_FLOAT8_E3M4] = "float8_e3m4",
    [NNB_ELEMENT_TYPE_FLOAT8_E4M3B11FNUZ] = "float8_e4m3b11fnuz",
    [NNB_ELEMENT_TYPE_COMPLEX32] = "complex32",
    [NNB_ELEMENT_TYPE_COMPLEX64] = "complex64",
    [NNB_ELEMENT_TYPE_COMPLEX128] = "complex128",
    [NNB_ELEMENT_TYPE_UINT1] = "uint1",
    [NNB_ELEMENT_TYPE_UINT2] = "uint2",
    [NNB_ELEMENT_TYPE_UINT3] = "uint3",
    [NNB_ELEMENT_TYPE_UINT4] = "uint4",
    [NNB_ELEMENT_TYPE_UINT5] = "uint5",
    [NNB_ELEMENT_TYPE_UINT6] = "uint6",
    [NNB_ELEMENT_TYPE_UINT7] = "uint7",
    [NNB_ELEMENT_TYPE_INT1] = "int1",
    [NNB_ELEMENT_TYPE_INT2] = "int2",
    [NNB_ELEMENT_TYPE_INT3] = "int3",
    [NNB_ELEMENT_TYPE_INT4] = "int4",
    [NNB_ELEMENT_TYPE_INT5] = "int5",
    [NNB_ELEMENT_TYPE_INT6] = "int6",
    [NNB_ELEMENT_TYPE_INT7] = "int7",
    [NNB_ELEMENT_TYPE_FLOAT4_E2M1FN] = "float4_e2m1fn",
    [NNB_ELEMENT_TYPE_FLOAT6_E2M3FN] = "float6_e2m3fn",
    [NNB_ELEMENT_TYPE_FLOAT6_E3M2FN] = "float6_e3m2fn",
};

const char *element_type_name(uint32_t element_type) { return element_types[element_type]; }

void write_tensors(const tensor *tensors, size_t count, const char *directory) {
  static const char *const types[] = {"int32", "float32", "int8",  "int8",    "int8",
                                      "int8",  "int16",   "int64", "float16", "float64"};
  FILE *const list = create_file(directory, "tensors.txt");
  for (size_t i = 0; i < count; i++) {
    const tensor *const t = &tensors[i];
    char file[32];
    snprintf(file, sizeof file, "%zu.bin", i);
    fprintf(list, "=");
    for (size_t k = 0; k < t->name_size; k++) fprintf(list, "%02x", (uint8_t)t->name[k]);
    fprintf(list, " %s ", t->extended ? element_type_name(t->element_type) : types[t->format]);
    for (uint32_t k = 0; k < t->count_dimensions; k++) {
      fprintf(list, "%s%llu", k > 0 ? "x" : "", (unsigned long long)t->dimensions[k]);
    }
    fprintf(list, "%s %s\n", t->count_dimensions == 0 ? "scalar" : "", file);
    FILE *const values = create_file(directory, file);
    write_tensor(t, values);
    close_file(values);
  }
  close_file(list);
}
