# vmfi: build, try and test. `make help` lists the targets.

# The guest kernel of the demo and the tests; by default Debian's cloud kernels, downloaded and
# unpacked under target/, not installed.
KERNEL ?=
export KERNEL

# Of the support matrix only the guests with this in their line, as in CELLS='pc, 8 GiB'.
CELLS ?=
export CELLS

# Where `make install` puts things; DESTDIR goes before it, for packages.
PREFIX ?= /usr/local
BIN = $(DESTDIR)$(PREFIX)/bin
LIB = $(DESTDIR)$(PREFIX)/lib/vmfi
SHARE = $(DESTDIR)$(PREFIX)/share
BASH_COMPLETION = $(SHARE)/bash-completion/completions/vmfi
ZSH_COMPLETION = $(SHARE)/zsh/site-functions/_vmfi
FISH_COMPLETION = $(SHARE)/fish/vendor_completions.d/vmfi.fish
MAN = $(SHARE)/man/man1

# Where cargo puts what runs here: .cargo/config.toml.
HOST := $(shell rustc -vV | sed -n 's/^host: //p')

PROGRAM := target/release/vmfi
# Completions and manual pages.
SHELL_FILES := target/shell
WRAPPER := target/guest/wrapper
FIXTURES := target/fixtures/hpccg target/fixtures/holder target/fixtures/holder-pie \
	target/fixtures/holder-noid target/fixtures/holder-noid-other \
	target/fixtures/libown.so.1 target/fixtures/dynamic target/fixtures/dynamic-pie \
	$(foreach version,4 5,target/fixtures/typed/typed-$(version) target/fixtures/typed/spaces-$(version)) \
	target/fixtures/typed/split \
	target/fixtures/pages target/fixtures/namespaces \
	target/fixtures/iterations target/fixtures/iterations-bare target/fixtures/outcomes
KERNELS := target/kernels/bookworm/vmlinuz target/kernels/trixie/vmlinuz
# Those of tests/suite/matrix/axes.rs.
MATRIX_KERNELS := $(patsubst %,target/kernels/%/vmlinuz,bullseye bookworm bookworm-rt trixie sid)
CFLAGS := -O2 -g -std=gnu11 -ffp-contract=off -Wall -Wextra -Werror
CXXFLAGS := -O2 -g -std=gnu++17 -Wall -Wextra -Werror

# Tests that nothing else may run beside.
ALONE := a_loaded_host_makes_no_hangs the_asked_iteration_is_hit

# How many guests the experiments run at once.
JOBS ?= $(shell nproc)

.PHONY: help build install uninstall demo demo-stop test test-full-size test-plain-kernel test-matrix test-slurm \
	table1 table1-small bits false-convergence bench lint setup fixtures clean

help:
	@echo "make build            target/release/vmfi, the link kmem to it, and target/guest/wrapper"
	@echo "make install          all of it, completions and manual pages under PREFIX ($(PREFIX))"
	@echo "make uninstall        remove what make install put there"
	@echo "make demo             boot a guest, inject into the solver, show what came of it"
	@echo "make demo-stop        stop the guest that the demo left running"
	@echo "make test             every test, those on live guests included"
	@echo "make test-full-size   the solver at the paper's size, 100 x 200 x 100"
	@echo "make test-plain-kernel  a kernel without BTF and kallsyms, built here (10 min, 3 GB)"
	@echo "make test-matrix      many kernels, sizes and machine types; writes docs/support-matrix.md (10 min)"
	@echo "make test-slurm       a campaign under a Slurm of its own; installs slurm-wlm and munge (2 min)"
	@echo "make table1           the paper's experiment, by experiments/table1.toml (1 h)"
	@echo "make table1-small     the same on a small grid, by experiments/table1-small.toml (1 min)"
	@echo "make bits             which bits of a double matter, by experiments/bits.toml (30 min)"
	@echo "make false-convergence  what the printed residual hides, by experiments/false-convergence.toml (3 min)"
	@echo "JOBS=N                of these: so many guests at once"
	@echo "make bench            times of commands, guests and trials"
	@echo "make lint             formatting and clippy"
	@echo "KERNEL=PATH           use this guest kernel"

build: $(WRAPPER)
	cargo build --release --locked
	@mkdir -p target/release
	@ln -f target/$(HOST)/release/vmfi $(PROGRAM)
	@ln -sf vmfi target/release/kmem

# Cargo knows best what is up to date; the copy changes only when the wrapper does.
.PHONY: FORCE
$(WRAPPER): FORCE
	@cargo build --quiet --release --locked --manifest-path guest-wrapper/Cargo.toml --target-dir target/guest-build
	@mkdir -p $(@D)
	@cmp -s target/guest-build/$(HOST)/release/wrapper $@ || cp target/guest-build/$(HOST)/release/wrapper $@

install: build
	@rm -rf $(SHELL_FILES) && mkdir -p $(SHELL_FILES)
	@for shell in bash zsh fish; do $(PROGRAM) shell completions $$shell >$(SHELL_FILES)/$$shell || exit; done
	@$(PROGRAM) shell man $(SHELL_FILES)
	install -D -t '$(BIN)' $(PROGRAM)
	ln -sf vmfi '$(BIN)/kmem'
	install -D -t '$(LIB)' $(WRAPPER)
	install -D -m 644 $(SHELL_FILES)/bash '$(BASH_COMPLETION)'
	install -D -m 644 $(SHELL_FILES)/zsh '$(ZSH_COMPLETION)'
	install -D -m 644 $(SHELL_FILES)/fish '$(FISH_COMPLETION)'
	install -D -m 644 -t '$(MAN)' $(SHELL_FILES)/*.1

uninstall:
	rm -f '$(BIN)/vmfi' '$(BIN)/kmem' '$(LIB)/wrapper' '$(MAN)'/vmfi.1 '$(MAN)'/vmfi-*.1 '$(MAN)'/kmem.1
	rm -f '$(BASH_COMPLETION)' '$(ZSH_COMPLETION)' '$(FISH_COMPLETION)'
	rmdir '$(LIB)' 2>/dev/null || true

fixtures: $(FIXTURES)

target/fixtures/hpccg: fixtures/hpccg/hpccg.c
	@mkdir -p $(@D)
	$(CC) $(CFLAGS) -static -o $@ $< -lm

target/fixtures/holder: fixtures/holder/holder.c fixtures/holder/other.c
	@mkdir -p $(@D)
	$(CC) $(CFLAGS) -static -o $@ $^

target/fixtures/holder-pie: fixtures/holder/holder.c fixtures/holder/other.c
	@mkdir -p $(@D)
	$(CC) $(CFLAGS) -static-pie -fPIE -o $@ $^

# Without a build-id, and another program that differs in its text only.
target/fixtures/holder-noid target/fixtures/holder-noid-other: fixtures/holder/holder.c fixtures/holder/other.c
	@mkdir -p $(@D)
	$(CC) $(CFLAGS) $(if $(findstring other,$@),-DUNUSED_TEXT) -static -Wl,--build-id=none -o $@ $^

target/fixtures/pages: fixtures/pages/pages.c
	@mkdir -p $(@D)
	$(CC) $(CFLAGS) -static -o $@ $<

target/fixtures/iterations: fixtures/iterations/iterations.c
	@mkdir -p $(@D)
	$(CC) $(CFLAGS) -static -o $@ $<

target/fixtures/outcomes: fixtures/outcomes/outcomes.c
	@mkdir -p $(@D)
	$(CC) $(CFLAGS) -static -o $@ $<

# Without types.
target/fixtures/iterations-bare: target/fixtures/iterations
	strip -g -o $@ $<

target/fixtures/namespaces: fixtures/namespaces/namespaces.cpp | cxx
	@mkdir -p $(@D)
	$(CXX) $(CXXFLAGS) -static -o $@ $<

target/fixtures/libown.so.1: fixtures/dynamic/own.c fixtures/dynamic/own.h fixtures/dynamic/own.map
	@mkdir -p $(@D)
	$(CC) $(CFLAGS) -shared -fPIC -Wl,-soname,$(@F) -Wl,--version-script=fixtures/dynamic/own.map -o $@ $<

# At fixed addresses the variables that it uses of its libraries are moved into it; else they stay.
target/fixtures/dynamic: PIE := -no-pie -fno-pie
target/fixtures/dynamic-pie: PIE := -pie -fPIC
target/fixtures/dynamic target/fixtures/dynamic-pie: fixtures/dynamic/dynamic.c target/fixtures/libown.so.1
	@mkdir -p $(@D)
	$(CC) $(CFLAGS) $(PIE) -o $@ $^ -lm -Wl,-rpath,'$$ORIGIN'

# In each version of DWARF that is in use; the C++ one is loaded anywhere, and 5 is compressed.
target/fixtures/typed/typed-%: fixtures/typed/typed.c
	@mkdir -p $(@D)
	$(CC) $(CFLAGS) -gdwarf-$* -static -o $@ $<

target/fixtures/typed/spaces-%: fixtures/typed/spaces.cc | cxx
	@mkdir -p $(@D)
	$(CXX) -O2 -g -gdwarf-$* $(if $(filter 5,$*),-gz) -Wall -Wextra -Werror -static-pie -fPIE -o $@ $<

# Its types are in a file of their own.
target/fixtures/typed/split: fixtures/typed/typed.c
	@mkdir -p $(@D)
	$(CC) $(CFLAGS) -gsplit-dwarf -static -o $@ $<

# A test reads tables with pandas, as users do.
.PHONY: pandas
pandas:
	@scripts/setup.sh python3-pandas

# Some victims are in C++.
.PHONY: cxx
cxx:
	@command -v $(CXX) >/dev/null || scripts/setup.sh g++

# The report's page is looked at in a browser.
.PHONY: chromium
chromium:
	@command -v chromium >/dev/null || scripts/setup.sh chromium

setup:
	@scripts/setup.sh

target/kernels/%/vmlinuz: | setup
	@scripts/kernel.sh $*

demo: setup build target/fixtures/hpccg $(if $(KERNEL),,target/kernels/bookworm/vmlinuz)
	@cargo run --quiet --release --locked --example demo

demo-stop:
	@cargo run --quiet --release --locked --example demo -- stop

test: setup chromium pandas lint build $(FIXTURES) $(if $(KERNEL),,$(KERNELS))
	cargo test --release --locked
	@# Those that load the host, or need it to themselves.
	cargo test --release --locked --test suite -- --ignored --test-threads 1 $(ALONE)

test-full-size: target/fixtures/hpccg
	target/fixtures/hpccg 100 200 100 | tee target/full-size.txt
	grep -qx 'Number of iterations: 74' target/full-size.txt
	grep -qx 'Final residual: 8.97885e-08' target/full-size.txt

test-plain-kernel: setup build $(FIXTURES)
	scripts/plain-kernel.sh
	cargo test --release --locked --test suite plain_kernel -- --ignored

test-matrix: setup build $(FIXTURES) $(MATRIX_KERNELS)
	cargo test --release --locked --test suite -- --ignored --nocapture support_matrix on_other_kernels

test-slurm: setup build target/fixtures/hpccg target/kernels/bookworm/vmlinuz
	tests/slurm.sh

# The shipped experiments: each goes on where it was ended, and ends with its page. A store that is
# to be made anew must be removed by hand: it may be hours of work.
EXPERIMENTS := table1 table1-small bits false-convergence
$(EXPERIMENTS): setup build target/fixtures/hpccg target/kernels/bookworm/vmlinuz
	$(PROGRAM) campaign run experiments/$@.toml --store target/$@.db -j $(JOBS)
	$(PROGRAM) report target/$@.db --html target/$@.html

target/bench/peer: benches/peer.c
	@mkdir -p $(@D)
	$(CC) $(CFLAGS) -o $@ $<

bench: setup build target/fixtures/holder target/fixtures/hpccg target/fixtures/iterations target/bench/peer $(if $(KERNEL),,target/kernels/bookworm/vmlinuz)
	@cargo bench --quiet --locked --bench commands --bench machines

lint:
	cargo fmt --all --check
	cargo fmt --check --manifest-path guest-wrapper/Cargo.toml
	cargo clippy --release --locked --all-targets -- -D warnings
	cargo clippy --release --locked --manifest-path guest-wrapper/Cargo.toml --target-dir target/guest-build -- -D warnings

clean:
	cargo clean
