/* Instances of one test file, which import from each other and from the suite's own host module. */
#ifndef STORE_H
#define STORE_H

#include "wbi.h"

struct entry {
    struct wbi_instance instance;
    uint8_t name;        /* 255: none */
    bool keep;
    char registered[64];
};

bool store_init(void);
void store_reset(void);
uint8_t *store_scratch(uint32_t bytes);
/* Loads and, unless the module is only defined, instantiates; *entry stays null when it fails. */
enum wbi_status store_load(const uint8_t *module, uint32_t length, bool keep, bool define, struct entry **entry,
                           struct wbi_error *error);
struct entry *store_named(uint8_t name);
void store_register(struct entry *entry, const char *name);
/* Notes that a module of this name could not be loaded, so that importing from it is no failure. */
void store_absent(const char *name);
void store_fuel(void);

#endif
