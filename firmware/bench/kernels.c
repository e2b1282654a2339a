/* What is measured: the same C natively at -O2 and as WebAssembly. Freestanding; each kernel gives a checksum. */
#include "kernels.h"

#ifdef __wasm__
#define KERNEL(name) __attribute__((export_name(#name), noinline)) uint32_t name(uint32_t n)
#else
#define KERNEL(name) __attribute__((noinline)) uint32_t name(uint32_t n)
#endif

/* With -DONLY_<name> that kernel alone. */
#if !(defined(ONLY_fib) || defined(ONLY_crc32) || defined(ONLY_sieve) || defined(ONLY_matrix) || defined(ONLY_sort) || defined(ONLY_list) || defined(ONLY_sha256) || defined(ONLY_parse) || defined(ONLY_hash64) || defined(ONLY_fir) || defined(ONLY_strings) || defined(ONLY_pid))
#define ONLY_fib
#define ONLY_crc32
#define ONLY_sieve
#define ONLY_matrix
#define ONLY_sort
#define ONLY_list
#define ONLY_sha256
#define ONLY_parse
#define ONLY_hash64
#define ONLY_fir
#define ONLY_strings
#define ONLY_pid
#endif

static uint32_t words[1024] __attribute__((unused));
static uint8_t bytes[4096] __attribute__((unused));
static uint32_t seed __attribute__((unused));

__attribute__((unused)) static uint32_t next_random(void) {
    seed = seed * 1664525u + 1013904223u;
    return seed >> 8;
}

#ifdef ONLY_fib
KERNEL(fib) {
    if (n < 2) {
        return n;
    }
    return fib(n - 1) + fib(n - 2);
}
#endif

/* Control: bitwise CRC-32. */
#ifdef ONLY_crc32
KERNEL(crc32) {
    uint32_t crc = 0xffffffffu;
    for (uint32_t i = 0; i < n; i++) {
        crc ^= i & 0xff;
        for (uint32_t bit = 0; bit < 8; bit++) {
            crc = (crc >> 1) ^ (0xedb88320u & (0u - (crc & 1)));
        }
    }
    return ~crc;
}
#endif

/* Memory: sieve of Eratosthenes over bytes. */
#ifdef ONLY_sieve
KERNEL(sieve) {
    uint32_t count = 0;
    for (uint32_t i = 0; i < sizeof bytes; i++) {
        bytes[i] = 1;
    }
    for (uint32_t i = 2; i < n && i < sizeof bytes; i++) {
        if (bytes[i] != 0) {
            count++;
            for (uint32_t k = i + i; k < sizeof bytes; k += i) {
                bytes[k] = 0;
            }
        }
    }
    return count;
}
#endif

/* Memory: product of 16 x 16 matrices. */
#ifdef ONLY_matrix
KERNEL(matrix) {
    uint32_t *a = words, *b = words + 256, *c = words + 512;
    uint32_t sum = 0;
    for (uint32_t i = 0; i < 512; i++) {
        words[i] = i * 7 + n;
    }
    for (uint32_t i = 0; i < 16; i++) {
        for (uint32_t k = 0; k < 16; k++) {
            uint32_t value = 0;
            for (uint32_t m = 0; m < 16; m++) {
                value += a[i * 16 + m] * b[m * 16 + k];
            }
            c[i * 16 + k] = value;
        }
    }
    for (uint32_t i = 512; i < 768; i++) {
        sum = sum * 31 + words[i];
    }
    return sum;
}
#endif

/* Memory: heap sort. */
#ifdef ONLY_sort
KERNEL(sort) {
    seed = 1;
    for (uint32_t i = 0; i < n; i++) {
        words[i] = next_random();
    }
    for (uint32_t size = n, start = n / 2; size > 1;) {
        uint32_t value;
        if (start > 0) {
            value = words[--start];
        } else {
            size--;
            value = words[size];
            words[size] = words[0];
        }
        uint32_t at = start;
        for (uint32_t child = 2 * at + 1; child < size; child = 2 * at + 1) {
            if (child + 1 < size && words[child + 1] > words[child]) {
                child++;
            }
            if (words[child] <= value) {
                break;
            }
            words[at] = words[child];
            at = child;
        }
        words[at] = value;
    }
    uint32_t sum = 0;
    for (uint32_t i = 0; i < n; i++) {
        sum = sum * 31 + words[i];
    }
    return sum;
}
#endif

/* Memory: a linked list, pointers chased. */
struct node {
    struct node *next;
    uint32_t value;
};
#ifdef ONLY_list
KERNEL(list) {
    struct node *nodes = (struct node *)(void *)words;
    uint32_t sum = 0;
    for (uint32_t i = 0; i < 512; i++) {
        nodes[i].next = &nodes[(i * 5 + 3) & 511];
        nodes[i].value = i;
    }
    struct node *at = nodes;
    for (uint32_t i = 0; i < n; i++) {
        sum += at->value;
        at->value ^= sum;
        at = at->next;
    }
    return sum;
}
#endif

/* Rotations, tables and memory: SHA-256 of n blocks. */
__attribute__((unused)) static const uint32_t round_constants[64] = {
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
    0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
    0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
    0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
    0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
    0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
    0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
    0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2,
};
__attribute__((unused)) static uint32_t rotate_right(uint32_t value, uint32_t count) { return value >> count | value << (32 - count); }
#ifdef ONLY_sha256
KERNEL(sha256) {
    uint32_t state[8] = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a, 0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};
    for (uint32_t block = 0; block < n; block++) {
        uint32_t *w = words;
        uint32_t s[8];
        for (uint32_t i = 0; i < 16; i++) {
            w[i] = block * 16 + i;
        }
        for (uint32_t i = 16; i < 64; i++) {
            const uint32_t s0 = rotate_right(w[i - 15], 7) ^ rotate_right(w[i - 15], 18) ^ w[i - 15] >> 3;
            const uint32_t s1 = rotate_right(w[i - 2], 17) ^ rotate_right(w[i - 2], 19) ^ w[i - 2] >> 10;
            w[i] = w[i - 16] + s0 + w[i - 7] + s1;
        }
        for (uint32_t i = 0; i < 8; i++) {
            s[i] = state[i];
        }
        for (uint32_t i = 0; i < 64; i++) {
            const uint32_t s1 = rotate_right(s[4], 6) ^ rotate_right(s[4], 11) ^ rotate_right(s[4], 25);
            const uint32_t t1 = s[7] + s1 + ((s[4] & s[5]) ^ (~s[4] & s[6])) + round_constants[i] + w[i];
            const uint32_t s0 = rotate_right(s[0], 2) ^ rotate_right(s[0], 13) ^ rotate_right(s[0], 22);
            const uint32_t t2 = s0 + ((s[0] & s[1]) ^ (s[0] & s[2]) ^ (s[1] & s[2]));
            s[7] = s[6];
            s[6] = s[5];
            s[5] = s[4];
            s[4] = s[3] + t1;
            s[3] = s[2];
            s[2] = s[1];
            s[1] = s[0];
            s[0] = t1 + t2;
        }
        for (uint32_t i = 0; i < 8; i++) {
            state[i] += s[i];
        }
    }
    return state[0] ^ state[7];
}
#endif

/* Control and memory: a parser of telemetry lines, by states. */
#ifdef ONLY_parse
KERNEL(parse) {
    static const char line[] = "$GPGGA,123519,4807.038,N,01131.000,E,1,08,0.9,545.4,M,46.9,M,,*47\r\n";
    uint32_t sum = 0;
    for (uint32_t round = 0; round < n; round++) {
        enum { IDLE, NAME, NUMBER, TEXT, CHECK } state = IDLE;
        uint32_t number = 0;
        for (uint32_t i = 0; i < sizeof line - 1; i++) {
            const char c = line[i];
            switch (state) {
            case IDLE:
                if (c == '$') {
                    state = NAME;
                }
                break;
            case NAME:
            case TEXT:
                if (c == ',') {
                    state = NUMBER;
                    number = 0;
                } else if (c == '*') {
                    state = CHECK;
                } else {
                    sum = sum * 33 + (uint32_t)c;
                }
                break;
            case NUMBER:
                if (c >= '0' && c <= '9') {
                    number = number * 10 + (uint32_t)(c - '0');
                } else if (c == ',') {
                    sum += number;
                    number = 0;
                } else if (c != '.') {
                    state = c == '*' ? CHECK : TEXT;
                }
                break;
            case CHECK:
                if (c == '\n') {
                    state = IDLE;
                }
                break;
            }
        }
    }
    return sum;
}
#endif

/* 64 bits: xorshift and FNV-1a. */
#ifdef ONLY_hash64
KERNEL(hash64) {
    uint64_t x = 88172645463325252ull;
    uint64_t hash = 14695981039346656037ull;
    for (uint32_t i = 0; i < n; i++) {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        hash = (hash ^ (x & 0xff)) * 1099511628211ull;
    }
    return (uint32_t)(hash ^ hash >> 32);
}
#endif

/* Memory and single precision: a FIR filter of 16 taps. */
#ifdef ONLY_fir
KERNEL(fir) {
    float *taps = (float *)(void *)words, *samples = taps + 16;
    float sum = 0;
    for (uint32_t i = 0; i < 16; i++) {
        taps[i] = 0.0625f * (float)(i + 1);
        samples[i] = (float)i;
    }
    for (uint32_t i = 0; i < n; i++) {
        float value = 0;
        for (uint32_t k = 0; k < 16; k++) {
            value += taps[k] * samples[(i + k) & 15];
        }
        samples[i & 15] = value * 0.01f;
        sum += value;
    }
    return (uint32_t)(int32_t)(sum * 16.0f);
}
#endif

/* Memory: bytes copied, compared and searched. */
#ifdef ONLY_strings
KERNEL(strings) {
    uint32_t sum = 0;
    for (uint32_t i = 0; i < 256; i++) {
        bytes[i] = (uint8_t)(i * 37 + 11);
    }
    for (uint32_t round = 0; round < n; round++) {
        for (uint32_t i = 0; i < 256; i++) {
            bytes[512 + i] = (uint8_t)(bytes[i] ^ round);
        }
        for (uint32_t i = 0; i < 256; i++) {
            if (bytes[512 + i] == (uint8_t)(bytes[255 - i] + round)) {
                sum += i;
            }
        }
    }
    return sum;
}
#endif

/* Double precision: a PID controller. */
#ifdef ONLY_pid
KERNEL(pid) {
    double integral = 0, before = 0, position = 0, speed = 0;
    for (uint32_t i = 0; i < n; i++) {
        const double error = 1.0 - position;
        integral += error * 0.01;
        const double force = 4.0 * error + 0.5 * integral + 2.0 * (error - before) / 0.01;
        before = error;
        speed += (force - speed) * 0.01;
        position += speed * 0.01;
    }
    return (uint32_t)(int32_t)(position * 100000.0);
}
#endif
