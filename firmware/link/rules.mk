# The secure link and the cryptography under it: $(BUILD)/<kind>/liblink.a and libbearssl.a, for each kind.
# BearSSL is Debian's source package, fetched once into the cache by scripts/fetch-bearssl and compiled here: the
# constant-time implementations alone, and of signatures the verification of ECDSA P-256 that the boot loader needs.
BEARSSL := $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/wasmbed/bearssl-0.6+dfsg.1
BEARSSL_SOURCES := $(addprefix $(BEARSSL)/src/, \
  aead/gcm.c codec/ccopy.c codec/dec32be.c codec/dec32le.c codec/enc32be.c codec/enc32le.c codec/dec64be.c \
  codec/enc64be.c hash/dig_size.c hash/ghash_ctmul.c hash/sha2small.c \
  symcipher/aes_ct.c symcipher/aes_ct_enc.c symcipher/aes_ct_ctr.c ec/ec_c25519_m31.c ec/ec_p256_m31.c \
  ec/ec_secp256r1.c ec/ec_secp384r1.c ec/ec_secp521r1.c ec/ec_curve25519.c ec/ecdsa_i31_bits.c ec/ecdsa_i31_vrfy_raw.c \
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

# ---- tests: $(BUILD)/<kind>/link-<program>, on the boards' own machines too ----------------------------------------
LINK_BOARD_KINDS := stm32 hifive1
LINK_KIND_stm32 := m4
LINK_KIND_hifive1 := rv32
LINK_FLAGS_stm32 := -DCORE_MHZ=168
LINK_FLAGS_hifive1 := -DDEVICE_MODULE_BYTES=2048u
LINK_PLATFORM_stm32 := tests/platform/semihost.c tests/platform/start_m4.c
LINK_PLATFORM_hifive1 := tests/platform/semihost.c tests/link/start_hifive1.S
LINK_TEST_HEADERS := $(LINK_HEADERS) $(wildcard tests/link/*.h tests/link/*.ld tests/platform/*.h) link/rules.mk
# $(call link_program,kind,program,sources,platform sources,library kind,flags)
define link_program
$(BUILD)/$(1)/link-$(2): $(3) $(4) $$(LINK_TEST_HEADERS) $(BUILD)/$(5)/liblink.a $(BUILD)/$(5)/libbearssl.a
	@mkdir -p $$(@D)
	@$$(CC_$(5)) $$(CFLAGS) $$(FLAGS_$(5)) -Os $$(LINK_INCLUDES) $(6) $(3) $(4) $(BUILD)/$(5)/liblink.a \
	  $(BUILD)/$(5)/libbearssl.a $(7) -o $$@
endef
LINK_VECTORS := tests/link/vectors.c tests/platform/say.c
$(foreach kind,host asan m4 rv32,$(eval $(call link_program,$(kind),vectors,$(LINK_VECTORS),$(PLATFORM_$(kind)),$(kind),,$(LINK_$(kind)))))
define link_board
$(call link_program,$(1),vectors,$(LINK_VECTORS),$(LINK_PLATFORM_$(1)),$(LINK_KIND_$(1)),$(LINK_FLAGS_$(1)),$(patsubst tests/platform/%.ld,tests/link/$(1).ld,$(LINK_$(LINK_KIND_$(1)))))
$(call link_program,$(1),bench,tests/link/bench.c tests/link/device.c tests/platform/say.c,$(LINK_PLATFORM_$(1)),$(LINK_KIND_$(1)),$(LINK_FLAGS_$(1)),$(patsubst tests/platform/%.ld,tests/link/$(1).ld,$(LINK_$(LINK_KIND_$(1)))))
$(call link_program,$(1),board,tests/link/board.c tests/link/device.c tests/link/uart.c,$(if $(filter stm32,$(1)),tests/platform/start_m4.c,tests/link/start_hifive1.S) tests/link/halt.c,$(LINK_KIND_$(1)),$(LINK_FLAGS_$(1)),$(patsubst tests/platform/%.ld,tests/link/$(1).ld,$(LINK_$(LINK_KIND_$(1)))))
endef
$(foreach board,$(LINK_BOARD_KINDS),$(eval $(call link_board,$(board))))
$(foreach kind,host asan,$(eval $(call link_program,$(kind),peer,tests/link/peer.c tests/link/device.c,,$(kind),,)))
$(BUILD)/unit/liblinkshim.so: tests/link/shim.c tests/link/device.c $(LINK_SOURCES) $(LINK_TEST_HEADERS) | $(BEARSSL)/ready
	@mkdir -p $(@D)
	@$(CC_host) $(CFLAGS) $(BEARSSL_FLAGS) -Wno-conversion -Wno-unused-parameter -Wno-sign-compare -g -O1 -shared -fPIC -fsanitize=undefined \
	  -fsanitize-undefined-trap-on-error -Ilink/include $(filter %.c,$^) $(BEARSSL_SOURCES) -o $@

# ---- fuzzing: what comes over the wire, and what an authentic gateway may send ---------------------------------------
.PHONY: fuzz-link_wire fuzz-link_smp
fuzz: fuzz-link_wire fuzz-link_smp
$(BUILD)/fuzz/link_wire $(BUILD)/fuzz/link_smp: $(BUILD)/fuzz/%: tests/fuzz/%.c tests/link/device.c $(LINK_SOURCES) $(LINK_TEST_HEADERS) | $(BEARSSL)/ready
	@mkdir -p $(@D)
	@clang $(BEARSSL_FLAGS) -g -O1 -fsanitize=fuzzer,address,undefined -fno-sanitize-recover=undefined -Ilink/include \
	  $< tests/link/device.c $(LINK_SOURCES) $(BEARSSL_SOURCES) -o $@
fuzz-link_wire fuzz-link_smp: fuzz-%: $(BUILD)/fuzz/%
	@mkdir -p $(BUILD)/fuzz/corpus-$* $(BUILD)/fuzz/findings
	@$< -max_total_time=$(SECONDS) -max_len=2048 -print_final_stats=1 -verbosity=0 -artifact_prefix=$(BUILD)/fuzz/findings/ \
	  $(BUILD)/fuzz/corpus-$* $(wildcard tests/fuzz/corpus/$*) \
	  || { echo "fuzz target $*: see $(BUILD)/fuzz/findings"; exit 1; }
