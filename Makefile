# Everything a person runs. `make help` lists it.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

# Where downloads and CI's builds live, outside the clone.
GUARDIAN_CACHE ?= $(HOME)/.cache/guardian
# PostgreSQL's own user must get there, and it cannot get into root's home.
GUARDIAN_PG_MATRIX ?= $(if $(filter 0,$(shell id -u)),/var/cache/guardian/postgres,$(GUARDIAN_CACHE)/postgres)
export GUARDIAN_CACHE GUARDIAN_PG_MATRIX

# A faster linker where there is one.
CARGO := $(if $(shell command -v mold),mold -run cargo,cargo)
HAS_NEXTEST := $(shell cargo nextest --version 2>/dev/null)
TARGET := $(or $(CARGO_TARGET_DIR),target)

.PHONY: help demo test lint generate matrix test-matrix drivers drivers-full bench-postgres bench-audit bench-control bench-sql-gateway bench-fleet tools

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-16s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: tools ## Build, start Guardian on a PostgreSQL of its own, and try to break into a neighbour's data
	@scripts/install-postgres.sh
	@echo "Building guardian (the first time takes a few minutes)"
	@$(CARGO) build --package guardian
	@GUARDIAN_BIN=$(abspath $(TARGET))/debug/guardian examples/helpdesk/demo.sh

test: tools ## Run every test
	@scripts/install-postgres.sh
	$(CARGO) build --workspace --bins
ifneq ($(HAS_NEXTEST),)
	$(CARGO) nextest run --workspace --no-run
	cargo nextest run --workspace
else
	$(CARGO) test --workspace --no-run
	cargo test --workspace
endif

lint: tools ## Check the format, and let no warning through
	cargo fmt --all --check
	$(CARGO) clippy --workspace --all-targets -- --deny warnings

generate: tools ## Write the generated files anew: the API, the schema of guardian.toml, docs/cli.md, docs/rules
	$(CARGO) run --quiet --package guardian -- generate

matrix: ## Fetch PostgreSQL 13, 14 and 18, so that the tests run on them too
	@scripts/fetch-matrix.sh "$(GUARDIAN_PG_MATRIX)"

test-matrix: tools ## Run every case of the audit's rules on PostgreSQL 13, 14 and 18
	@scripts/fetch-matrix.sh "$(GUARDIAN_PG_MATRIX)"
	for major in 13 14 18; do GUARDIAN_TEST_POSTGRES=$$major cargo test --package guardian-audit --test rules || exit 1; done

drivers: ## Fetch client drivers and their own test suites, so that the tests run them through the gateway
	@scripts/fetch-drivers.sh "$(GUARDIAN_CACHE)/drivers"

drivers-full: tools ## Run the drivers' test suites through the gateway, those included that take minutes
	@scripts/fetch-drivers.sh "$(GUARDIAN_CACHE)/drivers" || true
	$(CARGO) build --package guardian
	$(CARGO) nextest run --package guardian-tests --test drivers --run-ignored all --no-capture

bench-postgres: tools ## Measure what the tenant context costs a statement
	@scripts/install-postgres.sh
	$(CARGO) run --release --package guardian-bench --bin postgres

bench-audit: tools ## Hold the auditor to a flawed schema, and to 309 mutations of the hardened helpdesk
	@scripts/install-postgres.sh
	$(CARGO) test --release --package guardian-audit --test flawed -- --nocapture
	GUARDIAN_MUTATIONS=309 $(CARGO) test --release --package guardian-audit --test mutations -- --nocapture
	@scripts/install-pgrls.sh
	$(CARGO) build --release --package guardian --package guardian-bench
	$(TARGET)/release/audit

bench-control: tools ## Measure the control plane
	@scripts/install-postgres.sh
	$(CARGO) build --release --package guardian --package guardian-bench
	$(TARGET)/release/control

bench-sql-gateway: tools ## Measure the SQL gateway beside PgBouncer, a bare relay and direct connections
	@scripts/install-postgres.sh
	@scripts/install-pgbouncer.sh
	$(CARGO) build --release --package guardian --package guardian-bench
	$(TARGET)/release/sql_gateway

bench-fleet: tools ## Measure what many tenants take: prepared databases, fleet migrations, imports, adoption
	@scripts/install-postgres.sh
	$(CARGO) build --release --package guardian --package guardian-bench
	$(TARGET)/release/fleet

tools:
	@command -v cargo > /dev/null || { echo "There is no Rust toolchain; get one from https://rustup.rs" >&2; exit 1; }
