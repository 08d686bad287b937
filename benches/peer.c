/*
 * The least that writing into a guest can cost: maps the RAM file, walks one address that is known
 * beforehand, writes 4 bytes. No kernel is found, no process, no symbol, and nothing is proved.
 *
 *   peer RAM ROOT LEVELS GVA VALUE        numbers as strtoull(3) reads them; RAM laid out flat
 */
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>

int main(int argc, char **argv) {
    if (argc != 6)
        return 2;
    int file = open(argv[1], O_RDWR);
    struct stat known;
    if (file < 0 || fstat(file, &known) != 0)
        return 1;
    char *ram = mmap(NULL, known.st_size, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    if (ram == MAP_FAILED)
        return 1;
    uint64_t at = strtoull(argv[2], NULL, 0), gva = strtoull(argv[4], NULL, 0);
    for (int level = atoi(argv[3]); level > 0; level--) {
        uint64_t shift = 12 + 9 * (level - 1);
        uint64_t entry = *(uint64_t *)(ram + at + 8 * (gva >> shift & 511));
        if (!(entry & 1))
            return 1;
        int large = level > 1 && (entry & 0x80);
        uint64_t page = large ? (1ull << shift) - 1 : 4095;
        at = (entry & 0xffffffffff000 & ~page) | (level == 1 || large ? gva & page : 0);
        if (large)
            break;
    }
    *(uint32_t *)(ram + at) = strtoul(argv[5], NULL, 0);
    printf("%#llx\n", (unsigned long long)at);
    return 0;
}
