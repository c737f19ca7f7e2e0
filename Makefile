# SwiftSAF. `make help` says what there is.
#
#   KILLS=n SEED=n INPUT=file   for `make demo` and `make demo-cluster`
#   PREFIX=dir DESTDIR=dir      for `make install` and `make install-libraries`
#   LIBRARIES=embedded|static   how the C libraries are built: in Embedded Swift, or with the Swift runtime inside

SHELL := /bin/sh
SWIFT ?= swift
PREFIX ?= /usr/local
KILLS ?=
SEED ?=
INPUT ?=
DEMO_OPTIONS = $(if $(KILLS),--kills $(KILLS)) $(if $(SEED),--seed $(SEED)) $(if $(INPUT),--input "$(INPUT)")
# The Swift runtime inside each program: they start three times faster and need nothing on the target.
RELEASE := -c release --static-swift-stdlib
DAEMONS := amfd clmd logd ckptd eventd cliserver
EXAMPLES := hello wordcount
PROGRAMS := $(DAEMONS) saf $(EXAMPLES)
# Where each shell looks for them, under share/.
COMPLETIONS := bash-completion/completions/saf zsh/site-functions/_saf fish/vendor_completions.d/saf.fish
completion_shell = $(patsubst bash-completion,bash,$(firstword $(subst /, ,$(1))))
MICROBENCH := Benchmarks/.build/release/microbench
# Where systemd looks for what the administrator installed, when PREFIX is /usr/local.
UNITS = $(PREFIX)/lib/systemd/system
# What install may have made, the inner ones first.
FOLDERS := lib/systemd/system lib/systemd lib/pkgconfig share/man/man1 share/man/man8 $(patsubst %,share/%,\
	bash-completion/completions bash-completion zsh/site-functions zsh fish/vendor_completions.d fish)
# Those are there anyway in /usr and /usr/local.
OWN_FOLDERS = share/man share lib bin include "$(DESTDIR)$(PREFIX)"
# The C libraries. Programs that were linked with openais ask for libSaCkpt.so.2 or .so.3.
LIBRARIES ?= embedded
LIBRARIES_BUILD := .build/libraries$(if $(filter-out embedded,$(LIBRARIES)),-$(LIBRARIES))
# Small: all rooms are optimised together when they are linked; no debug information, and no tables for unwinding.
LIBRARIES_FLAGS = $(if $(filter embedded,$(LIBRARIES)),--experimental-lto-mode full -debug-info-format none)
VERSION := 0.1.0
CKPT_LIBRARY := libSaCkpt.so.1.1.0
CKPT_LINKS := libSaCkpt.so libSaCkpt.so.1 libSaCkpt.so.2 libSaCkpt.so.3
LIBRARY_LIBRARY := libSafCkptLibrary.so.1.0.0
LIBRARY_LINKS := libSafCkptLibrary.so libSafCkptLibrary.so.1
PACKAGES := saf-ckpt saf-ckpt-library
HEADERS := saAis.h saCkpt.h safCkpt.h safCkptLibrary.h
RELEASE_DIR = $(shell $(SWIFT) build $(RELEASE) --show-bin-path)

.PHONY: help prepare prepare-tests prepare-bench build release demo demo-cluster test check lint bench bench-cluster \
	bench-micro bench-build libraries install install-libraries uninstall clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-18s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

prepare:
	@deploy/setup/prepare

prepare-tests:
	@deploy/setup/prepare tests

prepare-bench:
	@deploy/setup/prepare bench

build: prepare ## debug build of everything
	$(SWIFT) build

release: prepare ## release build of everything
	@echo 'Building SwiftSAF (release). The first build takes a few minutes.'
	$(SWIFT) build $(RELEASE)

demo: release ## a word count that is killed again and again, and is right to the last word
	@"$(RELEASE_DIR)/demo" $(DEMO_OPTIONS)

demo-cluster: prepare-tests release ## the same on three nodes that are killed, cut off and frozen; as root
	@"$(RELEASE_DIR)/demo" --cluster $(DEMO_OPTIONS)

test: prepare-tests lint ## everything: layout, unit, wire, spec, property, simulation, process, demo
	$(SWIFT) build --build-tests
	SWIFT_BACKTRACE=enable=no $(SWIFT) test --skip-build --disable-xctest --no-parallel

check: prepare lint ## the fast part: layout, build, tidy, engines, single daemons (no whole nodes, clusters or C)
	$(SWIFT) build --build-tests
	SWIFT_BACKTRACE=enable=no $(SWIFT) test --skip-build --disable-xctest --skip "ProcessTests|ClusterTests|CApiTests"

lint: ## layout by swift-format
	$(SWIFT) format lint --strict --recursive --parallel Sources Tests deploy Benchmarks Package.swift

bench: release bench-build ## measure this machine: saf bench, then single types
	@"$(RELEASE_DIR)/saf" bench; status=$$?; "$(MICROBENCH)" && exit $$status

bench-cluster: prepare-bench release ## measure several nodes, in a lab on this machine (as root)
	@"$(RELEASE_DIR)/saf" bench cluster

bench-micro: bench-build ## single types beside their peers and floors
	@"$(MICROBENCH)"

bench-build: prepare
	$(SWIFT) build --package-path Benchmarks -c release

libraries: prepare ## the C libraries alone: libSaCkpt and libSafCkptLibrary
	SAF_LIBRARIES=$(LIBRARIES) $(SWIFT) build -c release --scratch-path $(LIBRARIES_BUILD) $(LIBRARIES_FLAGS)

install-libraries: libraries ## install the C libraries with headers and pkg-config files, nothing else
	install -d "$(DESTDIR)$(PREFIX)/lib/pkgconfig" "$(DESTDIR)$(PREFIX)/include/swiftsaf"
	install -m 0644 $(addprefix Sources/SAF/Headers/,$(HEADERS)) "$(DESTDIR)$(PREFIX)/include/swiftsaf/"
	install -m 0755 -s $(LIBRARIES_BUILD)/release/libSaCkpt.so "$(DESTDIR)$(PREFIX)/lib/$(CKPT_LIBRARY)"
	for link in $(CKPT_LINKS); do ln -sf $(CKPT_LIBRARY) "$(DESTDIR)$(PREFIX)/lib/$$link"; done
	install -m 0755 -s $(LIBRARIES_BUILD)/release/libSafCkptLibrary.so "$(DESTDIR)$(PREFIX)/lib/$(LIBRARY_LIBRARY)"
	for link in $(LIBRARY_LINKS); do ln -sf $(LIBRARY_LIBRARY) "$(DESTDIR)$(PREFIX)/lib/$$link"; done
	for package in $(PACKAGES); do sed -e 's|@PREFIX@|$(PREFIX)|' -e 's|@VERSION@|$(VERSION)|' \
		deploy/pkgconfig/$$package.pc.in > "$(DESTDIR)$(PREFIX)/lib/pkgconfig/$$package.pc" || exit 1; done

install: release install-libraries ## install into $(DESTDIR)$(PREFIX)
	install -d "$(DESTDIR)$(PREFIX)/lib/swiftsaf" "$(DESTDIR)$(PREFIX)/bin" "$(DESTDIR)$(PREFIX)/share/swiftsaf"
	for program in $(PROGRAMS); do install -m 0755 "$(RELEASE_DIR)/$$program" "$(DESTDIR)$(PREFIX)/lib/swiftsaf/"; done
	ln -sf ../lib/swiftsaf/saf "$(DESTDIR)$(PREFIX)/bin/saf"
	ln -sf ../lib/swiftsaf/amfd "$(DESTDIR)$(PREFIX)/bin/amfd"
	cp -R deploy/examples deploy/sysctl "$(DESTDIR)$(PREFIX)/share/swiftsaf/"
	install -m 0644 Sources/saf/Config/README.md "$(DESTDIR)$(PREFIX)/share/swiftsaf/configuration.md"
	install -d "$(DESTDIR)$(UNITS)"
	sed -e 's|@PREFIX@|$(PREFIX)|' deploy/systemd/swiftsaf.service.in > "$(DESTDIR)$(UNITS)/swiftsaf.service"
	deploy/man/generate "$(DESTDIR)$(PREFIX)/lib/swiftsaf" "$(DESTDIR)$(PREFIX)/share/man" $(VERSION)
	install -d $(foreach file,$(COMPLETIONS),"$(DESTDIR)$(PREFIX)/share/$(dir $(file))")
	$(foreach file,$(COMPLETIONS),"$(DESTDIR)$(PREFIX)/lib/swiftsaf/saf" --generate-completion-script $(call completion_shell,$(file)) \
		> "$(DESTDIR)$(PREFIX)/share/$(file)" &&) true

uninstall: ## remove what install put there
	rm -rf "$(DESTDIR)$(PREFIX)/lib/swiftsaf" "$(DESTDIR)$(PREFIX)/share/swiftsaf"
	rm -f "$(DESTDIR)$(PREFIX)/bin/saf" "$(DESTDIR)$(PREFIX)/bin/amfd"
	rm -rf "$(DESTDIR)$(PREFIX)/include/swiftsaf"
	rm -f "$(DESTDIR)$(UNITS)/swiftsaf.service"
	rm -f $(foreach file,$(PACKAGES:%=pkgconfig/%.pc) $(CKPT_LIBRARY) $(CKPT_LINKS) \
		$(LIBRARY_LIBRARY) $(LIBRARY_LINKS),"$(DESTDIR)$(PREFIX)/lib/$(file)")
	rm -f "$(DESTDIR)$(PREFIX)"/share/man/man1/saf.1 "$(DESTDIR)$(PREFIX)"/share/man/man1/saf-*.1 \
		"$(DESTDIR)$(PREFIX)"/share/man/man8/amfd.8
	rm -f $(foreach file,$(COMPLETIONS),"$(DESTDIR)$(PREFIX)/share/$(file)")
	@cd "$(DESTDIR)$(PREFIX)" && rmdir $(FOLDERS) $(if $(filter /usr /usr/local,$(PREFIX)),,$(OWN_FOLDERS)) 2>/dev/null \
		|| true  # those that are empty now

clean: ## remove what was built
	rm -rf .build Benchmarks/.build
