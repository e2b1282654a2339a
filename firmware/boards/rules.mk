# The boards' images: $(BUILD)/<board>/<program>.elf, .bin and, with the loader in front, .flash (a template: what lies at the
# start of the board's flash). Programs are listed in BOARD_PROGRAMS, with PROGRAM_<name> naming their sources and
# PROGRAM_FLAGS_<name> their flags. `.part.elf` is the same for the chip itself: built, not tried.
BOARDS := stm32 hifive1
BOARD_IMAGES := exerciser app
BOARD_PROGRAMS := $(BOARD_IMAGES) app-faults
PROGRAM_app := $(wildcard app/*.c link/src/*.c)
PROGRAM_app-faults = $(PROGRAM_app)
PROGRAM_FLAGS_app-faults = $(PROGRAM_FLAGS_app) -DFLASH_FAULTS -DAPP_TRIAL_MS=10000u
PROGRAM_LIBS_app-faults = $(PROGRAM_LIBS_app)
PROGRAM_FLAGS_app := -Iapp -Iwasm/include $(LINK_INCLUDES)
PROGRAM_LIBS_app := libwbi.a libbearssl.a
PROGRAM_exerciser := tests/board/exerciser.c
PROGRAM_FLAGS_exerciser := -DFLASH_FAULTS

BOARD_CFLAGS := $(CFLAGS) -Os -Wstack-usage=640 -Wmissing-prototypes -Wstrict-prototypes -Wshadow -Iinclude -Idrivers -Ilink/include
BOARD_KIND_stm32 := m4
BOARD_KIND_hifive1 := rv32
BOARD_FLAGS_stm32 := $(M4_FLAGS) -DBOARD_STM32 -DWB_LINK_RX_BYTES=1024u -DWB_LINK_TX_BYTES=512u
BOARD_FLAGS_hifive1 := $(RV32_FLAGS) -DBOARD_HIFIVE1 -DWB_LINK_RX_BYTES=352u -DWB_LINK_TX_BYTES=304u
BOARD_LINK_stm32 := --specs=nano.specs
BOARD_LINK_hifive1 :=
BOARD_OBJCOPY_stm32 := arm-none-eabi-objcopy
BOARD_OBJCOPY_hifive1 := riscv64-unknown-elf-objcopy
BOARD_COMMON := $(filter-out drivers/flash_semihost.c drivers/semihost_arm.c,$(wildcard drivers/*.c))
BOARD_SOURCES_stm32 := $(filter-out %/boot.S %/flash_part.c,$(wildcard boards/stm32/*.[cS])) $(BOARD_COMMON)
BOARD_SOURCES_hifive1 := $(filter-out %/boot.S %/flash_part.c,$(wildcard boards/hifive1/*.[cS])) $(BOARD_COMMON)
BOARD_QEMU_stm32 := drivers/flash_semihost.c drivers/semihost_arm.c
BOARD_QEMU_hifive1 := drivers/flash_semihost.c
BOARD_HEADERS = $(wildcard include/*.h link/include/*.h drivers/*.h boards/*/*.h app/*.h wasm/include/*.h boards/*/*.ld) boards/rules.mk

# $(call board_program,board,program)
define board_program
$(BUILD)/$(1)/$(2).elf: $(BOARD_SOURCES_$(1)) $(BOARD_QEMU_$(1)) $(PROGRAM_$(2)) $(PROGRAM_LIBS_$(2):%=$(BUILD)/$(BOARD_KIND_$(1))/%) $$(BOARD_HEADERS)
	@mkdir -p $$(@D)
	@$$(CC_$(BOARD_KIND_$(1))) $(BOARD_CFLAGS) $(BOARD_FLAGS_$(1)) $(PROGRAM_FLAGS_$(2)) -Iboards/$(1) $(BOARD_SOURCES_$(1)) $(BOARD_QEMU_$(1)) \
	  $(PROGRAM_$(2)) $(PROGRAM_LIBS_$(2):%=$(BUILD)/$(BOARD_KIND_$(1))/%) -nostartfiles -T boards/$(1)/link.ld -Wl,--gc-sections,-Map,$$@.map \
	  $(BOARD_LINK_$(1)) -o $$@
$(BUILD)/$(1)/$(2).part.elf: $(BOARD_SOURCES_$(1)) boards/$(1)/flash_part.c $(PROGRAM_$(2)) $(PROGRAM_LIBS_$(2):%=$(BUILD)/$(BOARD_KIND_$(1))/%) $$(BOARD_HEADERS)
	@mkdir -p $$(@D)
	@$$(CC_$(BOARD_KIND_$(1))) $(BOARD_CFLAGS) $(BOARD_FLAGS_$(1)) $(filter-out -DFLASH_FAULTS,$(PROGRAM_FLAGS_$(2))) -DBOARD_PART -Iboards/$(1) $(BOARD_SOURCES_$(1)) boards/$(1)/flash_part.c \
	  $(PROGRAM_$(2)) $(PROGRAM_LIBS_$(2):%=$(BUILD)/$(BOARD_KIND_$(1))/%) -nostartfiles -T boards/$(1)/link.ld -Wl,--gc-sections $(BOARD_LINK_$(1)) -o $$@
$(BUILD)/$(1)/$(2).flash: $(BUILD)/$(1)/$(2).bin $(BUILD)/$(1)/boot.bin tools/template.py
	@$(PYTHON) tools/template.py $(BUILD)/$(1)/boot.bin $$< $$@
endef
define board_common
$(BUILD)/$(1)/boot.elf: boards/$(1)/boot.S boards/$(1)/boot.ld
	@mkdir -p $$(@D)
	@$$(CC_$(BOARD_KIND_$(1))) $(filter-out --specs=%,$(BOARD_FLAGS_$(1))) -nostdlib -Wl,--build-id=none -T boards/$(1)/boot.ld boards/$(1)/boot.S -o $$@
$(BUILD)/$(1)/%.bin: $(BUILD)/$(1)/%.elf
	@$(BOARD_OBJCOPY_$(1)) -O binary $$< $$@
endef
$(foreach board,$(BOARDS),$(eval $(call board_common,$(board))))
$(foreach board,$(BOARDS),$(foreach program,$(BOARD_PROGRAMS),$(eval $(call board_program,$(board),$(program)))))

.PHONY: boards
# Images of test builds are made by the tests.
boards: $(foreach board,$(BOARDS),$(BOARD_IMAGES:%=$(BUILD)/$(board)/%.flash))
.SECONDARY:

# RAM and flash of every image, as rows of the table in boards/README.md.
.PHONY: boards-sizes
boards-sizes: boards
	@$(PYTHON) tools/sizes.py $(foreach board,$(BOARDS),$(BOARD_IMAGES:%=$(BUILD)/$(board)/%.elf))
