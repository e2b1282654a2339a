/* The firmware's main program: the link, the instances, and sleep when there is nothing to do. */
#include <stddef.h>
#include <string.h>

#include "app.h"
#include "flash.h"
#include "hal.h"
#include "provision.h"
#include "sensor_port.h"
#include "store.h"

#define PLACE_LINK 1u
#define PLACE_IDLE 2u
#define CHUNK 32u

struct wb_link app_link;
uint32_t app_available;
bool app_reset_wanted;

int main(void);

uint32_t app_now_ms(void) { return (uint32_t)(hal_now_us() / 1000u); }

/* ---- what the link needs ------------------------------------------------------------------------------------------------------- */

static const struct wb_identity *identity(void *context) {
    (void)context;
    return provision_identity();
}

static bool store_identity(void *context, const struct wb_identity *next) {
    (void)context;
    return store_put(STORE_IDENTITY, next, sizeof *next);
}

static bool seed_read(void *context, uint32_t slot, uint8_t record[WB_SEED_RECORD_BYTES]) {
    (void)context;
    uint32_t length = 0;
    const uint8_t *seed = store_get(slot == 0 ? STORE_SEED_0 : STORE_SEED_1, &length);
    if (seed == NULL || length != WB_SEED_RECORD_BYTES) {
        return false;
    }
    memcpy(record, seed, WB_SEED_RECORD_BYTES);
    return true;
}

static bool seed_write(void *context, uint32_t slot, const uint8_t record[WB_SEED_RECORD_BYTES]) {
    (void)context;
    return store_put(slot == 0 ? STORE_SEED_0 : STORE_SEED_1, record, WB_SEED_RECORD_BYTES);
}

static void changed(void *context, bool up) {
    (void)context;
    if (!up) {
        app_available = 0;
        notes_link_lost();
        memset(app_telemetry, 0, sizeof app_telemetry);
        for (uint32_t i = 0; i < APP_INSTANCES; i++) {
            app_instances[i].telemetry_on = 0;
        }
    }
    instances_link(up);
}

static const struct wb_link_host link_host = {NULL, identity, store_identity, seed_read, seed_write, changed};

/* ---- the loop -------------------------------------------------------------------------------------------------------------------- */

/* Moves bytes between the serial ports and what they are for; true when some of the link moved. */
static bool pump(void) {
    static uint8_t input[CHUNK];
    static uint8_t have, taken;
    uint8_t output[CHUNK];
    bool moved = false;
    if (taken == have) {
        have = (uint8_t)hal_uart_read(input, sizeof input);
        taken = 0;
    }
    if (taken != have) {
        const size_t count = wb_link_input(&app_link, input + taken, have - (size_t)taken, app_now_ms());
        taken = (uint8_t)(taken + count);
        moved = count != 0;
    }
    struct sensor_frame sample;
    if (sensor_port_take(&sample)) {
        (void)sensors_put(NULL, sample.kind, 0, sample.values, sample.length);
    }
    const uint32_t room = hal_uart_room();
    const size_t length = wb_link_output(&app_link, output, room < sizeof output ? room : sizeof output, app_now_ms());
    if (length != 0) {
        (void)hal_uart_write(output, (uint32_t)length);
    }
    return moved || length != 0;
}

int main(void) {
    const bool ready = flash_open() == FLASH_OK && store_open() && provision_identity() != NULL;
    if (ready && wb_link_init(&app_link, &link_host, &app_service, app_now_ms())) {
        instances_boot();
    }
    /* Without identity or seed the device stays silent: it could prove to nobody who it is. */
    while (!app_reset_wanted) {
        hal_alive(PLACE_LINK);
        const bool moved = pump();
        const uint32_t link_ms = wb_link_poll(&app_link, app_now_ms());
        if (instances_step() || moved) {
            continue;
        }
        const uint32_t due_ms = instances_due_ms();
        hal_alive(PLACE_IDLE);
        hal_idle(hal_now_us() + 1000u * (uint64_t)(due_ms < link_ms ? due_ms : link_ms));
    }
    hal_reset(RESET_REQUEST);
}
