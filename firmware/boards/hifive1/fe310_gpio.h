/* General-purpose I/O (FE310-G000 manual chapter 17). */
#ifndef FE310_GPIO_H
#define FE310_GPIO_H
#include <stdint.h>

struct fe310_gpio {
    volatile uint32_t input_val, input_en, output_en, output_val, pue, ds, rise_ie, rise_ip, fall_ie, fall_ip, high_ie, high_ip;
    volatile uint32_t low_ie, low_ip, iof_en, iof_sel, out_xor;
};
#define GPIO ((struct fe310_gpio *)0x10012000u)
#define GPIO_IOF_UART0 (3u << 16) /* pins 16 and 17, function 0 */
_Static_assert(sizeof(struct fe310_gpio) == 0x44, "chapter 17, register map");

#endif
