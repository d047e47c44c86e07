# Every target is a command of tasks.py, which also runs without make: `python tasks.py book`.
PY ?= python3

.PHONY: book serve test fast sync figures record clean help
book serve sync figures clean help:
	@$(PY) tasks.py $@
test:
	@$(PY) tasks.py test $(GATES)
record:
	@$(PY) tasks.py record $(CHAPTERS)
fast:
	@$(PY) tasks.py test lint unit
