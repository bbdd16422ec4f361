#include <stdio.h>

int main(void) {
    FILE *file = fopen("/work/large", "w");
    for (;;)
        fputs("more\n", file);
}
