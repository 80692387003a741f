.PHONY: install test full lint format bench

install:  ## the zoo and its first-party plugins, editable, with what the tests need
	pip install -r requirements.txt
	pip install -e ".[test]"

test:  ## what CI's fast lane runs
	pytest -n auto

full:  ## the tests that take minutes too
	pytest -n auto --long

lint:
	ruff check . && ruff format --check . && mypy

format:
	ruff check --fix . && ruff format .

bench:  ## side by side with peers; writes docs/benchmarks
	python -m benchmarks
