/* The running image, for the image group of MCUmgr. There is no second slot that could be booted yet: uploads and erasures
 * get the published refusals. */
#include <bearssl.h>
#include <string.h>

#include "app.h"

/* The image as it lies in its slot (link.ld). */
extern const uint8_t image_start[], image_end[];

static void hash_image(uint8_t hash[WB_DIGEST_SIZE]) {
    br_sha256_context context;
    br_sha256_init(&context);
    br_sha256_update(&context, image_start, (size_t)(image_end - image_start));
    br_sha256_out(&context, hash);
}

bool image_state(void *context, uint32_t slot, struct wb_image *image) {
    (void)context;
    if (slot != 0) {
        return false;
    }
    memset(image, 0, sizeof *image);
    memcpy(image->version, APP_VERSION, sizeof APP_VERSION);
    hash_image(image->hash);
    image->bootable = image->confirmed = image->active = true;
    return true;
}

enum wb_rc image_set(void *context, const uint8_t *hash, bool confirm) {
    uint8_t running[WB_DIGEST_SIZE];
    (void)context;
    hash_image(running);
    if (hash != NULL && memcmp(hash, running, sizeof running) != 0) {
        return WB_RC_IMAGE_HASH_NOT_FOUND;
    }
    return confirm ? WB_RC_OK : WB_RC_IMAGE_TEST_OF_ACTIVE; /* it is confirmed */
}

enum wb_rc image_begin(void *context, uint32_t bytes, const uint8_t *hash, uint32_t *offset) {
    (void)context;
    (void)bytes;
    (void)hash;
    (void)offset;
    return WB_RC_IMAGE_NO_FREE_SLOT;
}

enum wb_rc image_erase(void *context, uint32_t slot) {
    (void)context;
    return slot == 0 ? WB_RC_IMAGE_NO_FREE_SLOT : WB_RC_IMAGE_INVALID_SLOT; /* 0 is in use */
}
