/*
 * Starts a program with a bound on its memory and says how much it held:
 *
 *   launcher FILE BYTES PROGRAM ARGUMENT...
 *
 * FILE receives the largest resident memory of the program, KiB; the exit status or signal is that of the program.
 * BYTES bound its address space, 0 for no bound; it writes no core.
 * Linux counts what a process held before it became another program, so that one started by a large process would seem
 * large, and a large process takes its time to fork: this one is small.
 */
#define _POSIX_C_SOURCE 200809L
#define _DEFAULT_SOURCE
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/types.h>
#include <sys/wait.h>
#include <unistd.h>

int main(int argc, char **argv) {
  int status;
  struct rusage usage;
  if (argc < 4) return 2;
  const struct rlimit memory = {strtoull(argv[2], NULL, 10), strtoull(argv[2], NULL, 10)};
  const struct rlimit core = {0, 0};
  const pid_t child = fork();
  if (child < 0) return 2;
  if (child == 0) {
    if ((memory.rlim_cur == 0 || setrlimit(RLIMIT_AS, &memory) == 0) && setrlimit(RLIMIT_CORE, &core) == 0) {
      execvp(argv[3], argv + 3);
    }
    perror(argv[3]);
    _exit(2);
  }
  if (wait4(child, &status, 0, &usage) != child) return 2;
  FILE *const file = fopen(argv[1], "w");
  if (file == NULL || fprintf(file, "%ld\n", usage.ru_maxrss) < 0 || fclose(file) != 0) return 2;
  if (WIFSIGNALED(status)) {
    signal(WTERMSIG(status), SIG_DFL);
    raise(WTERMSIG(status));
  }
  return WEXITSTATUS(status);
}
