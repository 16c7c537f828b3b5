# make demo    install the base package into .venv and run it: SOURCE=0, SOURCE=rtsp://..., SOURCE=clip.mp4, DEMO_S=20
# make test    install what the tests need, then ruff, mypy and pytest
# make clean   remove .venv and caches

PYTHON ?= python3
SOURCE ?= pattern://swipe
DEMO_S ?= 20
RTSP_SERVER := gir1.2-gst-rtsp-server-1.0 python3-gi gstreamer1.0-plugins-base gstreamer1.0-plugins-good

.PHONY: demo test clean

demo: .venv/base.done
	@.venv/bin/streamer run '$(SOURCE)' --duration $(DEMO_S)

test: .venv/test.done
	.venv/bin/ruff check
	.venv/bin/ruff format --check
	.venv/bin/mypy
	.venv/bin/lint-imports
	.venv/bin/pytest -n 2 --dist loadfile --no-loadscope-reorder $(ARGS)

.venv/bin/pip:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10) and "Python 3.10 or newer is needed; try make PYTHON=python3.11")'
	@$(PYTHON) -c 'import ensurepip' 2>/dev/null || sh tools/debian.sh python3-venv
	@$(PYTHON) -m venv .venv

.venv/base.done: pyproject.toml | .venv/bin/pip
	@echo 'Installing the base package into .venv (about 550 MB, no torch) ...'
	@.venv/bin/pip install --quiet --disable-pip-version-check --editable .
	@touch $@

.venv/test.done: pyproject.toml tools/debian.sh | .venv/bin/pip
	@sh tools/debian.sh chromium || echo 'Without it the tests of the page in a browser are skipped.'
	@sh tools/debian.sh $(RTSP_SERVER) || echo 'Without them the tests on a real RTSP server are skipped.'
	@{ command -v npm >/dev/null || sh tools/debian.sh nodejs npm; } && npm install --silent --no-audit --no-fund \
	    --prefix .venv zeromq@6 || echo 'Without the JavaScript package zeromq the test of examples/subscribe.js is skipped.'
	@echo 'Installing what the tests need into .venv (torch among it) ...'
	@.venv/bin/pip install --quiet --disable-pip-version-check --editable '.[dev,train,view]'
	@touch $@

clean:
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis build *.egg-info
