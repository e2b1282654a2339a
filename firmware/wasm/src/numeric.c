/* Numbers whose rules are not those of C: rounding, minimum, conversions, division. IEEE 754-2019 on bits. */
#include "run.h"

static const uint64_t sign64 = UINT64_C(1) << 63;
static const uint64_t infinity64 = UINT64_C(0x7ff) << 52;
static const uint64_t quiet64 = UINT64_C(1) << 51;

static bool is_nan64(uint64_t bits) { return (bits & ~sign64) > infinity64; }

/* mantissa (top bit set, or 0) times 2^(exponent - 63), rounded to nearest even, without its sign. */
static uint64_t compose(uint64_t mantissa, int32_t exponent, uint32_t fraction_bits, int32_t bias) {
    int32_t biased = exponent + bias;
    uint32_t drop = 63 - fraction_bits;
    if (mantissa == 0) {
        return 0;
    }
    if (biased > 2 * bias) {
        return (uint64_t)(2 * bias + 1) << fraction_bits;
    }
    if (biased <= 0) { /* subnormal */
        drop += (uint32_t)(1 - biased);
        biased = 1;
        if (drop >= 64) {
            return drop == 64 && mantissa > sign64 ? 1 : 0;
        }
    }
    const uint64_t rest = mantissa << (64 - drop);
    mantissa >>= drop;
    mantissa += rest > sign64 || (rest == sign64 && (mantissa & 1) != 0) ? 1 : 0;
    return (biased == 1 && mantissa >> fraction_bits == 0 ? 0 : (uint64_t)(biased - 1) << fraction_bits) + mantissa;
}

/* An integer times 2^scale. */
static uint64_t compose_integer(uint64_t value, int32_t scale, uint32_t fraction_bits, int32_t bias) {
    const int32_t zeros = value != 0 ? __builtin_clzll(value) : 0;
    return compose(value << zeros, 63 - zeros + scale, fraction_bits, bias);
}

uint64_t float_promote(uint32_t bits) {
    const uint64_t sign = (uint64_t)(bits & 0x80000000u) << 32;
    const uint32_t exponent = bits >> 23 & 0xff;
    const uint64_t fraction = bits & 0x7fffffu;
    if (exponent == 0xff) {
        return sign | infinity64 | (fraction != 0 ? quiet64 : 0) | fraction << 29;
    }
    if (exponent == 0) {
        return sign | compose_integer(fraction, -149, 52, 1023);
    }
    return sign | ((uint64_t)(exponent + 1023 - 127) << 52) | fraction << 29;
}

uint32_t float_demote(uint64_t bits) {
    const uint32_t sign = (uint32_t)((bits & sign64) >> 32);
    const int32_t exponent = (int32_t)(bits >> 52 & 0x7ff);
    const uint64_t fraction = bits & (quiet64 * 2 - 1);
    if (exponent == 0x7ff) {
        return sign | 0x7f800000u | (fraction != 0 ? 0x400000u : 0) | (uint32_t)(fraction >> 29);
    }
    return sign | (exponent == 0 ? 0 : (uint32_t)compose(fraction << 11 | sign64, exponent - 1023, 23, 127));
}

/* Bit by bit: 54 bits of root, the last one rounds. */
static uint64_t square_root(uint64_t bits) {
    int32_t exponent = (int32_t)(bits >> 52) - 1023;
    uint64_t mantissa = bits & (quiet64 * 2 - 1);
    uint64_t remainder = 0;
    uint64_t root = 0;
    if ((bits & ~sign64) == 0 || bits == infinity64) {
        return bits;
    }
    if ((bits & sign64) != 0) {
        return infinity64 | quiet64;
    }
    if (exponent == -1023) {
        exponent++;
        while (mantissa >> 52 == 0) {
            mantissa <<= 1;
            exponent--;
        }
    } else {
        mantissa |= UINT64_C(1) << 52;
    }
    if ((exponent & 1) != 0) {
        mantissa <<= 1;
        exponent--;
    }
    mantissa <<= 10;
    for (uint32_t i = 0; i < 54; i++) {
        remainder = remainder << 2 | mantissa >> 62;
        mantissa <<= 2;
        root <<= 1;
        if (remainder > root * 2) {
            remainder -= root * 2 + 1;
            root |= 1;
        }
    }
    const uint64_t rounded = (root >> 1) + ((root & 1) != 0 && (remainder != 0 || (root & 2) != 0) ? 1 : 0);
    return ((uint64_t)(exponent / 2 + 1023 - 1) << 52) + rounded;
}

static uint64_t round_to_integer(uint32_t kind, uint64_t bits) {
    static const uint64_t one = UINT64_C(1023) << 52;
    const uint64_t sign = bits & sign64;
    const uint64_t magnitude = bits & ~sign64;
    const int32_t exponent = (int32_t)(magnitude >> 52) - 1023;
    if (exponent >= 52) {
        return bits;
    }
    if (exponent < 0) {
        const bool up = magnitude != 0 && ((kind == FLOAT_CEIL && sign == 0) || (kind == FLOAT_FLOOR && sign != 0) ||
                                           (kind == FLOAT_NEAREST && magnitude > one - (UINT64_C(1) << 52)));
        return sign | (up ? one : 0);
    }
    const uint64_t unit = UINT64_C(1) << (52 - exponent);
    const uint64_t fraction = bits & (unit - 1);
    const uint64_t whole = bits - fraction;
    const bool up = fraction != 0 && ((kind == FLOAT_CEIL && sign == 0) || (kind == FLOAT_FLOOR && sign != 0) ||
                                      (kind == FLOAT_NEAREST && (fraction > unit / 2 ||
                                                                 (fraction == unit / 2 && (whole & unit) != 0))));
    return whole + (up ? unit : 0);
}

uint64_t float64_unary(uint32_t kind, uint64_t bits) {
    switch (kind) {
    case FLOAT_ABS: return bits & ~sign64;
    case FLOAT_NEG: return bits ^ sign64;
    default: break;
    }
    if (is_nan64(bits)) {
        return bits | quiet64;
    }
    return kind == FLOAT_SQRT ? square_root(bits) : round_to_integer(kind, bits);
}

uint32_t float32_unary(uint32_t kind, uint32_t bits) {
    switch (kind) {
    case FLOAT_ABS: return bits & 0x7fffffffu;
    case FLOAT_NEG: return bits ^ 0x80000000u;
    default: break;
    }
#if defined(__ARM_FP) && (__ARM_FP & 4)
    if (kind == FLOAT_SQRT) {
        float value;
        __builtin_memcpy(&value, &bits, 4);
        __asm__("vsqrt.f32 %0, %0" : "+t"(value));
        __builtin_memcpy(&bits, &value, 4);
        return bits;
    }
#endif
    return float_demote(float64_unary(kind, float_promote(bits))); /* exact: 53 bits hold twice 24 and two more */
}

/* Orders finite values and infinities like integers, -0 below +0. */
static int64_t order(uint64_t bits) { return (int64_t)((bits & sign64) != 0 ? ~bits ^ sign64 : bits); }

uint64_t float64_pair(uint32_t kind, uint64_t a, uint64_t b) {
    if (kind == FLOAT_COPYSIGN) {
        return (a & ~sign64) | (b & sign64);
    }
    if (is_nan64(a)) {
        return a | quiet64;
    }
    if (is_nan64(b)) {
        return b | quiet64;
    }
    return (order(a) < order(b)) == (kind == FLOAT_MIN) ? a : b;
}

uint32_t float32_pair(uint32_t kind, uint32_t a, uint32_t b) {
    if (kind == FLOAT_COPYSIGN) { /* touches no payload */
        return (a & 0x7fffffffu) | (b & 0x80000000u);
    }
    return float_demote(float64_pair(kind, float_promote(a), float_promote(b)));
}

static uint64_t from_integer(uint32_t kind, uint64_t value, uint32_t fraction_bits, int32_t bias) {
    if (kind == FROM_I32_S) {
        value = (uint64_t)(int64_t)(int32_t)value;
    }
    const bool negative = (kind & 1) == 0 && (value & sign64) != 0;
    const uint64_t magnitude = compose_integer(negative ? 0 - value : value, 0, fraction_bits, bias);
    return magnitude | (negative ? (uint64_t)(2 * bias + 2) << fraction_bits : 0);
}

uint32_t float32_from(uint32_t kind, uint64_t value) { return (uint32_t)from_integer(kind, value, 23, 127); }
uint64_t float64_from(uint32_t kind, uint64_t value) { return from_integer(kind, value, 52, 1023); }

enum wbi_status float_truncate(uint32_t kind, uint64_t bits, uint64_t *value) {
    const uint64_t wide = (kind & TRUNC_FROM64) != 0 ? bits : float_promote((uint32_t)bits);
    const bool negative = (wide & sign64) != 0;
    const bool is_signed = (kind & TRUNC_UNSIGNED) == 0;
    const uint32_t width = (kind & TRUNC_TO64) != 0 ? 64 : 32;
    const int32_t exponent = (int32_t)((wide & ~sign64) >> 52) - 1023;
    const uint64_t largest = ~UINT64_C(0) >> (64 - width + (is_signed ? 1 : 0));
    const uint64_t limit = !negative ? largest : is_signed ? largest + 1 : 0;
    uint64_t magnitude = 0;
    bool over = exponent >= 64;
    if (is_nan64(wide)) {
        *value = 0;
        return (kind & TRUNC_SATURATE) != 0 ? WBI_OK : WBI_TRAP_CONVERSION;
    }
    if (exponent >= 0 && !over) {
        const uint64_t mantissa = (wide & (quiet64 * 2 - 1)) | UINT64_C(1) << 52;
        magnitude = exponent >= 52 ? mantissa << (exponent - 52) : mantissa >> (52 - exponent);
    }
    if (over || magnitude > limit) {
        over = true;
        magnitude = limit;
    }
    *value = negative ? 0 - magnitude : magnitude;
    return !over || (kind & TRUNC_SATURATE) != 0 ? WBI_OK : WBI_TRAP_OVERFLOW;
}

uint64_t integer_unary64(uint32_t kind, uint64_t value) {
    switch (kind) {
    case UN_CLZ: return value != 0 ? (uint64_t)__builtin_clzll(value) : 64;
    case UN_CTZ: return value != 0 ? (uint64_t)__builtin_ctzll(value) : 64;
    case UN_POPCNT:
        value -= value >> 1 & UINT64_C(0x5555555555555555);
        value = (value & UINT64_C(0x3333333333333333)) + (value >> 2 & UINT64_C(0x3333333333333333));
        value = (value + (value >> 4)) & UINT64_C(0x0f0f0f0f0f0f0f0f);
        return value * UINT64_C(0x0101010101010101) >> 56;
    case UN_EXTEND8: return (uint64_t)(int64_t)(int8_t)value;
    case UN_EXTEND16: return (uint64_t)(int64_t)(int16_t)value;
    default: return (uint64_t)(int64_t)(int32_t)value;
    }
}

enum wbi_status divide32(uint32_t kind, uint32_t a, uint32_t b, uint32_t *result) {
    if (kind == ROTR) { /* rare, so it lives here */
        *result = a >> (b & 31) | a << (-b & 31);
        return WBI_OK;
    }
    if (b == 0) {
        return WBI_TRAP_DIVIDE;
    }
    switch (kind) {
    case DIV_S:
        if (a == 0x80000000u && b == 0xffffffffu) {
            return WBI_TRAP_OVERFLOW;
        }
        *result = (uint32_t)((int32_t)a / (int32_t)b);
        return WBI_OK;
    case DIV_U: *result = a / b; return WBI_OK;
    case REM_S: *result = b == 0xffffffffu ? 0 : (uint32_t)((int32_t)a % (int32_t)b); return WBI_OK;
    default: *result = a % b; return WBI_OK;
    }
}

enum wbi_status divide64(uint32_t kind, uint64_t a, uint64_t b, uint64_t *result) {
    const bool is_signed = kind == DIV_S || kind == REM_S;
    const bool negative_a = is_signed && (a & sign64) != 0;
    const bool negative_b = is_signed && (b & sign64) != 0;
    if (kind == ROTR) {
        *result = a >> (b & 63) | a << (-b & 63);
        return WBI_OK;
    }
    if (b == 0) {
        return WBI_TRAP_DIVIDE;
    }
    if (kind == DIV_S && a == sign64 && b == ~UINT64_C(0)) {
        return WBI_TRAP_OVERFLOW;
    }
    a = negative_a ? 0 - a : a;
    b = negative_b ? 0 - b : b;
    uint64_t quotient = a / b;
    __asm__("" : "+r"(quotient)); /* else a second division makes the remainder */
    const uint64_t remainder = a - quotient * b;
    if (kind == DIV_S || kind == DIV_U) {
        *result = negative_a != negative_b ? 0 - quotient : quotient;
    } else {
        *result = negative_a ? 0 - remainder : remainder;
    }
    return WBI_OK;
}
