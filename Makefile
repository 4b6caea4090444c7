# make build | install | serve | python | library | wheel | test | check | docs | deb | sbom | clean.  MODEL=, PORT=
# and ARGS= are for serve, PREFIX=, DESTDIR=, VLLM_NAME=1, SERVICE=1 and LIBRARY=1 (after `make library`) for install.
SHELL := /bin/bash
MODEL ?=
PORT ?= 8000
ARGS ?=
PREFIX ?= /usr/local
VLLM_NAME ?=
SERVICE ?=
LIBRARY ?=
# ON: with the machine's own MPI (docs/ranks.md).
MPI ?= OFF
JOBS ?= $(shell nproc)
# ON: sources eight at a time (docs/building.md).
UNITY ?= OFF

.PHONY: build install package-build deb sbom reproducible serve python library wheel docs test check unit-test http-test stress asan tsan fuzz benchmarks clients deps deps-test deps-check deps-package deps-arm deps-kubernetes arm-test clean

# The release program, build/release/tiercel. It needs nothing of the source tree at run time, and
# nothing of the tests to build.
build: deps
	@cmake --preset release -DTIERCEL_UNITY_BUILD=$(UNITY) -DTIERCEL_BUILD_TESTS=OFF -DTIERCEL_MPI=$(MPI) >build/configure.log || { cat build/configure.log; exit 1; }
	cmake --build build/release --target tiercel -j $(JOBS)

# The program, its documents, man pages and completions. SERVICE=1: also units for systemd and
# /etc/tiercel. VLLM_NAME=1: also as PREFIX/bin/vllm, for what runs `vllm serve …` by that name.
install: build
	cmake --install build/release --prefix "$(PREFIX)" --component tiercel
ifneq ($(SERVICE),)
	cmake --install build/release --prefix "$(PREFIX)" --component service
endif
ifneq ($(VLLM_NAME),)
	cmake --install build/release --prefix "$(PREFIX)" --component vllm_name
endif
ifneq ($(LIBRARY),)
	cmake --install build/release --prefix "$(PREFIX)" --component library --strip
endif

# What packages are made of: the same sources give the same bytes, in any folder (docs/packaging.md).
package-build: deps
	@cmake --preset package >build/configure.log || { cat build/configure.log; exit 1; }
	cmake --build build/package --target tiercel -j $(JOBS)

deb: deps-package package-build
	scripts/make_deb.sh build/package

sbom: package-build
	scripts/sbom.py build/package/tiercel >build/package/tiercel.cdx.json

# Builds the committed sources in two folders; takes two whole builds.
reproducible: deps
	scripts/check_reproducible.sh

serve: build
	@scripts/serve.sh "$(MODEL)" "$(PORT)" $(ARGS)

# The Python package with the program, in build/venv. Its objects are position-independent, so the tests and
# the C library are built of the same ones.
WITH_PYTHON = -DTIERCEL_BUILD_PYTHON=ON -DTIERCEL_BUILD_LIBRARY=ON -DPython_EXECUTABLE=$(CURDIR)/build/venv/bin/python
python: deps deps-test
	@scripts/make_venv.sh
	@cmake --preset release -DTIERCEL_UNITY_BUILD=$(UNITY) $(WITH_PYTHON) >build/configure.log || { cat build/configure.log; exit 1; }
	cmake --build build/release --target tiercel tiercel_python -j $(JOBS)
	@cmake --install build/release --component python --strip >/dev/null --prefix \
	  "$$(build/venv/bin/python -c 'import sysconfig; print(sysconfig.get_path("platlib"))')"

# libtiercel, for programs in C: docs/library.md.
library: deps
	@cmake --preset release -DTIERCEL_UNITY_BUILD=$(UNITY) -DTIERCEL_BUILD_LIBRARY=ON >build/configure.log || { cat build/configure.log; exit 1; }
	cmake --build build/release --target tiercel libtiercel -j $(JOBS)

# The package as a wheel in build/wheels, with what it needs of this system: docs/packaging.md.
wheel: deps deps-test
	@scripts/make_wheel.sh

test: unit-test http-test

unit-test: deps-test
	@scripts/make_venv.sh
	cmake --preset release -DTIERCEL_UNITY_BUILD=$(UNITY) -DTIERCEL_BUILD_TESTS=ON -DTIERCEL_MPI=ON $(WITH_PYTHON) >build/configure.log || { cat build/configure.log; exit 1; }
	cmake --build build/release -j $(JOBS)
	ctest --test-dir build/release --output-on-failure -j $(JOBS)

# Python tests against a real server with the real clients, and of the Python package and the C library. Of two cores
# servers and clients leave half unused: three files at a time.
http-test: python library
	TIERCEL_BINARY=$(CURDIR)/build/release/tiercel build/venv/bin/python -m pytest -q -rs -n 3 --dist loadfile \
	  $(wildcard tests/http) tests/cli
	TIERCEL_BINARY=$(CURDIR)/build/release/tiercel build/venv/bin/python -m pytest -q -rs tests/python

# Real clients of PyPI and npm against the program, some of them large: the table of docs/clients.md.
clients: build
	python3 tests/clients/run.py $(CLIENTS)

# What the program bears: a minute of load, connections and hard ends. Longer by hand, without --short.
STRESS ?= soak bodies connections endings
stress: build
	python3 tests/stress/stress.py --short $(STRESS)

check: docs benchmarks stress asan tsan fuzz

# Memory and undefined behavior, with clang: its build has the fuzzers, too.
asan: deps-check
	cmake --preset asan-ubsan >build/configure.log || { cat build/configure.log; exit 1; }
	cmake --build build/asan-ubsan --target unit_tests -j $(JOBS)
	ctest --test-dir build/asan-ubsan --output-on-failure -j $(JOBS)

# Only the tests of threaded code: they carry the label "threads".
tsan: deps-test
	cmake --preset tsan >build/configure.log || { cat build/configure.log; exit 1; }
	cmake --build build/tsan --target threads_tests -j $(JOBS)
	TSAN_OPTIONS=suppressions=$(CURDIR)/tests/tsan_suppressions.txt \
	ctest --test-dir build/tsan -L threads --output-on-failure -j $(JOBS)

fuzz: deps-check
	cmake --preset asan-ubsan >build/configure.log || { cat build/configure.log; exit 1; }
	cmake --build build/asan-ubsan --target fuzzers -j $(JOBS)
	scripts/fuzz.sh build/asan-ubsan/tests/fuzz 30

# The kernels' benchmarks for some seconds: that they run, not how fast (bench/README.md).
benchmarks: deps-check
	cmake --preset release -DTIERCEL_UNITY_BUILD=$(UNITY) -DTIERCEL_BUILD_BENCHMARKS=ON >build/configure.log || { cat build/configure.log; exit 1; }
	cmake --build build/release --target benchmarks -j $(JOBS)
	build/release/src/kernels/kernels_benchmark --benchmark_min_time=0.01 --benchmark_filter='matmul/((I4|Q4_K)/)?(qkv|down)/(1|32)/|attention|norm|rope|argmax'
	build/release/src/sampling/sampling_benchmark --benchmark_min_time=0.01
	build/release/src/engine/engine_benchmark --benchmark_filter=streams:256
	build/release/src/model/program_benchmark --benchmark_min_time=0.01
	build/release/bench/step_benchmark tests/data/models/qwen3-tied --dummy --repeat 1 p64 d1x64 d8x64

# The kernels and the forward pass on aarch64, emulated: docs/building.md. By hand: it takes a second build.
arm-test: deps-arm
	JOBS=$(JOBS) scripts/arm_tests.sh

# The documentation as a site, build/site; a link that leads nowhere is an error.
docs:
	@mkdir -p build
	@scripts/make_venv.sh build/docs-venv docs/requirements.txt
	NO_MKDOCS_2_WARNING=1 build/docs-venv/bin/mkdocs build --strict --quiet

deps:
	@mkdir -p build
	@scripts/install_deps.sh build

deps-test deps-check deps-package deps-arm:
	@mkdir -p build
	@scripts/install_deps.sh $(@:deps-%=%)

# What checks the Helm chart, into build/tools: docs/kubernetes.md.
deps-kubernetes:
	@mkdir -p build
	@scripts/install_kubernetes_tools.sh

clean:
	rm -rf build
