# make demo     install the base package into .venv and run it: SOURCE=0, SOURCE=rtsp://..., SOURCE=clip.mp4, DEMO_S=20;
#               SYSTEM_PACKAGES=1 lets .venv see the system's Python packages, such as a Jetson's TensorRT
# make test     install what the tests need, then ruff, mypy, the floors and pytest: ARGS='-k sampler'
# make matrix   the tests of the base install (no torch) on each Python that we support and that is here
# make lock     renew the tested versions (requirements/) to the newest that pyproject.toml allows, and test them
# make newest   the tests with the newest versions that pyproject.toml allows, in a virtual environment of their own
# make docs     build the documentation into site/; a dead link or a missing page fails
# make clean    remove virtual environments and caches

PYTHON ?= python3
PYTHONS ?= 3.10 3.11 3.12 3.13
SOURCE ?= pattern://swipe
DEMO_S ?= 20
VENV := .venv
PIP := $(VENV)/bin/pip --quiet --disable-pip-version-check
LOCKED := --no-deps --require-hashes --requirement
LOCK = $(VENV)/bin/uv pip compile pyproject.toml --native-tls --quiet --universal --python-version 3.10 --upgrade \
    --generate-hashes --no-annotate --custom-compile-command 'make lock'
IMAGE := --extra discover --extra mqtt --extra view
RTSP_SERVER := gir1.2-gst-rtsp-server-1.0 python3-gi gstreamer1.0-plugins-base gstreamer1.0-plugins-good

.PHONY: help demo test docs matrix lock newest clean

help:
	@sed -n '/^# /!q; s/^# //p' Makefile

demo: $(VENV)/base.done $(if $(SYSTEM_PACKAGES),$(VENV)/system.done)
	@$(VENV)/bin/streamer run '$(SOURCE)' --duration $(DEMO_S)

test: $(VENV)/test.done
	$(VENV)/bin/ruff check
	$(VENV)/bin/ruff format --check
	$(VENV)/bin/mypy
	$(VENV)/bin/lint-imports
	$(VENV)/bin/pytest -n 3 --dist loadfile --no-loadscope-reorder --durations 25 $(ARGS)

docs: $(VENV)/docs.done
	@$(VENV)/bin/python -m tools.docs
	@NO_MKDOCS_2_WARNING=1 $(VENV)/bin/mkdocs build --strict --quiet
	@echo 'To read it: $(VENV)/bin/python -m http.server -d site -b 127.0.0.1 8000'

matrix:
	@sh tools/matrix.sh $(PYTHONS)

lock: $(VENV)/bin/pip
	@$(PIP) install --upgrade uv
	$(LOCK) --extra dev --extra discover --extra docs --extra fleet --extra mqtt --extra train --extra view --no-emit-package torch --output-file requirements/test.txt
	$(LOCK) --constraint requirements/test.txt --output-file requirements/base.txt
	$(LOCK) --constraint requirements/test.txt $(IMAGE) --output-file requirements/image.txt
	$(MAKE) test

newest:
	$(MAKE) test VENV=.newest LOCKED=

$(VENV)/bin/pip:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10) and "Python 3.10 or newer is needed; try make PYTHON=python3.11")'
	@$(PYTHON) -c 'import ensurepip' 2>/dev/null || sh tools/debian.sh python3-venv
	@$(PYTHON) -m venv $(VENV)

# also a virtual environment that is there already: what is in it stays
$(VENV)/system.done: | $(VENV)/bin/pip
	@$(PYTHON) -m venv --system-site-packages --without-pip $(VENV)
	@touch $@

$(VENV)/base.done: pyproject.toml requirements/base.txt | $(VENV)/bin/pip
	@echo 'Installing the base package into $(VENV) (about 550 MB, no torch) ...'
	@$(PIP) install $(LOCKED) requirements/base.txt
	@$(PIP) install --editable .
	@touch $@

$(VENV)/docs.done: pyproject.toml requirements/base.txt | $(VENV)/bin/pip
	@echo 'Installing the base package and what builds the documentation into $(VENV) ...'
	@$(PIP) install $(LOCKED) requirements/base.txt
	@$(PIP) install --editable '.[docs]'
	@touch $@

# pip takes torch from where this machine has it, so its hash is not the same everywhere
$(VENV)/test.done: pyproject.toml requirements/test.txt tools/debian.sh tools/promtool.sh | $(VENV)/bin/pip
	@sh tools/debian.sh chromium || echo 'Without it the tests of the page in a browser are skipped.'
	@sh tools/debian.sh mosquitto || echo 'Without it the tests on a real MQTT broker are skipped.'
	@sh tools/debian.sh $(RTSP_SERVER) || echo 'Without them the tests on a real RTSP server are skipped.'
	@{ command -v npm >/dev/null || sh tools/debian.sh nodejs npm; } && npm install --silent --no-audit --no-fund \
	    --prefix $(VENV) zeromq@6 || echo 'Without the JavaScript package zeromq the test of examples/subscribe.js is skipped.'
	@sh tools/debian.sh g++ cppzmq-dev nlohmann-json3-dev || echo 'Without them the test of examples/subscribe.cpp is skipped.'
	@command -v promtool >/dev/null || sh tools/promtool.sh $(VENV)/bin || echo 'Without promtool the tests of examples/alerts.yaml are skipped.'
	@echo 'Installing what the tests need into $(VENV) (torch among it) ...'
	@$(if $(LOCKED),$(PIP) install $(LOCKED) requirements/test.txt)
	@$(PIP) install $(if $(LOCKED),,--upgrade --upgrade-strategy eager) --editable '.[dev,discover,docs,fleet,mqtt,train,view]'
	@touch $@

clean:
	rm -rf .venv .newest .matrix .mypy_cache .ruff_cache .pytest_cache .hypothesis build site *.egg-info
