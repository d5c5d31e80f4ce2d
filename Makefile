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

EXTENSION_MAKE = $(MAKE) -C extension PG_CONFIG=$(PG_CONFIG) with_llvm=no
RELAY_MAKE = $(MAKE) -C relay

.DEFAULT_GOAL := all
.PHONY: all help extension relay stage tools install uninstall deps test test-unit test-sql test-tap \
	test-versions bench demo lint indent fuzz clean

all: extension relay

help:
	@sed -n 's/^## //p' $(firstword $(MAKEFILE_LIST))

## make              builds the extension (PG_CONFIG=...) and the program build/pg_tide
## make install      installs them (PREFIX=/usr/local DESTDIR=)
## make demo         two regions, the tutorial, a partition (DEMO_FORM=hub, DEMO_KEEP=1)
## make test         every test, against real servers
## make test-versions  the extension's tests on PostgreSQL 17 and 18
## make bench        measures
## make lint         format, clang-tidy, forbidden functions; make indent reformats
## make fuzz         fuzzes common/ (FUZZ_SECONDS=30)
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

install: all
	$(EXTENSION_MAKE) install DESTDIR=$(DESTDIR)
	install -D -m 755 $(BUILD)/pg_tide $(DESTDIR)$(PREFIX)/bin/pg_tide

uninstall: deps-build
	$(EXTENSION_MAKE) uninstall DESTDIR=$(DESTDIR)
	rm -f $(DESTDIR)$(PREFIX)/bin/pg_tide

# The extension as tests and demo use it: installed under build/stage, not in the system.
stage: extension
	@$(EXTENSION_MAKE) -s install DESTDIR=$(BUILD)/stage >/dev/null

clean:
	-$(EXTENSION_MAKE) clean
	-$(RELAY_MAKE) clean
	rm -rf $(filter-out $(BUILD)/pg17 $(BUILD)/pg18,$(wildcard $(BUILD)/*))
