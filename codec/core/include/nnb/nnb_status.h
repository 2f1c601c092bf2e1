/* Generated from codec/errors.py; do not edit. */
#ifndef NNB_STATUS_H
#define NNB_STATUS_H

/* Why something was refused. The numbers are the same in every language and are never reused. */
typedef enum nnb_status {
  NNB_OK = 0,

  /* 1xx malformed: the bytes do not parse */
  NNB_TRUNCATED = 101, /* the data ends before the element does */
  NNB_NOT_NNC = 102, /* the first unit is not a start unit */
  NNB_OVERLONG_CODE = 103, /* an Exp-Golomb code is longer than its value may be */
  NNB_BAD_STRING = 104, /* a string is not UTF-8, or has no terminating zero byte */
  NNB_RESERVED_BITS = 105, /* reserved bits are not zero */
  NNB_BAD_ALIGNMENT = 106, /* byte_alignment() is not a one followed by zeros */
  NNB_UNKNOWN_VALUE = 107, /* an enumerated element has a value that is not defined */
  NNB_UNIT_SIZE = 108, /* the elements of a unit do not add up to nnr_unit_size */

  /* 2xx invalid: the elements parse, but break a rule */
  NNB_UNIT_ORDER = 201, /* a unit stands where it must not */
  NNB_DUPLICATE_NAME = 202, /* two data units carry the same tensor name */
  NNB_SHAPE_MISSING = 203, /* the tensor's dimensions are neither in the stream nor supplied */
  NNB_SHAPE_MISMATCH = 204, /* a shape disagrees with the data or with a reference */
  NNB_CABAC_END = 205, /* terminating bin, stop bit or length of the arithmetic code string is wrong */
  NNB_LEVEL_RANGE = 206, /* a decoded level lies outside int32 or outside its codebook */
  NNB_QP_MISSING = 207, /* a quantized tensor without quantization parameters in force */
  NNB_VALUE_RANGE = 208, /* an element's value is outside its range */
  NNB_ENTRY_POINT = 209, /* an entry point disagrees with the data */
  NNB_BASE_MISSING = 210, /* an update whose base is not there */
  NNB_BASE_MISMATCH = 211, /* an update of another base */
  NNB_METADATA = 212, /* the source description in the topology unit or the metadata unit is unusable */
  NNB_CHECKSUM = 213, /* a CRC-32C disagrees with the bytes */
  NNB_DIGEST = 214, /* a SHA-256 disagrees with the bytes */
  NNB_INDEX = 215, /* the index disagrees with the access units, or with itself */
  NNB_SPARSE_MAP = 216, /* a sparse map disagrees with its count or its shape */
  NNB_LOSSLESS_BLOCK = 217, /* a block of exactly coded values is not what an encoder writes */
  NNB_COMPRESSED_DATA = 218, /* deflated or zstd data do not decompress to their size */
  NNB_ACCESS_UNIT = 219, /* an access unit is incomplete, or its parts do not fit together */
  NNB_SIGNATURE = 220, /* a model signature does not verify */

  /* 3xx unsupported: correct, but not implemented here */
  NNB_UNSUPPORTED_UNIT = 301, /* unit type */
  NNB_UNSUPPORTED_FEATURE = 302, /* coding tool, format or combination */

  /* 4xx limits: refused to protect the caller */
  NNB_LIMIT = 401, /* a count or size is above its limit */
  NNB_MEMORY_BUDGET = 402, /* decoding would need more memory than allowed */

  /* 5xx the caller's arguments */
  NNB_NOT_EXACT = 501, /* the chosen profile cannot carry the tensor exactly */
  NNB_BAD_OPTION = 502, /* an option or plan is wrong or contradictory */
  NNB_NO_SUCH_TENSOR = 503, /* no tensor of that name */
  NNB_BAD_TENSOR = 504, /* dtype, shape, name or values that cannot be coded as asked */
  NNB_BUFFER_SIZE = 505, /* a caller's buffer is too small */
  NNB_MISSING_PACKAGE = 506, /* an optional package is needed */

  /* 6xx files */
  NNB_FILE_NOT_FOUND = 601,
  NNB_FILE_EXISTS = 602,
  NNB_FILE_FORMAT = 603, /* not a model file that an adapter knows, or a damaged one */
  NNB_FILE_IO = 604, /* reading or writing failed (disk full, permission, ...) */

  /* 9xx */
  NNB_INTERNAL = 901 /* a bug in nnbits */
} nnb_status;

#endif
