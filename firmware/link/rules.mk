# The secure link and the cryptography under it: $(BUILD)/<kind>/liblink.a and libbearssl.a, for each kind.
# BearSSL is Debian's source package, fetched once into the cache by scripts/fetch-bearssl and compiled here: the
# constant-time implementations alone, and of signatures the verification of ECDSA P-256 that the boot loader needs.
BEARSSL := $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/wasmbed/bearssl-0.6+dfsg.1
BEARSSL_SOURCES := $(addprefix $(BEARSSL)/src/, \
  aead/gcm.c codec/ccopy.c codec/dec32be.c codec/dec32le.c codec/enc32be.c codec/enc32le.c codec/dec64be.c \
  codec/enc64be.c hash/dig_size.c hash/ghash_ctmul.c hash/sha2small.c mac/hmac.c rand/hmac_drbg.c \
  symcipher/aes_ct.c symcipher/aes_ct_enc.c symcipher/aes_ct_ctr.c ec/ec_c25519_m31.c ec/ec_p256_m31.c \
  ec/ec_secp256r1.c ec/ec_curve25519.c ec/ecdsa_i31_bits.c ec/ecdsa_i31_vrfy_raw.c \
  $(addprefix int/i31_, add.c bitlen.c decmod.c decode.c decred.c encode.c fmont.c iszero.c modpow.c montmul.c \
    muladd.c ninv31.c reduce.c rshift.c sub.c tmont.c) int/i32_div32.c)
# The m31 code is meant for cores whose 32x32->64 multiplication takes constant time: Cortex-M4 and E31 are such.
BEARSSL_FLAGS := -std=gnu11 -ffunction-sections -fdata-sections -I$(BEARSSL)/inc -I$(BEARSSL)/src \
  -DBR_64=0 -DBR_INT128=0 -DBR_UMUL128=0 -DBR_AES_X86NI=0 -DBR_SSE2=0 -DBR_USE_URANDOM=0 -DBR_USE_GETENTROPY=0 \
  -DBR_USE_UNIX_TIME=0
OPT_bearssl := -Os
LINK_SOURCES := $(wildcard link/src/*.c)
LINK_HEADERS := $(wildcard link/src/*.h link/include/*.h)
LINK_INCLUDES := -Ilink/include -isystem $(BEARSSL)/inc
# Boards set their own frame sizes; these libraries have the defaults of wb_link.h, for tests.
define link_library
$(BUILD)/$(1)/bearssl/%.o: | $(BEARSSL)/ready
	@mkdir -p $$(@D)
	@$$(CC_$(1)) $$(BEARSSL_FLAGS) $$(FLAGS_$(1)) $$(OPT_bearssl) -c $$(filter %/$$*.c,$$(BEARSSL_SOURCES)) -o $$@
$(BUILD)/$(1)/libbearssl.a: $(patsubst %.c,$(BUILD)/$(1)/bearssl/%.o,$(notdir $(BEARSSL_SOURCES)))
	@rm -f $$@
	@$$(AR_$(1)) rcsD $$@ $$^
$(BUILD)/$(1)/link/%.o: link/src/%.c $$(LINK_HEADERS) link/rules.mk | $(BEARSSL)/ready
	@mkdir -p $$(@D)
	@$$(CC_$(1)) $$(CFLAGS) $$(FLAGS_$(1)) -Os $$(LINK_INCLUDES) -c $$< -o $$@
$(BUILD)/$(1)/liblink.a: $(patsubst link/src/%.c,$(BUILD)/$(1)/link/%.o,$(LINK_SOURCES))
	@rm -f $$@
	@$$(AR_$(1)) rcsD $$@ $$^
endef
$(foreach kind,$(KINDS),$(eval $(call link_library,$(kind))))

$(BEARSSL)/ready: $(ROOT)/scripts/fetch-bearssl
	@$(ROOT)/scripts/fetch-bearssl $(BEARSSL)

.PHONY: link
link: $(KINDS:%=$(BUILD)/%/liblink.a) $(KINDS:%=$(BUILD)/%/libbearssl.a)
	@arm-none-eabi-size -t $(BUILD)/m4/liblink.a | tail -1
	@riscv64-unknown-elf-size -t $(BUILD)/rv32/liblink.a | tail -1
