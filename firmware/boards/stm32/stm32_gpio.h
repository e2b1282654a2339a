/* General-purpose I/O (RM0090 chapter 8). Not modelled by QEMU. */
#ifndef STM32_GPIO_H
#define STM32_GPIO_H
#include <stdint.h>

struct stm32_gpio {
    volatile uint32_t MODER, OTYPER, OSPEEDR, PUPDR, IDR, ODR, BSRR, LCKR, AFRL, AFRH;
};
#define GPIOA ((struct stm32_gpio *)0x40020000u)
#define GPIO_MODER_AF(pin) (2u << (2 * (pin)))
#define GPIO_MODER_MASK(pin) (3u << (2 * (pin)))
#define GPIO_PUPDR_UP(pin) (1u << (2 * (pin)))
#define GPIO_AFRH_AF7(pin) (7u << (4 * ((pin)-8)))
#define GPIO_AFRH_MASK(pin) (15u << (4 * ((pin)-8)))
_Static_assert(sizeof(struct stm32_gpio) == 0x28, "RM0090 8.4.11");

#endif
