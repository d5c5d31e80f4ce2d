# common/common.mk: the pure library that both programs share, its unit tests and its fuzzers.
#
#   make -f common/common.mk unit-common [CC=clang]
#   make -f common/common.mk unit-asan
#   make -f common/common.mk fuzz [FUZZ_SECONDS=10]
#
# A fragment: the root Makefile includes it, and it also works alone.  The extension and the relay
# compile COMMON_SRCS themselves, with their own flags; here they are compiled strictly.

COMMON_DIR := $(patsubst %/,%,$(dir $(abspath $(lastword $(MAKEFILE_LIST)))))
COMMON_ROOT := $(patsubst %/,%,$(dir $(COMMON_DIR)))
BUILD ?= $(COMMON_ROOT)/build
COMMON_BUILD = $(BUILD)/common-$(notdir $(firstword $(CC)))
COMMON_ASAN = $(COMMON_BUILD)-asan

COMMON_SRCS := $(sort $(wildcard $(COMMON_DIR)/*.c))
COMMON_HDRS := $(sort $(wildcard $(COMMON_DIR)/*.h))
COMMON_UNITS := $(sort $(wildcard $(COMMON_ROOT)/tests/unit/common_*.c))
COMMON_FUZZERS := $(sort $(wildcard $(COMMON_ROOT)/tests/fuzz/fuzz_*.c))
COMMON_OBJS = $(COMMON_SRCS:$(COMMON_DIR)/%.c=$(COMMON_BUILD)/%.o)
COMMON_LIB = $(COMMON_BUILD)/libtide_common.a

FUZZ_SECONDS ?= 10
FUZZ_CC ?= clang
COMMON_CFLAGS = -std=c11 -O2 -g -Wall -Wextra -Werror -Wpedantic -Wshadow -Wconversion -I$(COMMON_DIR)
COMMON_LIBS = -lzstd
# One test compares with libpq; the library itself never links it.
LIBS_common_conninfo_libpq = $(shell pkg-config --cflags --libs libpq)
COMMON_SANITIZE = -O1 -fno-omit-frame-pointer -fsanitize=address,undefined -fno-sanitize-recover=all

.PHONY: unit-common unit-asan fuzz fuzz-build

# One set of objects per compiler and purpose: $(1) folder under build/, $(2) extra flags.
define common_objects
$(1)/%.o: $(COMMON_DIR)/%.c $(COMMON_HDRS)
	@mkdir -p $$(@D)
	$$(CC) $$(COMMON_CFLAGS) $(2) -c -o $$@ $$<

$(1)/libtide_common.a: $$(COMMON_SRCS:$(COMMON_DIR)/%.c=$(1)/%.o)
	@rm -f $$@
	$$(AR) rcs $$@ $$^

$(1)/unit/%: $(COMMON_ROOT)/tests/unit/%.c $(1)/libtide_common.a $(COMMON_ROOT)/tests/unit/common_test.h
	@mkdir -p $$(@D)
	$$(CC) $$(COMMON_CFLAGS) $(2) -o $$@ $$< $(1)/libtide_common.a $$(COMMON_LIBS) -lcmocka $$(LIBS_$$*)
endef

$(eval $(call common_objects,$$(COMMON_BUILD),))
$(eval $(call common_objects,$$(COMMON_ASAN),$$(COMMON_SANITIZE)))

# Every program runs, even after one failed; the status tells whether any did.
run_units = @failed=0; for t in $(COMMON_UNITS:$(COMMON_ROOT)/tests/unit/%.c=$(1)/unit/%); do \
	$$t || failed=1; done; exit $$failed

unit-common: $(COMMON_UNITS:$(COMMON_ROOT)/tests/unit/%.c=$(COMMON_BUILD)/unit/%)
	$(call run_units,$(COMMON_BUILD))

unit-asan: $(COMMON_UNITS:$(COMMON_ROOT)/tests/unit/%.c=$(COMMON_ASAN)/unit/%)
	$(call run_units,$(COMMON_ASAN))

# Fuzzers want clang, and the library compiled with coverage feedback.
FUZZ_BUILD = $(BUILD)/fuzz

$(FUZZ_BUILD)/%: $(COMMON_ROOT)/tests/fuzz/%.c $(COMMON_ROOT)/tests/fuzz/fuzz.h $(COMMON_SRCS) \
		$(COMMON_HDRS)
	@mkdir -p $(@D)
	$(FUZZ_CC) $(COMMON_CFLAGS) $(COMMON_SANITIZE) -fsanitize=fuzzer -o $@ $< $(COMMON_SRCS) $(COMMON_LIBS)

fuzz-build: $(COMMON_FUZZERS:$(COMMON_ROOT)/tests/fuzz/%.c=$(FUZZ_BUILD)/%)

# New inputs go to build/; the seeds beside the fuzzers are only read.
fuzz: fuzz-build
	@for f in $(COMMON_FUZZERS:$(COMMON_ROOT)/tests/fuzz/fuzz_%.c=%); do \
		mkdir -p $(FUZZ_BUILD)/corpus/$$f; \
		echo "fuzz_$$f: $(FUZZ_SECONDS) s"; \
		$(FUZZ_BUILD)/fuzz_$$f -max_total_time=$(FUZZ_SECONDS) -max_len=4096 -timeout=10 -verbosity=0 \
			-print_final_stats=1 -artifact_prefix=$(FUZZ_BUILD)/$$f- $(FUZZ_BUILD)/corpus/$$f \
			$(COMMON_ROOT)/tests/fuzz/seeds/$$f > $(FUZZ_BUILD)/$$f.log 2>&1 \
			|| { cat $(FUZZ_BUILD)/$$f.log; exit 1; }; \
		grep -E 'number_of_executed_units|exec/s' $(FUZZ_BUILD)/$$f.log || true; \
	done
