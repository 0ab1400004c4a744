# Two commands: `make run` opens the studio, `make test` runs everything that CI runs.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
EMOJI_FONTS := $(wildcard /usr/share/fonts/truetype/noto/NotoColorEmoji.ttf /usr/share/fonts/*/NotoColorEmoji.ttf)

.PHONY: run test lint types doctor bench clean

run: $(VENV)/.installed
	$(BIN)/python app.py

doctor: $(VENV)/.installed
	$(BIN)/python app.py doctor

# Without a GPU the CPU build of torch is asked for, where one is offered: the default one is several gigabytes.
$(VENV)/.installed: requirements.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.txt
	touch $@

$(VENV)/.installed-dev: $(VENV)/.installed requirements-dev.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements-dev.txt
	# Asks for pyaudio, to play on a loudspeaker: needs a compiler and portaudio, and is never used here.
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps "tinysoundfont==0.3.7"
	touch $@

lint: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.installed-dev
	$(BIN)/mypy

# The browser tests need Chromium: the system's, else Debian's package, else Playwright's own. The scenes that the
# image recipe draws need the font Noto Color Emoji; its tests say so and skip where it cannot be installed.
test: lint types
	@command -v chromium chromium-browser google-chrome >/dev/null \
	  || (command -v apt-get >/dev/null && (apt-get update -qq && apt-get install -y -qq chromium) >/dev/null 2>&1) \
	  || $(BIN)/python -m playwright install chromium
	@ls $(EMOJI_FONTS) >/dev/null 2>&1 || (command -v apt-get >/dev/null \
	  && (apt-get update -qq && apt-get install -y -qq fonts-noto-color-emoji) >/dev/null 2>&1) || true
	$(BIN)/python -m pytest

bench: $(VENV)/.installed-dev
	$(BIN)/python -m tests.bench.chat

clean:
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache build
