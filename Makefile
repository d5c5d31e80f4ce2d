# pg_tide: what people and CI call.  `make help` lists the targets.
#
# The parts have their own makefiles: extension/Makefile (PGXS), relay/Makefile, common/common.mk.
# Nothing here installs outside build/, except `make install` and the packages of `make deps`.

PG_CONFIG ?= pg_config
PREFIX ?= /usr/local
DESTDIR ?=
BUILD := $(CURDIR)/build
SANDBOX := scripts/sandbox
export PG_CONFIG

# Sub-makes build in parallel unless this make was told how.
JOBS := $(if $(findstring j,$(firstword -$(MAKEFLAGS))),,-j$(shell nproc))
# V=1 shows the compiler's command lines.
QUIET := $(if $(V),,-s)
EXTENSION_MAKE = @+$(MAKE) $(QUIET) --no-print-directory $(JOBS) -C extension PG_CONFIG=$(PG_CONFIG) with_llvm=no
RELAY_MAKE = @+$(MAKE) --no-print-directory $(JOBS) -C relay
COMMON_MAKE = @+$(MAKE) --no-print-directory $(JOBS) -f common/common.mk

.DEFAULT_GOAL := all
.PHONY: all help extension relay sanitized stage tools units install uninstall deps test test-unit test-sql \
	test-tap test-versions bench demo lint indent fuzz clean

all: extension relay

help:
	@sed -n 's/^## //p' $(firstword $(MAKEFILE_LIST))

## make              builds the extension (PG_CONFIG=...) and the program build/pg_tide
## make install      installs them (PREFIX=/usr/local DESTDIR=)
## make demo         two regions, the tutorial, a partition (DEMO_FORM=hub, DEMO_KEEP=1)
## make test         every test, against real servers
## make test-versions  the extension's tests on PostgreSQL 17 and 18, and regions of different versions
## make bench        measures
## make lint         format, clang-tidy, forbidden functions; make indent reformats
## make fuzz         fuzzes common/ (FUZZ_SECONDS=10)
## make deps         installs what is missing from Debian (the other targets call it)

deps: deps-build

# deps-SET: see scripts/deps for the sets.
.PHONY: deps-build deps-test deps-versions deps-demo deps-bench deps-lint deps-fuzz
deps-build deps-test deps-versions deps-demo deps-bench deps-lint deps-fuzz: deps-%:
	@scripts/deps $(sort build $*)

extension: deps-build
	$(EXTENSION_MAKE)

relay: deps-build
	$(RELAY_MAKE)

# The program with sanitizers, for tests/t/003* and 004*.
sanitized: deps-build
	$(RELAY_MAKE) SANITIZE=address,undefined
	$(RELAY_MAKE) SANITIZE=thread

install: all
	$(EXTENSION_MAKE) install DESTDIR=$(DESTDIR)
	install -D -m 755 $(BUILD)/pg_tide $(DESTDIR)$(PREFIX)/bin/pg_tide
	install -D -m 644 -t $(DESTDIR)$(PREFIX)/share/doc/pg_tide README.md LICENSE $(wildcard deploy/*)

uninstall: deps-build
	$(EXTENSION_MAKE) uninstall DESTDIR=$(DESTDIR)
	rm -f $(DESTDIR)$(PREFIX)/bin/pg_tide
	rm -rf $(DESTDIR)$(PREFIX)/share/doc/pg_tide

# The extension as tests and demo use it: installed under build/stage, not in the system.
stage: extension
	$(EXTENSION_MAKE) install DESTDIR=$(BUILD)/stage >/dev/null

TOOLS := $(BUILD)/tools/wan $(BUILD)/tools/natsctl $(BUILD)/tools/frames
tools: $(TOOLS)

$(BUILD)/tools/natsctl: TOOL_LIBS = -lnats -ljansson
$(BUILD)/tools/%: tests/tools/%.c | deps-build
	@mkdir -p $(@D)
	$(CC) -std=c11 -D_GNU_SOURCE -O2 -g -Wall -Wextra $(if $(WERROR),-Werror) -o $@ $< $(TOOL_LIBS)

# Not among the tools: only the test of the alert rules wants it, and can do without.
$(BUILD)/tools/promtool:
	@scripts/unpack-promtool $@

$(BUILD)/tools/frames: TOOL_LIBS = -Icommon $(COMMON_LIB) $(COMMON_LIBS)

# Fuzzers come from common/common.mk; what they need is installed first.
fuzz: deps-fuzz

include common/common.mk

$(BUILD)/tools/frames: $(COMMON_LIB)

# People read what `make demo` prints: no compiler's command lines there, either.
ifeq ($(V),)
.SILENT: $(COMMON_OBJS) $(COMMON_LIB) $(TOOLS)
endif

# Unit tests: those of common/ and of the relay, each plain and with sanitizers.
COMMON_PROGRAMS := $(foreach dir,$(COMMON_BUILD) $(COMMON_ASAN),\
	$(COMMON_UNITS:$(COMMON_ROOT)/tests/unit/%.c=$(dir)/unit/%))
RELAY_UNIT := $(sort $(basename $(notdir $(wildcard tests/unit/relay_*.c))))
UNITS = $(COMMON_PROGRAMS) $(foreach dir,relay relay-address+undefined,\
	$(RELAY_UNIT:%=$(BUILD)/$(dir)/unit/%))

units: deps-test
	$(COMMON_MAKE) -s BUILD=$(BUILD) $(COMMON_PROGRAMS)
	$(RELAY_MAKE) -s unit-build
	$(RELAY_MAKE) -s SANITIZE=address,undefined unit-build

# TESTS: which TAP files.
TESTS ?= $(sort $(wildcard tests/t/*.pl))
SQL_SUITE = --sql pg $(PG_CONFIG) $(BUILD)/stage extension

test test-unit test-sql test-tap: export WERROR := 1

test: deps-test units stage relay sanitized tools $(BUILD)/tools/promtool
	@scripts/run-tests --unit $(UNITS) $(SQL_SUITE) --tap $(TESTS)

test-unit: units stage
	@scripts/run-tests --unit $(UNITS)

test-sql: deps-test stage
	@scripts/run-tests $(SQL_SUITE)

test-tap: deps-test stage relay sanitized tools $(BUILD)/tools/promtool
	@scripts/run-tests --tap $(TESTS)

test-versions: deps-test deps-versions stage relay tools
	@scripts/test-versions

demo: deps-demo stage relay tools
	@demo/run

bench: deps-bench stage relay tools
	@if [ -x bench/run ]; then bench/run; else echo "bench: nothing to run yet"; fi

C_FILES = $(shell git ls-files -co --exclude-standard '*.c' '*.h')

lint: deps-lint
	@scripts/check-banned
	clang-format --dry-run -Werror $(C_FILES)
	@scripts/tidy

indent: deps-lint
	clang-format -i $(C_FILES)

clean:
	-$(EXTENSION_MAKE) clean >/dev/null
	-$(RELAY_MAKE) clean
	rm -rf $(filter-out $(BUILD)/pg17 $(BUILD)/pg18,$(wildcard $(BUILD)/*))
