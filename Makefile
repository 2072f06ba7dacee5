# The two commands of README: `make demo` and `make test`. Both set up what they need in .venv from locked, hashed lists.
SHELL := /bin/bash
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
REQUIREMENTS := ops/requirements
# One more than two cores: much of the time tests wait, for speech, for processes and for servers. Those that are timed
# against limits run in a row in one worker.
TEST_WORKERS ?= 3

.PHONY: help demo engines test check lint types contracts unit coverage matrix chaos bench nats images compose-test hadolint push dist release-notes documents format clean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):[^#]*## /  make \1\t/' | expand -t 22

demo: $(VENV)/.runtime ## a scripted caller calls the bank's agent over real SIP; ends with the call's transcript and figures
	$(BIN)/callbus demo

# After `bench` the names of benches are no targets: `make bench engines` measures the engines and installs none.
BENCHES := hop turn capacity vad barge_in endpointing engines processes observability
ifeq ($(firstword $(MAKECMDGOALS)),bench)
BENCH := $(or $(BENCH),$(filter $(BENCHES),$(MAKECMDGOALS)))
.PHONY: $(BENCHES)
$(BENCHES): ; @:
else
engines: $(VENV)/.engines ## install every engine; llama.cpp is compiled, which takes minutes (cmake, a C++ compiler)
endif

test: check unit ## everything that CI runs

check: lint types contracts ## ruff, mypy strict, import contracts

lint: $(VENV)/.development ## ruff: style and format
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.development ## mypy, strict
	$(BIN)/mypy

contracts: $(VENV)/.development ## who may import whom
	$(BIN)/lint-imports

# Tests start hundreds of processes. Where PYTHONDONTWRITEBYTECODE is set, each of them compiles all that it imports: more
# than half of the time in which it starts. What is compiled lies outside the source, and goes with the environment.
unit coverage matrix chaos compose-test: export PYTHONDONTWRITEBYTECODE :=
unit coverage matrix chaos compose-test: export PYTHONPYCACHEPREFIX := $(CURDIR)/$(VENV)/compiled

# Of tests that were named a part may hold none (pytest's exit code 5).
tried = $(BIN)/pytest -q $(1) $(PYTEST) || [ "$$?$(if $(PYTEST), of those named)" = "5 of those named" ] || $(BIN)/python .ci/again.py

unit: $(VENV)/.development ## all tests: rooms, then whole processes and real peers, those timed against limits in a row
	rm -f .pytest_cache/v/cache/lastfailed
	$(call tried,-n $(TEST_WORKERS) -m "not e2e")
	$(call tried,-m "e2e and alone")
	$(call tried,-n $(TEST_WORKERS) --dist loadgroup -m "e2e and not alone" --durations=10)

coverage: $(VENV)/.development ## lines of bus, schemas, edge and services that the tests run
	$(BIN)/pytest -q -n $(TEST_WORKERS) -m "not e2e" --cov --cov-report=term --cov-fail-under=90 $(PYTEST)

matrix: $(VENV)/.development ## a call with each combination of engines, half an hour; the table in bench-results/matrix.md
	CALLBUS_TEST_MATRIX=all $(BIN)/pytest -v tests/e2e/test_matrix.py $(PYTEST)

chaos: $(VENV)/.development ## calls in which providers fail in every way, four minutes; the table in bench-results/chaos.md
	CALLBUS_TEST_CHAOS=all $(BIN)/pytest -v tests/e2e/test_chaos.py $(PYTEST)

bench: $(VENV)/.development ## measure everything, or what is named: make bench engines; results in bench-results/
	$(BIN)/callbus bench $(BENCH)

nats: $(VENV)/tools/nats ## build the nats command line, with which docs/inspect.md is tested (needs Go)

images: ## build the images of every service (docs/compose.md)
	@ops/docker/base-images || echo "callbus: a base image that is not here is pulled"
	CALLBUS_REVISION=$$(git rev-parse HEAD) docker compose --profile tools build

compose-test: $(VENV)/.development ## docker compose with real containers: calls, rights, ports, secrets, hot reload; five minutes
	rm -f .pytest_cache/v/cache/lastfailed
	CALLBUS_TEST_DOCKER=1 $(BIN)/pytest -v tests/e2e/test_compose.py tests/e2e/test_compose_dev.py $(PYTEST) || \
		CALLBUS_TEST_DOCKER=1 $(BIN)/python .ci/again.py

hadolint: $(VENV)/.development ## the Dockerfile's style
	$(BIN)/hadolint Dockerfile

push: ## push the images of `make images`: make push REGISTRY=registry.example.org/team
	@test -n "$(REGISTRY)" || { echo "callbus: say where to: make push REGISTRY=registry.example.org/team"; exit 1; }
	docker compose --profile tools config --images | grep '^callbus/' | sort -u | while read -r image; do \
		docker tag "$$image" "$(REGISTRY)/$$image" && docker push "$(REGISTRY)/$$image" || exit 1; done

dist: $(VENV)/.runtime ## wheel and source archive, in dist/
	$(BIN)/uv build --python $(BIN)/python --no-build-isolation --out-dir dist

release-notes: ## what CHANGELOG.md says of a version, which must be that of pyproject.toml: make release-notes VERSION=0.1.0
	@grep -qx 'version = "$(VERSION)"' pyproject.toml || { echo "callbus: pyproject.toml has another version than '$(VERSION)'" >&2; exit 1; }
	@awk -v head="## $(VERSION)" '/^## /{ on = index($$0, head) == 1; next } on' CHANGELOG.md | grep . || \
		{ echo "callbus: CHANGELOG.md says nothing of $(VERSION)" >&2; exit 1; }

documents: $(VENV)/.development ## make the generated documents anew
	$(BIN)/callbus schema --asyncapi > docs/asyncapi.json
	$(BIN)/callbus schema --turn-machine > docs/turn-machine.md
	$(BIN)/callbus schema --subjects > docs/subjects.md
	$(BIN)/callbus schema --metrics > docs/metrics.md
	$(BIN)/callbus schema --logs > docs/log-schema.json
	$(BIN)/callbus config document > docs/configuration.md
	$(BIN)/callbus config sample > config/app.ini.new && mv config/app.ini.new config/app.ini
	$(BIN)/python -m ops.dashboards

format: $(VENV)/.development ## let ruff write its format
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean: ## remove the environment and everything made
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis bench-results build dist *.egg-info

$(VENV)/.bootstrap: $(REQUIREMENTS)/bootstrap.txt
	@echo "callbus: making $(VENV) with $(PYTHON)"
	@test -n "$(PYTHON)" || { echo "callbus: needs Python 3.11 or newer on the PATH, or make PYTHON=/path/to/python3.11"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r $<
	@touch $@

$(VENV)/.runtime: $(VENV)/.bootstrap $(REQUIREMENTS)/runtime.txt pyproject.toml
	$(BIN)/uv pip install --quiet --python $(BIN)/python --require-hashes -r $(REQUIREMENTS)/runtime.txt
	$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation -e .
	@touch $@

$(VENV)/.engines: $(VENV)/.runtime $(REQUIREMENTS)/engines.txt
	@echo "callbus: installing every engine; llama.cpp is compiled for this processor: 4 to 8 minutes on two cores"
	@command -v c++ >/dev/null || { echo "callbus: needs a C++ compiler: apt-get install g++"; exit 1; }
	CMAKE_BUILD_PARALLEL_LEVEL=$$(nproc) CMAKE_ARGS="-DLLAVA_BUILD=OFF $(CMAKE_ARGS)" \
		$(BIN)/uv pip install --quiet --python $(BIN)/python --require-hashes -r $(REQUIREMENTS)/engines.txt
	@touch $@

$(VENV)/.development: $(VENV)/.runtime $(REQUIREMENTS)/development.txt
	$(BIN)/uv pip install --quiet --python $(BIN)/python --require-hashes -r $(REQUIREMENTS)/development.txt
	@touch $@

# Every module by its hash in go.sum; no list of versions is asked for.
$(VENV)/tools/nats: ops/natscli/go.mod ops/natscli/go.sum
	@command -v go >/dev/null || { echo "callbus: needs Go 1.24 or newer to build the nats command line"; exit 1; }
	@mkdir -p $(@D)
	cd ops/natscli && go build -mod=readonly -trimpath -o ../../$@ github.com/nats-io/natscli/nats
