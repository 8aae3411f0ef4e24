// Runs each case in a process of its own, so that each starts with a fresh driver. Usage: test_fake_driver [CASE...]
#include <sys/wait.h>
#include <unistd.h>

#include "check.h"

int main(int count, char** names) {
  int failed = 0, ran = 0;
  for (const Case& each : cases()) {
    bool wanted = count < 2;
    for (int at = 1; at < count; at++) wanted |= strcmp(names[at], each.name) == 0;
    if (!wanted) continue;
    ran++;
    fflush(nullptr);
    pid_t child = fork();
    if (child == 0) {
      alarm(60);
      each.run();
      _Exit(0);
    }
    int status = 0;
    waitpid(child, &status, 0);
    if (child < 0 || status) {
      failed++;
      printf("FAILED %s (status 0x%x)\n", each.name, static_cast<unsigned>(status));
    }
  }
  printf("fake driver: %d cases, %d failed\n", ran, failed);
  return ran == 0 || failed ? 1 : 0;
}
