/* Between link.c and smp*.c. */
#ifndef WB_INTERNAL_H
#define WB_INTERNAL_H

#include "wb_link.h"

enum { SMP_HEADER = 8, OP_READ = 0, OP_READ_ANSWER = 1, OP_WRITE = 2, OP_WRITE_ANSWER = 3 };
enum { GROUP_OS = 0, GROUP_IMAGE = 1, GROUP_WASMBED = 64 };
enum { ID_HEARTBEAT = 32 };

/* link->flags */
enum {
    LINK_READY = 1,          /* the seed was advanced */
    LINK_UP_FLAG = 2,
    LINK_HANDSHAKE = 4,      /* message 1 went out, message 2 is awaited */
    LINK_NEXT_KEYS = 8,      /* that handshake uses the keys of a rotation */
    LINK_KNOCK = 16,
    LINK_HEARTBEAT = 32,     /* due */
    LINK_HEARTBEAT_SENT = 64, /* and not answered yet */
    LINK_FRAME = 128,        /* a whole frame waits in rx */
    LINK_RESET = 256,        /* restart when the answer has left */
    LINK_CLOCK = 512,
    LINK_TRIED = 1024 /* handshake_ms is the time of a handshake */
};

/* Overwrites secrets in a way that the compiler keeps. */
void wb_wipe(void *data, size_t length);

struct wb_smp_header {
    uint8_t op, version, seq, id;
    uint16_t group;
};

bool wb_smp_read_header(const uint8_t *message, size_t length, struct wb_smp_header *header);
/* Writes the header before `length` bytes of CBOR. */
void wb_smp_write_header(uint8_t *message, const struct wb_smp_header *header, size_t length);
/* Handles one message; writes the answer into out (at least 64 bytes) and returns its length, 0 for none. */
size_t wb_smp_handle(struct wb_link *link, const uint8_t *message, size_t length, uint8_t *out, size_t room,
                     uint32_t now_ms);
/* Writes the heartbeat, or what the application part has to say. */
size_t wb_smp_heartbeat(struct wb_link *link, uint8_t *out, size_t room, uint32_t now_ms);
size_t wb_smp_note(struct wb_link *link, uint8_t *out, size_t room);
/* Writes "text" or "text: name", cut to WB_MESSAGE_TEXT_MAX bytes and to the room there is. */
void wb_put_why(struct wb_cbor_out *out, const char *text, const struct wb_text *name);
/* Forgets what belongs to one session. */
void wb_smp_new_session(struct wb_link *link);

/* The groups: the answer's pairs go to `out`, whole map; results other than WB_RC_OK are answered as such. */
enum wb_rc wb_group_os(struct wb_link *link, const struct wb_smp_header *header, struct wb_cbor map,
                       struct wb_cbor_out *out);
enum wb_rc wb_group_image(struct wb_link *link, const struct wb_smp_header *header, struct wb_cbor map,
                          struct wb_cbor_out *out);
enum wb_rc wb_group_wasmbed(struct wb_link *link, const struct wb_smp_header *header, struct wb_cbor map,
                            struct wb_cbor_out *out, struct wb_why *why, const uint8_t *record,
                            uint32_t record_bytes, uint32_t now_ms);
void wb_wasmbed_answer(struct wb_link *link, const struct wb_smp_header *header, struct wb_cbor map, uint32_t now_ms);

#endif
