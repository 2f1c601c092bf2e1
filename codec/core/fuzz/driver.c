/* Replays stored inputs through a fuzz target, where there is no libFuzzer: the files that are named. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int main(int argc, char **argv) {
  for (int i = 1; i < argc; i++) {
    FILE *const file = fopen(argv[i], "rb");
    if (file == NULL || fseek(file, 0, SEEK_END) != 0) {
      perror(argv[i]);
      return 2;
    }
    const long length = ftell(file);
    rewind(file);
    const size_t size = length > 0 ? (size_t)length : 0;
    uint8_t *const data = malloc(size > 0 ? size : 1); /* exactly, so that sanitizers see every byte too many */
    if (data == NULL || fread(data, 1, size, file) != size) {
      perror(argv[i]);
      return 2;
    }
    fclose(file);
    LLVMFuzzerTestOneInput(data, size);
    free(data);
  }
  printf("%d inputs\n", argc - 1);
  return 0;
}
